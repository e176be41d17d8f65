"""What a crash leaves behind, at every write boundary and inside writes.

A run's life is recorded write by write, and replayed into another folder. Wherever it is cut, the files must be
intact for readers, and the next start must find every row whose `commit` had returned, bit for bit.

Of writes into a file, a third are looked at, others every time; MOSAIC_MPI_CRASH_POINTS=all asks for all of them, and
MOSAIC_MPI_TEST_SEED for the same third again.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import add_rows, begin, few_parameters, make_plan, simulate

from mosaic_mpi import h5file, layout
from mosaic_mpi.errors import InputError
from mosaic_mpi.layout import COMPLETED, FAILED, PENDING
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.results import Results
from mosaic_mpi.store import Store

SEED = int(os.environ.get("MOSAIC_MPI_TEST_SEED", time.time_ns() % 10**6))
SHARE = 1.0 if os.environ.get("MOSAIC_MPI_CRASH_POINTS") == "all" else 1 / 3
PAGE = 16
"""Far smaller than a disk's, since all tables of ten simulations would share one page of those."""


@dataclass(frozen=True)
class Event:
    """Something that changed a file, or a promise that was made: its kind, the file's name, and what it takes."""

    kind: str
    name: str = ""
    data: bytes = b""
    offset: int = 0
    target: str = ""
    promise: Any = None


@dataclass
class Recording:
    """Everything that happened in a folder, in order."""

    folder: Path
    events: list[Event] = field(default_factory=list)

    def promise(self, kind: str, promise: Any) -> None:
        self.events.append(Event(kind, promise=promise))

    def own(self, path: str) -> bool:
        return Path(path).parent == self.folder and not path.endswith(".lock")

    @contextlib.contextmanager
    def running(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Take note of every write below; the HDF5 library's own go to temporary names, which a rename reveals."""
        real = {
            name: getattr(os, name) for name in ("pwrite", "ftruncate", "replace", "unlink", "fsync", "fdatasync")
        }
        write_bytes = pathlib.Path.write_bytes

        def of(descriptor: int) -> str:
            return os.readlink(f"/proc/self/fd/{descriptor}")

        def pwrite(descriptor: int, data: Any, offset: int) -> int:
            written: int = real["pwrite"](descriptor, data, offset)
            self.note("write", of(descriptor), data=bytes(data[:written]), offset=offset)
            return written

        def ftruncate(descriptor: int, length: int) -> None:
            real["ftruncate"](descriptor, length)
            self.note("truncate", of(descriptor), offset=length)

        def replace(source: Any, target: Any) -> None:
            data = Path(source).read_bytes()
            real["replace"](source, target)
            self.note("replace", os.fspath(source), data=data, target=Path(target).name)

        def unlink(path: Any, **more: Any) -> None:
            real["unlink"](path, **more)
            self.note("unlink", os.fspath(path))

        def sync(name: str) -> Callable[[int], None]:
            def call(descriptor: int) -> None:
                real[name](descriptor)
                self.note("sync", of(descriptor))

            return call

        def whole(path: Path, data: bytes) -> int:
            written = write_bytes(path, data)
            self.note("create", os.fspath(path), data=data)
            return written

        with monkeypatch.context() as patch:
            for name, function in (("pwrite", pwrite), ("ftruncate", ftruncate), ("replace", replace)):
                patch.setattr(os, name, function)
            patch.setattr(os, "unlink", unlink)
            patch.setattr(os, "fsync", sync("fsync"))
            patch.setattr(os, "fdatasync", sync("fdatasync"))
            patch.setattr(pathlib.Path, "write_bytes", whole)
            yield

    def note(self, kind: str, path: str, **more: Any) -> None:
        if self.own(path):
            self.events.append(Event(kind, Path(path).name, **more))


def temporary(name: str) -> bool:
    return ".tmp-" in name


def apply(folder: Path, event: Event, cut: int | None = None) -> None:
    """Do to a folder what was recorded; with a cut, only the first bytes of it."""
    path = folder / event.name
    match event.kind:
        case "write" if not temporary(event.name):
            descriptor = os.open(path, os.O_RDWR)
            os.pwrite(descriptor, event.data[:cut], event.offset)
            os.close(descriptor)
        case "create" if not temporary(event.name):
            path.write_bytes(event.data[:cut])
        case "truncate" if not temporary(event.name):
            os.truncate(path, event.offset)
        case "replace" if cut is None:
            path.unlink(missing_ok=True)
            (folder / event.target).write_bytes(event.data)
        case "replace":  # not renamed yet: the temporary file, somewhere on its way
            path.write_bytes(event.data[:cut])
        case "unlink" if not temporary(event.name):
            path.unlink(missing_ok=True)


@dataclass
class Promises:
    """What a user was told: rows committed and failed, and the plan of the command that runs."""

    plan: RunPlan | None = None
    committed: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)

    def take(self, event: Event) -> None:
        match event.kind:
            case "plan":
                self.plan = event.promise
            case "committed":
                self.committed |= event.promise
            case "failed":
                self.failed |= event.promise


class Truth:
    """What rows must hold."""

    def __init__(self, plan: RunPlan) -> None:
        records, _ = simulate(plan, range(plan.n_simulations))
        self._parameters = records["parameters"].copy()
        self._likelihoods = records["iteration_likelihood"].copy()
        self._collapsed = records["likelihood"].copy()
        generators = [
            np.random.Generator(np.random.PCG64(row * plan.n_iterations + j + 1))
            for row in range(plan.n_simulations)
            for j in range(plan.n_iterations)
        ]
        shape = plan.channels[0].shape
        drawn = [generator.poisson(3, shape).astype(np.int32) for generator in generators]
        self._series = np.array(drawn).reshape(plan.n_simulations, plan.n_iterations, *shape)

    def check(self, path: Path, must: set[int]) -> set[int]:
        """Readers find these rows, and whatever else is there is right too."""
        results = Results(path)
        rows = results.completed()
        found = set(rows.tolist())
        assert must <= found, f"lost rows {must - found}"
        with h5file.reading(path) as file:
            parameters, likelihoods, collapsed, commits = (
                file[name][...][rows]
                for name in (
                    "parameters/values",
                    "iterations/likelihood",
                    "simulations/likelihood",
                    "simulations/commit",
                )
            )
        assert parameters.tobytes() == self._parameters[rows].tobytes()
        assert likelihoods.tobytes() == self._likelihoods[rows].tobytes()
        assert collapsed.tobytes() == self._collapsed[rows].tobytes()
        for row, (series,) in results.series(rows, ["fake"]) if found else ():
            assert np.array_equal(series, self._series[row]), f"series of row {row}"
        assert len(set(commits.tolist())) == len(commits)
        return found


def examine(folder: Path, truth: Truth, promises: Promises, readers: bool = True) -> None:
    """A crashed run's folder: look at it as a reader, then start again."""
    path = folder / "run.h5"
    assert promises.plan is not None
    if not path.exists():
        assert not promises.committed
    elif readers:
        truth.check(path, promises.committed)
    store = Store(str(path), promises.plan)
    status, attempts = store.status, store.failed_attempts
    store.close()
    found = truth.check(path, promises.committed)
    assert found == set(np.flatnonzero(status == COMPLETED).tolist())
    assert promises.failed <= set(np.flatnonzero(status == FAILED).tolist())
    if readers:  # a kill, after which nobody is to blame: only simulation 4 has failed
        assert not attempts[(status == PENDING) & (np.arange(len(status)) != 3)].any()
        assert not attempts[status == COMPLETED].any()
    assert {entry.name for entry in folder.iterdir()} <= {"run.h5", "run.h5.spool"}


# ---- a life -----------------------------------------------------------------------------------------


def commit(store: Store, plan: RunPlan, recording: Recording, rows: set[int]) -> None:
    add_rows(store, plan, sorted(rows, reverse=True))
    store.commit()
    recording.promise("committed", rows)


def check_point(store: Store, recording: Recording, rows: set[int]) -> None:
    store.check_point()
    assert store._sync is not None
    store._sync.result()
    recording.promise("durable", rows)


def open_store(plan: RunPlan, recording: Recording) -> Store:
    recording.promise("plan", plan)
    store = Store(str(recording.folder / "run.h5"), plan)
    begin(store)
    return store


def live(recording: Recording, plans: dict[int, RunPlan]) -> None:
    """Create, commit, fail, check point, stop, resume, fold, extend what was folded and what was not, fold."""
    store = open_store(plans[6], recording)
    commit(store, plans[6], recording, {0, 2})
    store.add_failure(3, 1, "exception", "first", False)
    check_point(store, recording, {0, 2})
    add_rows(store, plans[6], [1])
    store.add_failure(3, 2, "killed", "second", True)
    recording.promise("failed", {3})
    commit(store, plans[6], recording, {4})
    recording.promise("committed", {1})
    check_point(store, recording, {0, 1, 2, 4})
    add_rows(store, plans[6], [5])  # never committed
    store._buffered, store.n_buffered = [], 0
    store.end_start(layout.STOPPED)
    store.close()

    store = open_store(plans[6], recording)
    commit(store, plans[6], recording, {5})
    store.end_start(layout.COMPLETE)
    recording.promise("durable", {0, 1, 2, 4, 5})
    assert store.fold(lambda: None) is None
    store.close()

    store = open_store(plans[8], recording)
    commit(store, plans[8], recording, {7})
    store.close()

    store = open_store(plans[10], recording)
    commit(store, plans[10], recording, {6, 9})
    commit(store, plans[10], recording, {8})
    store.end_start(layout.COMPLETE)
    recording.promise("durable", set(range(10)) - {3})
    assert store.fold(lambda: None) is None
    store.close()


@pytest.fixture
def plans(tmp_path: Path) -> dict[int, RunPlan]:
    return {n: make_plan(tmp_path, n, config=few_parameters(), settings="size=4") for n in (6, 8, 10)}


@pytest.fixture
def recording(tmp_path: Path, plans: dict[int, RunPlan], monkeypatch: pytest.MonkeyPatch) -> Recording:
    folder = tmp_path / "life"
    folder.mkdir()
    found = Recording(folder)
    with found.running(monkeypatch):
        live(found, plans)
    return found


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def test_the_recording_itself_is_complete(tmp_path: Path, recording: Recording) -> None:
    """Replayed to its end, it gives the very files: no write went past the recorder."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    for event in recording.events:
        apply(shadow, event)
    assert {path.name: path.read_bytes() for path in shadow.iterdir()} == {
        path.name: path.read_bytes() for path in recording.folder.iterdir()
    }
    kinds = {event.kind for event in recording.events}
    assert {"write", "truncate", "replace", "unlink", "create", "sync", "plan", "committed", "failed"} <= kinds


@pytest.mark.timeout(1200)  # hundreds of crash points, on a busy machine too
def test_a_kill_at_any_write_loses_nothing(tmp_path: Path, recording: Recording, plans: dict[int, RunPlan]) -> None:
    truth, promises = Truth(plans[10]), Promises()
    shadow, crashed = tmp_path / "shadow", tmp_path / "crashed"
    shadow.mkdir()
    print(f"MOSAIC_MPI_TEST_SEED={SEED}")
    dice = random.Random(SEED)
    n_points = n_seen = 0
    for event in recording.events:
        if event.kind in ("plan", "committed", "failed"):
            promises.take(event)
            continue
        if event.kind in ("sync", "durable") or (temporary(event.name) and event.kind != "replace"):
            continue
        is_seen = event.kind != "write" or dice.random() < SHARE
        if is_seen and len(event.data) > 1:
            torn = copy(shadow, crashed)
            apply(torn, event, cut=dice.randrange(len(event.data)))
            examine(torn, truth, promises)
        apply(shadow, event)
        if is_seen:
            examine(copy(shadow, crashed), truth, promises)
        n_points += 1
        n_seen += is_seen
    assert promises.committed == set(range(10)) - {3}
    assert n_points > 200
    assert n_seen > 0.6 * SHARE * n_points


def pages(event: Event) -> Iterator[Event]:
    """A write, page by page: what a disk may keep or lose."""
    position = 0
    while position < len(event.data):
        end = position + PAGE - (event.offset + position) % PAGE
        yield Event("write", event.name, event.data[position:end], event.offset + position)
        position = end


class Disk:
    """A folder of which what was not synced may be lost, page by page, when its node dies."""

    def __init__(self, folder: Path) -> None:
        self.synced = folder
        self.unsynced: dict[str, list[Event]] = {}

    def take(self, event: Event) -> None:
        match event.kind:
            case "write" | "truncate":
                self.unsynced.setdefault(event.name, []).append(event)
            case "sync":
                for pending in self.unsynced.pop(event.name, []):
                    apply(self.synced, pending)
            case _:
                self.unsynced.pop(event.target or event.name, None)
                apply(self.synced, event)

    def die(self, crashed: Path, dice: random.Random) -> None:
        copy(self.synced, crashed)
        for events in self.unsynced.values():
            fate: dict[int, bool] = {}
            for event in events:
                if event.kind == "truncate":
                    continue
                for piece in pages(event):
                    if fate.setdefault(piece.offset // PAGE, dice.random() < 0.5):
                        apply(crashed, piece)


@pytest.mark.parametrize("seed", range(4))
def test_the_death_of_a_node_costs_at_most_what_came_after_the_last_check_point(
    tmp_path: Path, recording: Recording, plans: dict[int, RunPlan], seed: int
) -> None:
    """Pages written since the last sync reach the disk or not, in any mixture."""
    dice = random.Random(seed)
    truth, promises, durable = Truth(plans[10]), Promises(), set[int]()
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk")
    for event in recording.events:
        if event.kind == "durable":
            durable |= event.promise
        elif event.kind in ("plan", "committed", "failed"):
            promises.take(event)
        elif not temporary(event.name) or event.kind == "replace":
            disk.take(event)
        if event.kind == "committed" or dice.random() < 0.1:
            disk.die(tmp_path / "crashed", dice)
            examine(tmp_path / "crashed", truth, Promises(promises.plan, set(durable)), readers=False)


def test_what_is_renamed_into_place_was_synced_before(recording: Recording) -> None:
    synced: set[str] = set()
    for event in recording.events:
        if event.kind == "sync":
            synced.add(event.name)
        elif event.kind == "write":
            synced.discard(event.name)
        elif event.kind == "replace":
            assert event.name in synced, event.target


# ---- overwriting ------------------------------------------------------------------------------------


def test_a_kill_while_overwriting_leaves_the_old_run_or_the_new(
    tmp_path: Path, plans: dict[int, RunPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "life"
    folder.mkdir()
    old, new = plans[6], make_plan(tmp_path, 3, config=few_parameters(kappa=2.0), settings="size=4")
    recording = Recording(folder)
    store = open_store(old, recording)
    commit(store, old, recording, {0, 2})
    store.close()
    shadow = copy(folder, tmp_path / "shadow")
    recording.events.clear()
    with recording.running(monkeypatch):
        Store(str(folder / "run.h5"), new, overwrite=True).close()
    n_old = n_new = 0
    for event in [Event("sync"), *recording.events]:
        apply(shadow, event)
        crashed = copy(shadow, tmp_path / "crashed")
        if Results(crashed / "run.h5").header.fingerprint == old.fingerprint:
            examine(crashed, Truth(old), Promises(old, {0, 2}))
            n_old += 1
        else:
            examine(crashed, Truth(new), Promises(new))
            n_new += 1
    assert n_old >= 1
    assert n_new >= 2


def test_a_foreign_file_beside_a_temporary_one_is_left_alone(tmp_path: Path, plans: dict[int, RunPlan]) -> None:
    """A killed creation leaves a temporary file; its removal touches nothing else."""
    names = ["run.h5.tmp-77", "other.h5", "run.h5.backup", "other.h5.tmp-77", "run.h50.tmp-1"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    Store(str(tmp_path / "run.h5"), plans[6]).close()
    left = {path.name for path in tmp_path.iterdir()}
    assert "run.h5.tmp-77" not in left
    assert {"other.h5", "run.h5.backup", "other.h5.tmp-77"} <= left
    with pytest.raises(InputError):
        Results(tmp_path / "other.h5")
