"""Scoring with everything prepared beside the engine's own scorer: the same log-likelihood to the last bit."""

from __future__ import annotations

import collections
import dataclasses
import types
from typing import Any

import numpy as np
import pytest

from mosaic_mpi.control import LikelihoodSettings
from mosaic_mpi.likelihood import Likelihood

N_CASES = 400


def observations(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Counts of one outcome: epidemics, Poisson noise, a single case, nothing, hardly anything known."""
    matrix = np.empty(shape)
    for row in matrix:
        kind = rng.integers(6)
        size = row.size
        if kind == 0:
            row[:] = rng.negative_binomial(0.3, 10.0 ** -rng.uniform(1, 4), size)
        elif kind == 1:
            row[:] = rng.poisson(10.0 ** rng.uniform(-2, 5), size)
        else:
            row[:] = 0.0
            row[rng.integers(size)] = rng.integers(3)
        if kind == 3:
            row[:] = np.nan
            row[: rng.integers(0, 5)] = 2.0
        row[rng.random(size) < rng.choice([0.0, 0.1, 0.9])] = np.nan
    return matrix


def confidence(rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    """Weights of observations: none, ones, some of them missing or nothing at all."""
    kind = rng.integers(4)
    if kind == 0:
        return None
    weights = np.ones(shape) if kind == 1 else rng.uniform(size=shape)
    weights[rng.random(shape) < rng.choice([0.0, 0.2])] = np.nan
    weights[rng.random(shape[0]) < 0.2] = 0.0
    return weights


def estimates(rng: np.random.Generator, observed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Counts as the engine reports them, `[location, time]` of memory in the other order."""
    near = np.nan_to_num(observed) * 10.0 ** rng.uniform(-2, 3) + rng.integers(0, 3, observed.shape)
    near[rng.random(observed.shape) < rng.choice([0.0, 0.5, 1.0])] = 0.0
    near[rng.random(observed.shape) < 0.01] = 2**31 - 1
    days_first = np.ascontiguousarray(np.minimum(near, 2**31 - 1).astype(np.int32).T)
    return days_first.T


def settings(rng: np.random.Generator, shape: tuple[int, int]) -> LikelihoodSettings:
    """Settings of all kinds that are scored without shape terms."""
    time = rng.choice([0.0, 0.5, 1.0], shape[1])
    return LikelihoodSettings(
        weight_cases=rng.choice([0.0, 0.3, 1.0]),
        weight_deaths=rng.choice([0.0, 2.5, 1.0]),
        nb_k_min_cases=rng.choice([0.01, 3.0, 1e6]),
        nb_k_min_deaths=rng.choice([0.5, 3.0]),
        burn_in_days=0,
        weights_time=tuple(time) if rng.random() < 0.3 else None,
        weights_location=tuple(rng.choice([0.0, 0.2, 7.0], shape[0])) if rng.random() < 0.3 else None,
    )


def both(values: dict[str, Any], chosen: LikelihoodSettings) -> tuple[Likelihood, Likelihood]:
    """The engine's scorer, and the prepared one."""
    from mosaic_mpi import engine

    assert engine.caution is None
    stock = Likelihood(values, chosen, engine.score)
    return stock, Likelihood(values, chosen, engine.score, engine.prepare_scorer)


def made_values(rng: np.random.Generator) -> dict[str, Any]:
    """What scoring takes of a config."""
    shape = (int(rng.integers(1, 5)), int(rng.choice([1, 2, 5, 130, 400])))
    values = {f"reported_{what}": observations(rng, shape) for what in ("cases", "deaths")}
    return {
        **values,
        "reported_cases_weight": confidence(rng, shape),
        "reported_deaths_weight": confidence(rng, shape),
        "psi_jt": np.zeros(shape),
        "date_start": "2023-02-01",
    }


def test_every_number_is_that_of_the_engine() -> None:
    found: collections.Counter[str] = collections.Counter()
    for number in range(N_CASES):
        rng = np.random.default_rng(number)
        values = made_values(rng)
        shape = values["psi_jt"].shape
        stock, prepared = both(values, settings(rng, shape))
        found["prepared"] += prepared._prepared is not None
        for _ in range(3):
            pair = [estimates(rng, values[f"reported_{what}"]) for what in ("cases", "deaths")]
            expected = stock.score(*pair)
            assert prepared.score(*pair).hex() == expected.hex(), f"case {number}"
            found["finite"] += bool(np.isfinite(expected) and expected != 0.0)
    assert found["prepared"] > 0.8 * N_CASES, found  # the rest has no weight at all
    assert found["finite"] > N_CASES, found


@pytest.mark.parametrize("locations", [None, ["ETH"]])
def test_every_number_of_the_bundled_config(locations: list[str] | None) -> None:
    from mosaic_mpi.config import load_config

    values = load_config(None, locations).values
    stock, prepared = both(dict(values), LikelihoodSettings(deaths_score_start="2023-09-15"))
    assert prepared._prepared is not None
    rng = np.random.default_rng(5)
    for _ in range(4):
        pair = [estimates(rng, values[f"reported_{what}"]) for what in ("cases", "deaths")]
        assert prepared.score(*pair).hex() == stock.score(*pair).hex()


def test_what_is_no_count_goes_to_the_engine() -> None:
    values = made_values(np.random.default_rng(2))
    stock, prepared = both(values, LikelihoodSettings(burn_in_days=0))
    assert prepared._prepared is not None
    shape = values["psi_jt"].shape
    broken = np.full(shape, 2.5)
    broken[0, 0] = np.nan
    assert prepared.score(broken, broken).hex() == stock.score(broken, broken).hex()
    negative = np.full(shape, -1, np.int32)
    assert prepared.score(negative, negative) == stock.score(negative, negative) == -np.inf


@pytest.mark.parametrize("term", ["peak_timing", "peak_magnitude", "cumulative_total", "wis"])
def test_shape_terms_are_left_to_the_engine(term: str) -> None:
    from mosaic_mpi.config import load_config

    values = dict(load_config(None, ["ETH"]).values)
    stock, prepared = both(values, dataclasses.replace(LikelihoodSettings(), **{f"weight_{term}": 0.25}))
    assert prepared._prepared is None
    pair = [estimates(np.random.default_rng(3), values[f"reported_{what}"]) for what in ("cases", "deaths")]
    assert prepared.score(*pair).hex() == stock.score(*pair).hex()


def other_engine(**changed: Any) -> types.SimpleNamespace:
    """The engine's scorer with some of it changed."""
    from laser.cholera import calc_model_likelihood as scoring

    return types.SimpleNamespace(**{**vars(scoring), **changed})


@pytest.mark.parametrize("changed", ["total", "refuses"])
def test_a_scorer_that_gives_another_number_is_asked_itself(changed: str) -> None:
    from laser.cholera import calc_model_likelihood as scoring

    from mosaic_mpi import prepared_scorer
    from mosaic_mpi.config import load_config

    def one_ulp_up(**arguments: Any) -> float:
        return float(np.nextafter(scoring.calc_model_likelihood(**arguments), np.inf))

    def refuse(**arguments: Any) -> float:
        raise ValueError("weights_time must match n_time_steps.")

    values = dict(load_config(None, ["ETH"]).values)
    arguments = Likelihood(values, LikelihoodSettings(), scoring.calc_model_likelihood)._arguments
    assert prepared_scorer.prepare_scorer(other_engine(), arguments) is not None
    other = other_engine(calc_model_likelihood=one_ulp_up if changed == "total" else refuse)
    assert prepared_scorer.prepare_scorer(other, arguments) is None


def test_no_component_reads_the_peaks() -> None:
    from mosaic_mpi import engine
    from mosaic_mpi.compiled.self_check import configs, differing

    peaks = [{"iso_code": "ETH", "peak_date": "2023-03-03"}]
    values = {**configs()["one country"], "epidemic_peaks": peaks}
    stock, prepared = engine.StockIterations(values), engine.prepare(values, ("spatial_hazard",))
    for seed in (1, 2):
        assert not differing(stock.run(seed), prepared.run(seed))
        assert bool(stock.run(seed).reported_cases.any())
