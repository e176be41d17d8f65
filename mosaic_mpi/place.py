"""Checks of the place that a run's results are to go to."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mosaic_mpi import layout
from mosaic_mpi.errors import InputError


def refuse_misplaced(output: str) -> None:
    """Refuse an output that is no file, or lies in no folder.

    Raises
    ------
    InputError
        With what was found.
    """
    path = Path(output)
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except OSError as error:  # a name that is too long, a folder that may not be entered, links in a circle
        raise InputError(f"--output {output}: cannot be reached: {error.strerror}") from None
    if path.is_dir():
        raise InputError(f"--output {output}: is a folder, expected the name of a file")
    if path.exists() and not path.is_file():
        raise InputError(f"--output {output}: is a pipe, a device or the like, expected the name of a file")
    if path.is_symlink() and not path.exists():
        raise InputError(f"--output {output}: is a symbolic link to {os.readlink(path)}, which does not exist")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--output {output}: the folder {path.absolute().parent} does not exist")


def refuse_unwritable(output: str) -> None:
    """Refuse an output whose folder cannot be written.

    Raises
    ------
    InputError
        With what was found.
    """
    folder = Path(layout.real_path(output)).absolute().parent  # where the file lies, not a link to it
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--output {output}: no permission to write into {folder}")
