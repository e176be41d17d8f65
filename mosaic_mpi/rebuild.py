"""Rewrites a results file into a new one: for more simulations, or with its time series folded in.

Owns the order of renames that keeps either the old or the new file whole at any instant. Used by `store.py` and
`merge.py`, under the file's lock.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout, lock
from mosaic_mpi.blueprint import Blueprint
from mosaic_mpi.h5file import Header
from mosaic_mpi.plan import rows_of
from mosaic_mpi.spool import Spool
from mosaic_mpi.stored_series import stored_series
from mosaic_mpi.tablefile import TableFile

_TEMPORARY = ".tmp-"
_BLOCK_BYTES = 32 * 2**20


def leftovers(path: str) -> list[Path]:
    """Find what a killed rewrite, or a killed attempt to lock, has left beside a results file."""
    real = layout.real_path(path)
    beginnings = (f"{real}{_TEMPORARY}", f"{layout.spool_path(path)}{_TEMPORARY}", f"{real}{lock.PROBE}")
    return [
        found
        for beginning in beginnings
        for found in Path(beginning).parent.glob(f"{glob.escape(Path(beginning).name)}*")
    ]


def remove_leftovers(path: str) -> None:
    """Remove what a killed run left; under the lock."""
    for leftover in leftovers(path):
        leftover.unlink(missing_ok=True)  # another run that tries to lock removes its own


def create(path: str, blueprint: Blueprint) -> None:
    """Make an empty results file, in place of whatever was there."""
    new = temporary(path)
    h5file.create(new, blueprint)
    replace(new, path)
    Path(layout.spool_path(path)).unlink(missing_ok=True)


def extend(path: str, blueprint: Blueprint, header: Header) -> None:
    """Give a results file room for more simulations, its own among them; a folded one gets its spool back."""
    new = temporary(path)
    with h5file.reading(path) as file:
        places = rows_of(blueprint.sim_ids, file["simulations/sim_id"][...])
        h5file.create(new, blueprint, spool_id=None if header.folded else header.spool_id)
        _copy_results(file, new, places)
        if header.folded and header.channels:
            _unfold(file, header, path, new, places)
    h5file.reserve(new)
    replace(new, path)


def _unfold(file: Any, header: Header, path: str, new: str, places: NDArray[np.int64]) -> None:
    with h5file.reading(new) as target:
        spool_id = h5file.read_header(target).spool_id
    new_spool = temporary(layout.spool_path(path))
    with (
        contextlib.closing(TableFile(new)) as tables,
        Spool(new_spool, spool_id) as spool,
        stored_series(path, file, header) as series,
    ):
        for row in map(int, np.flatnonzero(file["simulations/status"][...] == layout.COMPLETED)):
            spool_series(spool, tables, int(places[row]), series(row))
        spool.sync()
    os.replace(new_spool, layout.spool_path(path))


def spool_series(spool: Spool, tables: TableFile, row: int, parts: Sequence[bytes]) -> None:
    """Append a simulation's stored channels to a spool, and note where they lie."""
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    start = spool.append(memoryview(b"".join(parts)))
    tables.write("series/offset", row, (start + np.cumsum(sizes) - sizes)[None])
    tables.write("series/bytes", row, sizes[None])


def fold(path: str, blueprint: Blueprint, spool: Spool, tick: Callable[[], None]) -> None:
    """Move the spool's series into the file as chunks, and remove the spool.

    Parameters
    ----------
    path : str
        A results file without pending simulations.
    blueprint : Blueprint
        Of its plan.
    spool : Spool
        Closed here.
    tick : callable
        Called after each simulation.
    """
    new = temporary(path)
    with h5file.reading(path) as file:
        h5file.create(new, blueprint, folded=True)
        _copy_results(file, new, np.arange(len(blueprint.sim_ids)))
        done = np.flatnonzero(file["simulations/status"][...] == layout.COMPLETED)
        with (
            stored_series(path, file, h5file.read_header(file)) as series,
            h5file.chunk_writer(new, blueprint.channels) as write,
        ):
            for row in map(int, done):
                write(row, series(row))
                tick()
    h5file.reserve(new)
    replace(new, path)
    spool.close()
    Path(layout.spool_path(path)).unlink(missing_ok=True)


def _copy_results(source: Any, path: str, places: NDArray[np.int64]) -> None:
    """Copy what a run has found so far from an open results file into a new one.

    Parameters
    ----------
    source : h5py.File
        Open for reading.
    path : str
        A file made by `h5file.create`.
    places : ndarray of int64, shape (n_simulations of the source,)
        Row of each simulation in the new file, ascending.
    """
    rows = np.arange(len(places))
    with contextlib.closing(TableFile(path)) as tables:
        for table in layout.TABLES:
            if table.name not in source:
                continue
            if table.shape[0] == "n_simulations":
                for here, values in row_blocks(source, table.name, rows, places):
                    tables.write_rows(table.name, here, values)
            else:
                tables.write(table.name, 0, source[table.name][...])


def row_blocks(
    source: Any, name: str, rows: NDArray[np.int64], places: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Yield rows of one table, some megabytes at a time; nothing of a table that the file lacks.

    Parameters
    ----------
    source : h5py.File
        Open for reading.
    name : str
        Of `layout.TABLES`.
    rows, places : ndarray of int64, shape (n,)
        Where they are in the source, and where they go; both ascending.

    Yields
    ------
    places : ndarray of int64, shape (n_rows,)
    values : ndarray, shape (n_rows, ...)
    """
    if name not in source:
        return
    dataset = source[name]
    row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))
    n_at_once = max(1, _BLOCK_BYTES // row_bytes)
    begin = 0
    while begin < len(rows):
        first = int(rows[begin])
        end = int(np.searchsorted(rows, first + n_at_once))
        block = dataset[first : int(rows[end - 1]) + 1]
        yield places[begin:end], block[rows[begin:end] - first]
        begin = end


def temporary(path: str) -> str:
    """The name under which a file is made before it is renamed."""
    return f"{path}{_TEMPORARY}{os.getpid()}"


def replace(new: str, path: str) -> None:
    """Rename into place, and make the new name last."""
    os.replace(new, path)
    folder = os.open(Path(path).absolute().parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system syncs folders
            os.fsync(folder)
    finally:
        os.close(folder)
