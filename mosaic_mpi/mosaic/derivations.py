"""What MOSAIC derives from its draws: initial counts, the fatality baseline, calibrated suitability, clamps.

Owns the arithmetic, operation by operation as R does it. Draws nothing and reads no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLAMPS",
    "Suitability",
    "clamped",
    "fatality_baseline",
    "hamilton_counts",
    "initial_proportions",
    "quotient",
]

Floats = NDArray[np.float64]

# Bounds the workers apply after everything else; nothing is derived again.
CLAMPS: dict[str, tuple[float, float]] = {
    "beta_j0_tot": (1e-10, math.inf),
    "beta_j0_hum": (0.0, math.inf),
    "beta_j0_env": (0.0, math.inf),
    "p_beta": (1e-6, 1.0 - 1e-6),
    "tau_i": (0.0, 1.0),
}

_SUITABILITY_EPSILON = 1e-6
_LARGEST_BASELINE = 1.0 - 1e-9
# Beyond this the complex exponential of the C library scales its result, which costs a rounding.
_PLAIN_EXPONENT = 700.0
_FEW_LOCATIONS = 12


def clamped(name: str, values: Sequence[float]) -> list[float]:
    """Values within the bounds of ``CLAMPS[name]``; NaN stays NaN."""
    low, high = CLAMPS[name]
    return [min(max(value, low), high) for value in values]


def quotient(x: float, y: float) -> float:
    """``x / y`` with R's results for a divisor of 0: infinite, or NaN for 0 / 0."""
    if y != 0.0:
        return x / y
    return math.nan if x == 0.0 or math.isnan(x) else math.copysign(math.inf, x) * math.copysign(1.0, y)


def fatality_baseline(
    target: Sequence[float], gamma_1: float, rho: float, rho_deaths: float, chi_epidemic: float
) -> list[float]:
    """Baseline infection fatality that gives the targeted ratio of reported deaths to reported cases.

    Parameters
    ----------
    target : sequence of float, length n_locations
        ``CFR_target``, deaths per case.
    gamma_1 : float
        Recovery rate, per day.
    rho, rho_deaths : float
        Proportions of cases and of deaths that are reported.
    chi_epidemic : float
        Proportion of suspected cases that are cholera.

    Returns
    -------
    list of float, length n_locations
        ``mu_j_baseline``, capped just below 1; NaN where an input is NaN.
    """
    leaving = 1.0 - _scalar_exp(-gamma_1)
    factor = quotient(leaving * rho, rho_deaths * chi_epidemic)
    return [min(value * factor, _LARGEST_BASELINE) for value in target]


def initial_proportions(drawn: Floats) -> Floats:
    """Proportions of S, V1, V2, E, I, R from the draws of the last five.

    Parameters
    ----------
    drawn : ndarray of float64, shape (5, n_locations)
        V1, V2, E, I, R; finite. Negative draws count as 0.

    Returns
    -------
    ndarray of float64, shape (6, n_locations)
        S takes what the others leave. Where they sum to 1 or more, S is 0 and they are scaled to sum to 1.
    """
    others = np.where(drawn < 0.0, 0.0, drawn)
    # R sums a vector in the C type long double and rounds once.
    extended = np.zeros(others.shape[1], dtype=np.longdouble)
    for row in others:
        extended += row
    total = extended.astype(np.float64)
    full = total >= 1.0
    scaled = np.where(full, others / np.where(full, total, 1.0), others)
    return np.vstack([np.where(full, 0.0, 1.0 - total), scaled])


def hamilton_counts(proportions: Floats, totals: Floats) -> NDArray[np.int64]:
    """Whole numbers by the method of largest remainders (Hamilton).

    Parameters
    ----------
    proportions : ndarray of float64, shape (n_groups, n_locations)
        Columns sum to 1.
    totals : ndarray of float64, shape (n_locations,)
        Whole numbers to be shared out.

    Returns
    -------
    ndarray of int64, shape (n_groups, n_locations)
        Columns sum to ``totals``. Equal remainders are served in the order of the groups.
    """
    quotas = proportions * totals
    floors = np.floor(quotas)
    missing = totals - floors.sum(axis=0)
    order = np.argsort(floors - quotas, axis=0, kind="stable")
    rank = np.argsort(order, axis=0)
    counts: NDArray[np.int64] = (floors + (rank < missing)).astype(np.int64)
    return counts


class Suitability:
    """Calibration of the environmental suitability ``psi_jt`` on the logit scale.

    Parameters
    ----------
    psi : ndarray of float64, shape (n_locations, n_ticks)
        Base series, per day, 0 to 1; NaN where unknown.
    """

    def __init__(self, psi: Floats) -> None:
        self._n_locations, self._n_ticks = psi.shape
        clipped = np.clip(psi, _SUITABILITY_EPSILON, 1.0 - _SUITABILITY_EPSILON)
        flat = [math.nan if p != p else math.log(p / (1.0 - p)) for p in clipped.ravel().tolist()]
        self._logit = np.array(flat, dtype=np.float64).reshape(psi.shape)
        self._complete = [not np.isnan(row).any() for row in self._logit]

    def calibrated(self, a: Sequence[float], b: Sequence[float], z: Sequence[float], k: Sequence[float]) -> Floats:
        """Shift, gain, offset and smoothing of every location's series.

        Parameters
        ----------
        a, b, z, k : sequence of float, length n_locations
            Gain (above 0) and offset on the logit scale, smoothing weight (in (0, 1], 1 for none) and shift
            in days (positive for later; rounded half to even). Invalid ones count as 1, 0, 1, 0.

        Returns
        -------
        ndarray of float64, shape (n_locations, n_ticks), Fortran order
            The order matters: the engine takes the mean over locations in float32.
        """
        gain = [value if 0.0 < value < math.inf else 1.0 for value in a]
        offset = [value if math.isfinite(value) else 0.0 for value in b]
        weight = [value if 0.0 < value <= 1.0 else 1.0 for value in z]
        shift = [round(value) if math.isfinite(value) else 0 for value in k]
        logit = np.empty_like(self._logit)
        for location, days in enumerate(shift):
            self._fill_shifted(location, days, logit[location])
        logit *= np.array(gain)[:, None]
        logit += np.array(offset)[:, None]
        series = np.ascontiguousarray((1.0 / (1.0 + _exp(-logit))).T)
        _smooth(series, weight)
        return series.T

    def _fill_shifted(self, location: int, days: int, out: Floats) -> None:
        base, n = self._logit[location], self._n_ticks
        if not self._complete[location] or abs(days) >= n:
            out[:] = _filled(_shifted(base, days))
        elif days >= 0:
            out[:days] = base[0]
            out[days:] = base[: n - days]
        else:
            out[:days] = base[-days:]
            out[days:] = base[-1]


def _shifted(series: Floats, days: int) -> Floats:
    out = np.full_like(series, np.nan)
    if 0 <= days < series.size:
        out[days:] = series[: series.size - days]
    elif -series.size < days < 0:
        out[:days] = series[-days:]
    return out


def _filled(series: Floats) -> Floats:
    """Last value carried forward, then the first one backward; 0 where there is none."""
    known = np.flatnonzero(~np.isnan(series))
    if known.size == 0:
        return np.zeros_like(series)
    latest = np.searchsorted(known, np.arange(series.size), side="right") - 1
    return series[known[np.maximum(latest, 0)]]


def _smooth(series: Floats, weight: list[float]) -> None:
    """Causal moving average ``z x[t] + (1 - z) out[t - 1]`` down the columns of ``series``, in place."""
    if all(z == 1.0 for z in weight):
        return
    smooth = _smooth_columns if len(weight) <= _FEW_LOCATIONS else _smooth_rows
    smooth(series, weight)


def _smooth_columns(series: Floats, weight: list[float]) -> None:
    for location, z in enumerate(weight):
        if z != 1.0:
            column = series[:, location]
            scaled = (z * column).tolist()
            scaled[0] = float(column[0])
            column[:] = list(accumulate(scaled, _carrying(1.0 - z)))


def _carrying(rest: float) -> Callable[[float, float], float]:
    return lambda before, now: now + rest * before


def _smooth_rows(series: Floats, weight: list[float]) -> None:
    rest = 1.0 - np.array(weight)
    series[1:] *= weight
    carried = np.empty_like(rest)
    rows = iter(series)
    before = next(rows)
    for row in rows:
        np.multiply(before, rest, out=carried)
        np.add(row, carried, out=row)
        before = row


@cache
def _complex_exp_is_exact() -> bool:
    probe = np.linspace(-30.0, 30.0, 4001)
    return bool(np.array_equal(np.exp(probe + 0j).real, np.array([math.exp(x) for x in probe])))


def _exp(x: Floats) -> Floats:
    """Exponential function of the C library, as R calls it, of a whole array.

    numpy's real ``exp`` differs from it in the last bit on processors with AVX-512; its complex one calls the
    C library for each element, which the probe confirms.
    """
    if _complex_exp_is_exact() and bool((np.abs(x) <= _PLAIN_EXPONENT).all()):
        return np.ascontiguousarray(np.exp(x + 0j).real)
    return np.fromiter(map(_scalar_exp, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def _scalar_exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
