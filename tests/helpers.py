"""What several tests share: small configs and plans, real records, comparing files, and the command line."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import fake, layout
from mosaic_mpi.catalogue import MATRICES, OBSERVATIONS, OPTIONAL, PARAMETERS
from mosaic_mpi.environment import without_launcher
from mosaic_mpi.parcel import Parcel
from mosaic_mpi.plan import RunPlan, SlotPlan
from mosaic_mpi.plan_inputs import PlanOptions, load_plan
from mosaic_mpi.results import Results
from mosaic_mpi.simulation import Simulation
from mosaic_mpi.store import Store
from mosaic_mpi.units import Units

MARK = "MOSAIC_MPI_TEST_MARK"
VERSIONS = {"laser-cholera": "0.16.1"}
CI = os.environ.get("CI") == "true"

# ---- inputs -----------------------------------------------------------------------------------------


def small_config(locations: Sequence[str] = ("ETH",), n_days: int = 8, **changes: Any) -> dict[str, Any]:
    """A config that passes every check and takes no time to read; a change to `...` removes its key."""
    n_locations = len(locations)
    config: dict[str, Any] = {
        "date_start": "2023-02-01",
        "date_stop": str(date(2023, 2, 1) + timedelta(days=n_days - 1)),
        "location_name": list(locations),
        "longitude": [10.0 + index for index in range(n_locations)],
        "latitude": [-5.5 + index for index in range(n_locations)],
        "p": 365,
    }
    for name, parameter in PARAMETERS.items():
        if name not in OPTIONAL:
            value: float = 1 if parameter.integer else 0.5
            one = parameter.shape != "location"
            config[name] = (
                value if one else [value + (index if parameter.integer else 0) for index in range(n_locations)]
            )
    config |= {"decay_days_short": 16, "decay_days_long": 200, "N_j_initial": [1000] * n_locations}
    for key in (*MATRICES, *OBSERVATIONS):
        config[key] = [[float(10 * row + day) for day in range(n_days)] for row in range(n_locations)]
    config.update(changes)
    return {key: value for key, value in config.items() if value is not ...}


def few_parameters(**changes: Any) -> dict[str, Any]:
    """A short one-location config of which the default prior varies next to nothing."""
    config = small_config(n_days=2)
    for name, parameter in PARAMETERS.items():
        if parameter.scale is not None and not parameter.low_open:
            config[name] = [0.0] if parameter.shape == "location" else 0.0
    return config | {"alpha_1": 1.0} | changes


def write_config(
    folder: Path, config: Mapping[str, Any] | None = None, name: str = "config.json", **changes: Any
) -> str:
    """Write a config file and return its path."""
    path = folder / name
    path.write_text(json.dumps({**(config or small_config()), **changes}))
    return str(path)


def make_plan(
    folder: Path,
    n_simulations: int = 6,
    n_iterations: int = 2,
    save: Sequence[str] = ("fake",),
    settings: str = "",
    config: Mapping[str, Any] | None = None,
    samples: str | None = None,
    simulations: tuple[int, int] | None = None,
) -> RunPlan:
    """A plan of fake simulations, ready for a store."""
    simulator = f"fake:{settings}"
    options = PlanOptions(
        config=write_config(folder, config, f"config-{secrets.token_hex(4)}.json"),
        samples=samples,
        n_simulations=n_simulations,
        n_iterations=n_iterations,
        simulations=simulations,
        save=tuple(save),
        simulator=simulator,
    )
    plan = load_plan(options, VERSIONS)
    return plan.with_channels(fake.describe(simulator, len(plan.config.locations)))


# ---- records and stores -----------------------------------------------------------------------------


class Slot:
    """What a slot would send, one unit at a time."""

    def __init__(self, plan: SlotPlan, index: int = 0) -> None:
        self._simulation, self._parcel = Simulation(plan), Parcel(plan.record_dtype, index)

    def run(self, unit: int) -> bytes:
        """The record of a unit, and its series."""
        self._parcel.clear()
        self._parcel.add(self._simulation.run(unit))
        return self._parcel.payload()


def simulate(plan: RunPlan, rows: Iterable[int]) -> tuple[NDArray[np.void], bytes]:
    """What slots would send for some rows: records, and their series one after the other."""
    slot = Slot(plan.slot_plan())
    size = plan.slot_plan().record_dtype.itemsize
    units = Units(plan.n_iterations).whole(np.array(list(rows), np.int64)).tolist()
    payloads = [slot.run(unit) for unit in units]
    records = np.frombuffer(b"".join(payload[:size] for payload in payloads), plan.slot_plan().record_dtype)
    return records, b"".join(payload[size:] for payload in payloads)


def add_rows(store: Store, plan: RunPlan, rows: Iterable[int], attempts: int = 1) -> None:
    """Simulate rows and hand them to a store whose start has begun."""
    records, series = simulate(plan, rows)
    store.add(records, [memoryview(series)], 0, store.host_row("here"), np.full(len(records), attempts, np.int32))


def begin(store: Store, **fields: Any) -> None:
    """Begin a start with plausible notes."""
    notes = {"n_ranks": 1, "n_slots": 2, "n_hosts": 1, "host": "here", "pid": os.getpid(), "job": "", "mpi": "none"}
    store.begin_start(**notes | {"command": "python -m mosaic_mpi run", "versions": '{"mosaic_mpi": "0"}'} | fields)


def finished_run(path: Path, plan: RunPlan, fold: bool = True, rows: Iterable[int] | None = None) -> None:
    """Make a results file of a run without mishaps, all of it or some rows."""
    store = Store(str(path), plan)
    begin(store)
    rows = range(plan.n_simulations) if rows is None else rows
    rows = [row for row in rows if store.status[row] == layout.PENDING]
    store.note(first_assignment_at=time.time())
    if rows:
        add_rows(store, plan, rows)
    whole = not (store.status == layout.PENDING).sum() - len(rows)
    store.end_start(layout.COMPLETE if whole else layout.STOPPED)
    if fold and whole:
        assert store.fold(lambda: None) is None
    store.close()


# ---- comparing files --------------------------------------------------------------------------------

_TIMES_AND_PLACES = {
    *(f"simulations/{name}" for name in ("elapsed_s", "finished_at", "rank", "slot", "host", "start", "commit")),
    "simulations/error",  # a row number; its text is compared
}
_KNOWN_BEFOREHAND = ("simulations/sim_id", "simulations/status", "iterations/seed")


def same_numbers(a: Path | str, b: Path | str, ignore: Sequence[str] = ()) -> None:
    """Assert that two results files differ in times and places at most.

    Parameters
    ----------
    a, b : path
        Results files.
    ignore : sequence of str
        Tables that may differ as well.
    """
    first, second = Results(a), Results(b)
    for what in ("n_simulations", "n_iterations", "n_parameters", "channels", "identity", "fingerprint"):
        assert getattr(first.header, what) == getattr(second.header, what), what
    for what in ("locations", "dates"):
        assert getattr(first.header, what) == getattr(second.header, what), what
    assert first.config == second.config
    assert first.parameter_names == second.parameter_names
    completed = first.completed()
    for table in layout.TABLES:
        group = table.name.split("/")[0]
        if group not in ("simulations", "iterations", "parameters") or table.name in {*_TIMES_AND_PLACES, *ignore}:
            continue
        if table.name == "parameters/values" and not first.parameter_names:
            continue
        rows = slice(None) if table.name in _KNOWN_BEFOREHAND else completed
        assert first.table(table.name)[rows].tobytes() == second.table(table.name)[rows].tobytes(), table.name
    for row in np.flatnonzero(first.table("simulations/status") == layout.FAILED):
        texts = [run.error_text(int(run.table("simulations/error")[row])) for run in (first, second)]
        assert texts[0] == texts[1], f"error text of row {row}"
    if first.channels:
        pairs = zip(first.series(completed, first.channels), second.series(completed, first.channels), strict=True)
        for (row, ours), (_, theirs) in pairs:
            for name, mine, other in zip(first.channels, ours, theirs, strict=True):
                assert mine.dtype == other.dtype
                assert mine.tobytes() == other.tobytes(), f"{name} of row {row}"


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything in a folder by name, with size, time of change and inode."""
    found = {}
    for path in sorted(folder.rglob("*")):
        entry = path.stat()
        found[str(path.relative_to(folder))] = (entry.st_size, entry.st_mtime_ns, entry.st_ino)
    return found


# ---- processes --------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    """Wait for a condition, and fail if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.01)


def marked_processes(mark: str) -> list[int]:
    """Living processes whose environment carries a mark."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and needle in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


class Cli:
    """The command line in subprocesses, with fake simulations unless told otherwise.

    Parameters
    ----------
    folder : Path
        Where they run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)
        self._running: list[subprocess.Popen[str]] = []

    def environment(self, fake: str | None = "seconds=0", **variables: str) -> dict[str, str]:
        """What they find in their environment; a fake of None asks for LASER."""
        found = without_launcher(os.environ)
        found.pop("MOSAIC_MPI_FAKE", None)
        found["PATH"] = f"{Path(sys.executable).parent}:{found['PATH']}"  # "python" in the printed commands
        if fake is not None:
            found["MOSAIC_MPI_FAKE"] = fake
        return {**found, "PYTHONFAULTHANDLER": "1", MARK: self.mark, **variables}

    def __call__(
        self, *arguments: str, fake: str | None = "seconds=0", timeout: float = 60.0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments, fake=fake, **variables)
        return self.end(process, timeout)

    def start(self, *arguments: str, fake: str | None = "seconds=0", **variables: str) -> subprocess.Popen[str]:
        """Start a command, in a process group of its own as a terminal does."""
        return self.launch([sys.executable, "-m", "mosaic_mpi", *arguments], fake=fake, **variables)

    def launch(
        self, command: Sequence[str], fake: str | None = "seconds=0", asks: bool = False, **variables: str
    ) -> subprocess.Popen[str]:
        """Start any command; with `asks`, its standard input is a pipe."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(fake, **variables),
            stdin=subprocess.PIPE if asks else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[str], timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Wait for a started command."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # the fault handler shows where it hangs
            out, err = process.communicate(timeout=60)
            raise AssertionError(f"still running after {timeout:.0f} s:\n{out}\n{err}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def survivors(self) -> list[int]:
        """Processes that this test started, directly or not, and that live."""
        return marked_processes(self.mark)

    def close(self) -> None:
        """End what is left."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=60)
        for pid in self.survivors():
            os.kill(pid, signal.SIGKILL)


def without_override(*command: str) -> list[str]:
    """A command that permission bits bind, as they do not bind root by itself."""
    if os.geteuid():
        return list(command)
    return ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search", *command]
