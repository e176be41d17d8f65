"""`export --mosaic`: the files that run_MOSAIC(resume = TRUE) takes, equal to those that MOSAIC's worker wrote."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Cli, add_rows, begin, finished_run, listing, make_plan, small_config, write_config

from mosaic_mpi import fake, shards
from mosaic_mpi.control import load_control
from mosaic_mpi.errors import InputError
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.plan_inputs import PlanOptions, load_plan
from mosaic_mpi.results import Results
from mosaic_mpi.shards import INPUTS, SAMPLES, ShardTemplate, export_mosaic
from mosaic_mpi.store import Store

EXAMPLES = {"laser": None, "mosaic": "config_default.json.gz"}
VERSIONS = {"laser-cholera": "0.16.1"}


def as_mosaic_writes(row: Sequence[float | None], names: Sequence[str]) -> pa.Table:
    """A shard as MOSAIC's arrow writes one: dictionary, statistics, zstd."""
    columns = [pa.array([value], pa.float64()) for value in row]
    return pa.Table.from_arrays(columns, names=list(names))


def read(path: Path) -> tuple[list[str], list[float | None]]:
    table = pq.read_table(path)
    return table.column_names, [column[0].as_py() for column in table.columns]


def own_priors(folder: Path, **more: Any) -> str:
    """Priors of a few parameters, made up."""
    proportions = [f"prop_{name}_initial" for name in ("V1", "V2", "E", "I", "R")]
    beta = {"distribution": "beta", "parameters": {"shape1": 2.0, "shape2": 50.0}}
    document = {
        "metadata": {"version": "made up"},
        "parameters_global": {
            "phi_1": {"distribution": "beta", "parameters": {"shape1": 3.0, "shape2": 2.0}},
            **more,
        },
        "parameters_location": {name: {"location": dict.fromkeys(("ETH", "KEN"), beta)} for name in proportions},
    }
    path = folder / "priors.json"
    path.write_text(json.dumps(document))
    return str(path)


def mosaic_plan(
    folder: Path,
    n_simulations: int = 6,
    n_iterations: int = 3,
    settings: str = "",
    control: str | None = None,
    **priors: Any,
) -> RunPlan:
    """A plan of made-up simulations of parameters by MOSAIC's sampler."""
    options = PlanOptions(
        config=write_config(folder, small_config()),
        priors=own_priors(folder, **priors),
        control=control,
        n_simulations=n_simulations,
        n_iterations=n_iterations,
        simulator=fake.PREFIX,
    )
    return load_plan(options, VERSIONS)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that made-up simulations are wanted, without which they are not exported for MOSAIC."""
    monkeypatch.setenv(fake.VARIABLE, "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # in this process: faster


# ---- against MOSAIC's own ---------------------------------------------------------------------------


@pytest.fixture(
    scope="module",  # and one worker, if several tests run at a time
    params=[pytest.param(name, marks=pytest.mark.xdist_group(f"MOSAIC's shard of {name}")) for name in EXAMPLES],
)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared: Path) -> dict[str, Any]:
    """MOSAIC's shard of simulation 1 of ETH, and ours by the engine."""
    data, folder = shared / "mosaic" / "data", tmp_path_factory.mktemp("example")
    config = EXAMPLES[request.param]
    options = ["--priors", str(data / "priors_default.json"), "--locations", "ETH", "--n-simulations", "2"]
    options += ["--config", str(data / config)] if config else []
    cli = Cli(folder)
    ran = cli("run", *options, "--output", "run.h5", fake=None, timeout=240)
    assert ran.returncode == 0, ran.stderr
    done = cli("export", "run.h5", "--mosaic", "out", "--control", str(data / "control_defaults.json"), fake=None)
    assert done.returncode == 0, done.stderr
    theirs = shared / "mosaic" / "examples" / f"sim_0000001_{request.param}_ETH_niter3.parquet"
    return {"ours": folder / "out", "theirs": theirs, "run": folder / "run.h5", "cli": cli, "shared": shared}


def test_a_shard_equals_mosaics(example: dict[str, Any]) -> None:
    path = example["ours"] / SAMPLES / "sim_0000001.parquet"
    ours, theirs = pq.read_table(path), pq.read_table(example["theirs"])
    assert ours.schema.equals(theirs.schema, check_metadata=True)
    parquet = [pq.ParquetFile(file).schema for file in (path, example["theirs"])]
    assert parquet[0].equals(parquet[1]), "physical types and nullability"
    assert path.stat().st_size < 8000
    names, values = read(path)
    expected = read(example["theirs"])[1]
    for name, value, other in zip(names, values, expected, strict=True):
        if name == "likelihood":
            assert value == pytest.approx(other, abs=1e-9, rel=0)
        else:
            assert value == other, name


def test_control_json_equals_mosaics(example: dict[str, Any]) -> None:
    written = json.loads((example["ours"] / INPUTS / "control.json").read_text())["control"]
    path = example["shared"] / "mosaic" / "examples" / "control_defaults_merged_no_nulls.json"
    expected = json.loads(path.read_text())
    for section in ("sampling", "likelihood"):
        assert json.dumps(written[section]) == json.dumps(expected[section]), "values and order"
    assert written["calibration"] == {"n_simulations": 2, "n_iterations": 3}


def test_environment_json_names_engine_and_likelihood(example: dict[str, Any]) -> None:
    written = json.loads((example["ours"] / INPUTS / "environment.json").read_text())
    assert written["likelihood_provenance"] == {"engine": "R", "impl_version": "R/v0.22.21"}
    assert written["python"]["pkg_laser_cholera"].startswith("0.16.")
    assert sorted(path.name for path in (example["ours"] / INPUTS).iterdir()) == ["control.json", "environment.json"]


def test_a_shard_that_mosaic_wrote_stays(example: dict[str, Any], tmp_path: Path) -> None:
    samples = tmp_path / "out" / SAMPLES
    samples.mkdir(parents=True)
    (samples / "sim_0000001.parquet").write_bytes(example["theirs"].read_bytes())
    done = example["cli"]("export", str(example["run"]), "--mosaic", str(tmp_path / "out"), fake=None)
    assert done.returncode == 0, done.stderr
    assert "1 shards written; 1 were there already" in done.stdout
    assert (samples / "sim_0000001.parquet").read_bytes() == example["theirs"].read_bytes()


@pytest.mark.parametrize("config", ["laser_ETH", "laser_ALL", "mosaic_ETH", "mosaic_ALL", "laser_ETH_KEN"])
def test_columns_are_mosaics(config: str, shared: Path, tmp_path: Path, made_up: None) -> None:
    source, locations = config.split("_", 1)
    data = shared / "mosaic" / "data"
    options = PlanOptions(
        config=str(data / "config_default.json.gz") if source == "mosaic" else None,
        locations=None if locations == "ALL" else tuple(locations.split("_")),
        priors=str(data / "priors_default.json"),
        n_simulations=2,
        simulator=fake.PREFIX,
    )
    finished_run(tmp_path / "run.h5", load_plan(options, VERSIONS), fold=False)
    export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "out"))
    expected = json.loads((shared / "mosaic" / "columns.json").read_text())[config]["param_names_all"]
    names, values = read(tmp_path / "out" / SAMPLES / "sim_0000002.parquet")
    assert names == [*shards.LEADING_COLUMNS, *expected]
    stored = Results(tmp_path / "run.h5").table("parameters/values")[1]
    assert np.array(values[5:], dtype=np.float64).tobytes() == stored.tobytes()


# ---- values -----------------------------------------------------------------------------------------


def test_a_template_gives_what_pyarrow_gives() -> None:
    names = ["a", "b", "c", "d"]
    row = np.array([1 / 3, np.nan, -math.inf, 5e-324])
    data = ShardTemplate(names, np.isnan(row)).fill(row)
    table = pq.read_table(io.BytesIO(data))
    assert table.equals(as_mosaic_writes([1 / 3, None, -math.inf, 5e-324], names))


def test_nulls_are_where_mosaic_has_them(tmp_path: Path, made_up: None, monkeypatch: pytest.MonkeyPatch) -> None:
    likelihoods = {1: [-5.0, -7.0, math.nan], 2: [math.nan] * 3, 3: [-math.inf, math.nan, math.nan]}
    plain = fake.FakeIterations.run

    def run(self: fake.FakeIterations, parameters: Any, seed: int) -> Any:
        return likelihoods[(seed - 1) // 3 + 1][(seed - 1) % 3], plain(self, parameters, seed)[1]

    monkeypatch.setattr(fake.FakeIterations, "run", run)
    finished_run(tmp_path / "run.h5", mosaic_plan(tmp_path, 3, rho={"distribution": "failed"}))
    export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "out"))
    found = {sim: read(tmp_path / "out" / SAMPLES / f"sim_{sim:07d}.parquet") for sim in likelihoods}
    leading = {sim: values[:5] for sim, (_, values) in found.items()}
    expected = -5.0 + math.log((1 + math.exp(-2.0)) / 2)
    assert leading[1] == [1, 1, 1, None, pytest.approx(expected)]
    assert leading[2] == [2, 1, 2, 4, None], "no finite iteration: the first one's value and seed"
    assert leading[3] == [3, 1, 3, 7, -math.inf]
    names, values = found[1]
    assert dict(zip(names, values, strict=True))["rho"] is None, "a prior without a value"


def test_with_one_iteration_the_seed_is_the_engines(tmp_path: Path, made_up: None) -> None:
    finished_run(tmp_path / "run.h5", mosaic_plan(tmp_path, 3, n_iterations=1))
    export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "out"))
    assert read(tmp_path / "out" / SAMPLES / "sim_0000003.parquet")[1][:4] == [3, 1, 3, 3]


# ---- the folder -------------------------------------------------------------------------------------


def test_an_export_of_a_growing_file_continues(tmp_path: Path, made_up: None) -> None:
    plan = mosaic_plan(tmp_path)
    store = Store(str(tmp_path / "run.h5"), plan)
    begin(store)
    add_rows(store, plan, [4, 0])
    store.commit()
    store.add_failure(2, 1, "exception", "no luck", final=True)
    said = export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "out"))
    assert "2 shards written; 4 simulations are not completed" in said
    before = listing(tmp_path / "out" / SAMPLES)
    assert sorted(before) == ["sim_0000001.parquet", "sim_0000005.parquet"]
    add_rows(store, plan, [1, 3, 5])
    store.commit()
    store.close()
    said = export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "out"))
    assert "3 shards written; 2 were there already; 1 simulations" in said
    after = listing(tmp_path / "out" / SAMPLES)
    assert {name: after[name] for name in before} == before
    assert len(after) == 5
    assert "sim_0000003.parquet" not in after, "a failed simulation is left to MOSAIC"


def test_many_processes_write_the_same_bytes(tmp_path: Path, made_up: None, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(tmp_path / "run.h5", mosaic_plan(tmp_path, 40))
    export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "one"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(shards, "_BLOCK_ROWS", 7)
    export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "two"))
    files = [sorted((tmp_path / name / SAMPLES).iterdir()) for name in ("one", "two")]
    assert [path.name for path in files[0]] == [f"sim_{sim:07d}.parquet" for sim in range(1, 41)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def changed(path: Path, name: str, change: Callable[[float], float]) -> None:
    table = pq.read_table(path)
    column = pa.array([change(table[name][0].as_py())], pa.float64())
    pq.write_table(table.set_column(table.column_names.index(name), name, column), path, compression="zstd")


@pytest.fixture
def exported(tmp_path: Path, made_up: None) -> Path:
    finished_run(tmp_path / "run.h5", mosaic_plan(tmp_path))
    export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "out"))
    return tmp_path


def test_a_shard_of_another_run_ends_it_before_anything_is_written(exported: Path) -> None:
    samples = exported / "out" / SAMPLES
    (samples / "sim_0000001.parquet").unlink()
    for name, change in {"phi_1": lambda x: np.nextafter(x, 1), "likelihood": lambda x: x - 1.0}.items():
        good = (samples / "sim_0000004.parquet").read_bytes()
        changed(samples / "sim_0000004.parquet", name, change)
        before = listing(exported)
        with pytest.raises(InputError, match=r"another run: sim_0000004\.parquet"):
            export_mosaic(str(exported / "run.h5"), str(exported / "out"))
        assert listing(exported) == before
        (samples / "sim_0000004.parquet").write_bytes(good)


def test_what_is_not_ours_stays(exported: Path) -> None:
    samples = exported / "out" / SAMPLES
    (samples / "sim_0000099.parquet").write_bytes((samples / "sim_0000001.parquet").read_bytes())
    (samples / ".mosaic_tmp_of_someone").write_text("x")
    changed(samples / "sim_0000002.parquet", "likelihood", lambda x: x * (1 + 1e-13))
    before = listing(exported / "out")
    said = export_mosaic(str(exported / "run.h5"), str(exported / "out"))
    assert "6 were there already; 1 shards there are of no simulation of this file" in said
    assert listing(exported / "out") == before


def test_a_damaged_shard_is_put_aside_and_written_anew(exported: Path) -> None:
    samples = exported / "out" / SAMPLES
    good = (samples / "sim_0000003.parquet").read_bytes()
    (samples / "sim_0000003.parquet").write_bytes(good[:-100])
    (samples / "sim_0000004.parquet").write_bytes(b"")
    assert "2 shards written; 4 were there" in export_mosaic(str(exported / "run.h5"), str(exported / "out"))
    assert (samples / "sim_0000003.parquet").read_bytes() == good
    aside = sorted((samples / ".quarantine").iterdir())
    assert [path.read_bytes() for path in aside] == [good[:-100], b""]


# ---- refusals, and the files of 1_inputs ------------------------------------------------------------


def test_other_parameters_than_mosaics_are_refused(tmp_path: Path, made_up: None) -> None:
    finished_run(tmp_path / "run.h5", make_plan(tmp_path, save=()))
    with pytest.raises(InputError, match="draws the parameters of each posterior member again"):
        export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_made_up_simulations_are_refused(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not (exported / "out" / INPUTS).exists(), "nothing vouches for made-up likelihoods"
    monkeypatch.delenv(fake.VARIABLE)
    with pytest.raises(InputError, match="not by laser-cholera"):
        export_mosaic(str(exported / "run.h5"), str(exported / "other"))


def write_control(folder: Path, **sections: Any) -> str:
    path = folder / "control.json"
    path.write_text(json.dumps(sections))
    return str(path)


def test_control_json_has_the_runs_settings_without_nulls(tmp_path: Path, made_up: None) -> None:
    control = write_control(
        tmp_path,
        calibration={"n_simulations": None, "n_iterations": 2},
        likelihood={
            "weights_time": None,
            "score_start_cases": "2023-02-03",
            "weights_location": 0.5,
            "burn_in_days": 2,
        },
        sampling={"sample_rho": False},
    )
    finished_run(tmp_path / "run.h5", mosaic_plan(tmp_path, n_iterations=2, control=control))
    export_mosaic(str(tmp_path / "run.h5"), str(tmp_path / "out"), control)
    written = json.loads((tmp_path / "out" / INPUTS / "control.json").read_text())["control"]
    assert written["calibration"] == {"n_simulations": 6, "n_iterations": 2}
    assert [name for name, value in written["sampling"].items() if not value] == [
        *("sample_rho", "sample_alpha_2", "ic_moment_match")
    ]
    likelihood = written["likelihood"]
    assert None not in likelihood.values()
    assert likelihood["weights_location"] == [0.5]
    assert list(likelihood)[-2:] == ["burn_in_days", "score_start_cases"]
    copy = tmp_path / "again.json"
    copy.write_text(json.dumps(written))
    assert load_control(str(copy)).likelihood == load_control(control).likelihood


def test_control_settings_of_another_run_are_refused(exported: Path) -> None:
    control = write_control(exported, likelihood={"weight_wis": 0.1}, sampling={"sample_rho": False})
    with pytest.raises(InputError) as caught:
        export_mosaic(str(exported / "run.h5"), str(exported / "new"), control)
    assert "likelihood.weight_wis: found 0.1, but" in caught.value.problems[1]
    assert "not sampled" in caught.value.problems[0]
    assert not (exported / "new").exists()


def test_a_control_json_that_is_there_must_agree(exported: Path) -> None:
    control = write_control(exported)
    export_mosaic(str(exported / "run.h5"), str(exported / "out"), control)
    path = exported / "out" / INPUTS / "control.json"
    as_r = json.loads(path.read_text())
    as_r["control"]["likelihood"]["weights_time"] = {}
    as_r["timestamp"] = "R's own"
    path.write_text(json.dumps(as_r))
    export_mosaic(str(exported / "run.h5"), str(exported / "out"), control)
    assert json.loads(path.read_text())["timestamp"] == "R's own"
    as_r["control"]["likelihood"]["burn_in_days"] = 7
    path.write_text(json.dumps(as_r))
    with pytest.raises(InputError, match="says something else"):
        export_mosaic(str(exported / "run.h5"), str(exported / "out"), control)


def test_the_command_line_asks_for_one_output(cli: Cli) -> None:
    assert "--mosaic DIR" in cli("export", "run.h5").stderr
    assert "--control is for --mosaic" in cli("export", "run.h5", "--samples", "a", "--control", "b").stderr
