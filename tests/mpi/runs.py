"""Runs as processes: start one, watch its file and its processes, hurt it, see what it leaves.

Every process that a test starts carries a mark in its environment, which children inherit: that is how orphans are
found, and how nothing but our own is ever killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import xarray  # noqa: F401  # now, and not for a second while a run goes on that is to be caught half-way
from launchers import Launcher
from witness import Witness

from mosaic_mpi import environment
from mosaic_mpi.errors import InputError
from mosaic_mpi.results import Results
from mosaic_mpi.summary import Summary, summarise

MARK = "MOSAIC_MPI_TEST_MARK"
FAKE = "seconds=0.05,size=12"
"""Settings of the stand-in for LASER: 0.15 s a simulation."""
QUICK = "seconds=0.005,size=12"
SLOWLY = {"MOSAIC_MPI_FAKE_SLOWNESS": "20"}
"""Settings for 0.015 s a simulation; variables that make it 0.3 s, until the run is started again without them."""
REFERENCE = "seconds=0.001,size=12"
"""Settings of the stand-in for LASER in the fixture `reference`; they belong to the plan."""
REAL = ("--locations", "ETH", "--n-iterations", "1", "--save", "reported_cases")
"""Options of the fixture `real_reference`."""
_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")


def wait_until(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    """Wait for a condition, and fail if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code, and everything that it and its launcher printed."""

    code: int
    output: str


class Run:
    """One start of a run.

    Parameters
    ----------
    command : list of str
        What to start.
    folder : Path
        Where; the log goes there too.
    variables : mapping
        Added to the environment.
    """

    def __init__(self, command: list[str], folder: Path, variables: Mapping[str, str]) -> None:
        self.mark = secrets.token_hex(8)
        self._log = folder / f"log-{self.mark}.txt"
        # A killed launcher leaves its session's folder, named after its process id: another that gets the same id
        # would find a socket there and not start. Short, since names of sockets are.
        self._temporary = tempfile.mkdtemp(prefix="mm-", dir="/tmp")
        with open(self._log, "wb") as log:
            self.launcher = subprocess.Popen(
                command,
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONFAULTHANDLER": "1",
                    "TMPDIR": self._temporary,
                    # Not in there: each run would compile the loop anew, for some twenty seconds of a core.
                    "MOSAIC_MPI_CACHE_DIR": str(environment.cache_directories()[0]),
                    **variables,
                    MARK: self.mark,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What was printed so far."""
        return self._log.read_text(errors="replace")

    def wait(self, seconds: float = 120.0) -> Ended:
        """Wait for the launcher to end."""
        try:
            code = self.launcher.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:.0f} s; it printed:\n{self.output}") from None
        return Ended(code, self.output)

    def signal_launcher(self, number: signal.Signals) -> None:
        """Send the launcher a signal."""
        self.launcher.send_signal(number)

    def processes(self) -> list[psutil.Process]:
        """All living processes that descend from this run, wherever they hang now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def ranks(self) -> dict[int, psutil.Process]:
        """The ranks' processes."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()  # none while it is being started or ends
                if "python" in "".join(words[:1]) and words[1:3] == ["-m", "mosaic_mpi"]:
                    variables = process.environ()
                    number = next((variables[name] for name in _RANK_VARIABLES if name in variables), "0")
                    found[int(number)] = process
        return found

    def workers(self) -> list[psutil.Process]:
        """The ranks but rank 0."""
        return [process for number, process in self.ranks().items() if number]

    def slots(self) -> list[psutil.Process]:
        """The slots' processes: children of a fork server."""
        servers = {process.pid for process in self.processes() if _is_fork_server(process)}
        return [process for process in self.processes() if _parent(process) in servers]

    def fork_servers(self) -> list[psutil.Process]:
        """The ranks' fork servers."""
        slots = self.slots()
        return [process for process in self.processes() if _is_fork_server(process) and process not in slots]

    def ours(self) -> list[psutil.Process]:
        """Processes of mosaic_mpi: without the launcher, its daemons and remote shells."""
        return [process for process in self.processes() if _is_ours(process)]

    def kill_all(self) -> None:
        """End everything that descends from this run."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.launcher.wait(30)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def assert_no_orphans(self, seconds: float = 30.0) -> None:
        """Fail if anything of this run lives on after its launcher has ended."""
        deadline = time.monotonic() + seconds
        while alive := self.processes():
            listing = "\n".join(f"{process.pid} {_command(process)}" for process in alive)
            assert time.monotonic() < deadline, f"still there:\n{listing}\nit printed:\n{self.output}"
            time.sleep(0.1)


def _is_ours(process: psutil.Process) -> bool:
    words = _command(process).split()
    return bool(words) and "python" in words[0] and ("mosaic_mpi" in words or "multiprocessing" in _command(process))


def _is_fork_server(process: psutil.Process) -> bool:
    return "multiprocessing.forkserver" in _command(process)


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _parent(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.ppid())
    return -1


class Workplace:
    """A folder in which runs are started, and their results file.

    Parameters
    ----------
    folder : Path
        Empty at first.
    name : str
        Of the results file.
    """

    def __init__(self, folder: Path, name: str = "run.h5") -> None:
        self.folder = folder
        self.file = folder / name
        self.witness = Witness(self.file)
        self.runs: list[Run] = []

    def start(
        self,
        launcher: Launcher,
        n_ranks: int = 3,
        *options: str,
        n_simulations: int = 40,
        slots: int = 1,
        fake: str | None = FAKE,
        variables: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run into this folder's results file."""
        words = ["run", "--output", self.file.name, "--n-simulations", str(n_simulations), "--slots", str(slots)]
        save = ["--save", "fake"] if fake is not None and "--save" not in options else []
        return self.start_command(
            launcher.command(n_ranks, *words, *save, *options),
            {
                **launcher.variables,
                **({"MOSAIC_MPI_FAKE": fake} if fake is not None else {}),
                **(variables or {}),
            },
        )

    def start_command(self, command: list[str], variables: Mapping[str, str]) -> Run:
        """Start any command in this folder."""
        self.runs.append(Run(command, self.folder, variables))
        return self.runs[-1]

    def complete(self, launcher: Launcher, n_ranks: int = 3, *options: str, **settings: object) -> Ended:
        """Start a run and wait for it."""
        return self.start(launcher, n_ranks, *options, **settings).wait()  # type: ignore[arg-type]

    def summary(self) -> Summary | None:
        """Where the run stands; None before there is a file."""
        with contextlib.suppress(InputError):
            return summarise(str(self.file))
        return None

    @property
    def n_completed(self) -> int:
        """Simulations completed so far."""
        summary = self.summary()
        return summary.completed if summary else 0

    @property
    def state(self) -> str:
        """The run's state, for example "stopped"; empty before there is a file."""
        summary = self.summary()
        return summary.state if summary else ""

    def wait_for(self, n_completed: int, run: Run) -> None:
        """Wait until so many simulations have completed."""

        def enough() -> bool:
            assert run.launcher.poll() is None, f"ended early:\n{run.output}"
            return self.n_completed >= n_completed

        wait_until(enough, f"{n_completed} completed simulations")
        self.witness.count()

    def snapshot(self) -> dict[str, tuple[str, int]]:
        """Digest and time of every file but our logs."""
        return {
            path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in sorted(self.folder.iterdir())
            if not path.name.startswith("log-")
        }

    def table(self, name: str) -> np.ndarray:
        """One dataset of the results file."""
        return Results(self.file).table(name)

    def numbers(self) -> dict[str, np.ndarray]:
        """See `numbers_of`."""
        self.witness.count()
        return numbers_of(self.file)

    def clean_up(self) -> None:
        """End everything that was started here."""
        for run in self.runs:
            run.kill_all()


def numbers_of(path: Path) -> dict[str, np.ndarray]:
    """All that a results file says of its completed simulations, except times and places, by sim_id."""
    results = Results(path)
    rows = results.completed()  # once: the file may be growing
    ids = results.table("simulations/sim_id")[rows]
    return {
        "sim": ids,
        "likelihood": results.table("simulations/likelihood")[rows],
        "parameters": results.table("parameters/values")[rows],
        "iterations": results.table("iterations/likelihood")[rows],
        "seeds": results.table("iterations/seed")[rows],
        **{name: results.channel(name, ids.tolist()).to_numpy() for name in results.channels},
    }


def assert_same_numbers(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Fail unless two runs agree in every bit."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape, name
        assert found[name].tobytes() == values.tobytes(), name


def assert_kept(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    """Fail unless every simulation that was completed before is there after, in every bit."""
    rows = np.searchsorted(after["sim"], before["sim"])
    assert_same_numbers({name: values[rows] for name, values in after.items()}, before)


def assert_resumes(place: Workplace, before: dict[str, np.ndarray], start: Callable[[], Run]) -> None:
    """Give the same command again: it must do the rest, and only that.

    Parameters
    ----------
    place : Workplace
        Where a run was interrupted.
    before : dict
        What it had completed before the fault.
    start : callable
        Starts it again.
    """
    after_fault = place.numbers()
    assert_kept(before, after_fault)
    commits = place.table("simulations/commit")
    assert (commits[after_fault["sim"] - 1] > 0).all()

    again = start().wait()
    assert again.code == 0, again.output
    assert "resumed" in again.output
    assert place.n_completed == len(commits)
    assert_kept(after_fault, place.numbers())
    # Whatever had been completed was not run again: it keeps its place in the order of storing.
    rows = after_fault["sim"] - 1
    assert (place.table("simulations/commit")[rows] == commits[rows]).all()


def assert_each_stored_once(place: Workplace, n_simulations: int) -> None:
    """Fail unless every simulation is completed, at its first attempt, and no result was stored a second time."""
    assert place.n_completed == n_simulations
    assert place.table("simulations/attempts").tolist() == [1] * n_simulations
    assert sorted(place.table("simulations/commit").tolist()) == list(range(1, n_simulations + 1))
