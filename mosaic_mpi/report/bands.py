"""Saved time series against observations: weighted median and bands, location by location.

Owns the choice of simulations to read: a few hundred, drawn in proportion to their weights, stand for any number.
Pure NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file
from mosaic_mpi.catalogue import OBSERVATIONS
from mosaic_mpi.config import parse_config
from mosaic_mpi.control import LikelihoodSettings
from mosaic_mpi.likelihood import scored_window
from mosaic_mpi.report import weights as importance
from mosaic_mpi.results import Results

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_N_DRAWS = 300
_BUDGET_BYTES = 96 * 2**20
"""Memory for one channel's draws: many locations or iterations mean fewer of them."""
_LONGEST = 240
"""Points of a curve; longer series are shown as means of weeks."""
_WEEK = 7


@dataclass(frozen=True)
class Bands:
    """One saved channel.

    Parameters
    ----------
    name : str
        Of the channel.
    days : ndarray of datetime64[D], shape (n_points,)
        The first day of each point.
    n_days_each : int
        Days that a point is the mean of.
    quantiles : ndarray of float64, shape (5, n_locations, n_points)
        5, 25, 50, 75 and 95 % of the draws, a day.
    observed : ndarray of float64, shape (n_locations, n_points), or None
        Means of the observations of those days, NaN where there are none.
    totals : ndarray of float64, shape (5, n_locations)
        The same quantiles of the sum over the scored days that have an observation (all days without observations).
    observed_totals : ndarray of float64, shape (n_locations,), or None
        Sums of the observations there.
    covered : ndarray of float64, shape (n_locations,), or None
        Share of the scored points, with an observation, that lie within the 90 % band; NaN without any.
    scored_from : datetime64[D]
        First scored day.
    n_simulations : int
        Different simulations that the bands are made of.
    """

    name: str
    days: NDArray[np.datetime64]
    n_days_each: int
    quantiles: Floats
    observed: Floats | None
    totals: Floats
    observed_totals: Floats | None
    covered: Floats | None
    scored_from: np.datetime64
    n_simulations: int


def gather(results: Results, rows: Integers, weights: Floats, max_channels: int = 6) -> list[Bands]:
    """Read as many series as it takes, and make bands of them.

    Parameters
    ----------
    results : Results
        To read from.
    rows : ndarray of int64, shape (n,)
        Rows of the completed simulations.
    weights : ndarray of float64, shape (n,)
        Normalised; all zeros mean that all count the same.
    max_channels : int
        Channels at most: those with observations first.
    """
    channels = [entry for entry in results.header.channels if entry.axes == ("location", "time")]
    channels.sort(key=lambda entry: entry.name not in OBSERVATIONS)
    if not channels or not len(rows):
        return []
    text = _config_text(results)
    config = parse_config(text, results.locations, "the config in the results file").values
    n_cells = max(entry.shape[0] * -(-entry.shape[1] // _days_each(entry.shape[1])) for entry in channels)
    per_draw = 4 * results.header.n_iterations * n_cells
    n_draws = max(min(_N_DRAWS, _BUDGET_BYTES // per_draw), 30)
    equal = np.full(len(rows), 1.0 / len(rows))
    order = np.argsort(rows)
    drawn = rows[order][importance.resample(weights[order] if weights.any() else equal, n_draws)]
    chosen, counts = np.unique(drawn, return_counts=True)
    return [_bands(results, entry.name, config.get(entry.name), chosen, counts) for entry in channels[:max_channels]]


def _days_each(n_days: int) -> int:
    return 1 if n_days <= _LONGEST else _WEEK


def _config_text(results: Results) -> str:
    with h5file.reading(results.path) as file:
        return h5file.read_config(file)


def _bands(results: Results, name: str, observed: Floats | None, rows: Integers, counts: Integers) -> Bands:
    header = results.header
    shape = next(entry.shape for entry in header.channels if entry.name == name)
    n_days = shape[-1]
    each = _days_each(n_days)
    first_day, settings = date.fromisoformat(header.dates[0]), header.identity["likelihood"]
    start, deaths_start = scored_window(LikelihoodSettings(**settings), first_day, n_days)
    scored_from = deaths_start if name == "reported_deaths" else start
    if observed is not None:
        padded = np.full(shape, np.nan)
        width = min(observed.shape[1], n_days)
        padded[:, :width] = observed[:, :width]
        observed = padded
    counted = np.ones(shape, bool) if observed is None else np.isfinite(observed)
    if observed is not None:
        counted[:, :scored_from] = False
    points, sums = _draws(results, name, rows, counts, each, counted)
    quantiles = np.quantile(points, LEVELS, axis=0).astype(np.float64)
    means = None if observed is None else _means(observed[None], each)[0]
    begin = np.datetime64(header.dates[0], "D")
    days = begin + np.arange(0, n_days, each)
    return Bands(
        name=name,
        days=days,
        n_days_each=each,
        quantiles=quantiles,
        observed=means,
        totals=np.quantile(sums, LEVELS, axis=0),
        observed_totals=None if observed is None else np.where(counted, observed, 0.0).sum(axis=1),
        covered=None if means is None else _covered(means, quantiles, days, begin + scored_from),
        scored_from=begin + scored_from,
        n_simulations=len(rows),
    )


def _draws(
    results: Results, name: str, rows: Integers, counts: Integers, each: int, counted: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], Floats]:
    """Points and sums of every iteration of every draw, repeated as often as it was drawn."""
    points: list[NDArray[np.float32]] = []
    sums: list[Floats] = []
    for (_, (array,)), count in zip(results.series(rows, (name,)), counts, strict=True):
        values = _means(array.astype(np.float64), each).astype(np.float32)
        total = np.where(counted, array, 0).sum(axis=2, dtype=np.float64)
        points += [values] * int(count)
        sums += [total] * int(count)
    return np.concatenate(points), np.concatenate(sums)


def _means(values: Floats, each: int) -> Floats:
    """Means over every so many days of the last axis, of the days that have a value; the last may be of fewer."""
    if each == 1:
        return values
    edges = np.arange(0, values.shape[-1], each)
    known = np.isfinite(values)
    sums = np.add.reduceat(np.where(known, values, 0.0), edges, axis=-1)
    counts = np.add.reduceat(known, edges, axis=-1, dtype=np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.where(counts > 0, sums / counts, np.nan)
    return found


def _covered(observed: Floats, quantiles: Floats, days: NDArray[np.datetime64], scored_from: np.datetime64) -> Floats:
    looked_at = np.isfinite(observed) & (days >= scored_from)
    inside = looked_at & (observed >= quantiles[0]) & (observed <= quantiles[-1])
    with np.errstate(invalid="ignore"):
        found: Floats = inside.sum(axis=1) / looked_at.sum(axis=1)
    return found
