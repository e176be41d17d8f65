"""The only importer of laser.cholera: config in, channels out.

Owns what must hold around the engine: one thread, no log files, no plots. Runs in slots only; a rank never
imports it. Knows no parameters, no MPI and no file.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from laser.cholera import calc_model_likelihood as scoring
from laser.cholera.metapop import model as metapop
from numpy.typing import NDArray
from tqdm import tqdm

from mosaic_mpi.likelihood import dispersion
from mosaic_mpi.plan import Channel

_TIME_CHANNELS = (
    *("S", "E", "Isym", "Iasym", "R", "V1", "V2"),
    *("new_symptomatic", "incidence", "incidence_env", "incidence_human"),
    *("Lambda", "N", "Psi", "spatial_hazard", "W"),
    *("births", "disease_deaths", "non_disease_deaths", "reported_cases", "reported_deaths"),
    *("dose_one_doses", "dose_two_doses", "beta_jt_env", "beta_jt_human", "delta_jt"),
)
_PAIR_CHANNELS = ("coupling", "pi_ij")
_FORCED = {"calc_likelihood": False, "visualize": False, "pdf": False, "quiet": True, "hdf5_output": False}
"""Outputs that are the business of the results file, whatever the config asks for."""

score = scoring.calc_model_likelihood
"""The engine's scorer; see `mosaic_mpi.likelihood`."""


def quieten() -> None:
    """Stop the engine from writing log files and from formatting what nobody reads.

    Importing laser.cholera attaches a file handler that writes ``<timestamp>.log`` into the working
    directory. And one component formats a debug message with a whole array on many ticks: with a small
    print threshold that costs next to nothing, and changes no number.
    """
    logger = logging.getLogger("laser.cholera")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    np.set_printoptions(threshold=0, edgeitems=1)
    # The engine's (disabled) progress bar would make a named semaphore that outlives a killed slot.
    tqdm.set_lock(threading.RLock())
    warnings.simplefilter("ignore", RuntimeWarning)


def sum_as_r_does() -> None:
    """Have the scorer take its dispersions from `mosaic_mpi.likelihood.dispersion`, for agreement with MOSAIC."""
    scoring.nb_size_from_obs_weighted = dispersion


def run(values: Mapping[str, Any], seed: int) -> Any:
    """Run one iteration.

    Parameters
    ----------
    values : mapping
        A complete config as `mosaic_mpi.config.engine_values` types it.
    seed : int
        The engine's seed.

    Returns
    -------
    laser.cholera.metapop.model.RInterface
        Views of the channels, ``[location, time]`` each.
    """
    return metapop.run_model({**values, **_FORCED, "seed": seed}).results


def channel(results: Any, name: str) -> NDArray[Any]:
    """Return one channel of a finished iteration, ``ndarray, shape (n_locations, n_ticks)`` mostly."""
    array: NDArray[Any] = getattr(results, name)
    return array


def describe(values: Mapping[str, Any]) -> dict[str, Channel]:
    """Set the model up without running it: the engine's own checks, and every channel it will have.

    Parameters
    ----------
    values : mapping
        A complete config as `mosaic_mpi.config.engine_values` types it.

    Returns
    -------
    dict
        By name.

    Raises
    ------
    Exception
        Whatever the engine raises over a config that it refuses.
    """
    parameters = metapop.get_parameters({**values, **_FORCED, "seed": 1})
    model = metapop.Model(parameters)
    model.components = [getattr(metapop, name) for name in _COMPONENTS]
    results = metapop.RInterface(model)
    kinds: dict[str, Channel] = {}
    for names, axes in (
        (_TIME_CHANNELS, ("location", "time")),
        (_PAIR_CHANNELS, ("location", "to_location")),
    ):
        for name in names:
            if hasattr(results, name):
                array = getattr(results, name)
                kinds[name] = Channel(name, axes, tuple(array.shape), array.dtype.str)
    return kinds


_COMPONENTS = (
    *("Susceptible", "Exposed", "Recovered", "Infectious", "Vaccinated", "Census", "HumanToHuman"),
    *("EnvToHuman", "Environmental", "DerivedValues", "Analyzer", "Recorder", "Parameters"),
)
"""The components of `run_model`, in its order; used for `describe` only."""

quieten()
sum_as_r_does()
