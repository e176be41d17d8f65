"""A run under every launcher: it completes, tells, resumes, extends, and gives the same numbers everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from launchers import NAMES, Launcher
from runs import REAL, REFERENCE, Workplace, assert_same_numbers

pytestmark = pytest.mark.timeout(300)

everywhere = pytest.mark.parametrize("launcher", ["none", *NAMES], indirect=True)
"""With and without a launcher."""


def status(place: Workplace) -> dict[str, Any]:
    """What `status --json` says."""
    command = [sys.executable, "-m", "mosaic_mpi", "status", "--json", str(place.file)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer


def ranks_for(launcher: Launcher) -> int:
    """Three ranks, or one where there is no launcher."""
    return 1 if launcher.name == "none" else 3


@everywhere
def test_completes_and_again_changes_nothing(
    launcher: Launcher, place: Workplace, reference: dict[str, np.ndarray]
) -> None:
    ended = place.complete(launcher, ranks_for(launcher), fake=REFERENCE)
    assert ended.code == 0, ended.output
    assert ended.output.count("complete after") == 1
    found = status(place)
    counts = {name: found[name] for name in ("n_simulations", "completed", "failed", "pending", "complete")}
    assert counts == {"n_simulations": 40, "completed": 40, "failed": 0, "pending": 0, "complete": True}
    assert found["starts"][0]["n_ranks"] == ranks_for(launcher)
    assert_same_numbers(place.numbers(), reference)

    before = place.snapshot()
    again = place.complete(launcher, ranks_for(launcher), fake=REFERENCE)
    assert again.code == 0, again.output
    assert "nothing to do" in again.output
    assert place.snapshot() == before


@everywhere
def test_extends_in_another_layout(launcher: Launcher, place: Workplace, reference: dict[str, np.ndarray]) -> None:
    n_ranks = min(2, ranks_for(launcher))
    first = place.complete(launcher, n_ranks, n_simulations=25, slots=2, fake=REFERENCE)
    assert f"{n_ranks * 2} slots" in first.output
    assert status(place)["complete"]
    ended = place.complete(launcher, ranks_for(launcher), fake=REFERENCE)
    assert ended.code == 0, ended.output
    assert status(place)["completed"] == 40
    assert_same_numbers(place.numbers(), reference)


@pytest.mark.parametrize("launcher", ["none", "mpich"], indirect=True)
def test_one_rank_of_three_slots(launcher: Launcher, place: Workplace, reference: dict[str, np.ndarray]) -> None:
    ended = place.complete(launcher, 1, slots=3, fake=REFERENCE)
    assert ended.code == 0, ended.output
    assert_same_numbers(place.numbers(), reference)


@pytest.mark.parametrize("launcher", [name for name in NAMES if name != "srun-debian-openmpi"], indirect=True)
def test_real_simulations_agree(launcher: Launcher, place: Workplace, real_reference: dict[str, np.ndarray]) -> None:
    ended = place.complete(launcher, 2, *REAL, n_simulations=4, fake=None)
    assert ended.code == 0, ended.output
    assert "NOT LASER" not in ended.output
    assert_same_numbers(place.numbers(), real_reference)


@pytest.mark.parametrize("launcher", ["openmpi", "mpich", "srun-mpich"], indirect=True)
def test_slots_follow_the_cores(launcher: Launcher, place: Workplace) -> None:
    """Without --slots, no core has two, none that we may use has none, and there is at least one."""
    command = launcher.command(2, "run", "--output", "run.h5", "--n-simulations", "20")
    ended = place.start_command(command, {**launcher.variables, "MOSAIC_MPI_FAKE": REFERENCE}).wait()
    assert ended.code == 0, ended.output
    found = status(place)
    assert 1 <= found["starts"][0]["n_slots"] <= len(os.sched_getaffinity(0))
