"""Compressed streams that are made piece by piece, anywhere, and put together without being read again.

A segment is flushed to a whole byte and refers to nothing before it, so that segments may follow one another in any
order; only the stream's checksum has to be reckoned from theirs. Knows nothing of what it compresses.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

LEVEL = 1
"""Fast, and every HDF5 reads it."""
_HEAD = b"\x78\x01"
"""Of a zlib stream (RFC 1950): window of 32 KiB, lowest level."""
_END = b"\x03\x00"
"""An empty last block (RFC 1951)."""
_MODULUS = 65521


@dataclass(frozen=True)
class Segment:
    """A piece of a stream.

    Parameters
    ----------
    data : bytes
        Deflated.
    size : int
        Bytes that it stands for.
    adler : int
        Adler-32 of those.
    """

    data: bytes | memoryview
    size: int
    adler: int


def segment(data: bytes | memoryview) -> Segment:
    """Deflate some bytes."""
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = deflater.compress(data) + deflater.flush(zlib.Z_FULL_FLUSH)
    return Segment(deflated, len(data), zlib.adler32(data))


def stream(segments: Iterable[Segment]) -> bytes:
    """Return the zlib stream of the bytes of all segments, one after the other."""
    parts: list[bytes | memoryview] = [_HEAD]
    total = 1  # Adler-32 of nothing
    for piece in segments:
        parts.append(piece.data)
        total = _adler_of_both(total, piece)
    return b"".join((*parts, _END, total.to_bytes(4, "big")))


def _adler_of_both(before: int, piece: Segment) -> int:
    """Return the Adler-32 of some bytes followed by a segment's.

    Its halves are, modulo 65521, 1 plus the sum of the bytes, and the sum of those sums after each byte: what comes
    before raises each of the segment's sums by its own first half, less the 1 that is counted twice.
    """
    first = (before & 0xFFFF) - 1
    low = first + (piece.adler & 0xFFFF)
    high = (before >> 16) + (piece.adler >> 16) + piece.size * first
    return high % _MODULUS << 16 | low % _MODULUS
