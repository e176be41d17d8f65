"""R's own numbers: every generator, every branch, and far enough to cross blocks of the stream."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mosaic_mpi.mosaic.rrandom import LARGEST_SEED, RRandom
from mosaic_mpi.mosaic.rvariates import normal_quantile

RECORDED = json.loads((Path(__file__).parent / "data" / "r_generators.json").read_text())


def variate_id(case: dict[str, Any]) -> str:
    return f"{case['method']}{tuple(case['arguments'])}-seed{case['seed']}"


@pytest.mark.parametrize("case", RECORDED["variates"], ids=variate_id)
def test_variates_equal_those_of_r(case: dict[str, Any]) -> None:
    draw = getattr(RRandom(case["seed"]), case["method"])
    arguments = [float(value) for value in case["arguments"]]
    drawn = [draw(*arguments) for _ in range(case["count"])]
    assert drawn[:10] + drawn[-2:] == case["values"]


@pytest.mark.parametrize("case", RECORDED["samples"], ids=lambda case: f"n{case['n']}-seed{case['seed']}")
def test_samples_equal_those_of_r(case: dict[str, Any]) -> None:
    assert RRandom(case["seed"]).sample(case["n"], case["size"], case["replace"]) == case["values"]


def test_a_zero_of_the_twister_becomes_a_positive_uniform() -> None:
    case = RECORDED["zero_output"]
    key = np.arange(1, 625, dtype=np.uint32)
    key[case["position"]] = 0
    stream = RRandom(1)
    stream._set_state(key, case["position"])
    assert [stream.uniform() for _ in range(3)] == case["values"]


def test_set_seed_starts_the_stream_again() -> None:
    stream = RRandom(3)
    first = [stream.uniform() for _ in range(700)]
    stream.set_seed(3)
    assert [stream.uniform() for _ in range(700)] == first


@pytest.mark.parametrize("seed", [-LARGEST_SEED - 1, LARGEST_SEED + 1])
def test_a_seed_outside_the_integers_of_r_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed: found {seed}"):
        RRandom(seed)


@pytest.mark.parametrize("seed", [-LARGEST_SEED, 0, LARGEST_SEED])
def test_the_ends_of_the_range_of_seeds_are_accepted(seed: int) -> None:
    assert 0.0 < RRandom(seed).uniform() < 1.0


def test_degenerate_distributions_do_not_advance_the_stream() -> None:
    stream = RRandom(1)
    assert stream.normal(2.0, 0.0) == 2.0
    assert stream.uniform(4.0, 4.0) == 4.0
    assert stream.uniform() == RRandom(1).uniform()


def test_gompertz_inverts_its_distribution_function() -> None:
    u, x = RRandom(1).uniform(), RRandom(1).gompertz(2.0, 0.3)
    assert 1.0 - math.exp(-0.3 * (math.exp(2.0 * x) - 1.0)) == pytest.approx(u, rel=1e-14)


def test_a_lognormal_too_large_for_a_double_is_infinite() -> None:
    assert RRandom(1).lognormal(1e4, 1.0) == math.inf


def test_more_than_there_is_cannot_be_sampled() -> None:
    with pytest.raises(ValueError, match="at most n = 3"):
        RRandom(1).sample(3, 4)


@pytest.mark.parametrize(
    ("probability", "quantile"),
    [(0.5, 0.0), (0.25, -0.6744897501960817), (0.001, -3.090232306167813), (1e-20, -9.262340089798408)],
)
def test_normal_quantile_in_all_three_regions(probability: float, quantile: float) -> None:
    assert normal_quantile(probability) == pytest.approx(quantile, rel=1e-15, abs=0.0)
