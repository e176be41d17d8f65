"""Writes the report's file: whole or not at all, once or again and again while the run goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from mosaic_mpi.errors import InputError, MosaicError, StorageError
from mosaic_mpi.h5file import is_hdf5
from mosaic_mpi.report import wording as say
from mosaic_mpi.report.page import GENERATOR, render
from mosaic_mpi.report.snapshot import Snapshot, take

_MARK_WITHIN = 2000
"""Bytes of a report in which its generator is named."""
_TRIES = 3
"""Times that a report may fail in a row, as on a network file system while the file is replaced."""
_TRY_AGAIN_SECONDS = 1.0


def refuse_unfit(output: str) -> None:
    """Refuse names at which a report would destroy something else.

    Raises
    ------
    InputError
        With what is there.
    """
    target = Path(output)
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise InputError(f"--output {output}: is a folder, or lies in none; expected the name of an HTML file")
    if target.exists() and not target.is_file():  # a device or a named pipe: reading it might never end
        raise InputError(f"--output {output}: is no file; expected the name of an HTML file")
    if output.endswith((".spool", ".lock")) or is_hdf5(target):
        raise InputError(f"--output {output}: is a results file or part of one; it was left alone, give another name")
    if not target.exists():
        return
    with target.open("rb") as file:
        beginning = file.read(_MARK_WITHIN)
    if beginning and GENERATOR.encode() not in beginning:
        raise InputError(f"--output {output}: exists and is no report; it was left alone, give another name")


def write(path: str, output: str, refresh_s: float | None = None) -> Snapshot:
    """Write the report of a run as it is now.

    Parameters
    ----------
    path : str
        The results file.
    output : str
        The HTML file, or a link to it; an older report is replaced, in one step.
    refresh_s : float, optional
        Have browsers load it again after so many seconds, if the run goes on.

    Returns
    -------
    Snapshot
        What the report shows.

    Raises
    ------
    InputError
        The results file or the name of the output is not fit.
    StorageError
        The output cannot be written.
    """
    refuse_unfit(output)
    snapshot = take(path)
    _replace(output, render(snapshot, refresh_s if snapshot.is_running else None))
    return snapshot


def _replace(output: str, text: str) -> None:
    place = os.path.realpath(output)  # a link stays one
    temporary = f"{place}.tmp-{os.getpid()}"
    try:
        # Where the locale knows no UTF-8, names of files come as surrogates, which stand for their bytes.
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.replace(temporary, place)
    except OSError as error:
        raise StorageError(f"{output}: cannot be written: {error.strerror or error}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def follow(path: str, output: str, interval_s: float, tell: Callable[[str], None]) -> None:
    """Write the report at an interval until the run has ended, and once more then.

    Parameters
    ----------
    path, output : str
        See `write`.
    interval_s : float
        Seconds between two reports; longer where making one takes longer.
    tell : callable
        Is given a line about each.
    """
    began = time.monotonic()
    snapshot = write(path, output, interval_s)
    while True:
        tell(described(snapshot, output))
        if not snapshot.is_running:
            return
        time.sleep(max(interval_s - (time.monotonic() - began), 1.0))
        began = time.monotonic()
        snapshot = _write_again(path, output, interval_s)


def _write_again(path: str, output: str, interval_s: float) -> Snapshot:
    for _ in range(_TRIES - 1):
        try:
            return write(path, output, interval_s)
        except MosaicError:
            time.sleep(_TRY_AGAIN_SECONDS)
    return write(path, output, interval_s)


def described(snapshot: Snapshot, output: str) -> str:
    """Say what a report shows."""
    counts = f"{snapshot.n_completed} of {snapshot.n_simulations} completed, {snapshot.n_failed} failed"
    size = say.size(os.path.getsize(output)).replace(say.SPACE, " ")
    return f"{output}: {snapshot.summary.state}, {counts}; {size}"
