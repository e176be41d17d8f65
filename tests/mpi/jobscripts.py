"""Job scripts as a user has them: copied, edited, submitted."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runs import wait_until
from slurm_cluster import SlurmCluster

JOBS = Path(__file__).parents[2] / "jobs"
PROMPTLY_S = 150.0
"""Some ten seconds, on a machine that has other things to do."""


def edited(script: str, folder: Path, options: str) -> Path:
    """Copy a script next to the data, with other OPTIONS."""
    lines = (JOBS / script).read_text().splitlines(keepends=True)
    mine = [f"OPTIONS=({options})\n" if line.startswith("OPTIONS=") else line for line in lines]
    assert mine != lines
    copy = folder / Path(script).name
    copy.write_text("".join(mine))
    copy.chmod(0o755)
    return copy


def with_python(python: str, **variables: str) -> dict[str, str]:
    """The environment of somebody who has activated one."""
    return {"PATH": f"{Path(python).parent}:{os.environ['PATH']}", "OUTPUT": "run.h5", **variables}


@dataclass
class Job:
    """A job, or an element of an array, in Slurm.

    Parameters
    ----------
    cluster : SlurmCluster
        Where.
    number : str
        As sbatch prints it; "12_3" for an element.
    log_path : Path
        Where it prints, over all its starts.
    """

    cluster: SlurmCluster
    number: str
    log_path: Path

    @property
    def state(self) -> str:
        """Slurm's word for it."""
        return self.cluster.job_state(self.number)

    @property
    def log(self) -> str:
        """What it has printed."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_for(self, *states: str, seconds: float = PROMPTLY_S) -> str:
        """Wait for one of some states."""
        deadline = time.monotonic() + seconds
        while (state := self.state) not in states:
            assert time.monotonic() < deadline, f"job is {state}, expected {states}:\n{self.log}"
            time.sleep(0.1)
        return state

    def end(self, seconds: float = PROMPTLY_S) -> str:
        """Wait for it to end for good, and return how."""
        return self.wait_for("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", seconds=seconds)

    def start_now(self) -> None:
        """Spare a requeued job the two minutes that Slurm lets it wait."""
        self.wait_for("PENDING")
        # Some of those minutes have their reasons: the first start's steps must be gone, and slurmd refuses to start
        # a job ("already killed") in the second in which it was ended.
        wait_until(lambda: not self.cluster.steps(), "the end of the first start")
        time.sleep(1.5)
        self.cluster.ask("scontrol", "update", f"JobId={self.number}", "StartTime=now")


def submit(cluster: SlurmCluster, folder: Path, *words: str, variables: Mapping[str, str]) -> str:
    """Run a command that submits something, in a folder, and return what it prints."""
    found = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **cluster.variables, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()
