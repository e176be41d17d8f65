"""Importance weights of simulations, and what they are worth.

Owns the formulas. The parameter sets are draws of the prior (or of whatever a table was drawn from), so that the
weight of a simulation against the posterior is its likelihood. Pure NumPy.

- effective sample size after Kish: (sum w)^2 / sum w^2 (L. Kish, Survey Sampling, Wiley 1965; as a diagnostic of
  importance sampling: J. S. Liu, Statistics and Computing 6, 1996, 113-119);
- perplexity: exp(-sum w log w) of normalised weights (O. Cappe, R. Douc, A. Guillin, J.-M. Marin, C. P. Robert,
  Statistics and Computing 18, 2008, 447-459);
- flattened weights, w^(1/T): E. Koblents, J. Miguez, Statistics and Computing 25, 2015, 407-425.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_WANTED = 50.0
"""Effective draws at which the pictures of weighted draws become readable."""
_LONGEST_CURVE = 240
_HALVINGS = 60


def normalised(likelihood: Floats, temperature: float = 1.0) -> Floats:
    """Return weights that sum to 1.

    Parameters
    ----------
    likelihood : ndarray of float64, shape (n,)
        Log-likelihoods; those that are not finite weigh nothing.
    temperature : float
        1 for the likelihood itself; above, the weights are flattened; infinity makes them equal.

    Returns
    -------
    ndarray of float64, shape (n,)
        All zeros where none is finite.
    """
    finite = np.isfinite(likelihood)
    weights = np.zeros(len(likelihood))
    if finite.any():
        weights[finite] = np.exp((likelihood[finite] - likelihood[finite].max()) / temperature)
        weights /= weights.sum()
    return weights


def kish(weights: Floats) -> float:
    """Effective sample size of normalised weights; 0 where there are none."""
    squares = float(np.square(weights).sum())
    return 1.0 / squares if squares > 0 else 0.0


def perplexity(weights: Floats) -> float:
    """Exponential of the entropy of normalised weights; 0 where there are none."""
    some = weights[weights > 0]
    return math.exp(-float((some * np.log(some)).sum())) if len(some) else 0.0


def n_holding(weights: Floats, share: float) -> int:
    """How few simulations hold a share of all weight together."""
    if not weights.any():
        return 0
    return int(np.searchsorted(np.cumsum(np.sort(weights)[::-1]), share * (1 - 1e-12)) + 1)


@dataclass(frozen=True)
class Curve:
    """What grew while the run went on, at some numbers of completed simulations.

    Parameters
    ----------
    n : ndarray of int64, shape (n_points,)
        Completed simulations.
    kish, perplexity : ndarray of float64, shape (n_points,)
        Effective sample sizes of the first n; 0 before the first finite likelihood.
    best : ndarray of float64, shape (n_points,)
        Highest log-likelihood of the first n; NaN before the first finite one.
    """

    n: NDArray[np.int64]
    kish: Floats
    perplexity: Floats
    best: Floats


def curve(likelihood: Floats) -> Curve:
    """Follow the weights of log-likelihoods in the order in which they were stored.

    The sums are kept as logarithms: with thousands of observations the first likelihoods are zero beside the last.
    """
    finite = np.isfinite(likelihood)
    n = _points(len(likelihood))
    if not finite.any():
        return Curve(n, np.zeros(len(n)), np.zeros(len(n)), np.full(len(n), np.nan))
    logs = np.where(finite, likelihood - likelihood[finite].max(), -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.logaddexp.accumulate(logs)[n - 1]
        squares = np.logaddexp.accumulate(2 * logs)[n - 1]
        # -log w is never below 0, so that sum(w (-log w)) has a logarithm too.
        moments = np.logaddexp.accumulate(np.where(finite & (logs < 0), logs + np.log(-logs), -np.inf))[n - 1]
        entropy = total + np.exp(moments - total)
        seen = np.isfinite(total)
        sizes = np.where(seen, np.exp(2 * total - squares), 0.0)
        spread = np.where(seen, np.exp(entropy), 0.0)
    best = np.maximum.accumulate(np.where(finite, likelihood, -np.inf))[n - 1]
    return Curve(n, sizes, spread, np.where(seen, best, np.nan))


def _points(n: int) -> NDArray[np.int64]:
    if n <= _LONGEST_CURVE:
        return np.arange(1, n + 1)
    return np.unique(np.linspace(1, n, _LONGEST_CURVE).round().astype(np.int64))


@dataclass(frozen=True)
class Flattened:
    """Weights fit for pictures.

    Parameters
    ----------
    temperature : float
        T of w^(1/T); 1 where the likelihood's own weights will do.
    weights : ndarray of float64, shape (n,)
        Normalised.
    """

    temperature: float
    weights: Floats

    @property
    def is_plain(self) -> bool:
        """Whether they are the likelihood's own."""
        return self.temperature == 1.0


def wanted_size(n_finite: int) -> float:
    """Effective draws that pictures ask for: 50, or a fifth of what there is."""
    return min(_MOST_WANTED, max(n_finite / 5.0, min(n_finite, 2)))


def flatten(likelihood: Floats) -> Flattened:
    """Flatten weights as little as it takes to have enough effective draws for a picture."""
    wanted = wanted_size(int(np.isfinite(likelihood).sum()))
    plain = normalised(likelihood)
    if kish(plain) >= wanted * (1 - 1e-9) or not plain.any():
        return Flattened(1.0, plain)
    low, high = 0.0, math.log(1e15)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if kish(normalised(likelihood, math.exp(middle))) >= wanted else (middle, high)
    return Flattened(math.exp(high), normalised(likelihood, math.exp(high)))


def resample(weights: Floats, n: int) -> NDArray[np.int64]:
    """Draw indices in proportion to weights, systematically, without a random number.

    Returns
    -------
    ndarray of int64, shape (n,)
        Ascending; an index comes as often as its weight asks for, within one.
    """
    ends = np.cumsum(weights)
    positions = (np.arange(n) + 0.5) / n * ends[-1]
    drawn: NDArray[np.int64] = np.minimum(np.searchsorted(ends, positions), len(weights) - 1)
    return drawn
