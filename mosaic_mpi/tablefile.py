"""Writes rows of a results file's tables at their offsets, without HDF5.

Owns the descriptor. The bytes exist since the file was made, so no write changes what HDF5 has to know.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file


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
        if place is None:  # no parameters, or no channels
            return
        data = np.ascontiguousarray(values, dtype=place.dtype)
        row_bytes = place.dtype.itemsize * int(np.prod(place.shape[1:], dtype=np.int64))
        view = memoryview(data.reshape(-1).view(np.uint8).data)
        position = place.offset + first_row * row_bytes
        while view:
            written = os.pwrite(self._descriptor, view, position)
            view, position = view[written:], position + written

    def write_rows(self, name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write scattered rows, ascending, with one call for each run of adjacent ones."""
        if not len(rows):
            return
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, last in zip((0, *breaks), (*breaks, len(rows)), strict=True):
            self.write(name, int(rows[first]), values[first:last])

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
