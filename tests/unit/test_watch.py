"""What `status --watch` shows, from files of runs that never were."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import add_rows, begin, finished_run, make_plan, simulate

from mosaic_mpi import watch as watch_module
from mosaic_mpi.errors import InputError
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.store import Store
from mosaic_mpi.summary import as_json, summarise
from mosaic_mpi.summary_text import as_text
from mosaic_mpi.watch import watch, watch_line, watch_rows


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return make_plan(tmp_path, 8)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run.h5")


def pairs_of(line: str) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in shlex.split(line)[1:])


def test_hosts_that_went_silent_are_named(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store, n_ranks=4, n_slots=8)
    for host in ("a", "b", "c", "d"):
        store.host_row(host)
    now = time.time()
    store.note(last_commit_at=now, n_slots_live=4, n_ranks_lost=1)
    store.note_hosts(np.array([now - 1, now - 45, 0.0, now - 300]))
    summary = summarise(path)
    assert [(entry.host, round(entry.silent_s)) for entry in summary.silent_hosts] == [("d", 300), ("b", 45)]
    assert "silent       d for 5 min 00 s, b for 45 s" in as_text(summary)
    assert pairs_of(watch_line(summary))["silent_hosts"] == "d,b"
    assert [row.text for row in watch_rows(summary) if row.label == "silent"] == ["d for 5 min 00 s, b for 45 s"]
    store.close()


def test_hosts_of_an_earlier_start_are_not_silent(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    store.host_row("old")
    store.note_hosts(np.array([time.time() - 1000]))
    store.close()
    store = Store(path, plan)
    begin(store)
    assert summarise(path).silent_hosts == []
    store.close()


def test_json_says_all_that_the_display_says(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store, n_ranks=3, n_slots=12)
    store.note(first_assignment_at=time.time() - 10, n_slots_live=8, n_ranks_lost=1)
    add_rows(store, plan, [0, 1])
    store.commit()
    found = json.loads(as_json(summarise(path)))
    assert (found["n_ranks"], found["n_ranks_alive"], found["n_slots"], found["n_slots_alive"]) == (3, 2, 12, 8)
    assert 0 <= found["last_result_s"] < 60
    assert 0 <= found["elapsed_s"] < 60
    assert found["recent_simulations_per_s"] > 0
    assert found["silent_hosts"] == []
    store.close()


def test_the_recent_rate_forgets_a_fast_beginning(path: str, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, 200, n_iterations=1, save=())
    store = Store(path, plan)
    begin(store)
    now = time.time()
    store.note(first_assignment_at=now - 1000)
    records, series = simulate(plan, range(200))
    records = records.copy()
    records["finished_at"] = np.concatenate(
        [np.linspace(now - 999, now - 990, 100), now - np.arange(99, -1, -1) * 9.0]
    )
    store.add(records, [memoryview(series)], 0, store.host_row("here"), np.ones(200, np.int32))
    store.commit()
    summary = summarise(path)
    assert summary.simulations_per_s == pytest.approx(0.2, rel=0.01)
    assert summary.recent_simulations_per_s == pytest.approx(1 / 9, rel=0.01)
    store.close()


def test_the_line_names_the_commonest_error_and_stays_one_line(path: str, plan: RunPlan) -> None:
    store = Store(path, plan)
    begin(store)
    for row in range(3):
        store.add_failure(row, 1, "exception", 'Traceback\nValueError: "rho" is\x1b[31m bad', False)
    store.add_failure(4, 1, "killed", "killed by SIGKILL", True)
    line = watch_line(summarise(path))
    store.close()
    assert "\n" not in line
    assert "\x1b" not in line
    pairs = pairs_of(line)
    assert pairs["failed_attempts"] == "4"
    assert pairs["error"] == '3 x exception: ValueError: "rho" is\\x1b[31m bad'


def test_it_ends_when_the_run_has(path: str, plan: RunPlan, capsys: pytest.CaptureFixture[str]) -> None:
    finished_run(Path(path), plan)
    assert watch(path, 100.0).complete
    assert pairs_of(capsys.readouterr().out)["state"] == "complete"


def test_a_file_that_is_away_for_a_moment_is_looked_for_again(
    path: str, plan: RunPlan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(path, plan)
    begin(store)
    real, calls = summarise, []

    def flaky(file: str) -> object:
        calls.append(file)
        if len(calls) in (2, 3):
            raise InputError("away")
        if len(calls) > 3:
            store.close()
        return real(file)

    monkeypatch.setattr(watch_module, "summarise", flaky)
    assert watch(path, 0.01).state == "dead"
    assert [pairs_of(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["running", "dead"]


def test_what_is_no_results_file_is_named(path: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        watch(path)
