"""Rewrites a results file into a new one: for more simulations, or with its time series folded in.

Owns the order of renames that keeps either the old or the new file whole at any instant. Used by `store.py`, under
its lock.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mosaic_mpi import h5file, layout
from mosaic_mpi.errors import InputError
from mosaic_mpi.h5file import Header
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.spool import Spool
from mosaic_mpi.tablefile import TableFile

_TEMPORARY = ".tmp-"


def remove_leftovers(path: str) -> None:
    """Remove what a killed rewrite left."""
    for file in (path, layout.spool_path(path)):
        for leftover in Path(file).parent.glob(f"{glob.escape(Path(file).name)}{_TEMPORARY}*"):
            leftover.unlink()


def create(path: str, plan: RunPlan) -> None:
    """Make an empty results file, in place of whatever was there."""
    temporary = _temporary(path)
    h5file.create(temporary, plan)
    _replace(temporary, path)
    Path(layout.spool_path(path)).unlink(missing_ok=True)


def extend(path: str, plan: RunPlan, header: Header) -> None:
    """Give a results file room for the plan's simulations; a folded one gets its spool back."""
    temporary = _temporary(path)
    with h5file.reading(path) as file:
        h5file.create(temporary, plan, spool_id=None if header.folded else header.spool_id)
        h5file.copy_results(file, temporary, header.n_simulations)
        if header.folded and header.channels:
            _unfold(file, header, path, temporary)
    h5file.reserve(temporary)
    _replace(temporary, path)


def _unfold(file: Any, header: Header, path: str, temporary: str) -> None:
    with h5file.reading(temporary) as target:
        spool_id = h5file.read_header(target).spool_id
    new_spool = _temporary(layout.spool_path(path))
    with contextlib.closing(TableFile(temporary)) as tables, Spool(new_spool, spool_id) as spool:
        for row in np.flatnonzero(file["simulations/status"][...] == layout.COMPLETED):
            parts = [h5file.read_chunk(file, channel, int(row)) for channel in header.channels]
            sizes = np.array([len(part) for part in parts], dtype=np.int64)
            start = spool.append(memoryview(b"".join(parts)))
            tables.write("series/offset", int(row), (start + np.cumsum(sizes) - sizes)[None])
            tables.write("series/bytes", int(row), sizes[None])
        spool.sync()
    os.replace(new_spool, layout.spool_path(path))


def fold(path: str, plan: RunPlan, spool: Spool, tick: Callable[[], None]) -> None:
    """Move the spool's series into the file as chunks, and remove the spool.

    Parameters
    ----------
    path : str
        A results file without pending simulations.
    plan : RunPlan
        Its plan.
    spool : Spool
        Closed here.
    tick : callable
        Called after each simulation.
    """
    temporary = _temporary(path)
    with h5file.reading(path) as file:
        offsets, sizes = file["series/offset"][...], file["series/bytes"][...]

        def series(row: int) -> list[bytes]:
            if min(*offsets[row], *sizes[row]) < 0 or (offsets[row] + sizes[row]).max() > spool.size():
                raise InputError(f"{path}: damaged: the time series of row {row} are not in its spool")
            places = zip(offsets[row], sizes[row], strict=True)
            return [spool.read(int(offset), int(size)) for offset, size in places]

        h5file.create(temporary, plan, folded=True)
        h5file.copy_results(file, temporary, plan.n_simulations)
        done = np.flatnonzero(file["simulations/status"][...] == layout.COMPLETED)
        h5file.write_chunks(temporary, plan.channels, done, series, tick)
    h5file.reserve(temporary)
    _replace(temporary, path)
    spool.close()
    Path(layout.spool_path(path)).unlink(missing_ok=True)


def _temporary(path: str) -> str:
    return f"{path}{_TEMPORARY}{os.getpid()}"


def _replace(temporary: str, path: str) -> None:
    """Rename into place, and make the new name last."""
    os.replace(temporary, path)
    folder = os.open(Path(path).absolute().parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system syncs folders
            os.fsync(folder)
    finally:
        os.close(folder)
