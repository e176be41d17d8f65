"""The scored window, the weights of locations, dispersions and the collapse, by hand-made cases."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from mosaic_mpi.control import LikelihoodSettings
from mosaic_mpi.likelihood import (
    collapse,
    derived_location_weights,
    dispersion,
    remembered_dispersion,
    scored_window,
)

FIRST = date(2023, 2, 1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (30, 30)),
        ({"burn_in_days": 0}, (0, 0)),
        ({"deaths_score_start": "2023-09-15"}, (30, 226)),
        ({"score_start_cases": "2023-09-15"}, (30, 30)),
        ({"score_start_cases": "2023-04-01", "deaths_score_start": "2023-09-15"}, (59, 226)),
        ({"deaths_score_start": "2020-01-01"}, (30, 30)),
        ({"burn_in_days": 5000}, (1154, 1154)),
    ],
)
def test_scored_window(settings: dict[str, object], expected: tuple[int, int]) -> None:
    assert scored_window(LikelihoodSettings(**settings), FIRST, 1155) == expected  # type: ignore[arg-type]


def test_a_remembered_dispersion_is_the_dispersion() -> None:
    rng = np.random.default_rng(7)
    series = [rng.negative_binomial(4, 0.1, 60).astype(float) for _ in range(3)] + [np.full(60, np.nan), np.zeros(60)]
    weights = [np.ones(60), rng.uniform(size=60), np.arange(60)]
    for _ in range(2):
        for x in series:
            for w in weights:
                assert remembered_dispersion(x, w, 1) == dispersion(x, w, 1)
    assert remembered_dispersion(series[0], weights[0], 50) == 50
    assert remembered_dispersion(series[0], weights[0], 1) < 50


def test_a_single_case_has_infinite_dispersion_at_any_length() -> None:
    for n_days in (10, 350, 357, 1155):
        series = np.zeros(n_days)
        series[n_days // 2] = 1.0
        assert math.isinf(dispersion(series, np.ones(n_days)))


def test_dispersion_follows_its_formula_and_bounds() -> None:
    generator = np.random.default_rng(5)
    series = generator.negative_binomial(8, 0.1, 400).astype(float)
    mean, variance = series.mean(), series.var(ddof=1)
    assert dispersion(series, np.ones(400)) == pytest.approx(mean**2 / (variance - mean), rel=1e-12)
    assert dispersion(series * 1000, np.ones(400), k_min=20) == 20
    assert math.isinf(dispersion(np.full(10, 4.0), np.ones(10)))
    assert math.isinf(dispersion(np.full(10, np.nan), np.ones(10)))
    doubled = np.where(np.arange(400) < 200, 1.0, 0.0)
    assert dispersion(series, doubled) == pytest.approx(dispersion(series[:200], np.ones(200)), rel=1e-12)


def test_location_weights_grow_with_trusted_observations() -> None:
    cases = np.array([[1.0, 2, 3, np.nan], [1, 0, 0, 0], [0, 0, 0, 0]])
    trust = np.array([[1.0, 1, np.nan, 1], [0.5, 1, 1, 1], [1, 1, 1, 1]])
    found = derived_location_weights([cases, np.zeros_like(cases)], [trust, None])
    reference = math.log1p(np.median([2.0, 0.5]))
    expected = [0.05 + 0.95 * min(1, math.log1p(s) / reference) for s in (2.0, 0.5, 0.0)]
    assert found is not None
    assert found.tolist() == expected


def test_locations_weigh_the_same_without_confidence() -> None:
    cases = np.ones((3, 4))
    assert derived_location_weights([cases, cases], [None, None]) is None
    assert derived_location_weights([cases, cases], [np.ones((3, 4)), None]) is None  # all would be 1
    assert derived_location_weights([cases[:1], cases[:1]], [np.full((1, 4), 0.5), None]) is None


def test_collapse_is_log_mean_exp_of_the_finite() -> None:
    values = np.array([-3.0, -2.0, -math.inf, math.nan])
    assert collapse(values) == pytest.approx(math.log((math.exp(-3) + math.exp(-2)) / 2))
    assert collapse(np.array([-1e6, -2e6, -3e6])) == pytest.approx(-1e6 - math.log(3))
    assert math.isinf(collapse(np.array([-math.inf, math.nan])))
    assert math.isnan(collapse(np.array([math.nan, -math.inf])))


def test_dispersions_are_those_of_r(shared: Path) -> None:
    for entry in json.loads((shared / "mosaic/scores/nb_k_fixture.json").read_text()):
        series = np.array(entry["x"], dtype=float)
        expected = math.inf if entry["k"] == "Inf" else entry["k"]
        assert dispersion(series, np.ones(len(series))) == pytest.approx(expected, rel=1e-12)
