"""Derived quantities against R's results for invented inputs, and their edges."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mosaic_mpi.mosaic import derivations
from mosaic_mpi.mosaic.derivations import (
    Suitability,
    clamped,
    fatality_baseline,
    hamilton_counts,
    initial_proportions,
    quotient,
)

RECORDED = json.loads((Path(__file__).parent / "data" / "r_derivations.json").read_text())


def series_of(case: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([RECORDED["series"][case["series"]]], dtype=np.float64)


def calibrated(case: dict[str, Any], copies: int) -> Any:
    psi = np.repeat(series_of(case), copies, axis=0)
    parameters = ([case[name]] * copies for name in "abzk")
    return Suitability(psi).calibrated(*parameters).tolist()


# One copy is smoothed column by column, twenty are row by row.
@pytest.mark.parametrize("copies", [1, 20])
@pytest.mark.parametrize("number", range(len(RECORDED["psi_star"])))
def test_calibrated_suitability_equals_that_of_r(number: int, copies: int) -> None:
    case = RECORDED["psi_star"][number]
    assert calibrated(case, copies) == [case["out"]] * copies


@pytest.mark.parametrize("number", range(0, len(RECORDED["psi_star"]), 7))
def test_without_the_fast_exponential_the_suitability_is_the_same(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derivations, "_complex_exp_is_exact", lambda: False)
    case = RECORDED["psi_star"][number]
    assert calibrated(case, 2) == [case["out"]] * 2


def test_the_fast_exponential_is_that_of_the_c_library() -> None:
    x = np.random.default_rng(0).uniform(-60.0, 60.0, 200_000)
    assert derivations._exp(x).tolist() == [math.exp(value) for value in x.tolist()]


def test_an_exponential_that_overflows_is_infinite() -> None:
    assert derivations._exp(np.array([800.0, -800.0])).tolist() == [math.inf, 0.0]


def test_locations_with_gaps_and_shifts_of_their_own_do_not_mix() -> None:
    cases = [case for case in RECORDED["psi_star"] if len(case["out"]) == 20]
    psi = np.vstack([series_of(case) for case in cases])
    parameters = ([float(case[name]) for case in cases] for name in "abzk")
    assert Suitability(psi).calibrated(*parameters).tolist() == [case["out"] for case in cases]


def test_suitability_is_in_fortran_order() -> None:
    psi = np.full((3, 5), 0.25)
    assert Suitability(psi).calibrated([1.0] * 3, [0.0] * 3, [1.0] * 3, [0.0] * 3).flags.f_contiguous


def test_invalid_calibration_parameters_count_as_none() -> None:
    psi = np.array([[0.1, 0.9, 0.4]])
    neutral = Suitability(psi).calibrated([1.0], [0.0], [1.0], [0.0]).tolist()
    for a, b, z, k in [(-1.0, math.nan, 0.0, math.nan), (math.nan, math.inf, 1.5, -math.inf)]:
        assert Suitability(psi).calibrated([a], [b], [z], [k]).tolist() == neutral


def test_an_unknown_series_is_the_offset_alone() -> None:
    psi = np.full((1, 4), math.nan)
    expected = 1.0 / (1.0 + math.exp(-0.5))
    assert Suitability(psi).calibrated([2.0], [0.5], [0.3], [1.0]).tolist() == [[expected] * 4]


@pytest.mark.parametrize("number", range(len(RECORDED["hamilton"])))
def test_counts_equal_those_of_r(number: int) -> None:
    case = RECORDED["hamilton"][number]
    counts = hamilton_counts(np.array([case["shares"]]).T, np.array([float(case["total"])]))
    assert counts[:, 0].tolist() == case["counts"]


def test_counts_of_all_locations_sum_to_the_population() -> None:
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(6), size=500).T
    population = np.floor(rng.uniform(0.0, 2e8, 500))
    assert hamilton_counts(shares, population).sum(axis=0).tolist() == population.tolist()


def test_the_susceptible_are_what_the_others_leave() -> None:
    drawn = np.array([[0.25], [0.125], [-0.5], [0.0625], [0.0]])
    assert initial_proportions(drawn)[:, 0].tolist() == [0.5625, 0.25, 0.125, 0.0, 0.0625, 0.0]


def test_proportions_above_one_are_scaled_and_leave_no_susceptible() -> None:
    drawn = np.array([[1.0], [0.5], [0.25], [0.25], [0.0]])
    assert initial_proportions(drawn)[:, 0].tolist() == [0.0, 0.5, 0.25, 0.125, 0.125, 0.0]


def test_the_fatality_baseline_stays_below_one_and_keeps_missing_values() -> None:
    low, high, missing = fatality_baseline([0.01, 1e9, math.nan], 0.1, 0.4, 0.5, 0.8)
    assert low == 0.01 * ((1.0 - math.exp(-0.1)) * 0.4 / (0.5 * 0.8))
    assert high == 1.0 - 1e-9
    assert math.isnan(missing)


def test_division_by_zero_follows_r() -> None:
    assert quotient(1.0, 0.0) == math.inf
    assert quotient(1.0, -0.0) == -math.inf
    assert math.isnan(quotient(0.0, 0.0))


def test_clamps_hold_both_bounds_and_keep_missing_values() -> None:
    assert clamped("p_beta", [0.0, 0.5, 1.0]) == [1e-6, 0.5, 1.0 - 1e-6]
    assert clamped("beta_j0_tot", [-1.0, 2.0]) == [1e-10, 2.0]
    assert math.isnan(clamped("tau_i", [math.nan])[0])
