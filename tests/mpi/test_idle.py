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


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("launcher", ["none", *NAMES, "openmpi-ulfm"], indirect=True)
def test_ranks_sleep(launcher: Launcher, place: Workplace) -> None:
    """Two simulations for three ranks: the slots of two are at work, one rank has nothing to do."""
    n_ranks = 1 if launcher.name == "none" else 3
    run = place.start(launcher, n_ranks, "--n-iterations", "1", n_simulations=2, fake="seconds=60")
    wait_until(lambda: len(run.slots()) == n_ranks, "all slots")
    time.sleep(2.0)  # past the start, which is work
    ranks = run.ranks()
    assert sorted(ranks) == list(range(n_ranks))
    began, before = time.monotonic(), {number: cpu_seconds(process) for number, process in ranks.items()}
    time.sleep(SECONDS)
    elapsed = time.monotonic() - began
    share = {number: (cpu_seconds(process) - before[number]) / elapsed for number, process in ranks.items()}
    assert max(share.values()) < LIMIT, share
