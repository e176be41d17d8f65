"""The likelihood of a simulation: the engine's scorer over prepared observations, and the collapse.

Owns what is scored against what. Knows no engine: the scorer is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SETTINGS = (
    *("weight_cases", "weight_deaths", "weights_time", "weights_location"),
    *("nb_k_min_cases", "nb_k_min_deaths"),
    *("weight_peak_timing", "weight_peak_magnitude", "weight_cumulative_total", "weight_wis"),
    *("sigma_peak_time", "sigma_peak_log"),
)
"""Likelihood settings that a config may carry (the list of the engine's Analyzer component)."""

_VECTORS = ("weights_time", "weights_location")


class Likelihood:
    """Scores iterations against the observations of a config.

    Parameters
    ----------
    values : mapping
        `Config.values`.
    scorer : callable
        `laser.cholera.calc_model_likelihood.calc_model_likelihood`.
    """

    def __init__(self, values: Mapping[str, Any], scorer: Callable[..., float]) -> None:
        self._scorer = scorer
        self._cases: NDArray[np.float64] = values["reported_cases"]
        self._deaths: NDArray[np.float64] = values["reported_deaths"]
        self._settings = {key: _setting(key, values[key]) for key in SETTINGS if values.get(key) is not None}
        self._settings.update(_peaks(values))

    def score(self, cases: NDArray[Any], deaths: NDArray[Any]) -> float:
        """Return the log-likelihood of one iteration.

        Parameters
        ----------
        cases, deaths : ndarray of int32, shape (n_locations, n_ticks)
            Reported cases and deaths of the iteration, per day.

        Returns
        -------
        float
            As the engine's scorer gives it: NaN where no location has enough observations; -inf where
            the scorer refuses its input, as in the engine's Analyzer.
        """
        n_days = min(self._cases.shape[1], cases.shape[1])
        window = np.s_[:, :n_days]
        try:
            return float(
                self._scorer(
                    obs_cases=self._cases[window],
                    est_cases=cases[window],
                    obs_deaths=self._deaths[window],
                    est_deaths=deaths[window],
                    **self._settings,
                )
            )
        except ValueError:
            return -math.inf


def _setting(key: str, value: Any) -> Any:
    return np.atleast_1d(np.asarray(value, dtype=np.float64)) if key in _VECTORS else value


def _peaks(values: Mapping[str, Any]) -> dict[str, Any]:
    """The observed epidemic peaks, for the scorer's peak terms (no effect while their weights are 0)."""
    peaks = values.get("epidemic_peaks")
    if not any(values.get(f"weight_peak_{what}") for what in ("timing", "magnitude")) or not peaks:
        return {}
    import pandas as pd

    table = pd.DataFrame(peaks)
    table["loc_idx"] = [values["location_name"].index(iso) for iso in table["iso_code"]]
    days = {key: pd.Timestamp(values[key]).to_pydatetime() for key in ("date_start", "date_stop")}
    return {"epidemic_peaks": table, **days}


def collapse(likelihoods: NDArray[np.float64]) -> float:
    """Collapse the iterations of a simulation to one number: log-mean-exp over the finite ones.

    Parameters
    ----------
    likelihoods : ndarray of float64, shape (n_iterations,)
        Log-likelihood of each iteration.

    Returns
    -------
    float
        ``log(mean(exp(x)))`` over the finite x; the first iteration's value where none is finite, as
        MOSAIC's worker does.
    """
    finite = likelihoods[np.isfinite(likelihoods)]
    if not len(finite):
        return float(likelihoods[0])
    top = float(finite.max())
    return top + math.log(float(np.mean(np.exp(finite - top))))
