"""Bit-exact agreement with parameter sets recorded from MOSAIC itself.

The recordings and MOSAIC's data are not ours to publish. They are looked for in the folder that the
environment variable ``MOSAIC_MPI_SHARED`` names, or in ``shared`` next to the repository.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mosaic_mpi.mosaic.priors import Priors
from mosaic_mpi.mosaic.rrandom import RRandom
from mosaic_mpi.mosaic.sampler import MosaicSampler, SamplingFlags

pq = pytest.importorskip("pyarrow.parquet")

SHARED = Path(os.environ.get("MOSAIC_MPI_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
RECORDED = SHARED / "mosaic"

pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason=f"no recordings of MOSAIC in {SHARED} (set MOSAIC_MPI_SHARED)"
)

CONFIGS = ["laser_ETH_seed1", "laser_ETH_seed2", "laser_ALL_seed1", "mosaic_ETH_seed1", "mosaic_ALL_seed1"]
COLUMNS = ["laser_ETH", "laser_ETH_KEN", "laser_ALL", "mosaic_ETH", "mosaic_ALL"]

# Arguments of the recorded generators, as they were given to R; for the rest, MOSAIC's prior they are of.
GENERATORS: dict[str, tuple[str, tuple[float, ...]]] = {
    "runif10": ("uniform", ()),
    "rnorm10": ("normal", ()),
    "rexp10": ("exponential", ()),
    "rlnorm10": ("lognormal", (-2.3, 0.5)),
    "rgamma_0.4": ("gamma", (0.4, 1)),
    "rbeta_BB_big": ("beta", (206.957, 56.53)),
    "rbeta_BC_1_999": ("beta", (1, 999)),
    "rbeta_BC_0.5_99.5": ("beta", (0.5, 99.5)),
    "rbeta_BC_2_1": ("beta", (2, 1)),
    "rtruncnorm_180_95_1_365": ("truncated_normal", (180, 95, 1, 365)),
    "rtruncnorm_1_1_0_Inf": ("truncated_normal", (1, 1, 0, math.inf)),
    "rtruncnorm_1_1.5_0_7": ("truncated_normal", (1, 1.5, 0, 7)),
    "rtruncnorm_3_5_.1_10": ("truncated_normal", (3, 5, 0.1, 10)),
    "sample_1_10": ("sample", (10,)),
    "gompertz_b1_eta.01": ("gompertz", (1, 0.01)),
}
OF_PRIORS = {
    "rgamma_3.7_2": "mobility_gamma",
    "rgamma_23": "omega_1",
    "rbeta_BB_7_13": "p_beta",
    "rbeta_BC_0.87": "tau_i",
}


def recording(name: str) -> Any:
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))


@cache
def default_priors() -> Priors:
    return Priors.read(RECORDED / "data" / "priors_default.json")


def generator(name: str) -> tuple[str, tuple[float, ...]]:
    if name in GENERATORS:
        return GENERATORS[name]
    parameter, priors = OF_PRIORS[name], default_priors()
    prior = priors.parameters_global.get(parameter) or priors.parameters_location[parameter]["ETH"]
    return prior.method, prior.arguments


@cache
def base_config(source: str) -> dict[str, Any]:
    """MOSAIC's default config, or the one bundled with the engine."""
    if source == "mosaic":
        packed = (RECORDED / "data" / "config_default.json.gz").read_bytes()
        return dict(json.loads(gzip.decompress(packed)))
    try:
        engine = importlib.util.find_spec("laser.cholera.metapop")
    except ModuleNotFoundError:
        engine = None
    if engine is None or engine.submodule_search_locations is None:
        pytest.skip("laser-cholera is not installed")
    path = Path(engine.submodule_search_locations[0]) / "data" / "default_parameters.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def restricted(config: dict[str, Any], locations: list[str]) -> dict[str, Any]:
    everywhere = config["location_name"]
    kept = [everywhere.index(iso) for iso in locations]
    return {
        key: [value[i] for i in kept] if isinstance(value, list) and len(value) == len(everywhere) else value
        for key, value in config.items()
    }


@cache
def sampler(name: str) -> MosaicSampler:
    """Sampler of ``<config>_<locations>``, with MOSAIC's default priors and flags."""
    source, *locations = name.split("_")
    config = base_config(source)
    if locations != ["ALL"]:
        config = restricted(config, locations)
    flags = SamplingFlags.from_control(recording("data/control_defaults.json"))
    return MosaicSampler(default_priors(), config, flags)


@pytest.mark.parametrize("name", [*GENERATORS, *OF_PRIORS])
def test_generators(name: str) -> None:
    method, arguments = generator(name)
    for fixture in recording("rng/r_rng_fixture.json")["fixtures"]:
        draw = getattr(RRandom(fixture["seed"]), method)
        drawn = [draw(*arguments) for _ in range(10)]
        assert np.ravel(drawn).tolist() == fixture[name]


def test_every_recorded_generator_is_compared() -> None:
    recorded = recording("rng/r_rng_fixture.json")["fixtures"][0].keys() - {"seed"}
    assert recorded == GENERATORS.keys() | OF_PRIORS.keys()


def test_draws_before_rounding_and_scaling() -> None:
    drawn: Any = sampler("laser_ETH").draw(1)
    recorded = recording("rng/draw_order_ETH_seed1.json")["draws"]
    expected = {draw["name"].removesuffix("_ETH"): draw["value"] for draw in recorded}
    del expected["zeta_2"]  # drawn and thrown away
    for name in ("delta_reporting_cases", "delta_reporting_deaths"):
        expected[name] = round(expected[name])
    assert {name: np.ravel(drawn[name]).tolist() for name in expected} == {
        name: [value] for name, value in expected.items()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_complete_parameter_sets(name: str) -> None:
    expected = recording(f"configs/{name}.json")
    config, _, _ = name.rpartition("_")
    drawn: Any = sampler(config).draw(expected["seed"])
    assert drawn.keys() - {"psi_jt"} == expected["sampled"].keys() - set(expected["not_sampled_pinned"])
    for key in drawn.keys() - {"psi_jt"}:
        assert drawn[key] == expected["sampled"][key], key
        assert np.asarray(drawn[key]).dtype == np.asarray(expected["sampled"][key]).dtype, key


@pytest.mark.parametrize("name", CONFIGS)
def test_calibrated_suitability(name: str) -> None:
    expected = recording(f"configs/{name}.json")
    config, _, _ = name.rpartition("_")
    psi: Any = sampler(config).draw(expected["seed"])["psi_jt"]
    locations = [expected["locations"]] if isinstance(expected["locations"], str) else expected["locations"]
    assert psi[locations.index("ETH")].tolist() == expected["psi_jt_ETH"]
    checks = expected["psi_jt_row_checks"]
    if checks is not None:
        assert psi[:, 0].tolist() == checks["first"]
        assert psi[:, -1].tolist() == checks["last"]
        # R sums rows in long double, one column after the other.
        rowsum = sum(psi.astype(np.longdouble).T, np.zeros(len(psi), np.longdouble))
        assert rowsum.astype(np.float64).tolist() == checks["rowsum"]


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(name: str) -> None:
    assert list(sampler(name).columns()) == recording("columns.json")[name]["param_names_all"]


@pytest.mark.parametrize(("table", "config"), [("eth_seeds_1_200", "mosaic_ETH"), ("all40_seeds_1_10", "mosaic_ALL")])
def test_parameter_tables(table: str, config: str) -> None:
    expected = pq.read_table(RECORDED / "samples" / f"{table}.parquet")
    assert expected.column_names == ["seed", *sampler(config).columns()]
    values = np.column_stack([expected[name].to_numpy() for name in expected.column_names[1:]])
    for seed, row in zip(expected["seed"].to_pylist(), values, strict=True):
        assert sampler(config).row(seed).tolist() == row.tolist(), f"seed {seed}"
