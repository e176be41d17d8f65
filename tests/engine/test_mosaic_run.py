"""Whole runs agree with MOSAIC's recorded ones: epidemics in every cell, likelihoods within 1e-9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mosaic_mpi

SHARED = Path(os.environ.get("MOSAIC_MPI_SHARED") or Path(__file__).resolve().parents[2].parent / "shared") / "mosaic"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recordings of MOSAIC in {SHARED}")


def of_run(name: str) -> pytest.MarkDecorator:
    """With several tests at a time, those that look at one run have it made once."""
    return pytest.mark.xdist_group(f"MOSAIC's {name}")


N_SIMULATIONS = {"laser_ETH": 6, "laser_ALL": 2, "mosaic_ETH": 2, "mosaic_ALL": 2}
NAMES = [pytest.param(name, marks=of_run(name)) for name in N_SIMULATIONS]
SHAPE = {
    "weight_peak_timing": 0.25,
    "weight_peak_magnitude": 0.25,
    "weight_cumulative_total": 0.25,
    "weight_wis": 0.1,
}
SETTINGS = {
    "default_b30": {},
    "burn0": {"burn_in_days": 0},
    "shape_b30": SHAPE,
    "shape_deaths_start_2023-09-15": {**SHAPE, "deaths_score_start": "2023-09-15"},
}


def run(output: Path, *arguments: str) -> mosaic_mpi.results.Results:
    command = [sys.executable, "-m", "mosaic_mpi", "run", "--output", str(output), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return mosaic_mpi.open(str(output))


def inputs(name: str) -> list[str]:
    config, locations = name.split("_")
    given = ["--config", str(SHARED / "data/config_default.json.gz")] if config == "mosaic" else []
    return given + (["--locations", locations] if locations != "ALL" else [])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory):
    """One run a config, with MOSAIC's priors and default settings."""
    made: dict[str, mosaic_mpi.results.Results] = {}

    def make(name: str) -> mosaic_mpi.results.Results:
        if name not in made:
            output = tmp_path_factory.mktemp(name) / "run.h5"
            priors = ["--priors", str(SHARED / "data/priors_default.json")]
            counts = ["--n-simulations", str(N_SIMULATIONS[name]), "--save", "reported_cases,reported_deaths"]
            made[name] = run(output, *inputs(name), *priors, *counts)
        return made[name]

    return make


def recorded(name: str):
    fixture = json.loads((SHARED / "scores/score_fixture.json").read_text())
    return [entry for entry in fixture["sims"] if entry["config"] == name]


@pytest.mark.parametrize("name", NAMES)
def test_epidemics_and_likelihoods_are_mosaics(name: str, runs) -> None:
    results = runs(name)
    entries = recorded(name)
    assert entries
    for entry in entries:
        sim_id = entry["sim_id"]
        cases, deaths = (results.channel(f"reported_{what}", [sim_id]).values[0] for what in ("cases", "deaths"))
        assert [int(array.sum()) for array in cases] == entry["est_sum_cases"]
        assert [int(array.sum()) for array in deaths] == entry["est_sum_deaths"]
        expected = entry["likelihood"]["default_b30"]
        found = results.likelihoods().loc[sim_id].to_numpy()
        assert np.abs(found - expected["R_per_iteration"]).max() < 1e-9
        assert abs(results.parameters().likelihood[sim_id] - expected["R_collapsed_shard"]) < 1e-9
        assert results.table("iterations/seed")[sim_id - 1].tolist() == entry["seed_iter"]


@of_run("laser_ETH")
def test_every_cell_of_ethiopia(runs) -> None:
    results = runs("laser_ETH")
    recording = np.load(SHARED / "scores/est_laser_ETH.npz")
    sims = sorted({int(key.split("_")[1]) for key in recording})
    assert sims == [1, 2, 3, 4, 5, 6]
    for letter, channel in (("c", "reported_cases"), ("d", "reported_deaths")):
        found = results.channel(channel, sims).values
        for index, sim_id in enumerate(sims):
            for iteration in range(3):
                assert np.array_equal(found[index, iteration], recording[f"{letter}_{sim_id}_{iteration + 1}"])


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_the_likelihood(name: str, settings: str, runs) -> None:
    from laser.cholera.metapop.model import run_model  # noqa: F401  the engine, so that its scorer is patched alike

    from mosaic_mpi import engine
    from mosaic_mpi.config import load_config
    from mosaic_mpi.control import LikelihoodSettings
    from mosaic_mpi.likelihood import Likelihood

    arguments = inputs(name)
    path = arguments[1] if "--config" in arguments else None
    config = load_config(path, None if name.endswith("ALL") else ["ETH"])
    likelihood = Likelihood(
        config.values, LikelihoodSettings(**SETTINGS[settings]), engine.score, engine.prepare_scorer
    )
    results = runs(name)
    for entry in recorded(name):
        if settings not in entry["likelihood"]:
            continue
        pair = [results.channel(f"reported_{what}", [entry["sim_id"]]).values[0] for what in ("cases", "deaths")]
        found = [likelihood.score(cases, deaths) for cases, deaths in zip(*pair, strict=True)]
        assert np.abs(np.array(found) - entry["likelihood"][settings]["R_per_iteration"]).max() < 1e-9


def test_derived_location_weights() -> None:
    from mosaic_mpi.catalogue import CONFIDENCE
    from mosaic_mpi.config import load_config
    from mosaic_mpi.likelihood import derived_location_weights

    values = load_config(str(SHARED / "data/config_default.json.gz")).values
    observed = [values["reported_cases"], values["reported_deaths"]]
    expected = json.loads((SHARED / "scores/weights_location_mosaic_ALL.json").read_text())
    found = derived_location_weights(observed, [values[key] for key in CONFIDENCE])
    assert found is not None
    assert np.abs(found - expected["weights_location"]).max() < 1e-14


@pytest.mark.parametrize("name", [pytest.param(name, marks=of_run(name)) for name in ("laser_ETH", "mosaic_ALL")])
def test_a_run_from_exported_samples_equals_the_run_that_made_them(name: str, runs, tmp_path: Path) -> None:
    first = runs(name)
    table = tmp_path / "samples.parquet"
    export = [sys.executable, "-m", "mosaic_mpi", "export", first.path, "--samples", str(table)]
    subprocess.run(export, check=True, timeout=60)
    again = run(tmp_path / "again.h5", *inputs(name), "--samples", str(table), "--save", "reported_cases")
    assert again.parameters().equals(first.parameters())
    assert again.likelihoods().equals(first.likelihoods())
    assert again.channel("reported_cases").identical(first.channel("reported_cases"))


@of_run("laser_ALL")
def test_a_scalar_alpha_needs_the_priors_beside_the_table(runs, tmp_path: Path) -> None:
    """MOSAIC's columns keep one alpha_1 of forty when the config has a single one: the priors bring back the rest."""
    first = runs("laser_ALL")
    table = tmp_path / "samples.parquet"
    export = [sys.executable, "-m", "mosaic_mpi", "export", first.path, "--samples", str(table)]
    subprocess.run(export, check=True, timeout=60)
    priors = ["--priors", str(SHARED / "data/priors_default.json")]
    again = run(tmp_path / "again.h5", *inputs("laser_ALL"), *priors, "--samples", str(table))
    assert again.likelihoods().equals(first.likelihoods())


@of_run("laser_ETH")
def test_other_priors_are_refused_on_resume(runs, tmp_path: Path) -> None:
    priors = json.loads((SHARED / "data/priors_default.json").read_text())
    priors["parameters_global"]["phi_1"]["parameters"]["shape1"] *= 1.01
    changed = tmp_path / "priors.json"
    changed.write_text(json.dumps(priors))
    path = runs("laser_ETH").path
    command = [sys.executable, "-m", "mosaic_mpi", "run", "--output", path, *inputs("laser_ETH")]
    counts = ["--n-simulations", "6", "--save", "reported_cases,reported_deaths"]
    done = subprocess.run([*command, "--priors", str(changed), *counts], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "parameters: MOSAIC's priors" in done.stderr
