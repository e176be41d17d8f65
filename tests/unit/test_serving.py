"""The loop of a slot: which results travel together, what comes first, what is given back; on a clock of its own."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import few_parameters, make_plan
from numpy.typing import NDArray

from mosaic_mpi import serving
from mosaic_mpi.parcel import Outcome, Parcel
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.records import checksum
from mosaic_mpi.serving import Server
from mosaic_mpi.simulation import Simulation
from mosaic_mpi.slot_messages import FAILURE, GATHER_SECONDS, RECALL, RESULTS, RETURNED, order

FAST, SLOW = GATHER_SECONDS / 1000, GATHER_SECONDS * 1.5


class Rank:
    """The other end of the pipe: gives orders one by one, each when the slot asks or at a given unit."""

    def __init__(self, log: list[Any], orders: list[bytes]) -> None:
        self._log, self._orders = log, orders
        self.early: list[bytes] = []
        """Orders that come while the slot has units left."""

    def poll(self) -> bool:
        return bool(self.early)

    def recv_bytes(self) -> bytes:
        if self.early:
            return self.early.pop(0)
        self._log.append("waits")
        if not self._orders:
            raise EOFError
        return self._orders.pop(0)

    def send_bytes(self, message: bytes) -> None:
        if message[:1] in (RESULTS, RETURNED):
            self._log.append((message[:1], struct.unpack_from("<q", message, 1)[0]))
        else:
            self._log.append((message[:1], message[1:].splitlines()[-1]))


class Played:
    """A slot whose simulations take as long as they are told, on a clock that stands still otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plan: SlotPlan, orders: list[bytes]) -> None:
        self.log: list[Any] = []
        self.now = 0.0
        self.seconds: Callable[[int], float] = lambda unit: FAST
        self.during: Callable[[int], None] = lambda unit: None
        self.timer = 0.0
        self.rank = Rank(self.log, orders)
        self._parameters = plan.source.draw(0, 1).values
        connection: Any = self.rank
        simulation: Any = self
        logbook: Any = self
        self.server = Server(connection, simulation, Parcel(plan.record_dtype, 0), logbook, 0)
        fake_signal = SimpleNamespace(
            SIGALRM=14, ITIMER_REAL=0, signal=lambda *_: None, setitimer=lambda which, first, every: self._arm(every)
        )
        monkeypatch.setattr(serving, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(serving, "signal", fake_signal)
        monkeypatch.setattr(self.server, "_settled", 0.0)

    def _arm(self, seconds: float) -> None:
        self.timer = seconds

    def alarm(self) -> None:
        """The timer goes off, if it is on."""
        if self.timer:
            self.server._on_alarm()

    def begin(self, slot: int, n_begun: int, now: float) -> None:
        self.log.append(f"begins {n_begun}")

    def run(self, unit: int) -> Outcome:
        self.during(unit)
        self.now += self.seconds(unit)
        return Outcome(unit, 0, self._parameters, [-1.0], [], self.seconds(unit), 1)

    def serve(self) -> list[Any]:
        self.server.serve()
        return self.log


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> SlotPlan:
    return make_plan(tmp_path_factory.mktemp("plan"), 5, 1, (), config=few_parameters()).slot_plan()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, plan: SlotPlan) -> Callable[..., Played]:
    return lambda *orders: Played(monkeypatch, plan, list(orders))


def begins(first: int, last: int) -> list[str]:
    return [f"begins {n}" for n in range(first, last + 1)]


def test_fast_results_travel_together_and_before_the_slot_waits(played: Callable[..., Played]) -> None:
    slot = played(order([0, 1, 2]), order([3, 4]))
    expected = ["waits", *begins(1, 3), (RESULTS, 3), "waits", *begins(4, 5), (RESULTS, 2), "waits"]
    assert slot.serve() == expected


def test_results_wait_for_one_another_for_a_moment_only(played: Callable[..., Played]) -> None:
    slot = played(order(list(range(12))))
    slot.seconds = lambda unit: GATHER_SECONDS / 4.5
    expected = ["waits", *begins(1, 5), (RESULTS, 5), *begins(6, 10), (RESULTS, 5), *begins(11, 12), (RESULTS, 2)]
    assert slot.serve() == [*expected, "waits"]


def test_slow_results_are_sent_at_once(played: Callable[..., Played]) -> None:
    slot = played(order([0]), order([1, 2]))
    timers: list[float] = []
    slot.seconds = lambda unit: SLOW
    slot.during = lambda unit: timers.append(slot.timer)
    first, second, third = ((f"begins {n}", (RESULTS, 1)) for n in (1, 2, 3))
    assert slot.serve() == ["waits", *first, "waits", *second, *third, "waits"]
    assert timers[0] == 0, "nothing waited"
    assert timers[1] == GATHER_SECONDS


def test_a_slot_says_how_long_what_it_sends_took(played: Callable[..., Played]) -> None:
    slot = played(order([0, 1, 2]), order([3]))
    slot.seconds = lambda unit: (unit + 1) * FAST
    sent: list[bytes] = []
    slot.rank.send_bytes = sent.append  # type: ignore[method-assign]
    slot.serve()
    found = [struct.unpack_from("<qd", message, 1) for message in sent]
    assert found == [(3, pytest.approx(6 * FAST)), (1, pytest.approx(4 * FAST))]


def test_what_waits_is_sent_while_one_takes_longer_than_expected(played: Callable[..., Played]) -> None:
    slot = played(order([0, 1, 2, 3]))
    slot.during = lambda unit: slot.alarm() if unit == 2 else None
    expected = ["waits", *begins(1, 3), (RESULTS, 2), *begins(4, 4), (RESULTS, 2), "waits"]
    assert slot.serve() == expected


def test_an_alarm_within_an_alarm_sends_nothing_twice(played: Callable[..., Played]) -> None:
    slot = played(order([0, 1, 2]))
    slot.during = lambda unit: slot.alarm() if unit == 2 else None
    send = slot.rank.send_bytes

    def slowly(message: bytes) -> None:
        slot.alarm()
        send(message)

    slot.rank.send_bytes = slowly  # type: ignore[method-assign]
    assert slot.serve() == ["waits", *begins(1, 3), (RESULTS, 2), (RESULTS, 1), "waits"]


def test_the_alarm_leaves_a_record_alone_that_is_being_written(played: Callable[..., Played]) -> None:
    slot = played(order([0, 1, 2]))
    add = slot.server._parcel.add

    def interrupted(outcome: Outcome) -> None:
        slot.alarm()
        add(outcome)

    slot.server._parcel.add = interrupted  # type: ignore[method-assign]
    assert slot.serve() == ["waits", *begins(1, 3), (RESULTS, 3), "waits"]


def test_a_slot_that_waits_for_orders_has_no_timer(played: Callable[..., Played]) -> None:
    slot = played(order([0, 1]))
    timers: list[float] = []
    slot.during = lambda unit: timers.append(slot.timer)
    slot.serve()
    assert timers == [GATHER_SECONDS, GATHER_SECONDS]
    assert not slot.timer


def test_an_exception_comes_in_its_place(played: Callable[..., Played]) -> None:
    slot = played(order([0, 1, 2, 3]))

    def fail(unit: int) -> None:
        if unit == 2:
            raise ValueError("no")

    slot.during = fail
    failure = (FAILURE, b"ValueError: no")
    expected = ["waits", *begins(1, 3), (RESULTS, 2), failure, *begins(4, 4), (RESULTS, 1), "waits"]
    assert slot.serve() == expected


def test_what_is_recalled_is_given_back_after_the_results(played: Callable[..., Played]) -> None:
    slot = played(order(list(range(6))), order([9]))

    def recall(unit: int) -> None:
        if unit == 2:
            slot.rank.early.append(RECALL)

    slot.during = recall
    slot.seconds = lambda unit: SLOW if unit == 3 else FAST
    expected = ["waits", *begins(1, 4), (RESULTS, 4), (RETURNED, 2), "waits", *begins(5, 5), (RESULTS, 1), "waits"]
    assert slot.serve() == expected


def test_what_waits_behind_a_slow_one_is_given_back_meanwhile(played: Callable[..., Played]) -> None:
    slot = played(order(list(range(6))))

    def recall(unit: int) -> None:
        if unit == 2:
            slot.alarm()
            assert slot.log[-1] == (RESULTS, 2)
            slot.rank.early.append(RECALL)
            slot.alarm()
            assert slot.log[-1] == (RETURNED, 3)

    slot.during = recall
    assert slot.serve() == ["waits", *begins(1, 3), (RESULTS, 2), (RETURNED, 3), (RESULTS, 1), "waits"]


def test_an_order_that_comes_early_is_run_after_the_first(played: Callable[..., Played]) -> None:
    slot = played(order([0, 1]))
    slot.seconds = lambda unit: SLOW if unit == 0 else FAST
    slot.during = lambda unit: slot.rank.early.append(order([2, 3])) if unit == 0 else None
    assert slot.serve() == ["waits", *begins(1, 1), (RESULTS, 1), *begins(2, 4), (RESULTS, 3), "waits"]


def test_a_recall_that_comes_too_late_is_not_answered(played: Callable[..., Played]) -> None:
    slot = played(order([0]), RECALL, order([1]))
    expected = ["waits", *begins(1, 1), (RESULTS, 1), "waits", "waits", *begins(2, 2), (RESULTS, 1), "waits"]
    assert slot.serve() == expected


# ---- the bytes of a parcel ---------------------------------------------------------------------------


def packed(plan: SlotPlan, units: list[int], parcel: Parcel) -> tuple[NDArray[np.void], bytes]:
    simulation = Simulation(plan)
    for unit in units:
        parcel.add(simulation.run(unit))
    assert parcel.n_records == len(units)
    payload = parcel.payload()
    parcel.clear()
    end = len(units) * plan.record_dtype.itemsize
    return np.frombuffer(payload[:end], plan.record_dtype), payload[end:]


@pytest.mark.parametrize("save", [(), ("fake",)], ids=["scalars", "series"])
def test_records_of_a_batch_are_those_of_each_alone(tmp_path: Path, save: tuple[str, ...]) -> None:
    plan = make_plan(tmp_path, 5, 2, save, config=few_parameters()).slot_plan()
    units = [0, 3, 4, 8, 9]  # whole simulations, and iterations in between: a row is written over and over again
    parcel = Parcel(plan.record_dtype, 3)
    packed(plan, [12, 13, 7, 6, 5, 4], parcel)
    records, series = packed(plan, units, parcel)
    assert (records["slot"] == 3).all()
    assert records["row"].tolist() == [0, 1, 1, 2, 3]
    assert records["iteration"].tolist() == [0, 0, 1, 2, 0]
    position = 0
    for index, unit in enumerate(units):
        (alone,), own_series = packed(plan, [unit], Parcel(plan.record_dtype, 3))
        for name in set(plan.record_dtype.names or ()) - {"elapsed_s", "finished_at"}:
            assert alone[name].tobytes() == records[index][name].tobytes(), name
        assert series[position : position + len(own_series)] == own_series
        position += len(own_series)
        if alone["iteration"] == 0:
            assert alone["checksum"] == checksum(alone, own_series)
        else:
            assert (alone["checksum"], alone["likelihood"]) == (0, 0.0)
    assert position == len(series)


def test_a_batch_is_full_before_it_is_larger_than_a_pipe(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, 5, 1, ("fake",), config=few_parameters()).slot_plan()
    outcome = Simulation(plan).run(0)
    parcel = Parcel(plan.record_dtype, 0)
    while not parcel.is_full:
        parcel.add(outcome)
    assert parcel.n_records > 1
    assert len(parcel.payload()) < 3 << 16
    parcel.clear()
    parcel.add(outcome._replace(series=[bytes(1 << 16)]))
    assert parcel.is_full
