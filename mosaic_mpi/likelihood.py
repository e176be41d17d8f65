"""The likelihood of a simulation: the engine's scorer over prepared inputs, and the collapse over iterations.

Owns what is scored against what, as MOSAIC's workers do it: the scored window, the confidence weights, the derived
weights of locations. Knows no engine: the scorer is handed in.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.catalogue import CONFIDENCE
from mosaic_mpi.control import LikelihoodSettings

Matrix = NDArray[np.float64]
_PASSED_ON = (
    *("weight_cases", "weight_deaths", "nb_k_min_cases", "nb_k_min_deaths"),
    *("weight_peak_timing", "weight_peak_magnitude", "weight_cumulative_total", "weight_wis"),
    *("sigma_peak_time", "sigma_peak_log"),
)


class Likelihood:
    """Scores iterations against the observations of a config.

    Parameters
    ----------
    values : mapping
        `Config.values`.
    settings : LikelihoodSettings
        As in MOSAIC's control.
    scorer : callable
        `laser.cholera.calc_model_likelihood.calc_model_likelihood`.
    prepare : callable, optional
        Makes of the scorer's other arguments one of ``est_cases`` and ``est_deaths`` alone; None where it cannot.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        settings: LikelihoodSettings,
        scorer: Callable[..., float],
        prepare: Callable[[Mapping[str, Any]], Callable[..., float] | None] | None = None,
    ) -> None:
        self._scorer = scorer
        # As many days as there are of all; the engine's Analyzer cuts to the simulated ones too.
        n_days = min(values[key].shape[1] for key in ("reported_cases", "reported_deaths", "psi_jt"))
        first_day = date.fromisoformat(str(values["date_start"])[:10])
        start, deaths_start = scored_window(settings, first_day, n_days)
        self._window = np.s_[:, start:n_days]
        self._arguments: dict[str, Any] = {
            f"obs_{what}": np.ascontiguousarray(values[f"reported_{what}"][self._window]) for what in _OUTCOMES
        }
        self._arguments |= {name: getattr(settings, name) for name in _PASSED_ON}
        self._arguments |= _weight_arguments(values, settings, self._window, start, deaths_start)
        self._arguments |= _peak_arguments(values, settings, first_day, start)
        self._prepared = None if prepare is None else prepare(self._arguments)

    def score(self, cases: NDArray[Any], deaths: NDArray[Any]) -> float:
        """Return the log-likelihood of one iteration.

        Parameters
        ----------
        cases, deaths : ndarray of int32, shape (n_locations, n_ticks)
            Reported cases and deaths of the iteration, per day.

        Returns
        -------
        float
            As the engine's scorer gives it; -inf where the scorer refuses its input, as in the engine's Analyzer.
        """
        estimates = {"est_cases": cases[self._window], "est_deaths": deaths[self._window]}
        if self._prepared is not None and all(_are_counts(counts) for counts in estimates.values()):
            return self._prepared(**estimates)
        try:
            return float(self._scorer(**estimates, **self._arguments))
        except ValueError:
            return -math.inf


_OUTCOMES = ("cases", "deaths")


def _are_counts(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "i" and bool(array.min() >= 0)


def scored_window(settings: LikelihoodSettings, first_day: date, n_days: int) -> tuple[int, int]:
    """Return where scoring begins.

    Parameters
    ----------
    settings : LikelihoodSettings
        Burn-in and first days.
    first_day : datetime.date
        Of the observations.
    n_days : int
        Their number.

    Returns
    -------
    start : int
        First scored day, from 0: the earlier of cases' and deaths'.
    deaths_start : int
        First day on which deaths count, from 0.
    """

    def first(day: str | None) -> int:
        offset = 0 if day is None else (date.fromisoformat(day) - first_day).days
        return min(max(settings.burn_in_days, offset, 0), n_days - 1)

    cases, deaths = first(settings.score_start_cases), first(settings.deaths_score_start)
    return min(cases, deaths), deaths


def _weight_arguments(
    values: Mapping[str, Any], settings: LikelihoodSettings, window: Any, start: int, deaths_start: int
) -> dict[str, Any]:
    observed = [values[f"reported_{what}"] for what in _OUTCOMES]
    whole = [values.get(key) for key in CONFIDENCE]
    given = settings.weights_location
    # MOSAIC derives them from the whole series, burn-in included.
    location = derived_location_weights(observed, whole) if given is None else np.array(given)
    confidence = [_cut(weights, window) for weights in whole]
    if deaths_start > start:
        deaths = np.ones(observed[1][window].shape) if confidence[1] is None else confidence[1].copy()
        deaths[:, : deaths_start - start] = 0.0
        confidence[1] = deaths
    arguments = {f"weights_obs_{what}": weights for what, weights in zip(_OUTCOMES, confidence, strict=True)}
    time = None if settings.weights_time is None else np.array(settings.weights_time)
    return {
        **arguments,
        "weights_location": location,
        "weights_time": time,
    }


def _cut(matrix: Matrix | None, window: Any) -> Matrix | None:
    return None if matrix is None else np.ascontiguousarray(matrix[window])


def derived_location_weights(observed: Sequence[Matrix], confidence: Sequence[Matrix | None]) -> Matrix | None:
    """Weigh locations by how many trusted observations above 0 they have.

    With ``s_j`` the sum of a location's confidence weights over its observations above 0, cases and deaths
    together, and ``ref`` the median of the positive ``s_j``: ``0.05 + 0.95 min(1, log(1 + s_j) / log(1 + ref))``
    (MOSAIC 0.64.2).

    Parameters
    ----------
    observed, confidence : sequence of ndarray of float64, shape (n_locations, n_days)
        Cases, deaths.

    Returns
    -------
    ndarray of float64, shape (n_locations,), or None
        None, for equal weights, with one location, without confidence weights, or where all would be 1.
    """
    if len(observed[0]) == 1 or all(weights is None for weights in confidence):
        return None
    trusted = np.zeros(len(observed[0]))
    for counts, weights in zip(observed, confidence, strict=True):
        if weights is not None:
            trusted += np.where((counts > 0) & np.isfinite(weights), weights, 0.0).sum(axis=1)
    if not (trusted > 0).any():
        return None
    reference = math.log1p(float(np.median(trusted[trusted > 0])))
    weights = np.array([0.05 + 0.95 * min(1.0, math.log1p(count) / reference) for count in trusted])
    return None if (weights == 1.0).all() else weights


def _peak_arguments(
    values: Mapping[str, Any], settings: LikelihoodSettings, first_day: date, start: int
) -> dict[str, Any]:
    """The observed epidemic peaks, for the scorer's peak terms (which it skips at weight 0)."""
    peaks = values.get("epidemic_peaks")
    if not peaks or not (settings.weight_peak_timing or settings.weight_peak_magnitude):
        return {}
    import pandas as pd

    table = pd.DataFrame(peaks)
    table["loc_idx"] = [values["location_name"].index(iso) for iso in table["iso_code"]]
    stop = date.fromisoformat(str(values["date_stop"])[:10])
    days = {"date_start": pd.Timestamp(first_day + timedelta(days=start)), "date_stop": pd.Timestamp(stop)}
    return {"epidemic_peaks": table, **days}


def dispersion(x: Matrix, w: Matrix, k_min: float = 3, k_max: float = 1e5) -> float:
    """Return the dispersion (size) of a negative binomial by weighted moments, summed the way R sums.

    It takes the place of the engine's ``nb_size_from_obs_weighted``, of which it is the formula: with weighted
    mean m and variance v (divisor ``W - sum(w^2) / W``, W the sum of the weights), ``m^2 / (v - m)`` within
    [k_min, k_max], infinite where v does not exceed m. R accumulates sums in extended precision. The engine does
    not, and of a series with a single case, whose v and m are equal, it finds v larger by a rounding error.

    Parameters
    ----------
    x, w : ndarray of float64, shape (n_days,)
        Observed counts and weights of one location.
    k_min, k_max : float
        Bounds of the result.
    """
    known = np.isfinite(x) & np.isfinite(w) & (w > 0)
    if not known.any():
        return math.inf
    x, w = x[known], w[known]
    total = _extended_sum(w)
    mean = _extended_sum(w * x) / total
    divisor = total - _extended_sum(w * w) / total
    spread = _extended_sum(w * (x - mean) ** 2)
    variance = spread / (divisor if divisor > 0 else total)
    if not (math.isfinite(mean) and math.isfinite(variance) and 0 < mean < variance):
        return math.inf
    return min(max(mean * mean / (variance - mean), k_min), k_max)


def remembered_dispersion(x: Matrix, w: Matrix, k_min: float = 3, k_max: float = 1e5) -> float:
    """Return `dispersion`, which the scorer asks for anew with every iteration: observations stay the same."""
    return _dispersion_of(_as_bytes(x), _as_bytes(w), k_min, k_max)


@functools.lru_cache(maxsize=1024)
def _dispersion_of(x: bytes, w: bytes, k_min: float, k_max: float) -> float:
    return dispersion(np.frombuffer(x), np.frombuffer(w), k_min, k_max)


def _as_bytes(values: Matrix) -> bytes:
    return np.asarray(values, np.float64).tobytes()


def _extended_sum(values: Matrix) -> float:
    return float(np.sum(values, dtype=np.longdouble))


def collapse(likelihoods: Sequence[float]) -> float:
    """Collapse the iterations of a simulation to one number: log-mean-exp over the finite ones.

    Parameters
    ----------
    likelihoods : sequence of float
        Log-likelihood of each iteration.

    Returns
    -------
    float
        ``log(mean(exp(x)))`` over the finite x; the first iteration's value where none is finite, as
        MOSAIC's worker does.
    """
    finite = [value for value in likelihoods if math.isfinite(value)]
    if not finite:
        return likelihoods[0]
    top = max(finite)
    return top + math.log(math.fsum([math.exp(value - top) for value in finite]) / len(finite))
