"""Reads a results file's time series in the compressed bytes in which it holds them, folded or in its spool."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from mosaic_mpi import h5file, layout
from mosaic_mpi.errors import InputError
from mosaic_mpi.h5file import Header
from mosaic_mpi.spool import SpoolReader

ReadChunk = Callable[[int, int], bytes]
"""Row of a completed simulation and number of a channel to what is stored of them."""
ReadSeries = Callable[[int], list[bytes]]
"""Row of a completed simulation to its channels, in the plan's order."""


@contextlib.contextmanager
def stored_chunks(path: str, file: Any, n_rows: int) -> Iterator[ReadChunk]:
    """Give what reads single channels of an open results file, which may be of a run that goes on.

    Parameters
    ----------
    path : str
        The results file.
    file : h5py.File
        The same, open for reading.
    n_rows : int
        How many simulations are to be read; without any, there need not be a spool yet.

    Raises
    ------
    InputError
        Its spool is missing or of another results file; what is read of it says so where it is too short.
    """
    header = h5file.read_header(file)  # of this very file: the run may have been folded since somebody last looked
    if header.folded:
        yield lambda row, index: h5file.read_chunk(file, header.channels[index], row)
        return
    if not n_rows or not header.channels:
        yield _nothing
        return
    offsets, sizes = file["series/offset"][...], file["series/bytes"][...]
    with _open_spool(path, header) as spool:

        def stored(row: int, index: int) -> bytes:
            offset, size = int(offsets[row, index]), int(sizes[row, index])
            if min(offset, size) < 0 or offset + size > spool.size():
                raise InputError(f"{path}: damaged: the time series of row {row} are not in its spool")
            return spool.read(offset, size)

        yield stored


@contextlib.contextmanager
def stored_series(path: str, file: Any, header: Header) -> Iterator[ReadSeries]:
    """Give what reads all channels of a simulation at once; see `stored_chunks`."""
    with stored_chunks(path, file, n_rows=header.n_simulations) as chunk:
        yield lambda row: [chunk(row, index) for index in range(len(header.channels))]


def _nothing(row: int, index: int) -> bytes:
    raise ValueError(f"nothing was to be read, and now channel {index} of row {row} is")


def _open_spool(path: str, header: Header) -> SpoolReader:
    try:
        return SpoolReader(layout.spool_path(path), header.spool_id)
    except InputError:
        with h5file.reading(path) as file:
            if h5file.read_header(file).folded:  # the file that is open is the one of before
                raise InputError(f"{path}: was completed just now; read it again") from None
        raise
