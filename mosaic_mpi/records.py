"""The record of a finished simulation, or of one of its iterations: the bytes that travel and that the store appends.

A slot packs it, ranks pass it on unread, rank 0 files its columns. Knows no pipe, MPI or file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import deflate
from mosaic_mpi.deflate import Segment

_PLANE = struct.Struct("<QQI")
"""Of each byte plane of a packed iteration: its bytes, those that they stand for, and the Adler-32 of these."""


def record_dtype(n_iterations: int, n_parameters: int, n_channels: int) -> np.dtype[np.void]:
    """Return the dtype of a record.

    Parameters
    ----------
    n_iterations, n_parameters, n_channels : int
        Of the plan; n_channels counts the saved ones.

    Returns
    -------
    numpy.dtype
        Fields: row, likelihood, elapsed_s (seconds of the slot), finished_at (seconds since 1970 UTC),
        iteration (from 1; 0: all of them), slot, n_stock (iterations that the engine's own loop ran), checksum
        (CRC-32 of what decides the numbers), series_bytes (stored bytes of each channel), iteration_likelihood,
        parameters. The record of one iteration has neither likelihood nor checksum, and only its own
        iteration_likelihood. The last two stand last: `Checksums` relies on that.
    """
    return np.dtype(
        [
            ("row", "<i8"),
            ("likelihood", "<f8"),
            ("elapsed_s", "<f8"),
            ("finished_at", "<f8"),
            ("iteration", "<i4"),
            ("slot", "<i4"),
            ("checksum", "<i4"),
            ("n_stock", "<i4"),
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


class Checksums:
    """The checksums of records that lie in memory one after the other; see `checksum`.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the records.
    """

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        offsets = {name: int(field[1]) for name, field in (dtype.fields or {}).items()}
        self._likelihood_at, self._numbers_at = offsets["likelihood"], offsets["iteration_likelihood"]
        self._size = dtype.itemsize

    def of(self, data: memoryview, index: int, series: Iterable[bytes]) -> int:
        """Return a record's, as an unsigned 32-bit integer.

        Parameters
        ----------
        data : memoryview of uint8
            All records.
        index : int
            Which one.
        series : iterable of bytes
            Its compressed channels, in order.
        """
        total = 0
        for channel in series:
            total = zlib.crc32(channel, total)
        start = index * self._size
        total = zlib.crc32(data[start + self._likelihood_at : start + self._likelihood_at + 8], total)
        return zlib.crc32(data[start + self._numbers_at : start + self._size], total)


def compress(iterations: Iterable[NDArray[Any]]) -> bytes:
    """Shuffle and deflate arrays into the bytes of one HDF5 chunk (filters shuffle, then gzip).

    Parameters
    ----------
    iterations : iterable of ndarray
        Of one shape and dtype; the chunk holds them along a first axis.
    """
    return _chunk([_planes(array) for array in iterations])


def compress_iteration(array: NDArray[Any]) -> bytes:
    """Do the part of `compress` that concerns one iteration; see `join_iterations`."""
    planes = _planes(array)
    heads = [_PLANE.pack(len(plane.data), plane.size, plane.adler) for plane in planes]
    return b"".join((bytes([len(planes)]), *heads, *(plane.data for plane in planes)))


def join_iterations(packed: Iterable[bytes | memoryview]) -> bytes:
    """Return what `compress` makes of the same iterations, without inflating them."""
    return _chunk([list(_unpack(memoryview(data))) for data in packed])


def _planes(array: NDArray[Any]) -> list[Segment]:
    """Deflate all first bytes of an array's numbers, all second ones, and so on."""
    data = np.ascontiguousarray(array)
    shuffled = memoryview(data.view(np.uint8).reshape(-1, data.itemsize).T.tobytes())
    n = data.size
    return [deflate.segment(shuffled[plane * n : (plane + 1) * n]) for plane in range(data.itemsize)]


def _unpack(data: memoryview) -> Iterator[Segment]:
    n_planes = data[0]
    start = 1 + n_planes * _PLANE.size
    for n_bytes, size, adler in _PLANE.iter_unpack(data[1:start]):
        yield Segment(data[start : start + n_bytes], size, adler)
        start += n_bytes


def _chunk(iterations: Sequence[Sequence[Segment]]) -> bytes:
    """Put planes into the order of a chunk: the first one of all iterations, then the second, and so on."""
    return deflate.stream(plane for same in zip(*iterations, strict=True) for plane in same)


def decompress(data: bytes | memoryview, shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """Undo `compress`."""
    kind = np.dtype(dtype)
    shuffled = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(kind.itemsize, -1)
    return np.ascontiguousarray(shuffled.T).view(kind).reshape(tuple(shape))
