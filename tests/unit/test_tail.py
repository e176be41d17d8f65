"""The end of a run with real decisions and a real results file, its ranks and slots played in a virtual time."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import Slot, begin, few_parameters, finished_run, make_plan, same_numbers

from mosaic_mpi import layout
from mosaic_mpi.failure_limit import FailureLimit
from mosaic_mpi.master import Master
from mosaic_mpi.progress import Progress
from mosaic_mpi.ranks import Ranks
from mosaic_mpi.results import Results
from mosaic_mpi.store import Store
from mosaic_mpi.tail import Tail, is_late
from mosaic_mpi.units import Units
from mosaic_mpi.workqueue import WorkQueue

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from virtual_time import VirtualRank, VirtualRanks

SECONDS = 10.0
"""Of an iteration."""


def never(rank: int, unit: int) -> str | None:
    return None


class Played:
    """A run whose simulations take a given virtual time and bring the stand-in's numbers."""

    def __init__(
        self,
        folder: Path,
        n_simulations: int,
        slots: list[int],
        n_iterations: int = 3,
        factors: dict[int, float] | None = None,
        seconds: Callable[[int, int], float] = lambda row, iteration: SECONDS,
        goes_wrong: Callable[[int, int], str | None] = never,
        max_attempts: int = 3,
    ) -> None:
        self.folder = folder
        self.plan = make_plan(folder, n_simulations, n_iterations, config=few_parameters())
        self.path = folder / "run.h5"
        self.store = Store(str(self.path), self.plan)
        begin(self.store)
        self.units = Units(n_iterations)
        self._slot = Slot(self.plan.slot_plan())
        self._goes_wrong = goes_wrong
        self.failures: list[tuple[int, int]] = []
        ranks = [VirtualRank(n_slots, (factors or {}).get(rank, 1.0)) for rank, n_slots in enumerate(slots)]
        size = self.plan.slot_plan().record_dtype.itemsize
        self.comm = VirtualRanks(ranks, self.units, seconds, self._bring, size)
        self.queue = WorkQueue(self.store.status, self.store.failed_attempts, max_attempts, len(slots))
        self.n_slots = sum(slots)

    def _bring(self, rank: int, unit: int, elapsed_s: float, finished_at: float) -> bytes | str:
        if text := self._goes_wrong(rank, unit):
            self.failures.append((rank, unit))
            return text
        payload = self._slot.run(unit)
        dtype = self.plan.slot_plan().record_dtype
        record = np.frombuffer(payload, dtype, 1).copy()
        record["elapsed_s"], record["finished_at"] = elapsed_s, finished_at
        return record.tobytes() + payload[dtype.itemsize :]

    def _master(self) -> Master:
        hosts = [f"host{rank}" for rank in range(len(self.comm.ranks))]
        progress = Progress(self.plan.n_simulations, 0)
        return Master(
            *(self.comm, self.store, self.queue, progress, hosts, self.plan.slot_plan(), 30.0, 300.0),
            *(FailureLimit.parse("100%"), self.n_slots),
        )

    def run(self) -> float:
        """Run to the end, close the file, and return the virtual seconds that it took."""
        try:
            seconds = self.comm.run(self._master, until_s=1e5)
            self.store.commit()
            whole = self.queue.is_done
            self.store.end_start(layout.COMPLETE if whole else layout.STOPPED)
            if whole:
                self.store.fold(lambda: None)
        finally:
            self.store.close()
        return seconds

    def assert_same_as_without_splitting(self) -> None:
        """Compare with a file of whole simulations: numbers, and checksums, which cover stored bytes of series."""
        other = self.folder / "whole.h5"
        finished_run(other, self.plan)
        same_numbers(self.path, other, ignore=("simulations/attempts", "simulations/failed_attempts"))
        ours, theirs = Results(self.path), Results(other)
        assert (ours.table("simulations/checksum") == theirs.table("simulations/checksum")).all()
        assert ours.verify() == []

    def attempts(self) -> list[int]:
        return [int(n) for n in Results(self.path).table("simulations/attempts")]

    def begun(self, row: int) -> list[tuple[int, int]]:
        """Rank and iteration of every time that something of a simulation was begun."""
        return [(rank, self.units.split(unit)[1]) for _, rank, unit in self.comm.begun if unit // 4 == row]


# ---- iterations instead of simulations --------------------------------------------------------------


def test_fewer_simulations_than_slots_are_shared_out_by_iterations(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=4, slots=[3, 3, 6])
    assert run.run() == pytest.approx(SECONDS, abs=0.1), "not three iterations in a row"
    assert Counter(unit % 4 for _, _, unit in run.comm.begun) == {1: 4, 2: 4, 3: 4}
    run.assert_same_as_without_splitting()
    assert run.attempts() == [1] * 4


def test_what_is_left_after_full_rounds_is_shared_out(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=15, slots=[4, 4, 4])
    assert run.run() == pytest.approx(4 * SECONDS, abs=0.2), "not two rounds of three iterations"
    assert Counter(unit % 4 for _, _, unit in run.comm.begun) == {0: 12, 1: 3, 2: 3, 3: 3}
    run.assert_same_as_without_splitting()


def test_nothing_is_split_where_no_round_of_iterations_would_be_saved(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=11, slots=[4, 4, 4])
    assert run.run() == pytest.approx(3 * SECONDS, abs=0.1)
    assert {unit % 4 for _, _, unit in run.comm.begun} == {0}


def test_short_simulations_are_not_split(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=15, slots=[4, 4, 4], seconds=lambda row, iteration: 0.01)
    run.run()
    assert {unit % 4 for _, _, unit in run.comm.begun} == {0}
    run.assert_same_as_without_splitting()


def test_a_single_iteration_cannot_be_split(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=2, slots=[4, 4], n_iterations=1)
    assert run.run() == pytest.approx(SECONDS, abs=0.1)
    assert {unit % 2 for _, _, unit in run.comm.begun} == {0}


def test_a_joined_simulation_took_the_time_of_all_its_slots(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=2, slots=[3, 3], seconds=lambda row, iteration: SECONDS * iteration)
    run.run()
    results = Results(run.path)
    assert results.table("simulations/elapsed_s") == pytest.approx([6 * SECONDS] * 2)
    assert results.table("starts/ended_at")[0] > 0


def test_an_iteration_that_fails_costs_one_attempt_and_then_the_simulation_is_run_whole(tmp_path: Path) -> None:
    wrong = iter(["ValueError: once"])
    run = Played(
        tmp_path,
        n_simulations=3,
        slots=[5, 5],
        goes_wrong=lambda rank, unit: next(wrong, None) if unit == 4 + 2 else None,
    )
    run.run()
    assert run.attempts() == [1, 2, 1]
    assert [iteration for _, iteration in run.begun(1)] == [1, 2, 3, 0]
    run.assert_same_as_without_splitting()


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
def test_a_simulation_of_which_every_iteration_fails_has_as_many_attempts_as_are_allowed(
    tmp_path: Path, max_attempts: int
) -> None:
    run = Played(
        tmp_path,
        n_simulations=3,
        slots=[5, 5],
        goes_wrong=lambda rank, unit: "ValueError: always" if unit // 4 == 1 else None,
        max_attempts=max_attempts,
    )
    run.run()
    results = Results(run.path)
    assert results.table("simulations/status").tolist() == [1, layout.FAILED, 1]
    assert run.attempts() == [1, max_attempts, 1]
    assert [iteration for _, iteration in run.begun(1)] == [1, 2, 3, *[0] * (max_attempts - 1)]


def test_of_a_rank_that_dies_its_iterations_alone_are_run_again(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=4, slots=[4, 4, 4])
    run.comm.after(SECONDS / 2, lambda: run.comm.kill(1))
    assert run.run() == pytest.approx(2 * SECONDS, abs=0.2)
    again = [key for key, n in Counter(unit for _, _, unit in run.comm.begun).items() if n > 1]
    assert sorted(again) == sorted(unit for _, rank, unit in run.comm.begun if rank == 1)
    assert len(again) == 4
    assert run.attempts() == [1] * 4
    run.assert_same_as_without_splitting()


def test_a_stop_leaves_simulations_of_which_iterations_are_to_do(tmp_path: Path) -> None:
    """Those whose iterations all run may finish; the others are to do as before."""
    run = Played(tmp_path, n_simulations=6, slots=[5, 5], seconds=lambda row, iteration: SECONDS + row)
    run.comm.after(SECONDS / 2, lambda: run.comm.master.drain(60.0))
    assert run.run() == pytest.approx(SECONDS + 2, abs=0.2), "what cannot be finished was waited for"
    assert (run.queue.n_completed, run.queue.n_pending, run.queue.n_running) == (3, 3, 0)
    assert Results(run.path).table("simulations/status").tolist() == [1, 1, 1, 0, 0, 0]


def test_a_stop_does_not_wait_for_iterations_of_a_rank_that_dies_meanwhile(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=2, slots=[0, 3, 3])
    run.comm.after(SECONDS / 2, lambda: run.comm.master.drain(1e4))
    run.comm.after(SECONDS * 0.6, lambda: run.comm.kill(2))
    assert run.run() == pytest.approx(SECONDS, abs=0.2), "the grace was waited for"
    assert (run.queue.n_completed, run.queue.n_pending, run.queue.n_running) == (1, 1, 0)


# ---- help for those that are late -------------------------------------------------------------------


def test_a_slow_rank_does_not_hold_up_the_end(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=30, slots=[4, 4, 2], factors={2: 10.0})
    assert run.run() < 16 * SECONDS, "30 s x 10 on the slow rank alone"
    run.assert_same_as_without_splitting()
    assert run.attempts() == [1] * 30


def test_without_others_a_slow_rank_is_waited_for(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=4, slots=[2], factors={0: 3.0})
    assert run.run() == pytest.approx(2 * 3 * 3 * SECONDS, rel=0.34)
    run.assert_same_as_without_splitting()


def test_a_late_iteration_is_copied_once(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=4, slots=[4, 4, 4], factors={1: 100.0})
    assert run.run() < 4 * SECONDS
    assert max(Counter(unit for _, _, unit in run.comm.begun).values()) == 2
    run.assert_same_as_without_splitting()


def test_the_only_iteration_of_a_late_simulation_is_copied(tmp_path: Path) -> None:
    run = Played(tmp_path, n_simulations=8, slots=[4, 4], n_iterations=1, factors={1: 100.0})
    assert run.run() < 5 * SECONDS
    run.assert_same_as_without_splitting()


def test_a_first_copy_that_fails_blames_nobody_while_the_other_runs(tmp_path: Path) -> None:
    """Rank 1 is slow, and what others do again of its simulations fails there."""
    seen: Counter[int] = Counter()

    def goes_wrong(rank: int, unit: int) -> str | None:
        seen[unit] += 1
        return "ValueError: a copy" if rank != 1 and unit % 4 and unit // 4 in slow_rows else None

    run = Played(tmp_path, n_simulations=12, slots=[5, 5, 2], factors={2: 4.0}, goes_wrong=goes_wrong)
    slow_rows: set[int] = set()
    run.comm.after(SECONDS, lambda: slow_rows.update(unit // 4 for _, rank, unit in run.comm.begun if rank == 2))
    assert run.run() == pytest.approx(4 * 3 * SECONDS, abs=0.2), "the slow rank's own answers"
    assert run.failures
    assert {unit // 4 for _, unit in run.failures} == slow_rows
    assert run.attempts() == [1] * 12
    assert max(seen.values()) == 1, "what has failed is not copied again"
    run.assert_same_as_without_splitting()


def test_a_simulation_that_hangs_for_its_time_and_fails_is_charged_once_a_round(tmp_path: Path) -> None:
    """Poison that takes long: copied in its first attempt, never after, and its attempts are as many as allowed."""
    run = Played(
        tmp_path,
        n_simulations=12,
        slots=[6, 6],
        seconds=lambda row, iteration: SECONDS * (20 if row == 3 else 1),
        goes_wrong=lambda rank, unit: "TimeoutError" if unit // 4 == 3 else None,
    )
    run.run()
    assert run.attempts() == [3 if row == 3 else 1 for row in range(12)]
    wholes = [iteration for _, iteration in run.begun(3) if iteration == 0]
    assert len(wholes) == 3
    assert len(run.begun(3)) <= 3 + 3 * 2, "at most each iteration and its copy besides"


def test_no_rank_hoards_what_others_could_do(tmp_path: Path) -> None:
    """Long simulations after short ones: the work that a rank holds in advance is taken back when others are idle."""
    run = Played(
        tmp_path,
        n_simulations=64,
        slots=[1] * 8,
        seconds=lambda row, iteration: SECONDS * (4 if row % 8 == 0 else 1),
    )
    total = sum(run.comm.seconds_of(4 * row) for row in range(64))
    assert run.run() < total / 8 + 6 * SECONDS
    run.assert_same_as_without_splitting()


# ---- everything at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(25))
def test_any_mixture_of_speeds_failures_and_deaths_ends_with_the_same_numbers(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    n_ranks, n_iterations = dice.randint(2, 6), dice.randint(1, 4)
    n_simulations, max_attempts = dice.randint(1, 40), dice.randint(1, 3)
    poison = {row for row in range(n_simulations) if dice.random() < 0.08}
    passing = {row: dice.randint(1, n_iterations) for row in range(n_simulations) if dice.random() < 0.1} | {}
    length = {key: dice.lognormvariate(1, 0.5) for key in range(n_simulations * 5)}
    charged: Counter[int] = Counter()

    def goes_wrong(rank: int, unit: int) -> str | None:
        row = unit // (n_iterations + 1)
        if row in poison:
            return "ValueError: poison"
        if max_attempts > 1 and row in passing and not charged[row]:
            charged[row] += 1
            return "OSError: passing"
        return None

    run = Played(
        tmp_path,
        n_simulations,
        [dice.randint(1, 5) for _ in range(n_ranks)],
        n_iterations,
        factors={rank: dice.choice((1.0, 1.0, 1.3, 8.0)) for rank in range(n_ranks)},
        seconds=lambda row, iteration: length[5 * row + iteration],
        goes_wrong=goes_wrong,
        max_attempts=max_attempts,
    )
    for rank in range(1, n_ranks):
        if dice.random() < 0.3:
            run.comm.after(dice.uniform(0, 60), lambda rank=rank: run.comm.kill(rank))
    run.run()
    status = Results(run.path).table("simulations/status")
    assert set(np.flatnonzero(status == layout.FAILED)) == poison
    assert (np.delete(status, sorted(poison)) == layout.COMPLETED).all()
    attempts = run.attempts()
    assert all(attempts[row] == max_attempts for row in poison)
    assert all(attempts[row] <= 1 + charged[row] for row in range(n_simulations) if row not in poison)
    if not poison:
        run.assert_same_as_without_splitting()
    else:
        assert Results(run.path).verify() == []
    assert run.queue.n_running == run.queue.n_pending == 0


def two_ranks(n_simulations: int, n_iterations: int) -> tuple[WorkQueue, Tail]:
    """Of one slot each; the first has two simulations."""
    queue = WorkQueue(np.zeros(n_simulations, np.int8), np.zeros(n_simulations, np.int32), 3, n_ranks=2)
    ranks = Ranks(["a", "b"], [0, 0], 0.0)
    tail = Tail(queue, ranks, Units(n_iterations), 2)
    for rank in (0, 1):
        ranks.report(rank, 1)
    tail.note_given(0, queue.take(2, 0), 0.0)
    return queue, tail


def test_a_row_that_two_ranks_bring_at_once_keeps_neither_busy() -> None:
    queue, tail = two_ranks(n_simulations=3, n_iterations=2)
    tail._parts.split(np.array([1]))  # another simulation, which is done again elsewhere
    tail.settle(np.array([0, 1]), np.array([0, 0]))
    queue.complete(np.array([0, 0]))
    assert (tail.n_held(0), tail.n_held(1)) == (1, 0)


def test_a_rank_that_returns_what_others_have_done_is_not_busy_with_it() -> None:
    queue, tail = two_ranks(n_simulations=2, n_iterations=1)
    tail._parts.split(np.array([1]))  # it waits in rank 0's backlog, and others do it meanwhile
    tail.settle(np.array([1]), np.array([1]))
    queue.complete(np.array([1]))
    assert tail.n_held(0) == 2
    tail.give_back(0, Units(1).whole(np.array([1])))
    assert tail.n_held(0) == 1


@pytest.mark.parametrize(("spread_s", "is_split"), [(0.0, False), (3.0, True)])
def test_where_lengths_vary_more_is_shared_out(spread_s: float, is_split: bool) -> None:
    """Ten simulations on twelve slots: two thirds of these are enough of them only if none takes much longer."""
    queue = WorkQueue(np.zeros(10, np.int8), np.zeros(10, np.int32), 3, n_ranks=2)
    ranks = Ranks(["a", "b"], [0, 0], 0.0)
    tail = Tail(queue, ranks, Units(3), 12)
    for rank in (0, 1):
        ranks.report(rank, 6)
    for sign in (1, -1) * 20:
        ranks.learn(np.array([0, 1]), np.full(2, 10.0 + sign * spread_s), np.ones(2, np.int64))
    tail.split_if_due(1.0)
    assert tail.n_to_do == 30 * is_split
    assert queue.n_pending == 10 * (not is_split)


def test_what_was_split_and_failed_goes_back_whole() -> None:
    """Even if its holder, which is not to blame, dies meanwhile."""
    queue, tail = two_ranks(n_simulations=2, n_iterations=2)
    tail._parts.split(np.array([1]))  # rank 0 is late with it
    failing = tail.take(1, 1, 0.0)
    assert not tail.has_failed(1, int(failing[0]))
    assert tail.give_back(0) == 2
    tail.split_if_due(1e3)
    assert tail.n_to_do == 0
    queue.complete(queue.take(1, 1))
    tail.split_if_due(2e3)
    assert (tail.n_to_do, queue.n_pending) == (0, 1), "nor by itself"


def test_time_to_start_makes_nobody_late_nor_slow() -> None:
    slow_start = {"start_s": 5.0, "allowed": 1.25, "typical_s": 4.0}
    assert not is_late(0.0, pace_s=4.0, **slow_start), "as fast as the others"
    assert not is_late(9.0, pace_s=4.0, **slow_start), "it may have begun five seconds late"
    assert is_late(11.0, pace_s=4.0, **slow_start)
    assert is_late(0.0, pace_s=8.0, **slow_start), "on a rank that takes twice as long"
    assert not is_late(0.0, pace_s=np.nan, **slow_start)


def test_one_rank_that_stood_still_as_it_started_does_not_put_help_off() -> None:
    n_ranks = 4
    ranks = Ranks(["a"] * n_ranks, [0] * n_ranks, 0.0)
    queue = WorkQueue(np.zeros(n_ranks, np.int8), np.zeros(n_ranks, np.int32), 3, n_ranks)
    tail = Tail(queue, ranks, Units(3), n_ranks)
    assert ranks.longest_start_s == 0.0
    record = np.zeros(1, [("row", "i8"), ("iteration", "i8"), ("elapsed_s", "f8")])
    record["elapsed_s"] = 4.0
    found = []
    for rank, start_s in enumerate((1.0, 1.5, 60.0, 1.2)):
        ranks.report(rank, 1)
        record["row"] = queue.take(1, rank)
        tail.note_given(rank, record["row"], 0.0)
        tail.learn(np.array([rank]), record, start_s + 4.0)
        found.append(ranks.longest_start_s)
    assert found == pytest.approx([1.0, 1.5, 3.0, 2.4]), "no more than twice the middle one, of two the shorter"
