"""Checks of the place that a run's results are to go to."""

from __future__ import annotations

import os
from pathlib import Path

from mosaic_mpi.errors import InputError


def refuse_misplaced(output: str) -> None:
    """Refuse an output that is a folder, or lies in none.

    Raises
    ------
    InputError
        With what was found.
    """
    path = Path(output)
    if path.is_dir():
        raise InputError(f"--output {output}: is a folder, expected the name of a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--output {output}: the folder {path.absolute().parent} does not exist")


def refuse_unwritable(output: str) -> None:
    """Refuse an output whose folder cannot be written.

    Raises
    ------
    InputError
        With what was found.
    """
    folder = Path(output).absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--output {output}: no permission to write into {folder}")
