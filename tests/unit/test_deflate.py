"""Streams put together from segments: what zlib makes of the whole reads the same, checksum included."""

from __future__ import annotations

import random
import zlib

import pytest

from mosaic_mpi.deflate import segment, stream

RUNS = b"\0" * 70_000 + b"\xff" * 70_000


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        [b"", b"a", b""],
        [b"abc", b"abc", b"abc"],
        [RUNS, RUNS[::-1], b"\xff"],
        [bytes(range(256)) * 300, b"x" * 65521, b"y" * 65520],
    ],
    ids=["nothing", "one that is empty", "empty ones between", "short", "long runs", "about the modulus"],
)
def test_a_stream_of_segments_is_a_stream_of_their_bytes(parts: list[bytes]) -> None:
    made = stream(segment(part) for part in parts)
    assert zlib.decompress(made) == b"".join(parts)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_of_random_lengths(seed: int) -> None:
    dice = random.Random(seed)
    parts = [dice.randbytes(dice.choice((0, 1, 5, 1000, 40_000, 66_000))) for _ in range(dice.randint(1, 12))]
    made = stream(segment(part) for part in parts)
    assert zlib.decompress(made) == b"".join(parts)
    assert made[-4:] == zlib.adler32(b"".join(parts)).to_bytes(4, "big")


def test_a_segment_does_not_depend_on_what_was_deflated_before() -> None:
    first = segment(RUNS)
    for other in (b"", b"abc" * 1000, RUNS):
        segment(other)
        assert segment(RUNS) == first
