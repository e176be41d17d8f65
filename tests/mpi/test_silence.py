"""A rank suspended for longer than the limit, on one machine: what it was at is done by others, and only once."""

from __future__ import annotations

import re

import numpy as np
import pytest
from launchers import Launcher
from runs import Run, Workplace, assert_each_stored_once, assert_kept, assert_resumes, wait_until

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.parametrize("launcher", ["openmpi", "openmpi-ulfm", "mpich", "srun-mpich"], indirect=True),
]

N_SIMULATIONS = 240
"""Enough for seven seconds of three slots, so that the limit is over before the run is."""
PROMPTLY_S = 40.0
"""Slurm's time between asking and killing included."""
GIVEN_UP = re.compile(r"rank 1 on \S+ has not been heard of for 3 s; its [1-9]\d* simulations go back to the queue")


def start(launcher: Launcher, place: Workplace, n_simulations: int) -> Run:
    return place.start(launcher, 3, "--rank-timeout", "3", n_simulations=n_simulations)


def started(
    launcher: Launcher, place: Workplace, n_simulations: int = N_SIMULATIONS
) -> tuple[Run, dict[str, np.ndarray]]:
    """Start a run, wait until every rank has contributed, and return what is completed by then."""
    run = start(launcher, place, n_simulations)
    place.wait_for(3, run)
    wait_until(lambda: set(ranks_of(place)) == {0, 1, 2}, "results of every rank")
    return run, place.numbers()


def ranks_of(place: Workplace) -> list[int]:
    """Which rank ran each of the completed simulations, in the order of storing."""
    order = np.argsort(place.table("simulations/commit"))
    done = place.table("simulations/status")[order] == 1
    return place.table("simulations/rank")[order][done].tolist()  # type: ignore[no-any-return]


def test_worker_suspended(launcher: Launcher, place: Workplace) -> None:
    """It is given up; back again, its late results are known as such, and it works on."""
    run, before = started(launcher, place)
    worker = run.ranks()[1]
    worker.suspend()
    wait_until(lambda: GIVEN_UP.search(run.output), "a word about it")
    worker.resume()
    wait_until(lambda: re.search(r"rank 1 on \S+ is back", run.output), "its return")
    n_completed = place.n_completed
    ended = run.wait()
    assert ended.code == 0, ended.output
    run.assert_no_orphans()
    assert_each_stored_once(place, N_SIMULATIONS)
    assert_kept(before, place.numbers())
    assert 1 in ranks_of(place)[n_completed:]


def test_worker_suspended_for_good(launcher: Launcher, place: Workplace) -> None:
    """The others finish, and neither they nor the launcher wait for it."""
    run, before = started(launcher, place)
    run.ranks()[1].suspend()
    ended = run.wait()
    assert GIVEN_UP.search(ended.output)
    run.assert_no_orphans()
    assert_each_stored_once(place, N_SIMULATIONS)
    assert_kept(before, place.numbers())


def test_rank_0_suspended(launcher: Launcher, place: Workplace) -> None:
    """The workers end by themselves, and with them the job."""
    run, before = started(launcher, place, n_simulations=48)
    run.ranks()[0].suspend()
    ended = run.wait(PROMPTLY_S)
    assert ended.code != 0, ended.output
    run.assert_no_orphans()
    assert place.n_completed < 48
    assert_resumes(place, before, lambda: start(launcher, place, 48))
