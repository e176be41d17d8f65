"""The record of one finished simulation, in the bytes that travel and that the store appends.

A slot packs it, ranks pass it on unread, rank 0 files its columns. Knows no pipe, MPI or file.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFLATE_LEVEL = 1
"""Fast, and every HDF5 reads it; shuffled first."""


def record_dtype(n_iterations: int, n_parameters: int, n_channels: int) -> np.dtype[np.void]:
    """Return the dtype of a record.

    Parameters
    ----------
    n_iterations, n_parameters, n_channels : int
        Of the plan; n_channels counts the saved ones.

    Returns
    -------
    numpy.dtype
        Fields: row, likelihood, elapsed_s (seconds of the slot), finished_at (seconds since 1970 UTC), slot,
        checksum (CRC-32 of what decides the numbers), series_bytes (stored bytes of each channel),
        iteration_likelihood, parameters.
    """
    return np.dtype(
        [
            ("row", "<i8"),
            ("likelihood", "<f8"),
            ("elapsed_s", "<f8"),
            ("finished_at", "<f8"),
            ("slot", "<i4"),
            ("checksum", "<i4"),
            ("series_bytes", "<i8", (n_channels,)),
            ("iteration_likelihood", "<f8", (n_iterations,)),
            ("parameters", "<f8", (n_parameters,)),
        ]
    )


def checksum(record: Any, series: bytes | memoryview) -> int:
    """Return the CRC-32 of a record's numbers and its stored series, as a signed 32-bit integer.

    Parameters
    ----------
    record : void of `record_dtype`, or mapping
        One record, or its fields likelihood, iteration_likelihood and parameters.
    series : bytes
        Its compressed channels, one after the other.
    """
    total = zlib.crc32(series)
    for field in ("likelihood", "iteration_likelihood", "parameters"):
        total = zlib.crc32(np.ascontiguousarray(record[field]).tobytes(), total)
    return int(np.uint32(total).astype(np.int32))


def compress(array: NDArray[Any]) -> bytes:
    """Shuffle and deflate an array into the bytes of one HDF5 chunk (filters shuffle, then gzip)."""
    data = np.ascontiguousarray(array)
    shuffled = data.view(np.uint8).reshape(-1, data.itemsize).T.tobytes()
    return zlib.compress(shuffled, DEFLATE_LEVEL)


def decompress(data: bytes | memoryview, shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """Undo `compress`."""
    kind = np.dtype(dtype)
    shuffled = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(kind.itemsize, -1)
    return np.ascontiguousarray(shuffled.T).view(kind).reshape(tuple(shape))
