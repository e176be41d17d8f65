"""Finds results whose stored numbers do not give their checksum.

Only those that no check point covers can be such: their node may have died before they reached the disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.records import checksum

_ROWS_AT_ONCE = 4096


def unverified(commits: NDArray[np.int32], durable: int) -> NDArray[np.bool_]:
    """Whether no check point covers a result.

    Parameters
    ----------
    commits : ndarray of int32, shape (n_simulations,)
        ``simulations/commit``.
    durable : int
        ``progress/durable_commit``.
    """
    uncovered: NDArray[np.bool_] = (commits > durable) | (commits == 0)
    return uncovered


def mismatching(file: Any, rows: NDArray[np.int64], read_spool: Callable[[int, int], bytes] | None) -> Iterator[int]:
    """Yield those rows whose stored numbers do not give their checksum.

    Parameters
    ----------
    file : h5py.File
        Open for reading.
    rows : ndarray of int64, shape (n,)
        Completed ones, ascending.
    read_spool : callable or None
        Offset and size to bytes, if there is a spool.
    """
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[first : first + _ROWS_AT_ONCE]
        span, inside = slice(int(block[0]), int(block[-1]) + 1), block - block[0]
        columns = {
            "likelihood": file["simulations/likelihood"][span],
            "iteration_likelihood": file["iterations/likelihood"][span],
            "parameters": file["parameters/values"][span] if file.attrs["n_parameters"] else None,
        }
        expected = file["simulations/checksum"][span]
        places = [file[f"series/{name}"][span] for name in ("offset", "bytes")] if read_spool else None
        for index in map(int, inside):
            record = {name: np.empty(0) if c is None else c[index] for name, c in columns.items()}
            series = b""
            if read_spool and places:
                # What did not reach the disk may be any number.
                with contextlib.suppress(OSError, OverflowError, ValueError, MemoryError):
                    series = read_spool(int(places[0][index][0]), int(places[1][index].sum()))
            if checksum(record, series) != expected[index]:
                yield int(block[0]) + index
