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

    From point to point, relative to the best so far: with thousands of observations the first likelihoods are zero
    beside the last, and differences as large as 1e8 would drown the entropy.
    """
    n = _points(len(likelihood))
    sums = _Sums()
    rows = []
    for first, last in zip((0, *n), n, strict=False):
        sums = sums.with_more(likelihood[first:last])
        rows.append((sums.kish, sums.perplexity, sums.best))
    columns = np.array(rows).reshape(-1, 3).T
    return Curve(n, *columns)


@dataclass(frozen=True)
class _Sums:
    """Sums over weights w relative to the largest: what effective sample sizes follow from.

    Parameters
    ----------
    best : float
        Highest log-likelihood; NaN without a finite one.
    total, squares, moment : float
        Of w, w^2 and w log w.
    """

    best: float = math.nan
    total: float = 0.0
    squares: float = 0.0
    moment: float = 0.0

    def with_more(self, likelihood: Floats) -> _Sums:
        """Add log-likelihoods; those that are not finite weigh nothing."""
        finite = likelihood[np.isfinite(likelihood)]
        if not len(finite):
            return self
        best = float(finite.max())
        logs = finite - best
        weights = np.exp(logs)
        more = _Sums(best, float(weights.sum()), float(np.square(weights).sum()), float((weights * logs).sum()))
        if math.isnan(self.best):
            return more
        parts = [part.relative_to(max(self.best, best)) for part in (self, more)]
        return _Sums(max(self.best, best), *(sum(values) for values in zip(*parts, strict=True)))

    def relative_to(self, best: float) -> tuple[float, float, float]:
        """The sums where another, higher likelihood has the weight 1."""
        log = self.best - best
        factor = math.exp(log)
        return factor * self.total, factor**2 * self.squares, factor * (self.moment + log * self.total)

    @property
    def kish(self) -> float:
        """See the module."""
        return self.total**2 / self.squares if self.squares else 0.0

    @property
    def perplexity(self) -> float:
        """See the module."""
        return self.total * math.exp(-self.moment / self.total) if self.total else 0.0


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
