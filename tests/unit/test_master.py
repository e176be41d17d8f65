"""Rank 0's decisions about ranks that fall silent, come back, break down or die, with a real results file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import begin, make_plan, simulate

from mosaic_mpi import master as master_module
from mosaic_mpi.comm import LocalComm
from mosaic_mpi.errors import EngineError, Interrupted, LaunchError
from mosaic_mpi.failure_limit import FailureLimit
from mosaic_mpi.loops import Loops
from mosaic_mpi.master import Master
from mosaic_mpi.messages import (
    Assign,
    Beat,
    Broken,
    Drain,
    Failure,
    Loop,
    Message,
    Mishap,
    Ready,
    Results,
    Returned,
    Stop,
)
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.progress import Progress
from mosaic_mpi.records import decompress
from mosaic_mpi.store import Store
from mosaic_mpi.summary import summarise
from mosaic_mpi.units import Units
from mosaic_mpi.worker import flush_interval_s
from mosaic_mpi.workqueue import WorkQueue

SILENCE_S = 0.3


class Ranks(LocalComm):
    """Three ranks of which a test plays two: keeps what they are sent, and who is dead."""

    size = 3

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, Message]] = []
        self.dying: list[int] = []

    def send(self, to: int, message: Message) -> None:
        self.sent.append((to, message))

    def lost_ranks(self) -> list[int]:
        lost, self.dying = self.dying, []
        return lost


class Directed:
    """A master of ten simulations, its ranks, and its file."""

    def __init__(self, folder: Path, plan: RunPlan, limit: str = "100%") -> None:
        self.plan = plan
        self.units = Units(plan.n_iterations)
        self.path = folder / "run.h5"
        self.store = Store(str(self.path), plan)
        begin(self.store)
        self.comm = Ranks()
        self.finished: list[set[int]] = [set(), set(), set()]
        self.queue = WorkQueue(self.store.status, self.store.failed_attempts, 3, n_ranks=3)
        progress = Progress(plan.n_simulations, 0)
        hosts = ["a", "b", "c"]
        failure_limit = FailureLimit.parse(limit)
        self.master = Master(
            self.comm, self.store, self.queue, progress, hosts, plan.slot_plan(), 30.0, SILENCE_S, failure_limit
        )

    def ready(self, *slots: int) -> None:
        """Have the ranks report."""
        for rank, n_slots in enumerate(slots):
            self.master.handle(rank, Ready(n_slots))

    def rows_of(self, rank: int) -> list[int]:
        """Rows that a rank has been assigned so far, in order."""
        found = [message.units for to, message in self.comm.sent if to == rank and isinstance(message, Assign)]
        return [int(row) for units in found for row in self.units.rows(units)]

    def work(self, rank: int) -> None:
        """Have a rank finish all that it has been given."""
        if rows := [row for row in self.rows_of(rank) if row not in self.finished[rank]]:
            self.finish(rank, *rows)

    def finish(self, rank: int, *rows: int, elapsed_s: float = 10.0) -> None:
        """Have a rank send results."""
        self.finished[rank].update(rows)
        records, series = simulate(self.plan, rows)
        records = records.copy()
        records["elapsed_s"] = elapsed_s  # by default, nobody is given more than one row at a time
        self.master.handle(rank, Results(len(records), records.tobytes() + series))

    def settle(self) -> None:
        """Let the master do what is due, until all that came is stored."""
        self.master.step(False)
        while self.store.n_buffered:
            self.master.step(False)

    def fall_silent(self, *speaking: int) -> None:
        """Let time pass in which only some ranks give signs of life."""
        deadline = time.monotonic() + 3 * SILENCE_S
        while time.monotonic() < deadline:
            for rank in speaking:
                self.master.handle(rank, Beat())
            self.master.step(False)
            time.sleep(0.01)

    def attempts(self) -> list[int]:
        """Attempts of each simulation by the results file."""
        from mosaic_mpi.results import Results as Found

        return [int(n) for n in Found(self.path).table("simulations/attempts")]


@pytest.fixture
def directed(tmp_path: Path) -> Iterator[Directed]:
    run = Directed(tmp_path, make_plan(tmp_path, n_simulations=10, n_iterations=1))
    yield run
    run.store.close()


def test_what_comes_faster_than_steps_does_not_pile_up(directed: Directed, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stall, hundreds of messages wait; they are all handled before the next step."""
    size = directed.plan.slot_plan().record_dtype.itemsize
    monkeypatch.setattr(master_module, "_COMMIT_BYTES", 3 * size)
    directed.ready(0, 4, 4)
    directed.master.step(False)
    rows = directed.rows_of(1)
    assert len(rows) >= 4
    for row in rows[:4]:
        directed.finish(1, row)
        assert directed.store.buffered_bytes < 3 * size
    assert (directed.store.status[rows[:3]] == 1).all(), "committed before any step"
    directed.settle()
    assert (directed.store.status[rows[:4]] == 1).all()


def test_a_silent_ranks_rows_go_to_others_and_its_late_results_are_stored_once(directed: Directed) -> None:
    directed.ready(0, 1, 1)
    directed.master.step(False)
    (row,) = directed.rows_of(1)
    directed.fall_silent(2)
    assert directed.master.n_live_slots == 1
    assert directed.comm.silent == {1}, "nobody must wait for it at the end"
    while row not in directed.rows_of(2):
        directed.work(2)
        directed.master.step(False)

    directed.finish(1, row)  # it speaks again, with what it had been at
    directed.settle()
    assert directed.store.status[row] == 1
    assert directed.master.n_live_slots == 2, "a rank that is back gets work again"
    assert not directed.comm.silent
    assert len(directed.rows_of(1)) > 1
    commits = directed.queue.n_completed
    directed.finish(2, row)  # and now the other one's result of the same
    directed.settle()
    assert directed.queue.n_completed == commits
    assert directed.attempts()[row] == 1


def test_the_file_knows_when_each_host_was_last_heard_of(directed: Directed) -> None:
    directed.ready(0, 1, 1)
    directed.fall_silent(2)
    from mosaic_mpi.results import Results as Found

    results = Found(directed.path)
    heard_at = results.table("hosts/heard_at")
    row_of = {name.decode(): row for row, name in enumerate(results.table("hosts/name")[:4])}
    heard = {name: heard_at[row_of[name]] for name in ("a", "b", "c")}
    beaten = results.table("starts/last_commit_at")[0]
    assert heard["a"] == pytest.approx(beaten, abs=0.05), "rank 0 hears itself"
    assert beaten - heard["c"] < SILENCE_S
    assert heard["b"] < heard["c"]
    assert not heard_at[3:].any()


def test_a_late_failure_of_a_rank_given_up_blames_nobody(directed: Directed) -> None:
    directed.ready(0, 1, 1)
    directed.master.step(False)
    (row,) = directed.rows_of(1)
    directed.fall_silent(2)
    while row not in directed.rows_of(2):
        directed.work(2)
        directed.master.step(False)
    directed.master.handle(1, Failure(2 * row, "exception", "late"))
    directed.master.handle(1, Returned(np.array([2 * row])))
    directed.finish(2, row)
    directed.settle()
    assert directed.attempts()[row] == 1


def test_a_rank_that_is_back_may_bring_a_row_twice_in_one_message(directed: Directed) -> None:
    """It was given the row again, before it had told that it had run it already."""
    directed.ready(0, 1, 1)
    directed.master.step(False)
    (row,) = directed.rows_of(1)
    directed.fall_silent(2)
    directed.finish(1, row, row)
    directed.settle()
    assert directed.queue.n_completed == 1
    assert directed.store.status.sum() == 1
    assert directed.attempts()[row] == 1


def test_of_results_that_come_together_those_stored_already_are_left_out(directed: Directed) -> None:
    """Their series too: what is stored of the others is theirs."""
    from mosaic_mpi.results import Results as Found

    directed.ready(0, 4, 1)
    directed.master.step(False)
    rows = directed.rows_of(1)
    assert rows == [0, 1, 2, 3]
    directed.fall_silent(2)
    while not directed.store.status[1]:
        directed.work(2)
        directed.settle()
        done = {row for row in rows if directed.store.status[row]}
    directed.finish(1, *rows)
    directed.finish(2, 9)
    directed.settle()
    assert directed.store.status[rows].tolist() == [1] * 4
    found = Found(directed.path)
    by = found.table("simulations/rank")[rows].tolist()
    assert by == [2 if row in done else 1 for row in rows]
    assert set(by) == {1, 2}
    read = dict(found.series(np.array([*rows, 9]), ["fake"]))
    for row in (*rows, 9):
        records, series = simulate(directed.plan, [row])
        expected = decompress(series, (directed.plan.n_iterations, *directed.plan.channels[0].shape), "<i4")
        assert np.array_equal(read[row][0], expected)
        assert found.table("simulations/likelihood")[row] == records["likelihood"][0]


def test_what_a_rank_says_counts_in_its_order(directed: Directed) -> None:
    """A result before a failure or a return of the same row, all in the messages of one step."""
    directed.ready(0, 2, 1)
    directed.master.step(False)
    first, second = directed.rows_of(1)
    directed.finish(1, first)
    directed.master.handle(1, Failure(first, "exception", "no"))
    directed.finish(1, second)
    directed.master.handle(1, Returned(np.array([second])))
    directed.settle()
    assert directed.store.status[[first, second]].tolist() == [1, 1]
    assert directed.attempts()[first] == 1
    assert not directed.store.failed_attempts.any()


def test_who_reports_is_given_more_and_nobody_else(directed: Directed) -> None:
    directed.ready(0, 1, 2)
    directed.master.step(False)
    assert (directed.rows_of(1), directed.rows_of(2)) == ([0], [1, 2])
    directed.finish(1, 0)
    directed.master.step(False)
    assert (directed.rows_of(1), directed.rows_of(2)) == ([0, 3, 4], [1, 2])


def test_with_plenty_to_do_nobody_waits_for_the_first_answer(tmp_path: Path) -> None:
    run = Directed(tmp_path, make_plan(tmp_path, n_simulations=100))
    run.ready(0, 2, 1)
    run.master.step(False)
    assert (len(run.rows_of(1)), len(run.rows_of(2))) == (4, 2)
    run.finish(1, 0)  # they turn out to be long
    run.master.step(False)
    assert (len(run.rows_of(1)), len(run.rows_of(2))) == (4, 2)
    run.store.close()


def test_fast_simulations_are_handed_out_by_what_a_fraction_of_a_second_takes(tmp_path: Path) -> None:
    run = Directed(tmp_path, make_plan(tmp_path, n_simulations=2000))
    run.ready(0, 2, 1)
    run.master.step(False)
    run.finish(1, 0, elapsed_s=0.01)
    run.master.step(False)
    held = len(run.rows_of(1)) - 1
    assert held == pytest.approx(2 + 2 * 2 * (0.1 + flush_interval_s(3)) / 0.01, abs=1)
    run.store.close()


def test_a_stall_of_rank_0_itself_blames_nobody(directed: Directed) -> None:
    directed.ready(0, 1, 1)
    directed.master.step(False)
    time.sleep(3 * SILENCE_S)
    directed.master.step(False)
    directed.master.step(False)
    assert directed.master.n_live_slots == 2


def test_a_dead_rank_stays_dead(directed: Directed) -> None:
    directed.ready(0, 1, 1)
    directed.master.step(False)
    (row,) = directed.rows_of(1)
    directed.comm.dying = [1]
    directed.finish(1, row)  # its last message, received after its death was known
    directed.master.step(False)
    directed.master.handle(1, Beat())
    directed.settle()
    assert directed.master.n_live_slots == 1
    assert directed.store.status[row] == 1, "what it had sent counts"
    directed.master.stop_workers()
    told = {to for to, message in directed.comm.sent if isinstance(message, Stop)}
    assert told == {0, 2}


def test_a_rank_whose_death_is_known_before_its_slots_are_gets_no_work(directed: Directed) -> None:
    directed.ready(0)
    directed.master.handle(2, Ready(1))
    directed.comm.dying = [1]
    directed.master.step(False)
    directed.master.handle(1, Ready(4))
    directed.settle()
    assert directed.master.n_live_slots == 1
    assert directed.rows_of(1) == []


def test_a_rank_without_slots_does_not_end_the_run(directed: Directed) -> None:
    directed.ready(0, 1, 1)
    directed.master.step(False)
    (row,) = directed.rows_of(1)
    directed.master.handle(1, Broken("no memory"))
    directed.master.step(False)
    assert directed.master.n_live_slots == 1
    while not directed.master.step(False):
        directed.work(2)
    assert row in directed.rows_of(2)
    assert directed.queue.n_completed == 10


def test_no_rank_that_can_start_slots_is_an_error(directed: Directed) -> None:
    directed.ready(0, 1, 1)
    directed.master.handle(1, Broken("no memory"))
    directed.master.step(False)
    directed.master.handle(2, Broken("no memory either"))
    with pytest.raises(EngineError, match="no memory either"):
        directed.master.step(False)


def test_nobody_left_is_no_silent_stall(directed: Directed) -> None:
    directed.ready(0, 1, 1)
    directed.master.step(False)
    directed.comm.dying = [1, 2]
    with pytest.raises(Interrupted, match=r"no slot is left.*same command resumes"):
        directed.master.step(False)


def test_ranks_that_have_not_reported_yet_are_waited_for(directed: Directed) -> None:
    directed.master.handle(0, Ready(0))
    assert not directed.master.step(False)
    assert not directed.master.step(False)


def test_the_failure_limit_drains(tmp_path: Path) -> None:
    run = Directed(tmp_path, make_plan(tmp_path, n_simulations=10, n_iterations=1), limit="1")
    run.ready(0, 1, 1)
    run.master.step(False)
    (row,) = run.rows_of(1)
    for attempt in range(1, 4):
        run.master.handle(1, Failure(2 * row, "exception", "ValueError: no"))
        while run.rows_of(1).count(row) == attempt and not run.master.has_failed_too_often:
            run.finished[1].add(row)
            run.work(1)
            run.master.step(False)
    assert run.master.has_failed_too_often
    assert any(isinstance(message, Drain) for _, message in run.comm.sent)
    assert run.master.step(False)
    run.store.close()


@pytest.fixture
def compiled_or_nothing(directed: Directed) -> Directed:
    """Asked for the compiled loop; rank 0 has no slots."""
    plan = replace(directed.plan.slot_plan(), simulator="laser", engine="compiled")
    directed.master._loops = Loops(plan, ["a", "b", "c"])
    directed.ready(0, 1, 1)
    return directed


def test_compiled_or_nothing_hands_out_nothing_before_all_have_it(
    compiled_or_nothing: Directed, capsys: pytest.CaptureFixture[str]
) -> None:
    run = compiled_or_nothing
    run.master.handle(1, Loop("compiled", ""))
    run.master.step(False)
    assert not run.rows_of(1)
    run.master.handle(2, Loop("compiled", ""))
    run.master.step(False)
    assert run.rows_of(1)
    assert run.rows_of(2)
    assert summarise(str(run.path)).engine == "compiled"
    assert "engine compiled\n" in capsys.readouterr().out


def test_compiled_or_nothing_ends_with_the_hosts_that_have_not(
    compiled_or_nothing: Directed, capsys: pytest.CaptureFixture[str]
) -> None:
    run = compiled_or_nothing
    run.master.handle(2, Loop("stock", "no compiler"))
    run.master.handle(2, Broken("a slot cannot start:\nTraceback ..."))
    run.master.step(False)
    run.master.handle(1, Loop("compiled", ""))
    with pytest.raises(LaunchError, match=r"stock on c \(no compiler\); compiled on b"):
        run.master.step(False)
    assert not run.rows_of(1)
    assert "Traceback" not in capsys.readouterr().out


def test_compiled_or_nothing_counts_no_time_in_which_rank_0_stood_still(
    compiled_or_nothing: Directed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots that were suspended with it have had no time to say which loop they run."""
    run, master = compiled_or_nothing, compiled_or_nothing.master
    monkeypatch.setattr(master._loops, "_patience_s", 2 * SILENCE_S)
    time.sleep(3 * SILENCE_S)
    master.step(False)

    def wait() -> None:
        while True:
            run.fall_silent(1, 2)

    with pytest.raises(LaunchError, match="no slot on b, c has said"):
        wait()


def test_what_costs_no_attempt_is_told_three_times(directed: Directed, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        directed.master.handle(1, Mishap("a slot was killed"))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["rank 1 on b: a slot was killed"] * 2 + [
        "rank 1 on b: a slot was killed; no more of these are told"
    ]
