"""Status: counts, rate, state, failures, from the file alone."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import add_rows, begin, finished_run, make_plan, simulate

from mosaic_mpi import h5file, layout
from mosaic_mpi.errors import InputError
from mosaic_mpi.lock import WriterLock
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.progress import duration
from mosaic_mpi.report import overview
from mosaic_mpi.report.snapshot import take
from mosaic_mpi.store import Store
from mosaic_mpi.summary import as_json, kinds_of_failures, summarise
from mosaic_mpi.summary_text import as_text
from mosaic_mpi.watch import watch_line


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return make_plan(tmp_path, 8)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run.h5")


def add_at(store: Store, plan: RunPlan, rows: list[int], finished_at: list[float], **fields: float) -> None:
    """Add results that finished at given times."""
    records, series = simulate(plan, rows)
    records = records.copy()
    records["finished_at"] = finished_at
    for name, value in fields.items():
        records[name] = value
    store.add(records, [memoryview(series)], 0, store.host_row("here"), np.ones(len(rows), np.int32))
    store.commit()


def test_a_new_file(path: str, plan: RunPlan) -> None:
    Store(path, plan).close()
    summary = summarise(path)
    assert (summary.state, summary.n_simulations, summary.pending, summary.complete) == ("stopped", 8, 8, False)
    assert (summary.completed, summary.failed, summary.simulations_per_s, summary.starts) == (0, 0, None, [])
    assert "the same command resumes" in as_text(summary)
    json.loads(as_json(summary))


def test_counts_while_it_runs(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    add_rows(store, plan, [0, 1, 2])
    store.commit()
    store.add_failure(3, 1, "exception", "no", True)
    summary = summarise(path)
    assert (summary.state, summary.completed, summary.failed, summary.pending) == ("running", 3, 1, 4)
    assert not summary.complete
    assert "running (process" in as_text(summary)
    store.close()


def test_the_rate_is_of_the_latest_start_from_first_assignment_to_last_result(path: str, plan: RunPlan) -> None:
    now = time.time()
    store = Store(path, plan)
    begin(store)
    store.note(first_assignment_at=now - 1000)
    add_at(store, plan, [0, 1, 2, 3], [now - 900, now - 800, now - 700, now - 999])
    assert summarise(path).simulations_per_s == pytest.approx(4 / 300)
    store.end_start(layout.STOPPED)
    store.close()

    store = Store(path, plan)
    begin(store)
    assert summarise(path).simulations_per_s is None, "no result of this start yet"
    assert "no result of the latest start yet" in as_text(summarise(path))
    store.note(first_assignment_at=now - 100)
    add_at(store, plan, [4, 5], [now - 60, now - 80])
    summary = summarise(path)
    assert summary.simulations_per_s == pytest.approx(2 / 40)
    assert summary.time_left_s == pytest.approx(2 / (2 / 40))
    assert "40 s left" in as_text(summary)
    store.close()


def test_a_finished_run(path: str, plan: RunPlan) -> None:
    finished_run(Path(path), plan)
    summary = summarise(path)
    assert (summary.state, summary.complete, summary.pending, summary.time_left_s) == ("complete", True, 0, None)
    assert summary.time_series == "in the file"
    assert "complete\n" in as_text(summary)


def test_a_stopped_run(path: str, plan: RunPlan) -> None:
    finished_run(Path(path), plan, rows=[0])
    summary = summarise(path)
    assert (summary.state, summary.complete) == ("stopped", False)
    assert summary.time_series == f"{path}.spool"
    assert "stopped; the same command resumes" in as_text(summary)


def test_a_run_that_ended_by_an_error(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    store.end_start(layout.BROKEN)
    store.close()
    assert summarise(path).state == "ended by an error"


def test_a_run_that_went_without_a_word(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    store.close()  # no end noted, no lock left
    summary = summarise(path)
    assert summary.state == "dead"
    assert "rank 0 ended without a word" in as_text(summary)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_ends_or_goes_on_while_it_is_read_is_not_dead(
    path: str, plan: RunPlan, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It notes its end and lets go, or takes hold and notes its start, between two looks of the reader."""
    store = Store(path, plan)
    begin(store)
    if moment == "before":
        store.close()
    real_reading = h5file.reading

    @contextmanager
    def reading(path: str) -> Iterator[Any]:
        with real_reading(path) as file:
            yield file
        if moment == "after":
            store.end_start(layout.STOPPED)
            store.close()
        else:
            locks.append(WriterLock(path))

    locks: list[WriterLock] = []
    monkeypatch.setattr(h5file, "reading", reading)
    assert summarise(path).state == "running"
    monkeypatch.undo()
    for lock in locks:
        lock.release()
    assert summarise(path).state == {"after": "stopped", "before": "dead"}[moment]


def test_a_lock_left_behind_does_not_make_it_live_for_ever(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    store.note(last_commit_at=time.time() - 3600)
    assert summarise(path).state == "dead"
    store.note(last_commit_at=time.time())
    assert summarise(path).state == "running"
    store.close()


def test_an_extended_run_is_no_longer_complete(tmp_path: Path, path: str) -> None:
    plan = make_plan(tmp_path, 3)
    finished_run(Path(path), plan)
    Store(path, make_plan(tmp_path, 5)).close()
    summary = summarise(path)
    assert (summary.complete, summary.pending, summary.n_simulations) == (False, 2, 5)
    assert summary.state == "stopped"


def test_failures_are_counted_by_cause_commonest_first(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    for attempt in (1, 2, 3):
        store.add_failure(1, attempt, "killed", "its process was killed by SIGKILL", attempt == 3)
    store.add_failure(0, 1, "exception", "Traceback\nValueError: rho", False)
    store.add_failure(2, 1, "exception", "Traceback\nKeyError: x", False)
    store.close()
    summary = summarise(path)
    assert [(entry.attempts, entry.cause) for entry in summary.failures] == [
        *[(3, "killed"), (1, "exception"), (1, "exception")],
    ]
    text = as_text(summary)
    assert "5 attempts: 3 by killed, 2 by exception" in text
    assert "ValueError: rho" in text


def test_texts_that_differ_in_numbers_only_are_one_kind_for_people(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    for attempt in (1, 2):
        store.add_failure(0, attempt, "killed", "its process was killed by SIGKILL", attempt == 2)
    for row in (1, 2, 3):
        store.add_failure(row, 1, "exception", f"Traceback\nValueError: simulation {row} at 0x7f{row}a: rho", True)
    store.close()
    summary = summarise(path)
    assert [entry.attempts for entry in summary.failures] == [2, 1, 1, 1], "for programs, as they are stored"
    kinds = kinds_of_failures(summary.failures)
    assert [(entry.attempts, entry.cause) for entry in kinds] == [(3, "exception"), (2, "killed")]
    text = as_text(summary)
    assert text.index("    3 x exception:") < text.index("    2 x killed:")
    assert 'error="3 x exception: ValueError: simulation 1 at 0x7f1a: rho"' in watch_line(summary)


@pytest.mark.parametrize(
    ("simulations", "ids", "shown"),
    [(None, "1-8", "simulations  8: "), ((3, 6), "3-6", "simulations  4 (3-6): "), ((1, 1), "1", "simulations  1: ")],
)
def test_a_piece_says_which_simulations_it_has(
    tmp_path: Path, path: str, simulations: tuple[int, int] | None, ids: str, shown: str
) -> None:
    finished_run(Path(path), make_plan(tmp_path, 8, simulations=simulations))
    summary = summarise(path)
    assert summary.sim_ids == ids
    assert shown in as_text(summary)
    assert ("(numbers 3\N{EN DASH}6)" in overview.what(take(path))) == (ids == "3-6")


def test_a_complete_run_tells_of_its_failures(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    store.note(first_assignment_at=time.time() - 10)
    add_rows(store, plan, range(1, plan.n_simulations))
    store.add_failure(0, 1, "exception", "ValueError: rho", True)
    store.end_start(layout.COMPLETE)
    store.close()
    text = as_text(summarise(path))
    assert "complete; `run` with --retry-failed runs what failed again" in text
    assert "simulations/s in the latest start, failed ones included" in text


def test_likelihoods_that_are_not_finite_are_counted_and_not_failures(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    now = time.time()
    add_at(store, plan, [0], [now], likelihood=-math.inf)
    add_at(store, plan, [1], [now], likelihood=math.nan)
    add_at(store, plan, [2], [now], likelihood=-12.5)
    store.close()
    summary = summarise(path)
    assert (summary.completed, summary.failed, summary.n_nonfinite, summary.best_likelihood) == (3, 0, 2, -12.5)
    assert "best -12.50, 2 not finite" in as_text(summary)


def test_none_finite_is_said_so(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    add_at(store, plan, [0], [time.time()], likelihood=math.nan)
    store.close()
    assert summarise(path).best_likelihood is None
    assert "none finite" in as_text(summarise(path))


def test_where_and_with_what_it_ran(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store, host="node1", job="Slurm job 4711", n_ranks=3, n_slots=12, mpi="Open MPI v5", command="run it")
    store.host_row("node1")
    store.host_row("node2")
    store.close()
    summary = summarise(path)
    assert summary.hosts == ["node1", "node2"]
    assert summary.versions == {"mosaic_mpi": "0"}
    text = as_text(summary)
    for part in (
        "node1, Slurm job 4711: 3 ranks, 12 slots, Open MPI v5",
        "node1, node2",
        "run it",
        "ETH; 2 iterations",
    ):
        assert part in text


def test_json_has_the_promised_keys_and_is_strict(path: str, plan: RunPlan) -> None:
    Store(path, plan).close()

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(as_json(summarise(path)), parse_constant=refuse)
    assert {"n_simulations", "completed", "failed", "pending", "complete", "simulations_per_s"} <= found.keys()
    assert found["last_commit_s"] is None


def test_summarising_changes_nothing(path: str, plan: RunPlan) -> None:
    finished_run(Path(path), plan, rows=[0])
    before = Path(path).stat().st_mtime_ns
    summarise(path)
    assert Path(path).stat().st_mtime_ns == before


@pytest.mark.parametrize(("content", "expected"), [(None, "no such file"), ("text", "not an HDF5 file")])
def test_what_is_no_results_file_is_named(path: str, content: str | None, expected: str) -> None:
    if content is not None:
        Path(path).write_text(content)
    with pytest.raises(InputError, match=f"run.h5: {expected}"):
        summarise(path)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_time_spans_are_said_the_way_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words
