"""The engine's scorer with everything that the observations alone decide worked out once.

Owns what spares an iteration most of its scoring: which cells count, their weights, dispersions and the parts of the
negative binomial that know nothing of an estimate, of all locations in one array. Weights and dispersions are made by
the engine's own functions, and each cell's formula and each location's sum are those of the engine and SciPy, in the
same order, so that the log-likelihood is the same to the last bit. Imports nothing of the engine: `engine.py` hands
its module in, after it has seen that the engine is the one that this was made for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
_SHAPE_TERMS = ("weight_peak_timing", "weight_peak_magnitude", "weight_cumulative_total", "weight_wis")
_N_OBSERVATIONS = 3
"""Fewer of them, or of the sum of their confidence weights, and a series is not scored."""
_LEAST_ESTIMATE = 1e-10
_LOG_OF_A_MISSED_CASE = -np.log(1e6)
"""What each observed one costs where none is estimated."""
_OUTCOMES = ("cases", "deaths")


class _Unsupported(Exception):
    """Settings or observations that `PreparedScorer` was not made for."""


class _Row(NamedTuple):
    """The observations of one outcome in one location, as far as they count.

    Parameters
    ----------
    cells : ndarray of int64, shape (n_cells,)
        Where they are, as indices into ``[outcome, location, day]`` laid out flat.
    observed : ndarray of int64, shape (n_cells,)
    weights : ndarray of float64, shape (n_cells,)
    k : float
        Dispersion; infinite for a Poisson distribution.
    """

    cells: NDArray[np.int64]
    observed: NDArray[np.int64]
    weights: Matrix
    k: float


class PreparedScorer:
    """Scores estimates against observations that stay the same.

    Parameters
    ----------
    scoring : module
        `laser.cholera.calc_model_likelihood`.
    arguments : mapping
        What its `calc_model_likelihood` is called with, but for the estimates.
    """

    def __init__(self, scoring: ModuleType, arguments: Mapping[str, Any]) -> None:
        from scipy import special

        if any(arguments[name] != 0.0 for name in _SHAPE_TERMS):
            raise _Unsupported
        self._xlog1py, self._xlogy = special.xlog1py, special.xlogy
        self._n_locations = len(arguments["obs_cases"])
        given = arguments["weights_location"]
        self._weights_location = np.ones(self._n_locations) if given is None else np.asarray(given, float)
        self._weights_outcome = [arguments[f"weight_{what}"] for what in _OUTCOMES]
        rows = _rows(scoring, arguments)
        self._order = [row is not None for row in rows]
        found = [row for row in rows if row is not None]
        # Those with an infinite dispersion last, so that each formula has a slice of the cells to itself.
        self._place = np.argsort([math.isinf(row.k) for row in found], kind="stable").tolist()
        found = [found[place] for place in self._place]
        self._cells = _joined([row.cells for row in found], np.int64)
        self._weights = _joined([row.weights for row in found], float)
        observed = _joined([row.observed for row in found], np.int64)
        bounds = np.cumsum([0, *(row.cells.size for row in found)]).tolist()
        self._slices = [slice(*pair) for pair in itertools.pairwise(bounds)]
        n_binomial = sum(row.cells.size for row in found if math.isfinite(row.k))
        self._binomial, self._poisson = slice(0, n_binomial), slice(n_binomial, observed.size)
        self._observed = observed.astype(float)
        self._k = _joined([np.full(row.cells.size, row.k) for row in found], float)[self._binomial]
        k, counts = self._k, observed[self._binomial]
        self._coefficient = special.gammaln(k + counts) - special.gammaln(counts + 1) - special.gammaln(k)
        self._log_factorial = special.gammaln(observed[self._poisson] + 1)

    def __call__(self, est_cases: NDArray[np.int32], est_deaths: NDArray[np.int32]) -> float:
        """Return the log-likelihood of estimates none of which is negative: ndarrays, shape (n_locations, n_days)."""
        estimates = np.concatenate((est_cases, est_deaths), axis=None)[self._cells].astype(float)
        with np.errstate(all="ignore"):
            missed = self._observed * _LOG_OF_A_MISSED_CASE + 0.0  # 0.0, and not -0.0, where none was observed
            values = np.where(estimates <= 0.0, missed, self._log_probabilities(estimates))
        values *= self._weights
        sums = [0.0] * len(self._place)
        for place, cells in zip(self._place, self._slices, strict=True):
            sums[place] = float(np.add.reduce(values[cells]))
        return self._total(sums)

    def _log_probabilities(self, estimates: Matrix) -> Matrix:
        """Of the observations: `scipy.stats.nbinom.logpmf` and `scipy.stats.poisson.logpmf`."""
        mean = np.maximum(estimates, _LEAST_ESTIMATE)
        values = np.empty_like(mean)
        p = self._k / (self._k + mean[self._binomial])
        binomial = self._coefficient + self._k * np.log(p)
        values[self._binomial] = binomial + self._xlog1py(self._observed[self._binomial], -p)
        mu = mean[self._poisson]
        values[self._poisson] = self._xlogy(self._observed[self._poisson], mu) - self._log_factorial - mu
        return values

    def _total(self, sums: list[float]) -> float:
        """Weigh outcomes and locations."""
        left = iter(sums)
        outcomes = iter([next(left) if is_scored else 0.0 for is_scored in self._order])
        locations = np.full(self._n_locations, np.nan)
        weight_cases, weight_deaths = self._weights_outcome
        for j, (cases, deaths) in enumerate(zip(outcomes, outcomes, strict=True)):
            both = weight_cases * cases + weight_deaths * deaths
            locations[j] = self._weights_location[j] * both if math.isfinite(both) else -math.inf
        total = float(np.nansum(locations))
        return total if math.isfinite(total) else -math.inf


def _rows(scoring: ModuleType, arguments: Mapping[str, Any]) -> list[_Row | None]:
    """Cases and deaths of the first location, of the second, and so on; None for what is not scored."""
    n_locations, n_days = arguments["obs_cases"].shape
    time = arguments["weights_time"]
    time = np.ones(n_days) if time is None else np.asarray(time, float)
    first = np.arange(n_days)
    rows = []
    for location in range(n_locations):
        for number, what in enumerate(_OUTCOMES):
            confidence = arguments[f"weights_obs_{what}"]
            trust = None if confidence is None else confidence[location]
            observed, k_min = arguments[f"obs_{what}"][location], arguments[f"nb_k_min_{what}"]
            cells = first + n_days * (n_locations * number + location)
            rows.append(_row(scoring, observed, time, trust, k_min, cells))
    return rows


def _row(
    scoring: ModuleType, observed: Matrix, time: Matrix, trust: Matrix | None, k_min: float, cells: NDArray[np.int64]
) -> _Row | None:
    """Weights and dispersion of one series, as the main loop of the engine's scorer finds them."""
    estimated = np.zeros(observed.size)  # whatever is finite
    is_known = np.isfinite(observed)
    if trust is None or scoring.weights_obs_row_trivial(trust, observed):
        n_known = float(np.sum(is_known))
        weights = scoring.mask_weights(time, observed, estimated)
        weights_of_k = time
    else:
        counts = is_known & np.isfinite(time) & (time > 0)
        n_known = float(np.sum(np.where(np.isfinite(trust), trust, 0.0)[counts]))
        weights = weights_of_k = scoring.weights_obs_effective(time, trust, observed, estimated)
    if n_known < _N_OBSERVATIONS:
        return None
    k = scoring.nb_size_from_obs_weighted(observed, weights_of_k, k_min=k_min)
    if math.isfinite(k):
        k = max(k_min, k)
    counts = is_known & (weights > 0)
    if not counts.any():
        return None
    known = np.round(observed[counts]).astype(int)
    if (known < 0).any() or not k > 0.0:
        raise _Unsupported
    return _Row(cells[counts], known, weights[counts], k)


def _joined(arrays: list[Any], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])


def prepare_scorer(scoring: ModuleType, arguments: Mapping[str, Any]) -> Callable[..., float] | None:
    """Return a scorer of ``est_cases`` and ``est_deaths`` alone, or None where the engine's own has to be asked.

    Before it is trusted it has to give, of some made-up estimates, the engine's own number: SciPy is not looked at
    otherwise.

    Parameters
    ----------
    scoring, arguments
        See `PreparedScorer`.
    """
    tried = _made_up(arguments)
    try:
        expected = [scoring.calc_model_likelihood(**estimates, **arguments) for estimates in tried]
        scorer = PreparedScorer(scoring, arguments)
        found = [scorer(**estimates) for estimates in tried]
    except Exception:  # of whatever kind: the engine's own scorer will have to say it
        return None
    return scorer if found == expected else None


def _made_up(arguments: Mapping[str, Any]) -> list[dict[str, NDArray[np.int32]]]:
    """Estimates near the observations, far from them, and none where there were some."""
    tried = []
    for factor, rest in ((1, 3), (7, 1)):
        made = {}
        for what in _OUTCOMES:
            observed = np.nan_to_num(arguments[f"obs_{what}"], posinf=0.0, neginf=0.0)
            days = np.arange(observed.size).reshape(observed.shape)
            about = factor * np.clip(observed, 0, 1e6) + days % 5
            made[f"est_{what}"] = np.where(days % 7 == rest, 0, about).astype(np.int32)
        tried.append(made)
    return tried
