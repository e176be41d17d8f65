"""Nothing spins: a rank that waits leaves its core to simulations."""

from __future__ import annotations

import time

import psutil
import pytest
from launchers import NAMES, Launcher
from runs import Workplace, wait_until

pytestmark = pytest.mark.timeout(300)

SECONDS = 4.0
LIMIT = 0.02
"""Of a core."""
N_LOOKS = 10
"""So often at most: the first looks may see a busy machine still at the start of the run, which is work."""


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def shares(processes: dict[int, psutil.Process]) -> dict[int, float]:
    """The part of a core that each process uses over some seconds."""
    began, before = time.monotonic(), {number: cpu_seconds(process) for number, process in processes.items()}
    time.sleep(SECONDS)
    elapsed = time.monotonic() - began
    return {number: (cpu_seconds(process) - before[number]) / elapsed for number, process in processes.items()}


@pytest.mark.parametrize("launcher", ["none", *NAMES, "openmpi-ulfm"], indirect=True)
def test_ranks_sleep(launcher: Launcher, place: Workplace) -> None:
    """Two simulations for three ranks: the slots of two are at work, one rank has nothing to do."""
    n_ranks = 1 if launcher.name == "none" else 3
    run = place.start(launcher, n_ranks, "--n-iterations", "1", n_simulations=2, fake="seconds=60")
    wait_until(lambda: len(run.slots()) == n_ranks, "all slots")
    ranks = run.ranks()
    assert sorted(ranks) == list(range(n_ranks))
    for _ in range(N_LOOKS):
        found = shares(ranks)
        if max(found.values()) < LIMIT:
            break
    assert max(found.values()) < LIMIT, found
