"""A checksum over the bytes of a file that never change, appended after its end.

Owns the seal: which byte ranges are data that a run may write, and a CRC-32 of all others. HDF5 neither reads nor
keeps it: any program that opens the file for writing cuts it off, and a file without a seal is taken as it is. With
it, damaged metadata is found before HDF5 sees it, which would crash, loop, or write to wrong places. Knows no HDF5.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator

_MAGIC = b"\nmosaic_mpi seal"
_TAIL = struct.Struct(f"<II{len(_MAGIC)}s")
_PIECE_BYTES = 1 << 20


class Broken(Exception):
    """The bytes are not those that were sealed; the message says which way."""


def attach(path: str, data: Iterable[tuple[int, int]]) -> None:
    """Seal a file, in place of an earlier seal.

    Parameters
    ----------
    path : str
        Complete but for what lies in `data`.
    data : iterable of (int, int)
        Offset and length of the ranges that may change.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if (found := _find(descriptor, size)) is not None:
            size -= found[1] + _TAIL.size
            os.ftruncate(descriptor, size)
        ranges = list(_merged(data))
        body = json.dumps({"size": size, "data": ranges, "crc": _crc(descriptor, size, ranges)}).encode()
        seal = body + _TAIL.pack(zlib.crc32(body), len(body), _MAGIC)
        while seal:
            written = os.pwrite(descriptor, seal, size)
            seal, size = seal[written:], size + written
    finally:
        os.close(descriptor)


def check(path: str | os.PathLike[str]) -> None:
    """Compare a file with its seal, if it has one.

    Raises
    ------
    Broken
        They differ.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        found = _find(descriptor, size)
        if found is None:
            return
        crc, length = found
        body = os.pread(descriptor, length, size - length - _TAIL.size)
        if zlib.crc32(body) != crc:
            raise Broken("the list of its parts at its end has changed")
        sealed = json.loads(body)
        if sealed["size"] != size - length - _TAIL.size:
            raise Broken(f"it has {size} bytes, expected {sealed['size'] + length + _TAIL.size}")
        if _crc(descriptor, sealed["size"], sealed["data"]) != sealed["crc"]:
            raise Broken("bytes that describe its contents have changed")
    finally:
        os.close(descriptor)


def _find(descriptor: int, size: int) -> tuple[int, int] | None:
    """Return checksum and length of a seal's body."""
    if size < _TAIL.size:
        return None
    crc, length, magic = _TAIL.unpack(os.pread(descriptor, _TAIL.size, size - _TAIL.size))
    return (crc, length) if magic == _MAGIC and length <= size - _TAIL.size else None


def _merged(data: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join ranges that touch."""
    begin = end = 0
    for offset, length in sorted(data):
        if offset > end:
            if end > begin:
                yield begin, end - begin
            begin = offset
        end = max(end, offset + length)
    if end > begin:
        yield begin, end - begin


def _crc(descriptor: int, size: int, data: Iterable[tuple[int, int]]) -> int:
    """Checksum of everything outside some ranges, up to a size."""
    total = position = 0
    for offset, length in (*data, (size, 0)):
        while position < offset:
            piece = os.pread(descriptor, min(offset - position, _PIECE_BYTES), position)
            if not piece:
                break
            total, position = zlib.crc32(piece, total), position + len(piece)
        position = max(position, offset + length)
    return total
