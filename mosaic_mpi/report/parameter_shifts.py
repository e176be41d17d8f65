"""What the run says about parameters: prior draws against likelihood-weighted draws.

Owns the comparison and its reading of parameters, of the simulations that matter and block by block, since the whole
table may be larger than the memory. Pure NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.report import weights as importance
from mosaic_mpi.results import Results

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_N_DRAWS = 4000
"""Simulations that stand for the prior, and at most so many for the weighted draws."""
_NEGLIGIBLE = 1e-4
"""Weight, of all of it, that may be left out."""
_BLOCK_BYTES = 32 * 2**20
_BLOCK_COLUMNS = 64
_CHANCE = 0.05
_LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Parameter:
    """One parameter, and how the likelihood moved it.

    Parameters
    ----------
    name : str
        As stored.
    key, location : str
        Its parts; location is empty for a global one.
    column : int
        Of `ParameterShifts.prior` and `ParameterShifts.posterior`.
    distance : float
        Largest distance between the cumulative distributions of prior and weighted draws (Kolmogorov's), 0 to 1.
    shift : float
        Weighted mean less prior mean, in standard deviations of the prior.
    narrowing : float
        Standard deviation of the weighted draws by that of the prior.
    prior, posterior : tuple of float
        5, 50 and 95 % of the draws, in the engine's units.
    """

    name: str
    key: str
    location: str
    column: int
    distance: float
    shift: float
    narrowing: float
    prior: tuple[float, ...]
    posterior: tuple[float, ...]


@dataclass(frozen=True)
class ParameterShifts:
    """Parameters that vary, the most informed first.

    Parameters
    ----------
    parameters : list of Parameter
        Largest distance first.
    n_constant, n_missing : int
        Stored parameters that do not vary, and that have missing values; both are left out.
    noise : float
        Distance that chance alone exceeds, for any of them, once in 20 runs.
    n_prior : int
        Simulations that stand for the prior.
    prior : ndarray of float64, shape (n_prior, n_columns)
        Their values.
    posterior : ndarray of float64, shape (n_weighted, n_columns)
        Values of the simulations that have weight.
    weights : ndarray of float64, shape (n_weighted,)
        Their weights, which sum to 1.
    """

    parameters: list[Parameter]
    n_constant: int
    n_missing: int
    noise: float
    n_prior: int
    prior: Floats
    posterior: Floats
    weights: Floats

    @property
    def informed(self) -> list[Parameter]:
        """Those that moved more than chance would have it."""
        return [parameter for parameter in self.parameters if parameter.distance > self.noise]

    def correlations(self, columns: Sequence[int]) -> tuple[Floats, Floats]:
        """Correlations among some columns: of the prior draws, and of the weighted ones.

        Returns
        -------
        prior, posterior : ndarray of float64, shape (n_columns, n_columns)
        """
        equal = np.full(self.n_prior, 1.0 / self.n_prior)
        chosen = list(columns)
        return _correlations(self.prior[:, chosen], equal), _correlations(self.posterior[:, chosen], self.weights)


def gather(results: Results, rows: Integers, weights: Floats) -> ParameterShifts | None:
    """Compare prior draws and weighted draws of all stored parameters.

    Parameters
    ----------
    results : Results
        To read from.
    rows : ndarray of int64, shape (n,)
        Rows of the completed simulations.
    weights : ndarray of float64, shape (n,)
        Normalised.

    Returns
    -------
    ParameterShifts or None
        None without parameters, or with fewer than two simulations of which any has a weight.
    """
    if not results.parameter_names or len(rows) < 2 or not weights.any():
        return None
    prior_rows = np.sort(rows)[np.linspace(0, len(rows) - 1, min(len(rows), _N_DRAWS)).round().astype(np.int64)]
    heavy_rows, heavy = _heavy(rows, weights)
    prior, posterior = _read(results, prior_rows), _read(results, heavy_rows)
    known: NDArray[np.bool_] = np.isfinite(np.concatenate([prior, posterior])).all(axis=0)
    spread = np.where(known, np.nanstd(np.where(known, prior, 0.0), axis=0), 0.0)
    scale = np.abs(np.where(known, prior, 0.0)).max(axis=0)
    varies = known & (spread > 1e-9 * scale)
    columns = np.flatnonzero(varies)
    prior, posterior = prior[:, columns], posterior[:, columns]
    names = [results.parameter_names[column] for column in columns]
    parameters = _compare(names, results.locations, prior, posterior, heavy)
    noise = _noise(len(prior), importance.kish(heavy), len(columns))
    n_missing = len(known) - int(np.count_nonzero(known))
    return ParameterShifts(
        sorted(parameters, key=lambda parameter: -parameter.distance),
        len(known) - n_missing - len(columns),
        n_missing,
        noise,
        len(prior),
        prior,
        posterior,
        heavy,
    )


def _heavy(rows: Integers, weights: Floats) -> tuple[Integers, Floats]:
    """Rows, ascending, that have all but a negligible weight, and their weights."""
    order = np.argsort(-weights, kind="stable")
    enough = int(np.searchsorted(np.cumsum(weights[order]), 1.0 - _NEGLIGIBLE) + 1)
    if enough <= _N_DRAWS:
        chosen = order[:enough]
        chosen = chosen[np.argsort(rows[chosen])]
        return rows[chosen], weights[chosen] / weights[chosen].sum()
    drawn, counts = np.unique(rows[importance.resample(weights, _N_DRAWS)], return_counts=True)
    return drawn, counts / counts.sum()


def _read(results: Results, rows: Integers) -> Floats:
    """Values of some rows, ascending, without ever holding much more than them."""
    n_columns = len(results.parameter_names)
    size = max(_BLOCK_BYTES // (8 * n_columns), 1)
    blocks = np.split(rows, np.flatnonzero(np.diff(rows // size)) + 1)
    return np.concatenate([results.rows_of("parameters/values", block) for block in blocks])


def _noise(n_prior: int, n_effective: float, n_parameters: int) -> float:
    """Distance that the largest of so many exceeds by chance with 5 % (two samples; Smirnov, Bonferroni)."""
    level = _CHANCE / max(n_parameters, 1)
    return math.sqrt(-0.5 * math.log(level / 2) * (1 / n_prior + 1 / max(n_effective, 1.0)))


def _compare(
    names: Sequence[str], locations: Sequence[str], prior: Floats, posterior: Floats, weights: Floats
) -> Iterator[Parameter]:
    for first in range(0, len(names), _BLOCK_COLUMNS):
        block = np.s_[:, first : first + _BLOCK_COLUMNS]
        before, after = prior[block], posterior[block]
        distance = _distances(before, after, weights)
        mean, deviation = before.mean(axis=0), before.std(axis=0)
        weighted_mean = weights @ after
        weighted_deviation = np.sqrt(weights @ np.square(after - weighted_mean))
        old = np.quantile(before, _LEVELS, axis=0).T
        new = weighted_quantiles(after, weights, _LEVELS).T
        for index, name in enumerate(names[first : first + _BLOCK_COLUMNS]):
            key, location = split_name(name, locations)
            yield Parameter(
                name,
                key,
                location,
                first + index,
                float(distance[index]),
                float((weighted_mean[index] - mean[index]) / deviation[index]),
                float(weighted_deviation[index] / deviation[index]),
                tuple(old[index].tolist()),
                tuple(new[index].tolist()),
            )


def split_name(name: str, locations: Sequence[str]) -> tuple[str, str]:
    """Return a stored name's key and location, which is empty for a global parameter."""
    key, _, ending = name.rpartition("_")
    return (key, ending) if key and ending in locations else (name, "")


def _distances(prior: Floats, posterior: Floats, weights: Floats) -> Floats:
    """Kolmogorov's distance between equally weighted and weighted draws, column by column."""
    values = np.concatenate([prior, posterior])
    steps = np.concatenate([np.full(len(prior), 1.0 / len(prior)), -weights])
    order = np.argsort(values, axis=0, kind="stable")
    gaps = np.cumsum(steps[order], axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    # Between equal values there is no gap to see.
    gaps[:-1][ordered[1:] == ordered[:-1]] = 0.0
    found: Floats = np.abs(gaps).max(axis=0)
    return found


def weighted_quantiles(values: Floats, weights: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles of weighted draws: the smallest value at which the weights reach the level.

    Parameters
    ----------
    values : ndarray of float64, shape (n, n_columns)
    weights : ndarray of float64, shape (n,)
        They sum to 1.
    levels : sequence of float

    Returns
    -------
    ndarray of float64, shape (n_levels, n_columns)
    """
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    sums = np.cumsum(weights[order], axis=0)
    rows = [(sums < level * (1 - 1e-9)).sum(axis=0) for level in levels]
    return np.stack([np.take_along_axis(ordered, np.minimum(row, len(values) - 1)[None], axis=0)[0] for row in rows])


def _correlations(values: Floats, weights: Floats) -> Floats:
    centred = values - weights @ values
    covariance = (centred * weights[:, None]).T @ centred
    deviations = np.sqrt(np.diag(covariance))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = covariance / np.outer(deviations, deviations)
    return np.clip(np.nan_to_num(found), -1.0, 1.0)
