"""Results files of every state a run can be in, made through the store."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from helpers import add_rows, begin, finished_run, make_plan, simulate, small_config
from numpy.typing import NDArray

from mosaic_mpi import layout
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.store import Store

NOW = 1_800_000_000.0
"""When made-up starts began, far from the clock's time."""


def add(
    store: Store,
    plan: RunPlan,
    rows: Sequence[int],
    *,
    host: str = "here",
    rank: int = 0,
    slot: Sequence[int] | int = 0,
    elapsed_s: Sequence[float] | float = 1.0,
    finished_at: Sequence[float] | float = NOW,
    likelihood: NDArray[np.float64] | None = None,
    **changes: object,
) -> None:
    """Store fake results with given times, places and log-likelihoods."""
    records, series = simulate(plan, rows)
    records = records.copy()
    records["slot"], records["elapsed_s"], records["finished_at"] = slot, elapsed_s, finished_at
    for name, values in changes.items():
        records[name] = values
    if likelihood is not None:
        records["likelihood"] = likelihood
        records["iteration_likelihood"] = np.asarray(likelihood)[:, None]
    attempts = np.ones(len(records), np.int32)
    store.add(records, [memoryview(series)], rank, store.host_row(host), attempts)
    store.commit()


def empty(folder: Path) -> str:
    """A file whose run never started."""
    path = str(folder / "run.h5")
    Store(path, make_plan(folder, 8)).close()
    return path


def without_result(folder: Path) -> str:
    """A start that was stopped before any simulation ended."""
    path = str(folder / "run.h5")
    store = Store(path, make_plan(folder, 8))
    begin(store)
    store.end_start(layout.STOPPED)
    store.close()
    return path


def failed(folder: Path) -> str:
    """All simulations failed, of several causes; one text tries to be HTML."""
    path = str(folder / "run.h5")
    plan = make_plan(folder, 9)
    store = Store(path, plan)
    begin(store)
    store.note(first_assignment_at=time.time())
    texts = (
        ("exception", "Traceback (most recent call last):\n  File …\nValueError: <script>alert('rho & co')</script>"),
        ("killed", "its process was killed by SIGKILL (out of memory?)"),
        ("timeout", "took more than 600 s"),
    )
    for row in range(9):
        for attempt in (1, 2, 3):
            store.add_failure(row, attempt, *texts[row * row % 3], attempt == 3)
    store.end_start(layout.COMPLETE)
    store.close()
    return path


def stopped(folder: Path) -> str:
    """Some simulations of a run that was stopped; its series lie in the spool."""
    finished_run(folder / "run.h5", make_plan(folder, 40), rows=range(25))
    return str(folder / "run.h5")


def dead(folder: Path) -> str:
    """A run whose rank 0 was killed."""
    path = str(folder / "run.h5")
    plan = make_plan(folder, 12)
    store = Store(path, plan)
    begin(store)
    store.note(first_assignment_at=time.time())
    add_rows(store, plan, range(5))
    store.commit()
    store.close()
    return path


def one_simulation(folder: Path) -> str:
    """A run of one simulation of one iteration."""
    finished_run(folder / "run.h5", make_plan(folder, 1, 1))
    return str(folder / "run.h5")


def not_finite(folder: Path) -> str:
    """Every log-likelihood is -inf or NaN."""
    path = str(folder / "run.h5")
    plan = make_plan(folder, 6)
    store = Store(path, plan)
    begin(store)
    store.note(first_assignment_at=time.time())
    add(store, plan, range(6), likelihood=np.array([-math.inf, math.nan] * 3), finished_at=time.time())
    store.end_start(layout.COMPLETE)
    store.fold(lambda: None)
    store.close()
    return path


def no_parameters(folder: Path) -> str:
    """A table of nothing but ids."""
    table = folder / "samples.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["sim"], *([number] for number in range(1, 6))])
    finished_run(folder / "run.h5", make_plan(folder, 5, samples=str(table)))
    return str(folder / "run.h5")


def no_series(folder: Path) -> str:
    """Nothing was saved."""
    finished_run(folder / "run.h5", make_plan(folder, 30, save=()))
    return str(folder / "run.h5")


def many_starts(folder: Path) -> str:
    """Three hundred starts, more than the file keeps, with a result each."""
    path = str(folder / "run.h5")
    plan = make_plan(folder, 300)
    records, series = simulate(plan, range(300))
    store = Store(path, plan)
    size = len(series) // 300
    for row in range(300):
        began = NOW + 100.0 * row
        begin(store)
        store.note(started_at=began, first_assignment_at=began + 1)
        record = records[row : row + 1].copy()
        record["elapsed_s"], record["finished_at"] = 5.0, began + 7.0
        store.add(
            record,
            [memoryview(series[row * size : (row + 1) * size])],
            0,
            store.host_row("here"),
            np.ones(1, np.int32),
        )
        store.commit()
        store.note(state=layout.STOPPED, ended_at=began + 10.0, last_commit_at=began + 10.0)
    store.note(state=layout.COMPLETE)
    store.close()
    return path


def two_hosts(folder: Path) -> str:
    """Two starts on two hosts in three locations, one host slow, one failure, a slot that brings nothing."""
    path = str(folder / "run.h5")
    config = small_config(("ETH", "KEN", "TZA"))
    plan = make_plan(folder, 60, 3, config=config)
    store = Store(path, plan)
    for start, first in enumerate((0, 30)):
        began = NOW + 5000.0 * start
        begin(store, n_slots=5 if start == 0 else 4, n_hosts=2, n_ranks=2, mpi="Open MPI v5 (srun)")
        store.note(started_at=began, first_assignment_at=began + 1.0)
        for rank, (host, seconds) in enumerate((("node1", 10.0), ("node2", 30.0))):
            mine = np.arange(first + 15 * rank, first + 15 * rank + 15)
            turns = np.arange(15) // 2
            add(
                store, plan, mine, host=host, rank=rank, slot=np.arange(15) % 2, elapsed_s=seconds + turns * 0.1,
                finished_at=began + 2.0 + (turns + 1) * (seconds + 1.0), likelihood=-100.0 - 0.5 * (mine % 17.0),
            )  # fmt: skip
        end = began + 260.0
        store.note(state=layout.STOPPED, ended_at=end, last_commit_at=end)
    store.note(state=layout.COMPLETE)
    store.close()
    return path


def shared_out(folder: Path) -> str:
    """Three simulations in three slots, of the last one two iterations apart from its last, 4 s each."""
    path = str(folder / "run.h5")
    plan = make_plan(folder, 3, 3)
    store = Store(path, plan)
    begin(store, n_slots=3)
    store.note(started_at=NOW, first_assignment_at=NOW)
    times: tuple[tuple[int, int, float, float], ...] = ((0, 0, 10.0, 11.0), (1, 1, 9.0, 10.0), (2, 0, 12.0, 15.0))
    for row, slot, elapsed_s, ended in times:
        add(store, plan, [row], slot=slot, elapsed_s=elapsed_s, finished_at=NOW + ended)
    store.note(state=layout.COMPLETE, ended_at=NOW + 15.0, last_commit_at=NOW + 15.0)
    store.close()
    return path


STATES: dict[str, Callable[[Path], str]] = {
    function.__name__: function
    for function in (
        *(empty, without_result, failed, stopped, dead, one_simulation, not_finite, no_parameters, no_series),
        *(many_starts, two_hosts, shared_out),
    )
}
"""Every state, by name."""
