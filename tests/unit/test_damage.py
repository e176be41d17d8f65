"""Files that are damaged or of others: refused with what was found, never changed, without a crash or a hang.

Every look at a damaged file happens in a forked child, so that a crash of the HDF5 library is seen as one.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import finished_run, make_plan, same_numbers

from mosaic_mpi import h5file, seal
from mosaic_mpi.earlier_file import is_finished, preview
from mosaic_mpi.errors import InputError, MosaicError
from mosaic_mpi.export import export_samples, export_timeseries
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.results import Results
from mosaic_mpi.store import Store
from mosaic_mpi.summary import as_json, summarise
from mosaic_mpi.summary_text import as_text

SECONDS = 20


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> RunPlan:
    return make_plan(tmp_path_factory.mktemp("plan"), 6, 2, settings="size=8")


@pytest.fixture(scope="module", params=["half-way", "finished"])
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: RunPlan) -> Path:
    """A run with a spool, and one that was folded."""
    path = tmp_path_factory.mktemp("good") / "run.h5"
    finished_run(path, plan, rows=[0, 1, 3] if request.param == "half-way" else None)
    return path


@pytest.fixture
def dice() -> random.Random:
    chosen = int(os.environ.get("MOSAIC_MPI_TEST_SEED", time.time_ns() % 10**6))
    print(f"MOSAIC_MPI_TEST_SEED={chosen}")
    return random.Random(chosen)


def look_with_everything(path: Path, plan: RunPlan, scratch: Path, overwrite: bool = True) -> dict[str, str]:
    """What every reader, and a start of the run, say of a file; anything but a MosaicError passes."""

    def api() -> None:
        results = Results(path)
        for look in (results.parameters, results.likelihoods, results.simulations, results.verify):
            look()
        results.channel("fake")
        assert results.config

    def write() -> None:
        Store(str(path), plan).close()

    looks: dict[str, Callable[[], object]] = {
        "status": lambda: (as_text(summarise(str(path))), as_json(summarise(str(path)))),
        "API": api,
        "samples": lambda: export_samples(str(path), str(scratch / "samples.parquet")),
        "series": lambda: export_timeseries(str(path), str(scratch / "series.parquet")),
        "preview": lambda: preview(str(path), plan, overwrite=False),
        "is_finished": lambda: is_finished(str(path), plan),
        "run": write,
    }
    if overwrite:
        looks["run --overwrite"] = lambda: Store(str(path), plan, overwrite=True).close()
    found = {}
    for name, look in looks.items():
        found[name] = ""
        try:
            look()
        except MosaicError as error:
            found[name] = str(error) or type(error).__name__
    return found


def in_a_child(work: Callable[[], Any]) -> Any:
    """Do something in a forked child, and return its value; fail if the child crashes, hangs or raises."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            signal.alarm(SECONDS)
            try:
                answer = repr((True, work()))
            except BaseException as error:
                import traceback

                traceback.print_exc()
                answer = repr((False, f"{type(error).__name__}: {error}"))
            os.write(sender, answer.encode())
        os._exit(0)
    os.close(sender)
    with open(receiver, "rb") as file:
        answer = file.read().decode()
    status = os.waitpid(child, 0)[1]
    assert os.WIFEXITED(status), f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    fine, value = eval(answer)
    assert fine, value
    return value


def place(good: Path, data: bytes, folder: Path) -> Path:
    path = folder / "run.h5"
    path.write_bytes(data)
    spool = Path(f"{good}.spool")
    if spool.exists():
        Path(f"{path}.spool").write_bytes(spool.read_bytes())
    return path


def data_ranges(path: Path) -> list[tuple[int, int]]:
    found = []
    for where in h5file.placements(path).values():
        found.append((where.offset, where.dtype.itemsize * int(np.prod(where.shape))))
    with h5py.File(path, "r") as file:
        for dataset in file.get("channels", {}).values():
            dataset.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.size)))
    return sorted(found)


def metadata_bytes(path: Path) -> list[int]:
    """Positions of all bytes that describe, and hold no results."""
    mask = np.ones(path.stat().st_size, bool)
    for offset, length in data_ranges(path):
        mask[offset : offset + length] = False
    return np.flatnonzero(mask).tolist()


def assert_refused(found: dict[str, str], path: Path, before: bytes) -> None:
    for look, message in found.items():
        assert str(path) in message, f"{look}: {message or 'took it'}"
        assert "damaged" in message or "not an HDF5 file" in message, f"{look}: {message}"
    assert path.read_bytes() == before


def test_a_file_cut_anywhere_is_refused(plan: RunPlan, good: Path, tmp_path: Path, dice: random.Random) -> None:
    whole = good.read_bytes()
    edges = {0, 1, 7, 8, 9, 48, 95, 96, 97, 512, 2048, 4096, len(whole) // 2, len(whole) - 8, len(whole) - 1}
    borders = {border for start, length in data_ranges(good) for border in (start, start + length)}
    cuts = sorted(
        edges | set(dice.sample(sorted(borders - edges), 8)) | {dice.randrange(len(whole)) for _ in range(4)}
    )
    for cut in cuts:
        path = place(good, whole[:cut], tmp_path)
        print(f"cut to {cut} of {len(whole)} bytes")
        if cut < len(whole) - 600:
            assert_refused(in_a_child(lambda p=path: look_with_everything(p, plan, tmp_path)), path, whole[:cut])
        else:  # of the seal alone: the rest is whole, or the loss is seen
            in_a_child(lambda p=path: look_with_everything(p, plan, tmp_path))


def test_flipped_bytes_in_what_describes_are_refused(
    plan: RunPlan, good: Path, tmp_path: Path, dice: random.Random
) -> None:
    whole = good.read_bytes()
    metadata = metadata_bytes(good)[:-64]
    for _ in range(25):
        data, positions = bytearray(whole), dice.sample(metadata, dice.choice((1, 1, 4, 16)))
        for position in positions:
            data[position] ^= dice.randrange(1, 256)
        print(f"flipped {positions}")
        path = place(good, bytes(data), tmp_path)
        assert_refused(in_a_child(lambda p=path: look_with_everything(p, plan, tmp_path)), path, bytes(data))


def test_flipped_bytes_without_a_seal_end_in_words_too(plan: RunPlan, good: Path, tmp_path: Path) -> None:
    """Once another program has opened it for writing, HDF5's own checks have to do; these are texts."""
    data = bytearray(good.read_bytes())
    with h5py.File(place(good, bytes(data), tmp_path), "r+"):
        pass
    data = bytearray((tmp_path / "run.h5").read_bytes())
    assert len(data) < good.stat().st_size, "HDF5 keeps what follows its end"
    for word in (b'"locations"', b'"axes"'):
        at = data.index(word)
        broken = data[:at] + b"\xff\xfe" + data[at + 2 :]
        path = place(good, bytes(broken), tmp_path)
        found = in_a_child(lambda p=path: look_with_everything(p, plan, tmp_path))
        assert_refused(
            {look: found[look] for look in ("status", "API", "preview", "is_finished", "run")}, path, broken
        )


def test_flipped_bytes_in_results_never_end_in_a_traceback(
    plan: RunPlan, good: Path, tmp_path: Path, dice: random.Random
) -> None:
    whole, places = good.read_bytes(), h5file.placements(good)
    for _ in range(12):
        data, flipped = bytearray(whole), []
        for _ in range(dice.choice((1, 2, 4))):
            name, where = dice.choice(list(places.items()))
            length = where.dtype.itemsize * int(np.prod(where.shape))
            position = dice.randrange(min(length, 4 * where.dtype.itemsize))
            data[where.offset + position] ^= dice.randrange(1, 256)
            flipped.append((name, position))
        print(f"flipped {flipped}")
        path = place(good, bytes(data), tmp_path)
        in_a_child(lambda p=path: look_with_everything(p, plan, tmp_path, overwrite=False))


@pytest.mark.parametrize("table", ["simulations/likelihood", "iterations/likelihood", "parameters/values"])
def test_a_damaged_result_is_found_by_its_checksum(plan: RunPlan, good: Path, tmp_path: Path, table: str) -> None:
    path = place(good, good.read_bytes(), tmp_path)
    assert Results(path).verify() == []
    where = h5file.placements(path)[table]
    data = bytearray(path.read_bytes())
    data[where.offset + (where.dtype.itemsize * int(np.prod(where.shape[1:]))) + 3] ^= 0x10
    path.write_bytes(data)
    assert Results(path).verify() == [2]


def test_a_damaged_time_series_is_found_and_named(plan: RunPlan, good: Path, tmp_path: Path) -> None:
    path = place(good, good.read_bytes(), tmp_path)
    spool = Path(f"{path}.spool")
    holder = spool if spool.exists() else path
    with h5file.reading(path) as file:
        if spool.exists():
            offset = int(file["series/offset"][1, 0])
        else:
            offset = file["channels/fake"].id.get_chunk_info_by_coord((1, 0, 0, 0)).byte_offset
    data = bytearray(holder.read_bytes())
    data[offset + 20] ^= 0xFF
    holder.write_bytes(data)
    assert Results(path).verify() == [2]
    with pytest.raises(InputError, match=r"run\.h5: damaged: channel fake in row 1"):
        Results(path).channel("fake", [2])
    assert Results(path).channel("fake", [1]).shape[0] == 1


def test_a_status_that_cannot_be_is_run_again(plan: RunPlan, good: Path, tmp_path: Path) -> None:
    path = place(good, good.read_bytes(), tmp_path)
    data = bytearray(path.read_bytes())
    data[h5file.placements(path)["simulations/status"].offset + 1] = 40
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"simulations/status is 40 in row 1, expected 0, 1 or 2"):
        summarise(str(path))
    assert not is_finished(str(path), plan)
    finished_run(path, plan)
    whole = tmp_path / "whole.h5"
    finished_run(whole, plan)
    same_numbers(path, whole)


# ---- spools -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["missing", "empty", "foreign", "a folder", "half"])
def test_an_unfinished_run_without_its_spool(plan: RunPlan, tmp_path: Path, how: str) -> None:
    path = tmp_path / "run.h5"
    finished_run(path, plan, rows=[0, 1, 3])
    spool = Path(f"{path}.spool")
    content = spool.read_bytes()
    spool.unlink()
    match how:
        case "empty":
            spool.touch()
        case "foreign":
            spool.write_bytes(b"x" * len(content))
        case "a folder":
            spool.mkdir()
        case "half":
            spool.write_bytes(content[: len(content) // 2])
    before = path.read_bytes()
    found = in_a_child(lambda: look_with_everything(path, plan, tmp_path))
    assert not found["status"]
    assert not found["samples"]
    assert "run.h5" in found["API"] + found["series"]
    if how == "half":  # known to be durable: nothing is lost silently, it is told when it is read
        assert "damaged" in found["series"]
    else:
        assert "spool" in found["run"]
    if how not in ("half",):
        assert found["run --overwrite"] == "" or how == "a folder"
    assert how != "missing" or path.read_bytes() != before


# ---- what is no results file ------------------------------------------------------------------------


def other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["theirs"] = np.arange(5)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "HDF5 of others": (other_hdf5, "not a results file of mosaic_mpi"),
    "text": (lambda path: path.write_text("my notes\n"), "not an HDF5 file: it starts with b'my notes'"),
    "empty": (lambda path: path.touch(), "not an HDF5 file: it is empty"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "dangling link": (lambda path: path.symlink_to("gone.h5"), "symbolic link to gone.h5"),
    "pipe": (pipe, "is a pipe"),
    "socket": (bound_socket, "is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "link to itself": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_results_file_is_refused_by_every_reader(plan: RunPlan, tmp_path: Path, kind: str) -> None:
    make, expected = FOREIGN[kind]
    path = tmp_path / "run.h5"
    make(path)
    before = path.lstat()
    found = in_a_child(lambda: look_with_everything(path, plan, tmp_path))
    for look in ("status", "API", "samples", "series"):
        assert expected in found[look], f"{look}: {found[look]}"
    if kind != "dangling link":  # which the command `run` refuses; a store would write where it leads
        assert found["run"]
        assert found["run --overwrite"]
    assert path.lstat().st_ino == before.st_ino


def test_a_link_to_a_results_file_stands_for_it(plan: RunPlan, tmp_path: Path) -> None:
    target, link = tmp_path / "data" / "run.h5", tmp_path / "link.h5"
    target.parent.mkdir()
    finished_run(target, plan, rows=[0, 1, 3])
    link.symlink_to(target)
    assert Results(link).channel("fake").shape[0] == 3
    store = Store(str(link), plan)
    with pytest.raises(InputError, match="another run writes it"):
        Store(str(target), plan)
    store.close()
    finished_run(link, plan)
    assert link.is_symlink()
    assert is_finished(str(target), plan)
    assert sorted(entry.name for entry in target.parent.iterdir()) == ["run.h5"]
    assert [entry.name for entry in tmp_path.iterdir() if ".spool" in entry.name or ".lock" in entry.name] == []


# ---- the seal itself --------------------------------------------------------------------------------


def test_every_byte_outside_the_ranges_counts_and_none_inside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes(range(100))
    ranges = [(10, 5), (15, 5), (40, 0), (90, 10)]
    for position in range(100):
        path.write_bytes(content)
        seal.attach(str(path), ranges)
        seal.check(path)
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)
        if 10 <= position < 20 or position >= 90:
            seal.check(path)
        else:
            with pytest.raises(seal.Broken):
                seal.check(path)


def test_a_new_seal_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    for _ in range(3):
        seal.attach(str(path), [(0, 2)])
    assert path.read_bytes().count(b"mosaic_mpi seal") == 1
    seal.check(path)


def test_a_thousand_folded_simulations_are_opened_in_milliseconds(tmp_path: Path) -> None:
    """The seal of a finished file leaves out every chunk; reading it must not cost what reading them does."""
    path = tmp_path / "run.h5"
    finished_run(path, make_plan(tmp_path, 1000, 1, settings="size=8"))
    n_bytes = path.stat().st_size
    before = read_by_this_process()
    with h5file.reading(path):
        pass
    assert read_by_this_process() - before < n_bytes / 4


def read_by_this_process() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])
