"""Writes rows of a results file's tables at their offsets, without HDF5.

Owns the descriptor. The bytes exist since the file was made, so no write changes what HDF5 has to know. Results come
in no order; a call a row and table would cost more than anything else that rank 0 does. So rows that lie close
together are written by one call, with what lies between them as it is: nobody else writes to the file.
"""

from __future__ import annotations

import errno
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file
from mosaic_mpi.h5file import Placement

_CLOSE_BYTES = 8192
"""Reading and writing so many bytes anew costs about as much as one call more."""


class TableFile:
    """The tables of one results file, open for writing.

    Parameters
    ----------
    path : str
        Made by `h5file.create`.
    """

    def __init__(self, path: str) -> None:
        self._places = h5file.placements(path)
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, name: str, first_row: int, values: Any) -> None:
        """Write adjacent rows; a table that the plan has no columns for is passed over.

        Parameters
        ----------
        name : str
            Of `layout.TABLES`.
        first_row : int
            Where they begin.
        values : array_like, shape (n_rows, ...)
            Cast to the table's dtype.
        """
        place = self._places.get(name)
        if place is not None:  # else the plan has no parameters, or no channels
            self._write_at(place.offset + first_row * _row_bytes(place), _bytes_of(values, place))

    def write_rows(self, name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write scattered rows, ascending, with one call for those that lie close together."""
        place = self._places.get(name)
        if place is None or not len(rows):
            return
        size, data = _row_bytes(place), _bytes_of(values, place)
        gaps = np.diff(rows) - 1
        breaks = (np.flatnonzero(gaps * size > _CLOSE_BYTES) + 1).tolist()
        for first, last in zip((0, *breaks), (*breaks, len(rows)), strict=True):
            position, part = place.offset + int(rows[first]) * size, data[first * size : last * size]
            if rows[last - 1] - rows[first] >= last - first:
                part = self._among_others(position, rows[first:last] - rows[first], part)
            self._write_at(position, part)

    def _among_others(self, position: int, rows: NDArray[np.int64], data: memoryview) -> memoryview:
        """A stretch of the file with some of its rows, counted from its beginning, replaced."""
        new = np.frombuffer(data, np.uint8).reshape(len(rows), -1)
        whole = np.empty((int(rows[-1]) + 1, new.shape[1]), np.uint8)
        if os.preadv(self._descriptor, [whole.data], position) != whole.nbytes:
            raise OSError(errno.EIO, "the file is shorter than it was")
        whole[rows] = new
        return whole.reshape(-1).data

    def _write_at(self, position: int, view: memoryview) -> None:
        while view:
            written = os.pwrite(self._descriptor, view, position)
            view, position = view[written:], position + written

    def write_text(self, name: str, row: int, text: str, keep_end: bool = False) -> None:
        """Write one row of text, cut to what fits: its beginning, or its end."""
        place = self._places[name]
        self.write(name, row, np.array([cut(text, place.dtype.itemsize, keep_end)], place.dtype))

    def is_text(self, name: str) -> bool:
        """Whether a table holds text."""
        return self._places[name].dtype.kind == "S"

    def check_place(self) -> None:
        """See that what is written can be found under its name.

        Raises
        ------
        OSError
            The file was moved or removed, or its folder was: what an open descriptor does not notice.
        """
        if not os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
            raise OSError(errno.ESTALE, "another file has taken its place")

    def sync(self) -> None:
        """Push what was written to the disk."""
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def cut(text: str, n_bytes: int, keep_end: bool = False) -> bytes:
    """Encode text into at most so many bytes of UTF-8, whole characters only."""
    data = text.encode("utf-8", "replace")
    if len(data) <= n_bytes:
        return data
    part = data[-n_bytes:] if keep_end else data[:n_bytes]
    return part.decode("utf-8", "ignore").encode()


def _row_bytes(place: Placement) -> int:
    return int(place.dtype.itemsize * math.prod(place.shape[1:]))


def _bytes_of(values: Any, place: Placement) -> memoryview:
    """Values as the bytes of a table's rows, cast to its dtype."""
    return memoryview(np.ascontiguousarray(values, dtype=place.dtype).reshape(-1).view(np.uint8).data)
