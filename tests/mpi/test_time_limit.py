"""A run that stops in time, by its own limit or by that of its Slurm job, under every launcher."""

from __future__ import annotations

import re

import pytest
from launchers import NAMES, Launcher
from runs import Workplace
from test_faults import EXIT_STOPPED, ranks_for

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("launcher", ["none", *NAMES, "openmpi-ulfm"], indirect=True)
def test_time_limit(launcher: Launcher, place: Workplace) -> None:
    n_ranks = ranks_for(launcher)
    settings = {"n_simulations": 800, "fake": "seconds=0.1,size=12"}
    limited = place.complete(launcher, n_ranks, "--time-limit", "00:00:24", **settings)
    assert limited.code == EXIT_STOPPED, limited.output
    assert "--time-limit of 24 s is near" in limited.output
    assert "to resume: " in limited.output
    place.runs[-1].assert_no_orphans()
    summary = place.summary()
    assert summary is not None
    assert summary.state == "stopped"
    assert 0 < summary.completed < 800


@pytest.mark.parametrize("launcher", ["srun-mpich"], indirect=True)
def test_slurm_tells_when_its_job_ends(launcher: Launcher, place: Workplace) -> None:
    """A job of one minute, the shortest: nothing but Slurm says when to stop."""
    command = launcher.command(
        2, "run", "--output", "run.h5", "--n-simulations", "2000", "--slots", "1", "--locations", "ETH"
    )
    run = place.start_command(
        [command[0], "--time=1", *command[1:]], {**launcher.variables, "MOSAIC_MPI_FAKE": "seconds=0.2"}
    )
    ended = run.wait(100)
    assert ended.code == EXIT_STOPPED, ended.output
    assert re.search(r"limit  stops in time for .*, end of Slurm job \d+", ended.output)
    assert "end of Slurm job" in ended.output.split("NOT LASER")[1]
    assert "CANCELLED" not in ended.output
    summary = place.summary()
    assert summary is not None
    assert summary.state == "stopped"
    assert summary.completed > 0
