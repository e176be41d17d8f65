"""A rank's view of its slots: who is charged when one dies, what is called back. The slots are played by the test."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import pytest

from mosaic_mpi import slots
from mosaic_mpi.errors import EngineError
from mosaic_mpi.slot_events import Failed, Finished, Replaced, SlotEvent, Unbegun
from mosaic_mpi.slot_messages import FAILURE, READY, RECALL, RESULTS, RETURNED, units_of
from mosaic_mpi.slots import SlotPool

FAST, SLOW = 0.001, 1.0


class Process:
    """The process of a slot, played: its end of the pipe, and its entry in the logbook."""

    def __init__(self, connection: Connection, pool: SlotPool, index: int) -> None:
        self.pid, self.exitcode = 1, None
        self._connection, self._logbook, self._index = connection, pool._logbook, index
        self.n_begun = 0
        self.units: list[int] = []
        self.was_killed = False
        self._connection.send_bytes(READY)

    def take(self) -> list[int]:
        """Read what was ordered; `RECALL` reads as nothing."""
        found = units_of(self._connection.recv_bytes())
        self.units += found
        return found

    def is_recalled(self) -> bool:
        return self._connection.poll() and self._connection.recv_bytes() == RECALL

    def has_orders(self) -> bool:
        return self._connection.poll()

    def begin(self, n_units: int = 1, ago_s: float = 0.0) -> None:
        """Begin units one after the other, the last of them some time ago."""
        self.n_begun += n_units
        self._logbook.begin(self._index, self.n_begun, time.monotonic() - ago_s)

    def bring(self, n_records: int) -> None:
        """Send results of simulations that were fast."""
        self._connection.send_bytes(RESULTS + struct.pack("<qd", n_records, n_records * FAST) + bytes(n_records))
        del self.units[:n_records]

    def fail(self) -> None:
        self._connection.send_bytes(FAILURE + b"ValueError: no")
        del self.units[0]

    def give_back(self, n_at: int = 0) -> None:
        """Return units, but for one if it is at that."""
        self._connection.send_bytes(RETURNED + struct.pack("<qq", len(self.units) - n_at, n_at))
        del self.units[n_at:]

    def die(self, exitcode: int = -9) -> None:
        self.exitcode = exitcode
        self._connection.close()

    def kill(self) -> None:
        self.was_killed = True
        if self.exitcode is None:
            self.die()

    def join(self, timeout: float) -> None:
        pass


class Rank:
    """A pool whose processes are played."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n_slots: int, **options: Any) -> None:
        self.processes: list[Process] = []
        self.pool = SlotPool(n_slots, b"plan", **options)

        def spawn(target: Any, plan_file: Any, size: int, logbook_file: Any, index: int) -> tuple[Any, Connection]:
            ours, theirs = Pipe()
            self.processes.append(Process(theirs, self.pool, index))
            return self.processes[-1], ours

        monkeypatch.setattr(
            slots, "fork_server", SimpleNamespace(spawn=spawn, OpenFile=lambda descriptor: descriptor)
        )
        self.pool.start()
        self.pool.poll(1.0)

    @property
    def last(self) -> Process:
        """The process started last."""
        return self.processes[-1]

    def poll(self) -> list[SlotEvent]:
        return self.pool.poll(0.01)

    def look(self) -> list[SlotEvent]:
        """As `poll`, when it is time to look after slow ones."""
        self.pool._checked -= 1.0
        return self.poll()

    def learn(self, seconds: float) -> None:
        """Know how long a unit takes."""
        self.pool._mean_s = seconds


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Rank]]:
    made: list[Rank] = []

    def make(n_slots: int = 1, **options: Any) -> Rank:
        made.append(Rank(monkeypatch, n_slots, **options))
        return made[-1]

    yield make
    for rank in made:
        rank.pool.close()


@pytest.fixture
def busy(ranks: Callable[..., Rank]) -> Rank:
    """One slot that has ten units, of which it has answered two."""
    rank = ranks()
    rank.learn(FAST)
    rank.pool.submit(list(range(100, 110)))
    slot = rank.last
    assert slot.take() == list(range(100, 110))
    slot.begin(2)
    slot.bring(2)
    events = rank.poll()
    assert [type(event) for event in events] == [Finished]
    return rank


def test_the_unit_that_a_slot_was_at_is_charged_and_no_other(busy: Rank) -> None:
    busy.last.begin(3)  # 102 and 103 are finished and not sent, 104 runs
    busy.last.die()
    (event,) = busy.poll()
    assert isinstance(event, Failed)
    assert (event.unit, event.cause) == (104, "killed")
    assert "SIGKILL" in event.text
    busy.poll()
    assert busy.last.take() == [102, 103, 105, 106, 107, 108, 109], "what was lost comes first"


def test_results_that_were_sent_before_a_death_count(busy: Rank) -> None:
    busy.last.begin(3)
    busy.last.bring(2)
    busy.last.die()
    first, second = busy.poll()
    assert isinstance(first, Finished)
    assert first.n_records == 2
    assert isinstance(second, Failed)
    assert second.unit == 104


def test_a_failure_is_that_of_the_next_unit_and_a_death_after_it_of_the_one_after(busy: Rank) -> None:
    busy.last.begin(1)
    busy.last.fail()
    busy.last.begin(1)
    busy.last.die()
    first, second = busy.poll()
    assert isinstance(first, Failed)
    assert isinstance(second, Failed)
    assert (first.unit, first.cause, second.unit, second.cause) == (102, "exception", 103, "killed")


def test_a_slot_that_dies_before_it_begins_harms_nobody(busy: Rank) -> None:
    busy.last.die()
    (event,) = busy.poll()
    assert isinstance(event, Replaced)
    assert event.text.startswith("a slot was killed by SIGKILL between simulations")
    busy.poll()
    assert busy.last.take() == list(range(102, 110))


def test_slots_that_never_begin_anything_end_it(ranks: Callable[..., Rank]) -> None:
    rank = ranks()
    rank.pool.submit([7])

    def die_again_and_again() -> None:
        for _ in range(20):
            rank.last.die()
            rank.poll()
            rank.poll()

    with pytest.raises(EngineError, match="5 slots in a row"):
        die_again_and_again()


def test_a_unit_is_overdue_by_the_time_since_it_began(ranks: Callable[..., Rank]) -> None:
    rank = ranks(timeout_s=5.0)
    rank.learn(FAST)
    rank.pool.submit([1, 2, 3, 4])
    rank.last.take()
    rank.last.begin(1, ago_s=100.0)
    rank.last.begin(1, ago_s=4.0)
    assert rank.look() == []
    first = rank.last
    assert not first.was_killed
    first.begin(1, ago_s=6.0)
    rank.look()
    rank.look()
    assert first.was_killed
    (event,) = rank.poll()
    assert event == Failed(3, "timeout", "took longer than 5 s and was ended")
    rank.poll()
    assert rank.last is not first
    assert rank.last.take() == [1, 2, 4]


def test_a_slot_that_could_not_send_while_its_rank_stood_still_is_not_overdue(ranks: Callable[..., Rank]) -> None:
    """Its pipe was full, and it has not come to send the rest when the rank has read that."""
    rank = ranks(timeout_s=5.0)
    rank.learn(FAST)
    rank.pool.submit(list(range(9)))
    slot = rank.last
    slot.take()
    slot.begin(4)
    slot.bring(2)
    slot.begin(1, ago_s=6.0)
    assert [type(event) for event in rank.look()] == [Finished]
    slot.bring(3)
    slot.begin(1, ago_s=5.5)
    assert [type(event) for event in rank.look()] == [Finished]
    assert not slot.was_killed
    rank.look()
    assert slot.was_killed


@pytest.mark.parametrize("n_begun", [0, 1])
def test_a_unit_that_begins_just_before_the_kill_is_not_charged_nor_is_the_one_before(
    ranks: Callable[..., Rank], monkeypatch: pytest.MonkeyPatch, n_begun: int
) -> None:
    """What was overdue is the one before, which has ended meanwhile, or the slot had not come to begin any."""
    rank = ranks(timeout_s=5.0)
    rank.learn(FAST)
    rank.pool.submit([1, 2, 3])
    slot = rank.last
    slot.take()
    if n_begun:
        slot.begin(1, ago_s=6.0)
    else:
        rank.pool._slots[0].since -= 6.0
    kill = slot.kill

    def a_moment_late() -> None:
        slot.begin(1)
        kill()

    monkeypatch.setattr(slot, "kill", a_moment_late)
    rank.look()
    rank.look()
    assert slot.was_killed
    assert rank.poll() == []
    rank.poll()
    assert rank.last.take() == [1, 2, 3]


def test_what_waits_behind_a_slow_unit_is_called_back_once(busy: Rank) -> None:
    busy.last.begin(1, ago_s=SLOW)
    assert busy.look() == []
    assert busy.look() == []
    assert busy.last.is_recalled()
    assert not busy.last.is_recalled(), "told twice"
    busy.last.bring(1)
    busy.last.give_back()
    first, second = busy.poll()
    assert isinstance(first, Finished)
    assert second == Unbegun(list(range(103, 110)))
    busy.pool.submit([5])
    assert busy.last.take() == [5]


def test_a_slot_gets_nothing_to_wait_behind_a_slow_unit(busy: Rank) -> None:
    busy.last.begin(1, ago_s=SLOW)
    busy.look()
    assert busy.last.is_recalled()
    busy.last.give_back(n_at=1)
    assert busy.poll() == [Unbegun(list(range(103, 110)))]
    busy.pool.submit([5, 6])
    busy.look()
    assert not busy.last.has_orders()
    busy.last.bring(1)
    busy.poll()
    assert busy.last.take() == [5, 6]


def test_who_dies_at_a_slow_unit_is_charged_with_it_after_it_has_returned_what_waited(busy: Rank) -> None:
    busy.last.begin(1, ago_s=SLOW)
    busy.look()
    busy.last.give_back(n_at=1)
    busy.last.die()
    first, second = busy.poll()
    assert first == Unbegun(list(range(103, 110)))
    assert isinstance(second, Failed)
    assert second.unit == 102


def test_a_slot_is_not_disturbed_that_has_nothing_waiting_or_is_fast(busy: Rank) -> None:
    busy.last.begin(1)
    busy.look()
    assert not busy.last.is_recalled()
    busy.last.begin(7, ago_s=SLOW)
    busy.look()
    assert not busy.last.is_recalled()


def test_a_stop_calls_back_what_waits(busy: Rank) -> None:
    busy.last.begin(1)
    busy.learn(SLOW)  # so that the slot is given no more
    busy.pool.submit([1, 2, 3])
    assert busy.pool.drop_backlog() == [1, 2, 3]
    assert busy.last.is_recalled()


def test_units_given_back_do_not_wear_a_slot_out(ranks: Callable[..., Rank]) -> None:
    rank = ranks(max_simulations=4)
    rank.learn(FAST)
    rank.pool.submit([1, 2, 3])
    slot = rank.last
    slot.take()
    slot.begin(1, ago_s=SLOW)
    rank.look()
    assert slot.is_recalled()
    slot.bring(1)
    slot.give_back()
    rank.poll()
    rank.pool.submit([4, 5, 6])
    assert rank.last is slot
    assert slot.take() == [4, 5, 6]
    slot.begin(3)
    slot.bring(3)
    rank.poll()
    assert slot.was_killed
    assert rank.last is not slot


def test_results_that_waited_for_a_rank_that_stood_still_do_not_look_fast(ranks: Callable[..., Rank]) -> None:
    """They come all at once then; a slot would be given thousands, and other slots wait for some."""
    rank = ranks()
    rank.learn(FAST)
    rank.pool.submit(list(range(5000)))
    assert len(rank.last.take()) == 100
    rank.last.begin(91)
    for _ in range(9):
        rank.last.bring(10)
    rank.poll()
    assert len(rank.last.take()) == 90


def test_orders_that_nobody_has_read_fit_into_the_pipe(ranks: Callable[..., Rank]) -> None:
    """Else the rank would wait for a slot that is busy."""
    rank = ranks()
    rank.learn(1e-6)
    rank.pool.submit(list(range(100_000)))
    rank.last.begin(1)
    rank.poll()
    rank.pool.drop_backlog()
    found = rank.last.take()
    assert 1000 < len(found) < 10_000
    assert rank.last.is_recalled()
