"""mosaic_mpi: LASER cholera simulations over MPI into one results file that resumes.

In a notebook::

    import mosaic_mpi
    run = mosaic_mpi.open("run.h5")
    run.parameters()                    # one row a simulation, likelihood included
    run.channel("reported_cases")       # array named simulation, iteration, location, time

Importing the package is cheap: neither the engine nor MPI nor h5py is loaded before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_mpi._version import __version__

if TYPE_CHECKING:
    from mosaic_mpi.results import Results

__all__ = ["__version__", "open"]


def open(path: str) -> Results:
    """Open a results file for reading, finished or still growing.

    Parameters
    ----------
    path : str or path-like
        The results file.

    Returns
    -------
    Results

    Raises
    ------
    mosaic_mpi.errors.InputError
        The file is missing, damaged or not a results file of mosaic_mpi.
    """
    from mosaic_mpi.results import Results

    return Results(path)
