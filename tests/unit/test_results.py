"""The reading API: tables, labelled arrays, and clear words where there is nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import (
    VERSIONS,
    PlanOptions,
    add_rows,
    begin,
    finished_run,
    load_plan,
    make_plan,
    simulate,
    small_config,
    write_config,
)

import mosaic_mpi
from mosaic_mpi import layout
from mosaic_mpi.errors import InputError
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.store import Store

TWO = ("ETH", "KEN")


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return make_plan(tmp_path, 5, config=small_config(TWO, n_days=10))


@pytest.fixture(params=["in the spool", "folded"])
def path(request: pytest.FixtureRequest, tmp_path: Path, plan: RunPlan) -> str:
    """Simulations 1, 2, 4 and 5 completed, 3 failed; series where the test says."""
    store = Store(str(tmp_path / "run.h5"), plan)
    begin(store)
    add_rows(store, plan, [4, 0, 3])
    store.add_failure(2, 1, "exception", "ValueError: no", False)
    store.add_failure(2, 2, "killed", "out of memory", True)
    add_rows(store, plan, [1], attempts=2)
    store.end_start(layout.COMPLETE)
    if request.param == "folded":
        store.fold(lambda: None)
    store.close()
    return str(tmp_path / "run.h5")


def test_a_file_says_what_it_holds(path: str, plan: RunPlan) -> None:
    results = mosaic_mpi.open(path)
    assert (results.n_simulations, results.locations, results.channels) == (5, TWO, ("fake",))
    assert results.config["location_name"] == list(TWO)
    assert results.parameter_names == plan.source.names
    assert results.completed().tolist() == [0, 1, 3, 4]


def test_parameters_come_as_one_table_with_the_likelihood(path: str, plan: RunPlan) -> None:
    table = mosaic_mpi.open(path).parameters()
    assert table.index.name == "sim"
    assert table.index.tolist() == [1, 2, 4, 5]
    assert table.columns.tolist() == ["likelihood", *plan.source.names]
    assert set(table.dtypes) == {np.dtype("float64")}
    records, _ = simulate(plan, [0, 1, 3, 4])
    assert table["likelihood"].to_numpy().tobytes() == records["likelihood"].tobytes()
    assert np.array_equal(table.drop(columns="likelihood").to_numpy(), records["parameters"])


def test_likelihoods_come_by_iteration(path: str, plan: RunPlan) -> None:
    table = mosaic_mpi.open(path).likelihoods()
    assert (table.index.name, table.columns.name) == ("sim", "iteration")
    assert (table.index.tolist(), table.columns.tolist()) == ([1, 2, 4, 5], [1, 2])
    assert np.array_equal(table.to_numpy(), simulate(plan, [0, 1, 3, 4])[0]["iteration_likelihood"])


def test_simulations_tell_the_fate_of_each(path: str) -> None:
    table = mosaic_mpi.open(path).simulations()
    assert table["status"].tolist() == ["completed", "completed", "failed", "completed", "completed"]
    assert table["attempts"].tolist() == [1, 2, 2, 1, 1]
    assert table["error"].tolist() == ["", "", "out of memory", "", ""]
    assert table["host"].tolist() == ["here", "here", "", "here", "here"]
    assert (table["finished_at"] > 0).all()
    for column in ("likelihood", "elapsed_s", "rank", "slot"):
        assert table[column].isna().tolist() == [False, False, True, False, False], column


def test_a_channel_comes_with_named_axes_and_coordinates(path: str, plan: RunPlan) -> None:
    array = mosaic_mpi.open(path).channel("fake")
    assert (array.name, array.dims) == ("fake", ("simulation", "iteration", "location", "time"))
    assert array.dtype == np.int32
    assert array.shape == (4, 2, 2, 10)
    assert array.simulation.values.tolist() == [1, 2, 4, 5]
    assert array.iteration.values.tolist() == [1, 2]
    assert array.location.values.tolist() == list(TWO)
    assert array.time.values[0] == np.datetime64("2023-02-01")
    assert array.time.values[-1] == np.datetime64("2023-02-10")
    generator = np.random.Generator(np.random.PCG64(8))  # simulation 4, iteration 2
    assert np.array_equal(array.sel(simulation=4, iteration=2), generator.poisson(3, (2, 10)))


def test_simulations_can_be_chosen_in_any_order(path: str) -> None:
    results = mosaic_mpi.open(path)
    whole = results.channel("fake")
    assert results.channel("fake", [5, 1]).identical(whole.sel(simulation=[5, 1]))
    assert results.channel("fake", []).shape == (0, 2, 2, 10)


@pytest.mark.parametrize("simulation", [3, 6, 0])
def test_what_is_not_completed_is_named(path: str, simulation: int) -> None:
    with pytest.raises(InputError, match=f"run.h5: not completed: simulations {simulation}"):
        mosaic_mpi.open(path).channel("fake", [1, simulation])


def test_an_unknown_channel_gets_its_neighbour(path: str) -> None:
    with pytest.raises(InputError, match=r"no channel fak; did you mean fake\?; it holds fake"):
        mosaic_mpi.open(path).channel("fak")


def test_an_unknown_table_is_named(path: str) -> None:
    with pytest.raises(InputError, match="has no simulations/likelyhood"):
        mosaic_mpi.open(path).table("simulations/likelyhood")


def test_sim_ids_of_a_table_are_the_index(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sim,rho\n70,0.25\n3,0.5\n")
    finished_run(tmp_path / "run.h5", make_plan(tmp_path, 2, samples=str(tmp_path / "t.csv")))
    results = mosaic_mpi.open(str(tmp_path / "run.h5"))
    assert results.parameters()["rho"].to_dict() == {3: 0.5, 70: 0.25}
    assert results.channel("fake", [70]).simulation.values.tolist() == [70]


def test_a_growing_run_is_seen_as_it_is_now(tmp_path: Path, plan: RunPlan) -> None:
    store = Store(str(tmp_path / "run.h5"), plan)
    begin(store)
    results = mosaic_mpi.open(str(tmp_path / "run.h5"))
    assert len(results.parameters()) == 0
    add_rows(store, plan, [2])
    store.commit()
    assert results.parameters().index.tolist() == [3]
    add_rows(store, plan, [0, 1, 3, 4])
    store.end_start(layout.COMPLETE)
    in_spool = results.channel("fake")
    store.fold(lambda: None)
    store.close()
    assert results.channel("fake").identical(in_spool), "opened before the fold, read after it"


def test_a_run_without_time_series_says_so(tmp_path: Path) -> None:
    finished_run(tmp_path / "run.h5", make_plan(tmp_path, save=()))
    with pytest.raises(InputError, match=r"no time series \(run with --save\)"):
        mosaic_mpi.open(str(tmp_path / "run.h5")).channel("fake")


def test_an_empty_run_gives_empty_tables(tmp_path: Path, plan: RunPlan) -> None:
    Store(str(tmp_path / "run.h5"), plan).close()
    results = mosaic_mpi.open(str(tmp_path / "run.h5"))
    assert results.parameters().shape == (0, 1 + len(plan.source.names))
    assert results.likelihoods().shape == (0, 2)
    assert results.channel("fake").shape == (0, 2, 2, 10)
    pending = results.simulations()
    assert (pending["status"] == "pending").all()
    assert pending[["likelihood", "elapsed_s", "finished_at", "rank", "slot"]].isna().all(axis=None)


def test_a_run_killed_before_its_spool_was_made_gives_an_empty_channel(tmp_path: Path, plan: RunPlan) -> None:
    Store(str(tmp_path / "run.h5"), plan).close()
    (tmp_path / "run.h5.spool").unlink()
    assert mosaic_mpi.open(str(tmp_path / "run.h5")).channel("fake").shape == (0, 2, 2, 10)


def test_a_table_that_is_none_is_named(path: str) -> None:
    results = mosaic_mpi.open(path)
    with pytest.raises(InputError, match="has no simulations/likelihoods"):
        results.table("simulations/likelihoods")
    with pytest.raises(InputError, match=r"starts is a group of .*command"):
        results.table("starts")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.h5: no such file"):
        mosaic_mpi.open(str(tmp_path / "nowhere.h5"))


def test_observations_have_the_axes_of_channels(tmp_path: Path) -> None:
    cases = [[1.0, None, 3.0], ["NA", 5.0, 6.0]]
    config = small_config(("ETH", "KEN"), n_days=3, reported_cases=cases)
    finished_run(tmp_path / "run.h5", make_plan(tmp_path, 2, config=config))
    found = mosaic_mpi.open(str(tmp_path / "run.h5")).observed()
    assert (found.dims, found.name, found.dtype) == (("location", "time"), "reported_cases", np.float64)
    assert found.sel(location="ETH").values.tolist()[::2] == [1.0, 3.0]
    assert np.isnan(found.values[[0, 1], [1, 0]]).all()
    assert found.sel(location="KEN", time="2023-02-03").item() == 6.0
    with pytest.raises(InputError, match="did you mean reported_cases"):
        mosaic_mpi.open(str(tmp_path / "run.h5")).observed("reported_case")


def test_observations_are_cut_to_the_locations_of_the_run(tmp_path: Path) -> None:
    config = write_config(tmp_path, small_config(("ETH", "KEN"), n_days=3, reported_deaths=[[1.0] * 3, [2.0] * 3]))
    options = PlanOptions(config=config, locations=("KEN",), n_simulations=2, simulator="fake:")
    plan = load_plan(options, VERSIONS)
    finished_run(tmp_path / "run.h5", plan)
    found = mosaic_mpi.open(str(tmp_path / "run.h5")).observed("reported_deaths")
    assert found.location.values.tolist() == ["KEN"]
    assert (found.values == 2.0).all()


def test_arrow_has_what_pandas_has(tmp_path: Path) -> None:
    finished_run(tmp_path / "run.h5", make_plan(tmp_path, 5), rows=[0, 2])
    run = mosaic_mpi.open(str(tmp_path / "run.h5"))
    table = run.arrow()
    assert table.column_names == ["sim", "likelihood", *run.parameter_names]
    assert table["sim"].to_pylist() == [1, 3]
    assert table["likelihood"].to_pylist() == run.parameters()["likelihood"].tolist()
