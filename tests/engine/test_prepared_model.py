"""A model set up once and run many times, by the engine's loop or the compiled one, gives `run_model`'s numbers.

Bit for bit, and `run_model` runs in a fresh process.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mosaic_mpi.config import engine_values, load_config
from mosaic_mpi.parameters import DefaultPrior

pytestmark = pytest.mark.xdist_group("prepared model")  # all of them look at one comparison

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("MOSAIC_MPI_SHARED") or HERE.parents[1].parent / "shared") / "mosaic"
BUNDLED = Path(str(distribution("laser-cholera").locate_file("laser/cholera/metapop/data/default_parameters.json")))
N_DAYS = 100
WAYS = ("prepared", "compiled")
LOCATIONS: dict[str, list[str] | None] = {
    "one": ["ETH"],
    "another": ["MOZ"],
    "two": ["ETH", "KEN"],
    "seven": ["AGO", "BDI", "MOZ", "NGA", "SOM", "ZMB", "ZWE"],
    "forty": None,
}
Values = dict[str, Any]
Orders = list[tuple[Values, int]]


def shortened(raw: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A config cut to its first days; a number stands for one in each of its 40 locations."""
    config = {**raw, "date_stop": str(np.datetime64(raw["date_start"]) + N_DAYS - 1)}
    for key, value in config.items():
        if isinstance(value, list) and value and isinstance(value[0], list):
            config[key] = [row[:N_DAYS] for row in value]
    for key, value in changes.items():
        matrix = isinstance(config[key], list) and isinstance(config[key][0], list)
        config[key] = [[value] * N_DAYS] * 40 if matrix else value
    return config


CHANGES: dict[str, dict[str, Any]] = {
    "alpha by location": {"alpha_1": [0.3] * 40, "alpha_2": [0.5] * 40},
    "alpha of special powers": {"alpha_1": 0.5, "alpha_2": 1.0},
    "threshold by location": {"epidemic_threshold": [1e-5, 1e-4] * 20},
    "no infection": {f"{what}_j_initial": [0] * 40 for what in "EI"},
    "negative rates on every tick": {"a_1_j": [-9.0] * 40, "b_2_j": [7.0] * 40},
    "more doses than people": {"nu_1_jt": 1e8, "nu_2_jt": 1e7},
    "late reports": {"delta_reporting_cases": 9, "delta_reporting_deaths": 160},
    "all report, all sick": {"rho": 1.0, "rho_deaths": 0.0, "sigma": 1.0, "mu_j_baseline": [0.4] * 40},
}


def typed(folder: Path, config: dict[str, Any], locations: list[str] | None) -> Values:
    """As slots hand it to the engine."""
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    values = engine_values(load_config(str(path), locations).values)
    values.pop("epidemic_peaks", None)
    return values


def as_lists(values: Values) -> Values:
    """As a user of laser-cholera who reads JSON hands it to the engine."""
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def repeated(*several: Values) -> Orders:
    """Three iterations of the first, two of the others; then the first again, whose numbers must come back."""
    orders = [
        (values, 3 * number + seed)
        for number, values in enumerate(several)
        for seed in ((1, 2) if number else (1, 2, 3))
    ]
    return [*orders, (dict(several[0]), 1)]


def drawn(values: Values, locations: list[str] | None, n: int) -> Iterator[Values]:
    """Parameter sets of the default prior over a config."""
    prior = DefaultPrior(load_config(None, locations).values)
    for sim_id in range(1, n + 1):
        yield {**values, **engine_values(prior.draw(sim_id - 1, sim_id).overrides)}


def mosaic_drawn(folder: Path, config: dict[str, Any], locations: list[str] | None, n: int) -> Iterator[Values]:
    """Parameter sets of MOSAIC's priors, which calibrate psi_jt."""
    from mosaic_mpi.mosaic.priors import Priors
    from mosaic_mpi.mosaic.sampling_flags import SamplingFlags
    from mosaic_mpi.mosaic.source import MosaicPrior

    path = folder / "config.json"
    path.write_text(json.dumps(config))
    base = load_config(str(path), locations).values
    prior = MosaicPrior(Priors.read(SHARED / "data/priors_default.json"), SamplingFlags(), base)
    values = typed(folder, config, locations)
    for sim_id in range(1, n + 1):
        overrides = prior.draw(sim_id - 1, sim_id).overrides
        assert "psi_jt" in overrides
        yield {**values, **engine_values(overrides)}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Orders]:
    folder = tmp_path_factory.mktemp("cases")
    raw = json.loads(BUNDLED.read_text())
    plain = shortened(raw)
    found: dict[str, Orders] = {}
    for name, locations in LOCATIONS.items():
        arrays = typed(folder, plain, locations)
        found[f"{name}: arrays"] = repeated(*drawn(arrays, locations, 3))
        found[f"{name}: lists"] = repeated(*map(as_lists, drawn(arrays, locations, 2)))
    for change, changes in CHANGES.items():
        for name in ("one", "two", "forty"):
            changed = typed(folder, shortened(raw, **changes), LOCATIONS[name])
            found[f"{name}: {change}"] = repeated(changed, typed(folder, plain, LOCATIONS[name]))
    for name in ("one", "two"):
        values = typed(folder, plain, LOCATIONS[name])
        n_locations = len(values["mu_j_baseline"])
        refused = {**values, "mu_j_slope": [-1e6] * n_locations, "mu_j_baseline": [0.5] * n_locations}
        found[f"{name}: an error half way"] = [(values, 1), (refused, 2), (refused, 3), (values, 1)]
    if SHARED.is_dir():
        for name in ("one", "seven", "forty"):
            sets = mosaic_drawn(folder, plain, LOCATIONS[name], 2)
            found[f"{name}: MOSAIC's priors"] = repeated(*sets)
    return found


@pytest.fixture(scope="module")
def outcomes(cases: dict[str, Orders], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What all three made of all cases, each in a fresh process."""
    folder = tmp_path_factory.mktemp("outcomes")
    (folder / "cases").write_bytes(pickle.dumps(cases))
    script = [sys.executable, "-W", "ignore", str(HERE / "iterations.py")]
    started = {}
    for how in ("stock", *WAYS):
        words = [*script, how, str(folder / "cases"), str(folder / how)]
        started[how] = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=folder)
    for process in started.values():
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors
    return {how: json.loads((folder / how).read_text()) for how in started}


def names() -> list[str]:
    """Case names, without making the cases."""
    found = [f"{name}: {kind}" for name in LOCATIONS for kind in ("arrays", "lists")]
    found += [f"{name}: {change}" for change in CHANGES for name in ("one", "two", "forty")]
    found += [f"{name}: an error half way" for name in ("one", "two")]
    return found + [f"{name}: MOSAIC's priors" for name in ("one", "seven", "forty") if SHARED.is_dir()]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", names())
def test_channels_and_generator_equal_run_model(name: str, way: str, outcomes: dict[str, dict[str, Any]]) -> None:
    expected, found = outcomes["stock"][name], outcomes[way][name]
    assert len(expected) == len(found) >= 4
    for one, other in zip(expected, found, strict=True):
        assert one == other
    assert any(entry.get("channels") for entry in found)


@pytest.mark.timeout(600)
def test_the_cases_are_what_they_are_called(outcomes: dict[str, dict[str, Any]]) -> None:
    """Equality above would be cheap among epidemics that never happen, or that are all the same."""
    stock = outcomes["stock"]
    assert set(stock) == set(names())
    assert all("error" not in entry for name, entries in stock.items() for entry in entries if "error" not in name)
    for name in ("one: an error half way", "two: an error half way"):
        assert ["error" in entry for entry in stock[name]] == [False, True, True, False]
    assert all(entry["n_reported"] > 0 for entry in stock["forty: arrays"])
    digests = {json.dumps(entry["channels"]) for entry in stock["forty: arrays"]}
    assert len(digests) == 7  # three seeds of one set, two of two; the first comes twice
    first = stock["forty: arrays"][0]["channels"]
    assert len(first) == 28
    assert stock["forty: arrays"][0] == stock["forty: arrays"][-1]
    assert stock["forty: lists"][0]["channels"] != first, "order in memory is part of the numbers"
