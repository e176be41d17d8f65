"""Messages survive the way over MPI."""

from __future__ import annotations

import numpy as np
import pytest

from mosaic_mpi import messages
from mosaic_mpi.messages import (
    Assign,
    Beat,
    Broken,
    Drain,
    Failure,
    Hello,
    Message,
    Ready,
    Results,
    Returned,
    Stop,
    decode,
    encode,
)
from mosaic_mpi.worker import flush_interval_s

PLAIN: list[Message] = [
    Hello("node1", (0, 5), 8, float("inf"), "digest"),
    Ready(120),
    Failure(7, "exception", "ValueError: μ < 0\n"),
    Broken("no memory"),
    Beat(),
    Stop(),
    Drain(),
]


@pytest.mark.parametrize("message", PLAIN, ids=lambda message: type(message).__name__)
def test_plain_messages_arrive_as_they_were(message: Message) -> None:
    assert decode(message.kind, bytearray(encode(message))) == message


@pytest.mark.parametrize("kind", [Assign, Returned])
@pytest.mark.parametrize("units", [[], [5], [2**40, 1, 0]])
def test_units_arrive_in_order(kind: type[Assign] | type[Returned], units: list[int]) -> None:
    arrived = decode(kind.kind, bytearray(encode(kind(np.array(units, dtype=np.int64)))))
    assert type(arrived) is kind
    assert arrived.units.tolist() == units
    assert arrived.units.dtype == np.int64


@pytest.mark.parametrize("payload", [b"", b"abc", bytes(range(256)) * 40])
def test_results_arrive_byte_for_byte(payload: bytes) -> None:
    for given in (payload, memoryview(payload)):
        arrived = decode(Results.kind, bytearray(encode(Results(3, given))))
        assert isinstance(arrived, Results)
        assert (arrived.n_records, bytes(arrived.payload)) == (3, payload)


def test_an_assignment_is_a_few_bytes() -> None:
    assert len(encode(Assign(np.arange(3)))) == 24


def test_kinds_are_tags_that_mpi_guarantees_each_its_own() -> None:
    kinds = [kind.kind for kind in messages.Message.__args__]
    assert len(set(kinds)) == len(kinds) == 12
    assert all(0 < kind < 32767 for kind in kinds)


@pytest.mark.parametrize(
    ("n_ranks", "seconds"), [(1, 0.02), (68, 0.02), (500, 0.1), (834, 0.1668), (8193, 0.25)], ids=lambda n: str(n)
)
def test_the_more_ranks_the_longer_each_collects_results(n_ranks: int, seconds: float) -> None:
    """Lest rank 0 drown in messages; but a fraction of a second at most."""
    assert flush_interval_s(n_ranks) == pytest.approx(seconds)
