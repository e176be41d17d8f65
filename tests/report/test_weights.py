"""Weights and effective sample sizes, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mosaic_mpi.report import weights as importance


def test_equal_weights_are_worth_their_number_and_one_weight_is_worth_one() -> None:
    equal = importance.normalised(np.full(7, -9000.0))
    assert importance.kish(equal) == pytest.approx(7)
    assert importance.perplexity(equal) == pytest.approx(7)
    single = importance.normalised(np.array([-9000.0, -1.0, -math.inf, math.nan]))
    assert importance.kish(single) == pytest.approx(1)
    assert importance.perplexity(single) == pytest.approx(1)


def test_two_weights_by_hand() -> None:
    weights = importance.normalised(np.log([3.0, 1.0]) - 5000)
    assert weights == pytest.approx([0.75, 0.25])
    assert importance.kish(weights) == pytest.approx(1 / (0.75**2 + 0.25**2))
    assert importance.perplexity(weights) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_nothing_finite_weighs_nothing() -> None:
    weights = importance.normalised(np.array([math.nan, -math.inf]))
    assert not weights.any()
    assert importance.kish(weights) == importance.perplexity(weights) == importance.n_holding(weights, 0.5) == 0
    curve = importance.curve(np.array([math.nan, -math.inf]))
    assert not curve.kish.any()
    assert np.isnan(curve.best).all()
    assert not importance.flatten(np.array([math.nan])).weights.any()


def test_the_curve_is_that_of_every_beginning() -> None:
    rng = np.random.default_rng(3)
    likelihood = -2000.0 * rng.random(150) ** 3
    likelihood[[0, 40]] = -math.inf, math.nan
    curve = importance.curve(likelihood)
    assert curve.n.tolist() == list(range(1, 151))
    for index, n in enumerate(curve.n):
        weights = importance.normalised(likelihood[:n])
        assert curve.kish[index] == pytest.approx(importance.kish(weights))
        assert curve.perplexity[index] == pytest.approx(importance.perplexity(weights))
    assert curve.best[-1] == np.nanmax(likelihood)


def test_a_long_curve_has_few_points_and_ends_at_the_end() -> None:
    curve = importance.curve(np.linspace(-10.0, 0.0, 5000))
    assert len(curve.n) <= 240
    assert (curve.n[0], curve.n[-1]) == (1, 5000)
    assert curve.kish[-1] == pytest.approx(importance.kish(importance.normalised(np.linspace(-10.0, 0.0, 5000))))


def test_weights_are_flattened_only_as_far_as_needed() -> None:
    good = np.random.default_rng(1).normal(0, 0.5, 1000)
    assert importance.flatten(good).is_plain
    poor = -1000.0 * np.arange(1000.0)
    flattened = importance.flatten(poor)
    assert not flattened.is_plain
    assert importance.kish(flattened.weights) == pytest.approx(50, rel=1e-3)
    few = importance.flatten(poor[:10])
    assert importance.kish(few.weights) == pytest.approx(2, rel=1e-3)
    assert importance.flatten(poor[:1]).weights.tolist() == [1.0]


def test_resampling_follows_the_weights() -> None:
    weights = np.array([0.5, 0.0, 0.3, 0.2])
    assert np.bincount(importance.resample(weights, 10), minlength=4).tolist() == [5, 0, 3, 2]


def test_how_few_hold_most() -> None:
    weights = np.array([0.1, 0.6, 0.3])
    assert [importance.n_holding(weights, share) for share in (0.5, 0.6, 0.9, 1.0)] == [1, 1, 2, 3]


def test_the_curve_bears_likelihoods_that_are_hopeless_beside_the_best() -> None:
    """The first are 4e8 below the last: what is left of their differences must not be taken for spread."""
    rng = np.random.default_rng(2)
    likelihood = np.concatenate([-5e8 + 1e8 * rng.random(30), -1e8 + rng.random(5)])
    found = importance.curve(likelihood)
    for n, size, spread in zip(found.n, found.kish, found.perplexity, strict=True):
        weights = importance.normalised(likelihood[:n])
        assert size == pytest.approx(importance.kish(weights), rel=1e-6)
        assert spread == pytest.approx(importance.perplexity(weights), rel=1e-6)
