"""Reads a results file's time series in the compressed bytes in which it holds them, folded or in its spool.

For what copies them into another file. `results.py` reads them for people.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from mosaic_mpi import h5file, layout
from mosaic_mpi.errors import InputError
from mosaic_mpi.h5file import Header
from mosaic_mpi.spool import SpoolReader

ReadSeries = Callable[[int], list[bytes]]
"""Row of a completed simulation to its channels, in the plan's order."""


@contextlib.contextmanager
def stored_series(path: str, file: Any, header: Header) -> Iterator[ReadSeries]:
    """Give what reads the time series of an open results file.

    Parameters
    ----------
    path : str
        The results file.
    file : h5py.File
        The same, open for reading.
    header : Header
        Its header.

    Raises
    ------
    InputError
        Its spool is missing, of another results file, or too short.
    """
    if not header.channels:
        yield lambda row: []
    elif header.folded:
        yield lambda row: [h5file.read_chunk(file, channel, row) for channel in header.channels]
    else:
        offsets, sizes = file["series/offset"][...], file["series/bytes"][...]
        with SpoolReader(layout.spool_path(path), header.spool_id) as spool:

            def read(row: int) -> list[bytes]:
                if min(*offsets[row], *sizes[row]) < 0 or (offsets[row] + sizes[row]).max() > spool.size():
                    raise InputError(f"{path}: damaged: the time series of row {row} are not in its spool")
                return [spool.read(int(o), int(n)) for o, n in zip(offsets[row], sizes[row], strict=True)]

            yield read
