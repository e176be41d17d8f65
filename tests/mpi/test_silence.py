"""A rank that is suspended for longer than the limit, on one machine: what it was at is done by others, and only once."""

from __future__ import annotations

import time

import numpy as np
import psutil
import pytest
from launchers import Launcher
from runs import Run, Workplace, assert_each_stored_once, assert_kept, wait_until

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("launcher", ["openmpi", "openmpi-ulfm", "mpich", "srun-mpich"], indirect=True),
]

N_SIMULATIONS = 120
PROMPTLY_S = 40.0


def started(launcher: Launcher, place: Workplace) -> tuple[Run, dict[str, np.ndarray]]:
    """Start a run of six seconds and more, and wait until every rank has contributed."""
    run = place.start(launcher, 3, "--rank-timeout", "3", n_simulations=N_SIMULATIONS)
    place.wait_for(3, run)
    wait_until(lambda: contributors(place) == {0, 1, 2}, "results of every rank")
    return run, place.numbers()


def contributors(place: Workplace) -> set[int]:
    return set(place.table("simulations/rank")[place.table("simulations/status") == 1].tolist())


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_worker_suspended_and_resumed(launcher: Launcher, place: Workplace) -> None:
    """It is given up; back again, its late results are known as such, and it works on."""
    run, before = started(launcher, place)
    worker = run.ranks()[1]
    worker.suspend()
    wait_until(lambda: "rank 1 on" in run.output and "has not been heard of for 3 s" in run.output, "a word about it")
    worker.resume()
    wait_until(lambda: "is back" in run.output, "its return")
    ended = run.wait()
    assert ended.code == 0, ended.output
    run.assert_no_orphans()
    assert_each_stored_once(place, N_SIMULATIONS)
    assert_kept(before, place.numbers())


def test_worker_suspended_for_good(launcher: Launcher, place: Workplace) -> None:
    """The others finish, and nobody waits for it."""
    run, before = started(launcher, place)
    run.ranks()[1].suspend()
    ended = run.wait(60)
    print(ended)
    run.assert_no_orphans()
    assert_each_stored_once(place, N_SIMULATIONS)
    assert_kept(before, place.numbers())


def test_rank_0_suspended(launcher: Launcher, place: Workplace) -> None:
    """The workers end by themselves; once it is back, it finishes alone or ends, and the job with it."""
    run, before = started(launcher, place)
    workers = run.workers()
    master = run.ranks()[0]
    master.suspend()
    wait_until(lambda: all(map(is_gone, workers)), "the end of the workers", 20)
    time.sleep(3)
    print("launcher", run.launcher.poll(), is_gone(master))
    if not is_gone(master):
        master.resume()
    ended = run.wait(60)
    print(ended, place.n_completed)
    run.assert_no_orphans()
    assert_kept(before, place.numbers())
