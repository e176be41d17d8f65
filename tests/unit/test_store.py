"""The store: create, commit, resume, extend, fold, and refuse what is not its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import (
    add_rows,
    begin,
    few_parameters,
    finished_run,
    listing,
    make_plan,
    same_numbers,
    simulate,
    small_config,
)

from mosaic_mpi import layout
from mosaic_mpi.earlier_file import is_finished, preview
from mosaic_mpi.errors import FileInUse, InputError, PlanMismatch, StorageError
from mosaic_mpi.layout import COMPLETED, FAILED, PENDING
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.results import Results
from mosaic_mpi.store import Store
from mosaic_mpi.tablefile import TableFile


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return make_plan(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "run.h5"


def expected(plan: RunPlan, row: int) -> np.void:
    return simulate(plan, [row])[0][0]


def assert_rows(path: Path, plan: RunPlan, completed: set[int]) -> None:
    """Just these rows are there, bit for bit."""
    results = Results(path)
    assert set(results.completed().tolist()) == completed
    for row in completed:
        record = expected(plan, row)
        assert results.table("simulations/likelihood")[row] == record["likelihood"]
        assert results.table("iterations/likelihood")[row].tobytes() == record["iteration_likelihood"].tobytes()
        if plan.source.names:
            assert results.table("parameters/values")[row].tobytes() == record["parameters"].tobytes()


def kill(store: Store) -> None:
    """Leave the files as a killed process does: without a word."""
    store._tables.close()
    if store._spool is not None:
        store._spool.close()
    os.close(store._lock._descriptor)


# ---- a new file -------------------------------------------------------------------------------------


def test_a_new_file_says_what_is_to_be_run(path: Path, plan: RunPlan) -> None:
    Store(str(path), plan).close()
    results = Results(path)
    assert results.table("simulations/sim_id").tolist() == [1, 2, 3, 4, 5, 6]
    assert results.table("iterations/seed").tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]
    assert not results.table("simulations/status").any()
    assert results.parameter_names == plan.source.names
    assert results.header.identity == plan.identity
    assert results.config == small_config()
    with h5py.File(path) as file:
        assert file.attrs["format"] == layout.FORMAT
        assert file.attrs["plan_fingerprint"] == plan.fingerprint


def test_a_table_of_parameters_is_in_the_file_from_the_start(tmp_path: Path, path: Path) -> None:
    (tmp_path / "t.csv").write_text("sim,rho\n7,0.25\n3,0.5\n")
    Store(str(path), make_plan(tmp_path, 2, samples=str(tmp_path / "t.csv"))).close()
    results = Results(path)
    assert results.table("simulations/sim_id").tolist() == [3, 7]
    assert results.table("parameters/values").tolist() == [[0.5], [0.25]]
    assert results.table("iterations/seed").tolist() == [[5, 6], [13, 14]]


def test_tables_are_contiguous_allocated_and_of_types_that_r_reads(path: Path, plan: RunPlan) -> None:
    Store(str(path), plan).close()
    with h5py.File(path) as file:
        for table in layout.TABLES:
            dataset = file[table.name]
            assert dataset.chunks is None
            assert dataset.id.get_offset() is not None
            assert dataset.attrs["unit"] == table.unit
            assert dataset.dtype.kind in "ifS", table.name
        assert file["simulations/status"].dtype == np.int8
    assert path.stat().st_blocks * 512 >= path.stat().st_size, "the disk's space is reserved"


def test_nothing_but_file_lock_and_spool_lies_beside_it(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    assert {entry.name for entry in path.parent.iterdir()} == {"run.h5", "run.h5.lock", "run.h5.spool"}
    store.close()
    assert {entry.name for entry in path.parent.iterdir()} == {"run.h5", "run.h5.spool"}


# ---- committing -------------------------------------------------------------------------------------


def test_rows_count_once_commit_has_returned(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [4, 0])
    assert store.n_buffered == 2
    assert_rows(path, plan, set())
    assert store.commit() == 2
    assert store.n_buffered == 0
    assert_rows(path, plan, {0, 4})
    assert store.commit() == 0
    store.close()


def test_a_commit_numbers_its_results_in_the_order_of_arrival(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    for rows in ([5, 1], [3]):
        add_rows(store, plan, rows)
    store.commit()
    add_rows(store, plan, [0])
    store.commit()
    assert Results(path).table("simulations/commit").tolist() == [4, 2, 0, 3, 0, 1]
    store.close()


def test_places_times_and_attempts_are_kept(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    records, series = simulate(plan, [2])
    host = store.host_row("node7")
    store.add(records, [memoryview(series)], 12, host, np.array([3], np.int32))
    store.commit()
    entry = Results(path).simulations().loc[3]
    assert (entry["status"], entry["rank"], entry["host"], entry["attempts"]) == ("completed", 12, "node7", 3)
    assert entry["finished_at"] == records["finished_at"][0]
    assert entry["elapsed_s"] == records["elapsed_s"][0]
    store.close()


def test_failures_are_noted_at_once(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    store.add_failure(1, 1, "exception", "ValueError: first", False)
    store.add_failure(1, 2, "killed", "second", True)
    store.add_failure(2, 1, "exception", "ValueError: first", False)
    results = Results(path)
    assert results.table("simulations/status").tolist() == [PENDING, FAILED, PENDING, PENDING, PENDING, PENDING]
    assert results.table("simulations/attempts").tolist() == [0, 2, 1, 0, 0, 0]
    assert results.simulations()["error"].tolist() == ["", "second", "ValueError: first", "", "", ""]
    assert results.table("errors/attempts")[:3].tolist() == [2, 1, 0]
    store.close()


def test_more_kinds_of_errors_and_starts_than_there_are_rows_do_no_harm(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    for number in range(layout.N_ERRORS + 5):
        store.add_failure(number % 6, 1, "exception", f"error {number}", False)
    store.close()
    store = Store(str(path), plan)
    for _ in range(layout.N_STARTS + 3):
        begin(store)
    add_rows(store, plan, range(6))
    store.end_start(layout.COMPLETE)
    store.close()
    results = Results(path)
    assert results.table("errors/attempts").sum() == layout.N_ERRORS + 5
    assert results.table("simulations/start").tolist() == [layout.N_STARTS - 1] * 6
    assert_rows(path, plan, set(range(6)))


def test_long_texts_are_cut_to_whole_characters(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store, command="ä" * 5000, host="é" * 100)
    store.add_failure(0, 1, "exception", "ü" * 3000 + "x the end", False)
    results = Results(path)
    assert results.table("starts/command")[0].decode() == "ä" * 1000
    assert results.table("starts/host")[0].decode() == "é" * 32
    text = results.error_text(1)
    assert text.endswith("üx the end")
    assert len(text.encode()) in (layout.ERROR_BYTES, layout.ERROR_BYTES - 1)
    store.close()


@pytest.mark.parametrize(("save", "config"), [((), None), (("fake",), None), ((), {"rho": 0.0})])
def test_files_without_channels(tmp_path: Path, path: Path, save: tuple[str, ...], config: Any) -> None:
    plan = make_plan(tmp_path, save=save, config=config and small_config(**config))
    finished_run(path, plan)
    assert_rows(path, plan, set(range(6)))
    assert is_finished(str(path), plan)
    assert {entry.name for entry in path.parent.iterdir()} == {"run.h5"}


def test_files_without_parameters(tmp_path: Path, path: Path) -> None:
    (tmp_path / "t.csv").write_text("sim\n1\n2\n3\n")
    plan = make_plan(tmp_path, 3, samples=str(tmp_path / "t.csv"))
    assert plan.source.names == ()
    finished_run(path, plan, rows=[1])
    kill(Store(str(path), plan))
    finished_run(path, plan)
    assert_rows(path, plan, {0, 1, 2})
    assert Results(path).parameters().columns.tolist() == ["likelihood"]
    assert Results(path).channel("fake").shape == (3, 2, 1, 10)


# ---- resuming ---------------------------------------------------------------------------------------


def test_a_resumed_run_knows_what_is_done_and_keeps_counting(path: Path, plan: RunPlan) -> None:
    finished_run(path, plan, rows=[0, 3])
    store = Store(str(path), plan)
    assert store.status.tolist() == [COMPLETED, PENDING, PENDING, COMPLETED, PENDING, PENDING]
    begin(store)
    add_rows(store, plan, [1])
    store.commit()
    store.close()
    results = Results(path)
    assert results.table("simulations/commit").tolist() == [1, 3, 0, 2, 0, 0]
    assert results.table("simulations/start").tolist()[:4] == [0, 1, 0, 0]
    assert_rows(path, plan, {0, 1, 3})


def test_a_run_in_pieces_equals_one_in_a_piece(tmp_path: Path, path: Path, plan: RunPlan) -> None:
    finished_run(tmp_path / "whole.h5", plan)
    for rows in ([5], [2, 1], None):
        finished_run(path, plan, rows=rows)
    same_numbers(tmp_path / "whole.h5", path)


def test_what_was_not_committed_is_to_do_and_its_series_leave_the_spool(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0])
    store.commit()
    spool = Path(layout.spool_path(str(path)))
    size = spool.stat().st_size
    add_rows(store, plan, [1, 2])
    assert spool.stat().st_size > size
    kill(store)
    again = Store(str(path), plan)
    assert spool.stat().st_size == size
    assert again.status.tolist() == [COMPLETED] + [PENDING] * 5
    again.close()


def test_errors_and_hosts_of_earlier_starts_are_found_again(path: Path, plan: RunPlan) -> None:
    for _ in range(3):
        store = Store(str(path), plan)
        begin(store)
        assert store.host_row("a") == 0
        assert store.host_row("b") == 1
        store.add_failure(0, 1, "exception", "the same\nold text", False)
        store.close()
    results = Results(path)
    assert results.table("errors/attempts")[:2].tolist() == [3, 0]
    assert results.table("progress/n_hosts").tolist() == [2]
    assert results.table("progress/n_starts").tolist() == [3]


# ---- durability -------------------------------------------------------------------------------------


def flip(path: Path, table: str, row: int) -> None:
    """Change one byte of a row, as if its page had not reached the disk."""
    with h5py.File(path) as file:
        dataset = file[table]
        row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=int))
        position = dataset.id.get_offset() + row * row_bytes
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x41]))


PAYLOAD = ["simulations/likelihood", "iterations/likelihood", "parameters/values", "simulations/checksum"]


@pytest.mark.parametrize("table", [*PAYLOAD, "series/offset", "series/bytes"])
def test_a_result_after_the_last_check_point_is_verified_and_run_again(
    tmp_path: Path, path: Path, plan: RunPlan, table: str
) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0, 1, 2, 3])
    store.commit()
    kill(store)
    flip(path, table, 2)
    again = Store(str(path), plan)
    assert again.status.tolist() == [COMPLETED, COMPLETED, PENDING, COMPLETED, PENDING, PENDING]
    assert_rows(path, plan, {0, 1, 3})
    begin(again)
    add_rows(again, plan, [2, 4, 5])
    again.end_start(layout.COMPLETE)
    again.fold(lambda: None)
    again.close()
    finished_run(tmp_path / "whole.h5", plan)
    same_numbers(path, tmp_path / "whole.h5", ignore=["simulations/attempts"])


def test_a_result_lost_with_its_node_costs_no_attempt(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0, 1])
    store.commit()
    kill(store)
    flip(path, "simulations/likelihood", 1)
    again = Store(str(path), plan)
    assert again.status.tolist()[:2] == [COMPLETED, PENDING]
    assert again.failed_attempts.tolist()[:2] == [0, 0]
    again.close()
    assert Results(path).table("simulations/attempts")[:2].tolist() == [1, 0]


def test_attempts_that_failed_before_are_remembered(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    store.add_failure(0, 1, "exception", "once", False)
    add_rows(store, plan, [0], attempts=2)
    store.commit()
    kill(store)
    flip(path, "simulations/likelihood", 0)
    again = Store(str(path), plan)
    assert again.failed_attempts[0] == 1
    again.close()
    assert Results(path).table("simulations/attempts")[0] == 1


def test_so_are_time_series(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0, 1, 2])
    store.commit()
    kill(store)
    start = int(Results(path).table("series/offset")[1, 0])
    with open(layout.spool_path(str(path)), "r+b") as spool:
        spool.seek(start + 3)
        spool.write(b"\0\0\0\0")
    again = Store(str(path), plan)
    assert again.status.tolist()[:3] == [COMPLETED, PENDING, COMPLETED]
    again.close()


def test_a_spool_that_lost_its_end_costs_only_what_was_there(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0, 1, 2])
    store.commit()
    kill(store)
    start = int(Results(path).table("series/offset")[2, 0])
    os.truncate(layout.spool_path(str(path)), start + 1)
    again = Store(str(path), plan)
    assert again.status.tolist()[:3] == [COMPLETED, COMPLETED, PENDING]
    again.close()


def test_a_status_that_reached_the_disk_without_its_commit_number_is_verified_too(path: Path, plan: RunPlan) -> None:
    """Pages reach the disk in any order when a node dies."""
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0, 1])
    store.end_start(layout.STOPPED)
    store.close()
    tables = TableFile(str(path))
    tables.write("simulations/status", 2, [COMPLETED])
    tables.close()
    again = Store(str(path), plan)
    assert again.status.tolist() == [COMPLETED, COMPLETED, PENDING, PENDING, PENDING, PENDING]
    again.close()


@pytest.mark.parametrize("how", ["check point", "end"])
def test_results_up_to_a_check_point_are_trusted(path: Path, plan: RunPlan, how: str) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0, 1])
    store.commit()
    if how == "end":
        store.end_start(layout.STOPPED)
        store.close()
    else:
        store.check_point()
        assert store._sync is not None
        store._sync.result()
        add_rows(store, plan, [2])
        store.commit()
        store.check_point()  # notes the first one
        kill(store)
    assert Results(path).table("progress/durable_commit").tolist() == [2]
    flip(path, "simulations/likelihood", 1)
    again = Store(str(path), plan)
    assert again.status[1] == COMPLETED
    again.close()


def test_a_check_point_promises_nothing_before_it_is_done(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0])
    store.commit()
    store.check_point()
    assert Results(path).table("progress/durable_commit").tolist() == [0]
    store.close()


# ---- folding ----------------------------------------------------------------------------------------


def test_folding_moves_series_into_the_file_and_removes_the_spool(path: Path, plan: RunPlan) -> None:
    finished_run(path, plan, fold=False)
    before = Results(path).channel("fake")
    ticks: list[int] = []
    store = Store(str(path), plan)
    assert store.fold(lambda: ticks.append(1)) is None
    store.close()
    assert len(ticks) == 6
    after = Results(path).channel("fake")
    assert after.identical(before)
    assert {entry.name for entry in path.parent.iterdir()} == {"run.h5"}
    with h5py.File(path) as file:
        dataset = file["channels/fake"]
        assert dataset.chunks == (1, 2, 1, 10)
        assert dataset.attrs["axes"] == "simulation, iteration, location, time"
        assert np.array_equal(dataset[...], before.values)
        assert "series" not in file


def test_a_failed_simulation_has_no_series_and_does_not_hinder_folding(path: Path, plan: RunPlan) -> None:
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0, 1, 2, 3, 4])
    store.add_failure(5, 3, "exception", "no", True)
    store.end_start(layout.COMPLETE)
    assert store.fold(lambda: None) is None
    store.close()
    assert is_finished(str(path), plan)
    assert Results(path).channel("fake").simulation.values.tolist() == [1, 2, 3, 4, 5]
    with h5py.File(path) as file:
        assert not file["channels/fake"][5].any()


def test_folding_twice_or_without_channels_does_nothing(tmp_path: Path, path: Path, plan: RunPlan) -> None:
    finished_run(path, plan)
    before = path.read_bytes()
    store = Store(str(path), plan)
    assert store.fold(lambda: None) is None
    store.close()
    assert path.read_bytes() == before


def test_killed_after_the_fold_the_spool_goes_with_the_next_start(path: Path, plan: RunPlan) -> None:
    finished_run(path, plan, fold=False)
    spool = Path(layout.spool_path(str(path)))
    shutil.copy(spool, path.parent / "kept")
    store = Store(str(path), plan)
    store.fold(lambda: None)
    store.close()
    (path.parent / "kept").rename(spool)
    store = Store(str(path), plan)
    store.close()
    assert not spool.exists()
    assert_rows(path, plan, set(range(6)))
    assert Results(path).channel("fake").shape[0] == 6


# ---- extending --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "not folded"])
@pytest.mark.parametrize("rows", [None, [1, 4]], ids=["complete", "partly run"])
def test_more_simulations_extend_a_run(tmp_path: Path, path: Path, fold: bool, rows: list[int] | None) -> None:
    config = small_config()
    short, long = (make_plan(tmp_path, n, config=config) for n in (6, 11))
    finished_run(path, short, fold=fold, rows=rows)
    done = set(range(6) if rows is None else rows)
    store = Store(str(path), long)
    assert set(np.flatnonzero(store.status == COMPLETED).tolist()) == done
    assert len(store.status) == 11
    store.close()
    assert_rows(path, long, done)
    assert Results(path).channel("fake").simulation.values.tolist() == [row + 1 for row in sorted(done)]
    finished_run(path, long)
    finished_run(tmp_path / "whole.h5", long)
    same_numbers(tmp_path / "whole.h5", path)


def test_an_extended_run_keeps_its_past(tmp_path: Path, path: Path) -> None:
    config = small_config()
    store = Store(str(path), make_plan(tmp_path, 3, config=config))
    begin(store, command="the first")
    store.add_failure(1, 3, "exception", "why", True)
    add_rows(store, make_plan(tmp_path, 3, config=config), [0])
    store.end_start(layout.STOPPED)
    store.close()
    Store(str(path), make_plan(tmp_path, 5, config=config)).close()
    results = Results(path)
    assert results.table("starts/command")[0] == b"the first"
    assert results.table("simulations/status").tolist() == [COMPLETED, FAILED, PENDING, PENDING, PENDING]
    assert results.simulations()["error"].tolist() == ["", "why", "", "", ""]
    assert results.table("simulations/sim_id").tolist() == [1, 2, 3, 4, 5]
    assert results.table("progress/durable_commit").tolist() == [1]


def test_fewer_simulations_are_refused(tmp_path: Path, path: Path) -> None:
    config = small_config()
    finished_run(path, make_plan(tmp_path, 6, config=config))
    before = listing(path.parent)
    with pytest.raises(PlanMismatch, match=r"n_simulations: 6 in the file, 4 now \(fewer\)"):
        Store(str(path), make_plan(tmp_path, 4, config=config))
    assert listing(path.parent) == before


# ---- refusing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"n_iterations": 3}, ("n_iterations: 2 in the file, 3 now",)),
        ({"save": ()}, ('save: ["fake"] in the file, [] now',)),
        ({"settings": "seconds=1"}, ("simulator: fake: in the file, fake:seconds=1 now",)),
        ({"config": small_config(rho=0.25)}, ("config rho: 0.5 in the file, 0.25 now",)),
        ({"config": small_config(("KEN",))}, ('locations: ["ETH"] in the file, ["KEN"] now',)),
        ({"n_iterations": 4, "save": ()}, ("n_iterations", "save")),
    ],
)
def test_another_plan_is_refused_with_both_values_and_changes_nothing(
    tmp_path: Path, path: Path, plan: RunPlan, change: dict[str, Any], parts: tuple[str, ...]
) -> None:
    finished_run(path, plan, rows=[0, 1])
    before, content = listing(path.parent), path.read_bytes()
    other = make_plan(tmp_path, **change)
    for attempt in (
        lambda: Store(str(path), other),
        lambda: is_finished(str(path), other),
        lambda: preview(str(path), other, False),
    ):
        with pytest.raises(PlanMismatch) as caught:
            attempt()
        assert all(part in str(caught.value) for part in parts), str(caught.value)
        assert "--overwrite" in str(caught.value)
    assert listing(path.parent) == before
    assert path.read_bytes() == content


def foreign(path: Path, plan: RunPlan, kind: str) -> None:
    if kind == "text":
        path.write_text("my only copy of something else")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "HDF5 of someone else":
        with h5py.File(path, "w") as file:
            file["precious"] = 1
    else:
        finished_run(path, plan, rows=[0])
        if kind == "cut":
            os.truncate(path, path.stat().st_size // 2)
        elif kind == "a later format":
            with h5py.File(path, "r+") as file:
                file.attrs["format_version"] = 99
        elif kind == "superblock":
            with open(path, "r+b") as file:
                file.seek(20)
                file.write(b"\xff" * 40)


FOREIGN = {
    "text": "not an HDF5 file",
    "empty": "not an HDF5 file",
    "HDF5 of someone else": "not a results file",
    "cut": "damaged",
    "superblock": "damaged",
    "a later format": "format version 99.* reads 1",
}


@pytest.mark.parametrize("overwrite", [False, True], ids=["", "overwrite"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_foreign_or_damaged_is_refused_and_never_overwritten(
    path: Path, plan: RunPlan, kind: str, overwrite: bool
) -> None:
    foreign(path, plan, kind)
    before, content = listing(path.parent), path.read_bytes()
    with pytest.raises(InputError, match=f"run.h5: .*{FOREIGN[kind]}"):
        Store(str(path), plan, overwrite)
    with pytest.raises(InputError, match=FOREIGN[kind]):
        Results(path)
    assert listing(path.parent) == before
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["simulations/status", "plan/identity", "errors/text", "progress/n_starts"])
def test_a_results_file_that_lacks_a_part_is_damaged(path: Path, plan: RunPlan, name: str) -> None:
    finished_run(path, plan, rows=[0])
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(InputError, match=r"run\.h5"):
        Store(str(path), plan)


def test_overwrite_starts_anew_whatever_the_plan(tmp_path: Path, path: Path, plan: RunPlan) -> None:
    finished_run(path, plan, rows=[0, 1])
    other = make_plan(tmp_path, 3, config=small_config(("KEN", "ETH")))
    store = Store(str(path), other, overwrite=True)
    assert not store.status.any()
    store.close()
    finished_run(path, other)
    finished_run(tmp_path / "whole.h5", other)
    same_numbers(path, tmp_path / "whole.h5")


def test_a_missing_spool_is_refused_with_the_remedy(path: Path, plan: RunPlan) -> None:
    finished_run(path, plan, rows=[0, 1])
    Path(layout.spool_path(str(path))).unlink()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"run\.h5\.spool: missing.*--overwrite"):
        Store(str(path), plan)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match=r"run\.h5\.spool: missing"):
        Results(path).channel("fake")


def test_a_second_writer_is_refused_and_leftovers_of_the_first_are_safe(path: Path, plan: RunPlan) -> None:
    first = Store(str(path), plan)
    (path.parent / "run.h5.tmp-1").write_bytes(b"the first one is folding")
    with pytest.raises(FileInUse, match=f"process {os.getpid()}"):
        Store(str(path), plan)
    assert (path.parent / "run.h5.tmp-1").exists()
    first.close()
    Store(str(path), plan).close()
    assert not (path.parent / "run.h5.tmp-1").exists()


def test_a_folder_that_vanished_stops_resumably(tmp_path: Path, plan: RunPlan) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        Store(str(tmp_path / "nowhere" / "run.h5"), plan)


# ---- questions before a start -----------------------------------------------------------------------


def test_is_finished_means_nothing_left_to_do(tmp_path: Path, path: Path) -> None:
    config = small_config()
    plan, longer = (make_plan(tmp_path, n, config=config) for n in (6, 7))
    assert not is_finished(str(path), plan)
    finished_run(path, plan, rows=[0])
    assert not is_finished(str(path), plan)
    finished_run(path, plan, fold=False)
    assert not is_finished(str(path), plan), "series are to be folded"
    finished_run(path, plan)
    assert is_finished(str(path), plan)
    assert not is_finished(str(path), longer)


def test_preview_says_what_a_start_would_do(tmp_path: Path, path: Path) -> None:
    config = small_config()
    plan, longer = (make_plan(tmp_path, n, config=config) for n in (6, 9))
    assert preview(str(path), plan, False) == ("new", 6)
    finished_run(path, plan, rows=[0, 1])
    before = listing(path.parent)
    assert preview(str(path), plan, False) == ("resumed, 2 done", 4)
    assert preview(str(path), longer, False) == ("resumed, 2 done, extended from 6", 7)
    assert preview(str(path), plan, True) == ("would be overwritten", 6)
    assert listing(path.parent) == before


# ---- readers beside the writer ----------------------------------------------------------------------


def test_another_process_reads_with_plain_h5py_while_it_grows(path: Path, plan: RunPlan) -> None:
    script = (
        "import h5py, sys\n"
        "for line in sys.stdin:\n"
        "    with h5py.File(sys.argv[1], 'r') as file:\n"
        "        done = file['simulations/status'][:] == 1\n"
        "        print(int(done.sum()), *file['simulations/likelihood'][:][done], flush=True)\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    try:
        store = Store(str(path), plan)
        begin(store)
        for row in range(6):
            add_rows(store, plan, [row])
            store.commit()
            reader.stdin.write("look\n")
            reader.stdin.flush()
            count, *likelihoods = reader.stdout.readline().split()
            assert int(count) == row + 1
            assert [float(text) for text in likelihoods] == [
                float(expected(plan, done)["likelihood"]) for done in range(row + 1)
            ]
        store.close()
    finally:
        reader.stdin.close()
        assert reader.wait(timeout=60) == 0


def test_a_reader_that_keeps_the_file_open_does_not_hinder_the_writer(path: Path, plan: RunPlan) -> None:
    finished_run(path, plan, rows=[0])
    script = (
        "import h5py, sys; file = h5py.File(sys.argv[1]); print('open', flush=True);"
        "sys.stdin.read(); print(len(file))"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "open\n"
    finished_run(path, plan)
    assert reader.communicate("", timeout=60)[0].strip().isdigit()
    assert is_finished(str(path), plan)


def test_a_notebook_may_have_it_open_in_h5py_as_well(path: Path, plan: RunPlan) -> None:
    finished_run(path, plan)
    with h5py.File(path, "r"):
        assert len(Results(path).completed()) == 6


def test_many_small_rows_are_quick_to_make(tmp_path: Path, path: Path) -> None:
    """A million rows: one file, no loop over rows. (No speed is asserted; the suite's timeout is the limit.)"""
    plan = make_plan(tmp_path, 10**6, 1, save=(), config=few_parameters())
    store = Store(str(path), plan)
    begin(store)
    add_rows(store, plan, [0, 500_000, 999_999])
    store.commit()
    store.close()
    assert Results(path).completed().tolist() == [0, 500_000, 999_999]
    assert Results(path).table("iterations/seed")[-1] == 10**6


def test_to_try_again_what_failed_when_nothing_has_goes_on(tmp_path: Path) -> None:
    """As after a kill of the start that made what had failed pending."""
    plan, path = make_plan(tmp_path), tmp_path / "run.h5"
    finished_run(path, plan, rows=[0, 1])
    store = Store(str(path), plan, retry_failed=True)
    assert (store.n_retried, int((store.status == layout.PENDING).sum())) == (0, plan.n_simulations - 2)
    store.close()
