"""Ranks that do not fit together, or that never come: told within seconds, naming the hosts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import few_parameters, write_config
from launchers import Launcher, by_rank
from runs import Workplace

import mosaic_mpi

pytestmark = pytest.mark.timeout(300)

PROMPTLY_S = 40.0
PACKAGE = Path(mosaic_mpi.__file__).parent


@pytest.fixture
def aside(tmp_path: Path) -> Path:
    """A folder beside the one that runs are started in."""
    path = tmp_path / "log-aside"
    path.mkdir()
    return path


@pytest.mark.parametrize("launcher", ["openmpi", "mpich", "debian-openmpi", "srun-mpich"], indirect=True)
def test_one_rank_with_other_code_is_refused(launcher: Launcher, place: Workplace, aside: Path) -> None:
    for name in ("ours", "theirs"):
        shutil.copytree(PACKAGE, aside / name / "mosaic_mpi")
    with open(aside / "theirs" / "mosaic_mpi" / "likelihood.py", "a") as file:
        file.write("\n# another line\n")
    odd = by_rank(
        launcher,
        aside,
        {2: f"export PYTHONPATH={aside}/theirs"},
        otherwise=f"export PYTHONPATH={aside}/ours",
    )
    odd = replace(odd, words=tuple(word for word in odd.words if word != "--kill-on-bad-exit=1"))
    ended = place.start(odd, 3, fake="seconds=0.01").wait(PROMPTLY_S)
    assert ended.code == 2, ended.output
    assert ended.output.count("mosaic_mpi: ") == 1, ended.output
    assert "1 ranks run other code or package versions than rank 0" in ended.output
    assert "every host must see the same environment" in ended.output
    assert "Traceback" not in ended.output
    assert not place.file.exists()


@pytest.mark.parametrize("launcher", ["openmpi", "mpich"], indirect=True)
def test_inputs_are_needed_on_rank_0_alone(launcher: Launcher, place: Workplace, aside: Path) -> None:
    """The others work in a folder where no file of the run is, and that they may not write."""
    write_config(place.folder, few_parameters())
    elsewhere = aside / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o555)
    moved = by_rank(launcher, aside, {0: ":"}, otherwise=f"cd {elsewhere}")
    ended = place.start(moved, 3, "--config", "config.json", fake="seconds=0.01,size=2").wait()
    assert ended.code == 0, ended.output
    assert place.n_completed == 40
    assert {1, 2} <= set(place.table("simulations/rank").tolist())
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("launcher", ["mpich"], indirect=True)
def test_an_mpi_init_that_hangs_is_ended_with_the_reason(launcher: Launcher, tmp_path: Path) -> None:
    """A rank of MPICH whose process manager never answers."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        variables = {"PMI_FD": str(theirs.fileno()), "PMI_RANK": "0", "PMI_SIZE": "2", "MOSAIC_MPI_INIT_TIMEOUT": "3"}
        process = subprocess.Popen(
            [launcher.python, "-m", "mosaic_mpi", "run", "--output", "run.h5"],
            cwd=tmp_path,
            env={**os.environ, **variables, "MOSAIC_MPI_FAKE": "seconds=0"},
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output = process.communicate(timeout=PROMPTLY_S)[0]
        finally:
            process.kill()
            process.communicate()
    assert process.returncode not in (0, 75), output
    assert "MPI_Init has not returned for 3 s" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("launcher", ["openmpi", "mpich"], indirect=True)
def test_a_rank_that_never_starts_is_not_waited_for_for_ever(
    launcher: Launcher, place: Workplace, aside: Path
) -> None:
    """Its process lives, but does not get as far as MPI_Init: the others cannot know who is missing."""
    asleep = by_rank(launcher, aside, {2: "exec sleep 300"})
    run = place.start(asleep, 3, fake="seconds=0.01", variables={"MOSAIC_MPI_INIT_TIMEOUT": "4"})
    ended = run.wait(PROMPTLY_S)
    assert ended.code != 0, ended.output
    assert "MPI_Init has not returned for 4 s" in ended.output
    assert "Traceback" not in ended.output
    run.assert_no_orphans()
    assert not place.file.exists()
