"""Exported tables: columns, dtypes, content."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import add_rows, begin, finished_run, make_plan, simulate, small_config

import mosaic_mpi
from mosaic_mpi.errors import InputError
from mosaic_mpi.export import export_samples, export_timeseries
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.store import Store

TWO = ("ETH", "KEN")


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return make_plan(tmp_path, 20, config=small_config(TWO, n_days=10))


def table_of(path: Path) -> pa.Table:
    return pq.read_table(path)


def test_samples_have_one_row_a_completed_simulation(tmp_path: Path, plan: RunPlan) -> None:
    rows = [0, 3, 19]
    finished_run(tmp_path / "run.h5", plan, rows=rows)
    said = export_samples(str(tmp_path / "run.h5"), str(tmp_path / "out.parquet"))
    assert "3 simulations" in said
    assert "17 simulations are not completed and left out" in said
    table = table_of(tmp_path / "out.parquet")
    assert table.column_names == ["sim", "iter", "seed_sim", "seed_iter", "likelihood", *plan.source.names]
    assert set(table.schema.types) == {pa.float64()}
    columns = table.to_pydict()
    assert columns["sim"] == columns["seed_sim"] == [1, 4, 20]
    assert columns["iter"] == [1, 1, 1]
    assert columns["seed_iter"] == [None, None, None]
    records, _ = simulate(plan, rows)
    assert columns["likelihood"] == records["likelihood"].tolist()
    for index, name in enumerate(plan.source.names):
        assert columns[name] == records["parameters"][:, index].tolist()


def test_with_one_iteration_the_seed_is_given(tmp_path: Path) -> None:
    finished_run(tmp_path / "run.h5", make_plan(tmp_path, 3, n_iterations=1))
    export_samples(str(tmp_path / "run.h5"), str(tmp_path / "out.parquet"))
    assert table_of(tmp_path / "out.parquet")["seed_iter"].to_pylist() == [1, 2, 3]


def test_time_series_have_one_row_a_simulation_iteration_location_and_day(tmp_path: Path, plan: RunPlan) -> None:
    finished_run(tmp_path / "run.h5", plan)
    said = export_timeseries(str(tmp_path / "run.h5"), str(tmp_path / "out.parquet"))
    assert "fake of 20 simulations" in said
    table = table_of(tmp_path / "out.parquet")
    assert {name: table.schema.field(name).type for name in table.column_names} == {
        "sim": pa.int32(),
        "iteration": pa.int32(),
        "location": pa.string(),
        "date": pa.date32(),
        "fake": pa.int32(),
    }
    assert table.num_rows == 20 * 2 * 2 * 10
    array = mosaic_mpi.open(str(tmp_path / "run.h5")).channel("fake")
    assert np.array_equal(table["fake"].to_numpy(), array.values.ravel())
    dice = np.random.default_rng(0)
    for row in dice.integers(0, table.num_rows, 40):
        cell = {name: table[name][int(row)].as_py() for name in table.column_names}
        expected = array.sel(
            simulation=cell["sim"],
            iteration=cell["iteration"],
            location=cell["location"],
            time=np.datetime64(cell["date"]),
        )
        assert cell["fake"] == int(expected)
    assert table["date"][0].as_py() == date(2023, 2, 1)


def test_a_stopped_run_exports_what_it_has_also_from_the_spool(tmp_path: Path, plan: RunPlan) -> None:
    finished_run(tmp_path / "run.h5", plan, rows=[2, 7])
    export_timeseries(str(tmp_path / "run.h5"), str(tmp_path / "out.parquet"))
    table = table_of(tmp_path / "out.parquet")
    assert sorted(set(table["sim"].to_pylist())) == [3, 8]


def test_a_running_run_exports_what_it_has(tmp_path: Path, plan: RunPlan) -> None:
    store = Store(str(tmp_path / "run.h5"), plan)
    begin(store)
    add_rows(store, plan, [5])
    store.commit()
    export_samples(str(tmp_path / "run.h5"), str(tmp_path / "out.parquet"))
    store.close()
    assert table_of(tmp_path / "out.parquet")["sim"].to_pylist() == [6]


def test_an_empty_run_exports_columns_without_rows(tmp_path: Path, plan: RunPlan) -> None:
    Store(str(tmp_path / "run.h5"), plan).close()
    export_samples(str(tmp_path / "run.h5"), str(tmp_path / "samples.parquet"))
    export_timeseries(str(tmp_path / "run.h5"), str(tmp_path / "series.parquet"))
    samples, series = table_of(tmp_path / "samples.parquet"), table_of(tmp_path / "series.parquet")
    assert (samples.num_rows, series.num_rows) == (0, 0)
    assert samples.column_names[-1] == plan.source.names[-1]
    assert series.column_names == ["sim", "iteration", "location", "date", "fake"]


def test_a_run_without_series_says_what_to_pass(tmp_path: Path) -> None:
    finished_run(tmp_path / "run.h5", make_plan(tmp_path, save=()))
    with pytest.raises(InputError, match="no time series were saved; start the run with --save"):
        export_timeseries(str(tmp_path / "run.h5"), str(tmp_path / "out.parquet"))
    assert not (tmp_path / "out.parquet").exists()


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path, plan: RunPlan) -> None:
    finished_run(tmp_path / "run.h5", plan, rows=[0])
    with pytest.raises(InputError, match=r"nowhere/out\.parquet: is a folder, or lies in none"):
        export_samples(str(tmp_path / "run.h5"), str(tmp_path / "nowhere" / "out.parquet"))


def test_exporting_does_not_touch_the_results(tmp_path: Path, plan: RunPlan) -> None:
    finished_run(tmp_path / "run.h5", plan)
    before = (tmp_path / "run.h5").stat()
    export_samples(str(tmp_path / "run.h5"), str(tmp_path / "out.parquet"))
    export_samples(str(tmp_path / "run.h5"), str(tmp_path / "out.parquet"))
    after = (tmp_path / "run.h5").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert not list(tmp_path.glob("out.parquet.*"))


def test_the_results_themselves_are_never_overwritten(tmp_path: Path, plan: RunPlan) -> None:
    finished_run(tmp_path / "run.h5", plan)
    before = (tmp_path / "run.h5").read_bytes()
    with pytest.raises(InputError, match="results file"):
        export_samples(str(tmp_path / "run.h5"), str(tmp_path / "run.h5"))
    assert (tmp_path / "run.h5").read_bytes() == before
