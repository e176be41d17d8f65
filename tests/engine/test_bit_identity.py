"""Every number is the engine's own: compared with direct calls in fresh processes, over several configs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

import mosaic_mpi
from mosaic_mpi.config import engine_values, load_config
from mosaic_mpi.layout import COMPLETED

HERE = Path(__file__).parent
BUNDLED = Path(str(distribution("laser-cholera").locate_file("laser/cholera/metapop/data/default_parameters.json")))
CHANNELS = [
    *("S", "E", "Isym", "Iasym", "R", "V1", "V2"),
    *("new_symptomatic", "incidence", "incidence_env", "incidence_human"),
    *("Lambda", "N", "Psi", "spatial_hazard", "W"),
    *("births", "disease_deaths", "non_disease_deaths", "reported_cases", "reported_deaths"),
    *("dose_one_doses", "dose_two_doses", "beta_jt_env", "beta_jt_human", "delta_jt", "coupling", "pi_ij"),
]


def short_config(tmp_path: Path, n_days: int = 200, **changes: object) -> Path:
    """The bundled config cut to its first days, so that a test takes seconds."""
    config = json.loads(BUNDLED.read_text())
    config["date_stop"] = str(np.datetime64(config["date_start"]) + n_days - 1)
    for key, value in config.items():
        if isinstance(value, list) and value and isinstance(value[0], list):
            config[key] = [row[:n_days] for row in value]
    config.update(changes)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return path


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "mosaic_mpi", "run", *arguments]
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def direct(tmp_path: Path, config: Path, locations: list[str], parameters: dict[str, object], seed: int):
    output = tmp_path / "direct.npz"
    order = {"config": str(config), "locations": locations, "parameters": parameters, "seed": seed}
    script = [sys.executable, str(HERE / "direct.py")]
    subprocess.run(
        script, input=json.dumps({**order, "output": str(output)}), text=True, check=True, timeout=200, cwd=tmp_path
    )
    return np.load(output)


def parameters_of(results: mosaic_mpi.results.Results, sim_id: int) -> dict[str, object]:
    """Stored values by config key, locations collected: what a reader with only the file can do."""
    found: dict[str, object] = {}
    for name, value in results.parameters().loc[sim_id].drop("likelihood").items():
        key, _, iso = name.rpartition("_")
        if iso in results.locations:
            found.setdefault(key, []).append(value)
        else:
            found[name] = value
    return found


CASES = {
    "forty locations": (None, {}),
    "one location": (["ETH"], {}),
    "two locations, out of order": (["KEN", "ETH"], {}),
    "alpha_1 by location": (["AGO", "MOZ", "ZMB"], {"alpha_1": [0.3] * 40, "epidemic_threshold": 1e-4}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_channel_equals_a_direct_call(case: str, tmp_path: Path) -> None:
    locations, changes = CASES[case]
    config = short_config(tmp_path, **changes)
    output = tmp_path / "run.h5"
    chosen = ["--locations", ",".join(locations)] if locations else []
    run(
        *("--config", str(config), "--n-simulations", "3", "--n-iterations", "2", "--output", str(output)),
        *("--save", ",".join(CHANNELS), *chosen),
    )
    results = mosaic_mpi.open(str(output))
    assert list(results.channels) == CHANNELS
    sim_id, iteration = 3, 2
    seed = (sim_id - 1) * 2 + iteration
    assert results.table("iterations/seed")[sim_id - 1, iteration - 1] == seed
    names = [iso for iso in json.loads(config.read_text())["location_name"] if not locations or iso in locations]
    expected = direct(tmp_path, config, names, parameters_of(results, sim_id), seed)
    for name in CHANNELS:
        found = results.channel(name, [sim_id]).values[0, iteration - 1]
        assert found.dtype == expected[name].dtype, name
        assert found.tobytes() == np.ascontiguousarray(expected[name]).tobytes(), name
    likelihood = results.likelihoods().loc[sim_id, iteration]
    assert likelihood == pytest.approx(float(expected["likelihood"]), abs=1e-9)
    leftovers = {path.name for path in tmp_path.iterdir()} - {"config.json", "run.h5", "direct.npz"}
    assert not leftovers, "the engine's log files must not appear"


def test_memory_order_is_part_of_the_numbers(tmp_path: Path) -> None:
    """Were it indifferent, the comparisons above could not fail for it: the engine's float32 mean shows it."""
    psi = engine_values(load_config(str(short_config(tmp_path))).values)["psi_jt"]
    assert psi.flags.f_contiguous
    as_the_engine_does = [
        np.array(np.array(order, np.float32).T).mean(axis=0) for order in (psi, psi.copy(order="C"))
    ]
    assert not np.array_equal(*as_the_engine_does)


def test_layout_and_interruptions_change_nothing_but_times_and_places(tmp_path: Path) -> None:
    config = short_config(tmp_path, n_days=120)
    common = ("--config", str(config), "--locations", "ETH,KEN,SOM", "--save", "reported_cases,W")
    plain, rough = tmp_path / "plain.h5", tmp_path / "rough.h5"
    run(*common, "--n-simulations", "12", "--slots", "1", "--output", str(plain))
    kill_when_some_are_done([*common, "--n-simulations", "12", "--slots", "3", "--output", str(rough)], rough, 3)
    run(*common, "--n-simulations", "12", "--slots", "2", "--output", str(rough))
    a, b = mosaic_mpi.open(str(plain)), mosaic_mpi.open(str(rough))
    assert len(b.table("progress/n_starts")) == 1
    assert b.table("progress/n_starts")[0] == 2
    assert a.parameters().equals(b.parameters())
    assert a.likelihoods().equals(b.likelihoods())
    assert np.array_equal(a.table("simulations/checksum"), b.table("simulations/checksum"))
    for name in ("reported_cases", "W"):
        assert a.channel(name).identical(b.channel(name))


def test_iterations_that_ran_apart_are_those_of_the_whole_simulation(tmp_path: Path) -> None:
    """Two simulations on three slots are shared out by iterations, those of one slot never."""
    config = short_config(tmp_path, n_days=120)
    common = ("--config", str(config), "--locations", "ETH,KEN", "--n-simulations", "2")
    common = (*common, "--save", "reported_cases,reported_deaths,W")
    whole, apart = tmp_path / "whole.h5", tmp_path / "apart.h5"
    assert "shared out" not in run(*common, "--slots", "1", "--output", str(whole))
    assert "2 simulations were shared out by iterations" in run(*common, "--slots", "3", "--output", str(apart))
    a, b = mosaic_mpi.open(str(whole)), mosaic_mpi.open(str(apart))
    assert a.parameters().equals(b.parameters())
    assert a.likelihoods().equals(b.likelihoods())
    assert np.array_equal(a.table("simulations/checksum"), b.table("simulations/checksum"))
    for name in ("reported_cases", "reported_deaths", "W"):
        assert a.channel(name).identical(b.channel(name))
    assert b.verify() == []


def kill_when_some_are_done(arguments: list[str], output: Path, n_done: int) -> None:
    process = subprocess.Popen([sys.executable, "-m", "mosaic_mpi", "run", *arguments])
    try:
        while process.poll() is None:
            if output.exists() and n_completed(output) >= n_done:
                break
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert n_done <= n_completed(output) < 12


def n_completed(output: Path) -> int:
    return int((mosaic_mpi.open(str(output)).table("simulations/status") == COMPLETED).sum())


def test_what_the_engine_refuses_is_told_before_any_worker_starts(tmp_path: Path) -> None:
    config = short_config(tmp_path, decay_days_short=300, decay_days_long=200)
    command = [sys.executable, "-m", "mosaic_mpi", "run", "--config", str(config), "--output", str(tmp_path / "r.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "decay_days_short" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r.h5").exists()


def test_the_rank_itself_never_loads_the_engine(tmp_path: Path) -> None:
    """Else a node would hold it once more, and the first simulation would wait for a second import."""
    arguments = ["--locations", "ETH", "--n-simulations", "3", "--output", str(tmp_path / "run.h5")]
    process = subprocess.Popen([sys.executable, "-m", "mosaic_mpi", "run", *arguments])
    loaded = ""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            loaded = Path(f"/proc/{process.pid}/maps").read_text() or loaded
        time.sleep(0.05)
    assert process.returncode == 0
    assert "h5py" in loaded  # it is looked at after its imports
    assert "llvmlite" not in loaded
