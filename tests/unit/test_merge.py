"""Joining the files of a run's pieces: the same numbers as one run, or a refusal with every reason."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import add_rows, begin, few_parameters, finished_run, listing, make_plan, same_numbers, small_config

from mosaic_mpi import layout
from mosaic_mpi.earlier_file import is_finished, preview
from mosaic_mpi.errors import InputError, PlanMismatch, StorageError
from mosaic_mpi.layout import COMPLETED, FAILED, PENDING
from mosaic_mpi.merge import Merged, merge
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.results import Results
from mosaic_mpi.store import Store
from mosaic_mpi.summary import summarise

CONFIG = small_config()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


class Pieces:
    """Makes plans of one config and files of their pieces."""

    def __init__(self, folder: Path, n_simulations: int = 12, **more: Any) -> None:
        self.folder, self.n_simulations = folder, n_simulations
        self.more = {"config": CONFIG, **more}

    def plan(self, first: int | None = None, last: int | None = None) -> RunPlan:
        span = None if first is None or last is None else (first, last)
        return make_plan(self.folder, self.n_simulations, simulations=span, **self.more)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.h5"

    def make(
        self, first: int, last: int, name: str = "", fold: bool = True, rows: Sequence[int] | None = None
    ) -> str:
        path = self.path(name or f"run-{first}")
        finished_run(path, self.plan(first, last), fold, rows)
        return str(path)

    def whole(self) -> Path:
        finished_run(self.path("whole"), self.plan())
        return self.path("whole")


@pytest.fixture
def pieces(tmp_path: Path) -> Pieces:
    return Pieces(tmp_path)


def joined(files: Sequence[str], path: Path, **more: Any) -> Merged:
    """Merge, and expect nothing beside the output but its spool while it is incomplete."""
    before = listing(path.parent)
    merged = merge(files, str(path), **more)
    beside = set(listing(path.parent)) - set(before) - {path.name}
    assert beside <= {f"{path.name}.spool"}
    return merged


def problems_of(files: Sequence[str], path: Path, **more: Any) -> str:
    """What a merge is refused for; nothing has changed then."""
    before = listing(path.parent)
    with pytest.raises(InputError) as caught:
        merge(files, str(path), **more)
    assert listing(path.parent) == before
    return str(caught.value)


# ---- what a piece is --------------------------------------------------------------------------------


def test_a_piece_is_of_the_whole_plan(tmp_path: Path, pieces: Pieces) -> None:
    whole, piece = pieces.plan(), pieces.plan(4, 6)
    assert piece.fingerprint == whole.fingerprint
    assert list(piece.sim_ids) == [4, 5, 6]
    assert piece.seeds(slice(0, 3)).tolist() == whole.seeds(slice(3, 6)).tolist()


# ---- joining ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [("fake",), ()], ids=["saved", "no series"])
def test_pieces_make_the_file_of_one_run(tmp_path: Path, out: Path, save: tuple[str, ...]) -> None:
    pieces = Pieces(tmp_path, save=save)
    files = [pieces.make(9, 12), pieces.make(1, 4), pieces.make(5, 8, fold=False)]
    before = listing(tmp_path)
    del before["out"]
    merged = joined(files, out / "run.h5")
    assert listing(tmp_path).items() >= before.items(), "the inputs are only read"
    assert merged.exit_code == 0
    assert merged.text == f"{out}/run.h5: 12 simulations of 3 files: 12 completed, 0 failed, 0 pending"
    same_numbers(out / "run.h5", pieces.whole())
    assert is_finished(str(out / "run.h5"), pieces.plan())
    results = Results(out / "run.h5")
    assert sorted(results.table("simulations/commit").tolist()) == list(range(1, 13))
    assert results.table("progress/durable_commit").tolist() == [12]
    summary = summarise(str(out / "run.h5"))
    assert (summary.state, summary.completed, summary.hosts, len(summary.starts)) == ("complete", 12, ["here"], 3)
    assert {entry.name for entry in out.iterdir()} == {"run.h5"}


def test_the_layout_is_that_of_a_run(pieces: Pieces, out: Path) -> None:
    joined([pieces.make(1, 6), pieces.make(7, 12)], out / "run.h5")
    found: list[dict[str, Any]] = []
    for path in (out / "run.h5", pieces.whole()):
        shapes: dict[str, Any] = {}
        with h5py.File(path) as file:
            file.visititems(lambda name, entry, shapes=shapes: shapes.update({name: _kind(entry)}))
            shapes["attributes"] = set(file.attrs)
        found.append(shapes)
    assert found[0] == found[1]


def _kind(entry: Any) -> Any:
    return (entry.shape, entry.dtype, entry.chunks, dict(entry.attrs)) if isinstance(entry, h5py.Dataset) else None


def test_unfinished_pieces_stay_unfinished_and_the_whole_plan_completes_them(pieces: Pieces, out: Path) -> None:
    files = [pieces.make(1, 4), pieces.make(5, 8, rows=[1, 2]), pieces.make(9, 12, rows=[])]
    merged = joined(files, out / "run.h5")
    assert merged.exit_code == 75
    assert "6 completed, 0 failed, 6 pending" in merged.text
    assert (out / "run.h5.spool").exists()
    assert Results(out / "run.h5").channel("fake").simulation.values.tolist() == [1, 2, 3, 4, 6, 7]
    assert summarise(str(out / "run.h5")).state == "stopped"
    assert preview(str(out / "run.h5"), pieces.plan(), False) == ("resumed, 6 done", 6)
    finished_run(out / "run.h5", pieces.plan())
    same_numbers(out / "run.h5", pieces.whole())


def test_gaps_are_told_and_filled_by_the_whole_plan(pieces: Pieces, out: Path) -> None:
    merged = joined([pieces.make(3, 5), pieces.make(9, 10)], out / "run.h5")
    assert merged.exit_code == 75
    assert "simulations in none of the files: 1-2, 6-8" in merged.text
    assert preview(str(out / "run.h5"), pieces.plan(), False) == ("resumed, 5 done, extended from 5", 7)
    assert not is_finished(str(out / "run.h5"), pieces.plan())
    with pytest.raises(PlanMismatch, match=r"n_simulations: 5 in the file, 3 now.*lacks simulations 9-10"):
        Store(str(out / "run.h5"), pieces.plan(3, 5))
    with pytest.raises(PlanMismatch, match=r"lacks simulations 3$"):
        Store(str(out / "run.h5"), pieces.plan(4, 12))
    finished_run(out / "run.h5", pieces.plan())
    same_numbers(out / "run.h5", pieces.whole())


def test_a_piece_can_be_completed_by_the_whole_plan_without_a_merge(pieces: Pieces, out: Path) -> None:
    path = pieces.make(6, 8, fold=False, rows=[0, 2])
    finished_run(Path(path), pieces.plan())
    same_numbers(path, pieces.whole())


def test_the_command_that_completes_is_told(pieces: Pieces, out: Path) -> None:
    store = Store(str(pieces.path("a")), pieces.plan(1, 6))
    begin(store, command="python -m mosaic_mpi run --simulations 1-6 --save fake --output=a.h5 --overwrite")
    store.end_start(layout.STOPPED)
    store.close()
    text = joined([str(pieces.path("a"))], out / "my run.h5").text
    expected = f"python -m mosaic_mpi run --save fake --n-simulations 6 --output '{out}/my run.h5'"
    assert text.splitlines()[-1] == f"to complete: {expected}"


def test_tables_of_parameters_and_their_pieces(tmp_path: Path, out: Path) -> None:
    ids = random.Random(1).sample(range(1, 100), 20)
    lines = [f"{sim_id},{sim_id / 200}" for sim_id in ids]
    (tmp_path / "t.csv").write_text("\n".join(["sim,rho", *lines]))
    pieces = Pieces(tmp_path, 20, samples=str(tmp_path / "t.csv"))
    assert pieces.plan(30, 60).fingerprint == pieces.plan().fingerprint
    files = [pieces.make(30, 60), pieces.make(61, 200, rows=[0]), pieces.make(1, 29)]
    merged = joined(files, out / "run.h5")
    assert "in none" not in merged.text
    results = Results(out / "run.h5")
    assert results.table("simulations/sim_id").tolist() == sorted(ids)
    assert results.table("parameters/values")[:, 0].tolist() == [sim_id / 200 for sim_id in sorted(ids)]
    finished_run(out / "run.h5", pieces.plan())
    same_numbers(out / "run.h5", pieces.whole())


def test_thousands_of_simulations_in_forty_pieces(tmp_path: Path, out: Path) -> None:
    pieces = Pieces(tmp_path, 2000, n_iterations=1, config=few_parameters())
    cuts = [0, *sorted(random.Random(7).sample(range(1, 2000), 39)), 2000]
    files = [pieces.make(first + 1, last, fold=False) for first, last in pairwise(cuts)]
    random.Random(8).shuffle(files)
    assert joined(files, out / "run.h5").exit_code == 0
    same_numbers(out / "run.h5", pieces.whole())
    commits = Results(out / "run.h5").table("simulations/commit")
    assert np.array_equal(np.sort(commits), np.arange(1, 2001))


def test_files_that_take_turns(tmp_path: Path, out: Path) -> None:
    """Files of the whole plan with some rows each, as runs that were copied while they went on."""
    pieces = Pieces(tmp_path, 30)
    for remainder in range(3):
        finished_run(pieces.path(f"r{remainder}"), pieces.plan(), rows=range(remainder, 30, 3))
    files = [str(pieces.path(f"r{remainder}")) for remainder in range(3)]
    assert joined(files, out / "run.h5").exit_code == 0
    same_numbers(out / "run.h5", pieces.whole())


# ---- overlaps and failures --------------------------------------------------------------------------


def test_the_same_result_twice_counts_once(pieces: Pieces, out: Path) -> None:
    files = [pieces.make(1, 8), pieces.make(4, 12), pieces.make(5, 6)]
    merged = joined([*files, files[0]], out / "run.h5")
    assert "12 simulations of 3 files: 12 completed" in merged.text
    same_numbers(out / "run.h5", pieces.whole())


def test_different_results_of_one_simulation_are_refused(pieces: Pieces, out: Path) -> None:
    files = [pieces.make(1, 8), pieces.make(4, 12)]
    with h5py.File(files[1], "r+") as file:
        file["simulations/checksum"][1:3] = 7
    text = problems_of(files, out / "run.h5")
    assert "run-4.h5 and" in text
    assert "run-1.h5: both completed simulations 5-6, with different results" in text


def failing(pieces: Pieces, name: str, span: tuple[int, int], rows: dict[int, tuple[int, str, bool]]) -> str:
    """A piece in which some rows have failed attempts: how many, with which text, and whether for good."""
    store = Store(str(pieces.path(name)), pieces.plan(*span))
    begin(store, command=name, host=f"of {name}")
    store.host_row(f"of {name}")
    for row, (attempts, text, final) in rows.items():
        for attempt in range(1, attempts + 1):
            store.add_failure(row, attempt, "exception", text, final and attempt == attempts)
    if fine := [row for row in range(len(store.status)) if row not in rows]:
        add_rows(store, pieces.plan(*span), fine)
    store.end_start(layout.STOPPED)
    store.close()
    return str(pieces.path(name))


def test_failures_keep_their_texts_and_give_way_to_results(pieces: Pieces, out: Path) -> None:
    a = failing(pieces, "a", (1, 6), {0: (3, "only a", True), 1: (3, "both", True), 5: (2, "not yet", False)})
    b = failing(pieces, "b", (5, 12), {1: (1, "both", False), 3: (3, "both", True), 7: (3, "only b", True)})
    c = failing(pieces, "c", (2, 2), {})
    merged = joined([a, b, c], out / "run.h5")
    assert merged.exit_code == 75
    results = Results(out / "run.h5")
    status = results.table("simulations/status")
    assert np.flatnonzero(status == FAILED).tolist() == [0, 7, 11]
    assert np.flatnonzero(status == PENDING).tolist() == [5]
    table = results.simulations()
    assert table["error"][[1, 2, 6, 8, 12]].tolist() == ["only a", "", "not yet", "both", "only b"]
    assert results.table("simulations/attempts")[[0, 1, 5, 7]].tolist() == [3, 1, 2, 3]
    texts = {entry.text: entry.attempts for entry in summarise(str(out / "run.h5")).failures}
    assert texts == {"only a": 3, "both": 7, "not yet": 2, "only b": 3}
    assert table["host"][[3, 5, 2]].tolist() == ["here"] * 3
    assert summarise(str(out / "run.h5")).hosts == ["of a", "here", "of b", "of c"]
    starts = results.table("starts/host")[results.table("simulations/start")]
    assert [bytes(starts[row]) for row in (0, 1, 2, 4, 11)] == [b"of a", b"of c", b"of a", b"of a", b"of b"]
    commands = set(results.table("starts/command")[:3].tolist())
    assert len(commands) == 1, "the command that completes the whole, and none of a piece"


def test_complete_with_failures_ends_with_3(pieces: Pieces, out: Path) -> None:
    a = failing(pieces, "a", (1, 11), {0: (3, "no", True)})
    merged = joined([a, pieces.make(12, 12)], out / "run.h5")
    assert merged.exit_code == 3
    assert "11 completed, 1 failed, 0 pending" in merged.text
    assert not (out / "run.h5.spool").exists()
    assert Results(out / "run.h5").channel("fake").shape[0] == 11
    assert is_finished(str(out / "run.h5"), pieces.plan())


def test_more_starts_and_errors_than_there_are_rows(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = Pieces(tmp_path, 6, save=())
    files = [failing(pieces, f"p{sim}", (sim, sim), {0: (3, f"error {sim}", True)}) for sim in range(1, 7)]
    monkeypatch.setattr(layout, "N_STARTS", 4)
    monkeypatch.setattr(layout, "N_ERRORS", 5)
    assert joined(files, out / "run.h5").exit_code == 3
    results = Results(out / "run.h5")
    assert results.table("simulations/start").tolist() == [0, 1, 2, 3, 3, 3]
    assert results.table("progress/n_starts").tolist() == [6]
    assert results.table("starts/command")[3] == b"p6"
    spans = [results.table(f"starts/{name}")[3] for name in ("started_at", "ended_at")]
    assert spans[0] == Results(files[3]).table("starts/started_at")[0]
    assert spans[1] == Results(files[5]).table("starts/ended_at")[0]
    assert results.table("simulations/error").tolist() == [1, 2, 3, 4, 5, 5]
    assert results.table("errors/attempts").sum() == 18
    assert "other texts" in results.error_text(5)


def test_results_that_died_with_their_node_are_run_again(pieces: Pieces, out: Path) -> None:
    store = Store(str(pieces.path("a")), pieces.plan())
    begin(store)
    add_rows(store, pieces.plan(), range(12))
    store.commit()
    store._tables.close()  # without a word: nothing of it is known to be on the disk
    os.close(store._lock._descriptor)
    with h5py.File(pieces.path("a"), "r+") as file:
        file["simulations/likelihood"][4] += 1.0
    with open(layout.spool_path(str(pieces.path("a"))), "r+b") as spool:
        spool.truncate(os.path.getsize(spool.name) - 1)
    merged = joined([str(pieces.path("a"))], out / "run.h5")
    assert "10 completed, 0 failed, 2 pending" in merged.text
    assert summarise(str(out / "run.h5")).state == "stopped", "not dead: nobody has died of this file"
    assert np.flatnonzero(Results(out / "run.h5").table("simulations/status") == PENDING).tolist() == [4, 11]
    assert Results(out / "run.h5").table("simulations/attempts")[[4, 11]].tolist() == [0, 0]
    finished_run(out / "run.h5", pieces.plan())
    same_numbers(out / "run.h5", pieces.whole())


# ---- refusing ---------------------------------------------------------------------------------------


def test_all_problems_come_at_once(tmp_path: Path, pieces: Pieces, out: Path) -> None:
    (tmp_path / "thesis.h5").write_text("thesis")
    cut, lost = pieces.make(5, 6), pieces.make(7, 8, fold=False)
    os.truncate(cut, os.path.getsize(cut) // 2)
    os.unlink(f"{lost}.spool")
    other = make_plan(tmp_path, 12, 3, config=small_config(rho=0.25), simulations=(9, 10))
    finished_run(tmp_path / "other.h5", other)
    (out / "run.h5").write_text("precious")
    good = pieces.make(1, 4)
    text = problems_of(
        [good, str(tmp_path / "no.h5"), str(tmp_path / "thesis.h5"), cut, lost, str(tmp_path / "other.h5")],
        out / "run.h5",
    )
    for part in (
        "no.h5: no such file",
        "thesis.h5: not an HDF5 file",
        "run-5.h5: damaged",
        "run-7.h5.spool: missing",
        f"other.h5 belongs to another plan than {good}:",
        f"  config rho: 0.5 in {good}, 0.25 in {tmp_path}/other.h5",
        f"  n_iterations: 2 in {good}, 3 in {tmp_path}/other.h5",
        f"--output {out}/run.h5: exists",
    ):
        assert part in text, text
    assert (out / "run.h5").read_text() == "precious"


def test_a_spool_that_lost_its_end_is_damage(pieces: Pieces, out: Path) -> None:
    path = pieces.make(1, 12, fold=False)
    os.truncate(f"{path}.spool", os.path.getsize(f"{path}.spool") - 1)
    assert "spool: damaged" in problems_of([path], out / "run.h5")


def test_a_file_that_a_run_writes_is_refused_with_its_holder(pieces: Pieces, out: Path) -> None:
    a, b = pieces.make(1, 6), pieces.make(7, 12, rows=[0])
    store = Store(b, pieces.plan(7, 12))
    try:
        assert f"run-7.h5: a run writes it: process {os.getpid()} on " in problems_of([a, b], out / "run.h5")
    finally:
        store.close()
    Path(f"{b}.lock").write_text("left by one that was killed")
    assert joined([a, b], out / "run.h5").exit_code == 75


def test_a_run_that_starts_on_an_input_meanwhile_is_noticed(
    pieces: Pieces, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = pieces.make(1, 12, rows=[0])
    monkeypatch.setattr("mosaic_mpi.merge._refuse_without_space", lambda *_: finished_run(Path(a), pieces.plan()))
    assert "changed while it was read" in problems_of([a], out / "run.h5")


def test_the_output_is_replaced_only_when_told_to_and_never_an_input(pieces: Pieces, out: Path) -> None:
    a, b = pieces.make(1, 6), pieces.make(7, 12, rows=[0])
    path = out / "run.h5"
    assert joined([b], path).exit_code == 75
    assert "exists; pass --overwrite" in problems_of([a], path)
    assert joined([a], path, overwrite=True).exit_code == 0
    assert not (out / "run.h5.spool").exists()
    assert joined([b], path, overwrite=True).exit_code == 75
    assert Results(path).channel("fake").simulation.values.tolist() == [7]
    for overwrite in (False, True):
        text = problems_of([a, str(path)], path, overwrite=overwrite)
        assert f"--output {path}: is among the files to merge" in text
    path.write_text("thesis")
    assert "not an HDF5 file" in problems_of([a], path, overwrite=True)
    assert path.read_text() == "thesis"


@pytest.mark.parametrize(("name", "expected"), [("", "is a folder"), ("no/run.h5", "does not exist")])
def test_an_output_that_cannot_be(pieces: Pieces, out: Path, name: str, expected: str) -> None:
    assert expected in problems_of([pieces.make(1, 12)], out / name if name else out)


def test_without_space_nothing_is_written(pieces: Pieces, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pieces.make(1, 12)
    usage = shutil.disk_usage(out)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=r"run\.h5: no space for it: 0\.00 GiB needed, 0\.00 GiB free"):
        merge([path], str(out / "run.h5"))
    assert not list(out.iterdir())


# ---- kills ------------------------------------------------------------------------------------------

_CHANGES = ("pwrite", "replace", "unlink", "fsync", "fdatasync", "posix_fallocate")
"""Every change of a name and of the file's bytes is a place to be killed at."""


def merge_in_a_child(files: Sequence[str], path: Path, overwrite: bool, n_calls: int, report: Path) -> int:
    """Merge in a process that SIGKILLs itself after so many changes; return how it ended, and report their number."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    left = n_calls

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **more)

        return call

    try:
        for name in _CHANGES:
            setattr(os, name, killing(getattr(os, name)))
        code = merge(files, str(path), overwrite).exit_code
        report.write_text(str(n_calls - left))
        os._exit(code)
    finally:
        os._exit(1)


@pytest.mark.parametrize("rows", [None, [0, 1, 2]], ids=["complete", "incomplete"])
def test_a_kill_at_any_moment_leaves_all_or_nothing(tmp_path: Path, out: Path, rows: list[int] | None) -> None:
    pieces = Pieces(tmp_path, 40, settings="size=2000")
    files = [pieces.make(first, first + 9, rows=rows) for first in (1, 11, 21, 31)]
    path, report, code = out / "run.h5", tmp_path / "report", 0 if rows is None else 75
    assert merge_in_a_child(files, path, False, 10**6, report) == code
    n_calls, reference = int(report.read_text()), {entry.name for entry in out.iterdir()}
    expected = Results(path).table("simulations/likelihood").tobytes()
    assert n_calls > 50
    seed = int(os.environ.get("MOSAIC_MPI_TEST_SEED", time.time_ns() % 10**6))
    print(f"MOSAIC_MPI_TEST_SEED={seed}")
    moments = sorted({*random.Random(seed).sample(range(n_calls), 3), *range(n_calls - 4, n_calls)})
    for moment, overwrite in [(moment, overwrite) for overwrite in (False, True) for moment in moments]:
        for entry in () if overwrite else out.iterdir():
            entry.unlink()
        assert merge_in_a_child(files, path, overwrite, moment, report) == -signal.SIGKILL, moment
        if rows is None and overwrite:
            assert path.exists(), "one rename replaces it"
        if path.exists():
            assert Results(path).table("simulations/likelihood").tobytes() == expected
            assert len(Results(path).channel("fake")) == (40 if rows is None else 12)
        if moment == moments[-1]:
            assert merge(files, str(path), overwrite=True).exit_code == code
            assert {entry.name for entry in out.iterdir()} == reference
    finished_run(path, pieces.plan())
    same_numbers(path, pieces.whole())
    assert (Results(path).table("simulations/status") == COMPLETED).all()


def test_a_kill_before_an_unfinished_file_is_in_place_leaves_the_finished_one(tmp_path: Path, out: Path) -> None:
    pieces = Pieces(tmp_path, 20)
    whole = [pieces.make(1, 10), pieces.make(11, 20)]
    unfinished = [pieces.make(1, 10, "unfinished", rows=[0, 1, 2])]
    path, report = out / "run.h5", tmp_path / "report"
    assert merge(whole, str(path)).exit_code == 0
    old = path.read_bytes()
    assert merge_in_a_child(unfinished, out / "other.h5", False, 10**6, report) == 75
    n_calls = int(report.read_text())
    for moment in range(n_calls - 6, n_calls):
        assert merge_in_a_child(unfinished, path, True, moment, report) == -signal.SIGKILL, moment
        n_completed = len(Results(path).completed())
        assert n_completed == 20 or moment == n_calls - 1, moment
        assert len(Results(path).channel("fake")) == n_completed
        if n_completed == 20:
            assert path.read_bytes() == old
    assert merge(unfinished, str(path), overwrite=True).exit_code == 75
    assert len(Results(path).completed()) == 3
