"""The sections on what the run found: likelihood, weights, parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mosaic_mpi.report import overview, parameter_shifts
from mosaic_mpi.report import weights as importance
from mosaic_mpi.report.parameter_shifts import Parameter, ParameterShifts
from mosaic_mpi.report.snapshot import Snapshot

_N_PANELS = 24
_N_GLOBAL_PANELS = 12
_N_CORRELATED = 12
_N_PAIRS = 8
_N_MAP_COLUMNS = 24
_N_PARAMETER_ROWS = 200
_FULL_SHIFT = 1.5
"""Shift, in prior standard deviations, that has the full colour; less where none is so large."""
_N_SPREAD_POINTS = 1500
_REACH = 4.0
"""Log-likelihoods are shown down to so many times the distance from the best to the median."""


def likelihood(snapshot: Snapshot) -> dict[str, Any] | None:
    """Return the distribution of log-likelihoods and the best ones; None where none is finite."""
    completed = snapshot.completed
    finite = np.flatnonzero(np.isfinite(completed.likelihood))
    if not len(finite):
        return None
    from mosaic_mpi.report import fit_figures

    values = completed.likelihood[finite]
    lowest = _lowest_shown(values)
    best = finite[np.argsort(-values, kind="stable")[:5]]
    top = [
        {
            "sim_id": int(completed.sim_id[index]),
            "likelihood": float(completed.likelihood[index]),
            "iterations": completed.iteration_likelihood[index].tolist()[:8],
        }
        for index in best
    ]
    curve = importance.curve(completed.likelihood)
    return {
        "distribution": Markup(fit_figures.likelihood_distribution(values, lowest)),
        "n_below": int((values < lowest).sum()),
        "lowest": lowest,
        "best_so_far": Markup(fit_figures.best_so_far(curve)),
        "spread": _spread(snapshot, lowest),
        "iteration_words": overview.iteration_words(snapshot),
        "quantiles": np.quantile(values, [0.05, 0.5, 0.95]).tolist(),
        "n_finite": len(finite),
        "n_iterations_lost": int((~np.isfinite(completed.iteration_likelihood)).sum()),
        "top": top,
    }


def _lowest_shown(likelihood: NDArray[np.float64]) -> float:
    """Where the axis of log-likelihoods begins: what is hopeless would otherwise fill it."""
    best, median = float(likelihood.max()), float(np.median(likelihood))
    return max(float(likelihood.min()), best - _REACH * max(best - median, 1e-9))


def _spread(snapshot: Snapshot, lowest: float) -> Markup | None:
    from mosaic_mpi.report import fit_figures

    values = snapshot.completed.iteration_likelihood
    likelihood = snapshot.completed.likelihood
    rows = np.flatnonzero(np.isfinite(values).all(axis=1) & np.isfinite(likelihood) & (likelihood >= lowest))
    if values.shape[1] < 2 or len(rows) < 2:
        return None
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _N_SPREAD_POINTS)).round().astype(np.int64)]
    spread = np.ptp(values[rows], axis=1)
    return Markup(fit_figures.iteration_spread(likelihood[rows], spread))


def weights(snapshot: Snapshot) -> dict[str, Any] | None:
    """Return effective sample sizes, with words on them; None where no log-likelihood is finite."""
    likelihood = snapshot.completed.likelihood
    weights = importance.normalised(likelihood)
    if not weights.any():
        return None
    from mosaic_mpi.report import fit_figures

    curve = importance.curve(likelihood)
    holding = [(share, importance.n_holding(weights, share)) for share in (0.5, 0.9, 0.99)]
    return {
        "words": [text for text in overview.weight_words(snapshot, curve) if text],
        "effective": Markup(fit_figures.effective_size(curve)),
        "shares": Markup(fit_figures.weight_shares(weights)),
        "kish": importance.kish(weights),
        "perplexity": importance.perplexity(weights),
        "largest": float(weights.max()),
        "holding": holding,
        "n": len(likelihood),
        "is_table": str(snapshot.summary.plan["parameters"]).startswith("table"),
    }


def parameters(snapshot: Snapshot, flattened: importance.Flattened) -> dict[str, Any] | None:
    """Return what the likelihood says of parameters; None where there is nothing to compare."""
    shifts = parameter_shifts.gather(snapshot.results, snapshot.completed.row, flattened.weights)
    if shifts is None or not shifts.parameters:
        return None
    from mosaic_mpi.report import parameter_figures

    everywhere = [parameter for parameter in shifts.parameters if not parameter.location]
    local = [parameter for parameter in shifts.parameters if parameter.location]
    groups = [
        ("Global parameters", everywhere[: _N_PANELS if not local else _N_GLOBAL_PANELS]),
        ("Parameters by location", local[: _N_PANELS if not everywhere else _N_GLOBAL_PANELS]),
    ]
    panels = [
        (title, [(entry, Markup(parameter_figures.density(shifts, entry))) for entry in entries])
        for title, entries in groups
        if entries
    ]
    full = min(max((abs(parameter.shift) for parameter in local), default=1.0), _FULL_SHIFT)
    return {
        "shifts": shifts,
        "n": len(shifts.parameters),
        "n_informed": len(shifts.informed),
        "panels": panels,
        "map": _shift_map(shifts, snapshot.results.locations, local, full),
        "full_shift": full,
        "correlations": _correlations(shifts),
        "rows": shifts.parameters[:_N_PARAMETER_ROWS],
    }


def _shift_map(
    shifts: ParameterShifts, locations: tuple[str, ...], local: list[Parameter], full: float
) -> Markup | None:
    if len(locations) < 2 or not local:
        return None
    from mosaic_mpi.report import parameter_figures

    keys = sorted(dict.fromkeys(parameter.key for parameter in local[: 40 * _N_MAP_COLUMNS]))[:_N_MAP_COLUMNS]
    shift = np.full((len(locations), len(keys)), np.nan)
    is_informed = np.zeros(shift.shape, bool)
    for parameter in local:
        if parameter.key in keys:
            place = locations.index(parameter.location), keys.index(parameter.key)
            shift[place], is_informed[place] = parameter.shift, parameter.distance > shifts.noise
    return Markup(parameter_figures.shift_map(keys, locations, shift / full, is_informed))


def _correlations(shifts: ParameterShifts) -> dict[str, Any] | None:
    chosen = shifts.parameters[:_N_CORRELATED]
    size = importance.kish(shifts.weights)
    if len(chosen) < 2 or size < 5:
        return None
    from mosaic_mpi.report import parameter_figures

    wider = shifts.parameters[:_N_PARAMETER_ROWS]
    n_pairs = len(wider) * (len(wider) - 1) // 2
    prior, posterior = shifts.correlations([parameter.column for parameter in wider])
    # Fisher's transformation, for the largest of so many pairs.
    noise = float(np.tanh(np.sqrt(2 * np.log(max(n_pairs, 1) / 0.05)) / np.sqrt(max(size - 3, 1.0))))
    changed = np.triu(np.abs(posterior - prior), 1)
    order = np.argsort(-changed, axis=None)[:_N_PAIRS]
    pairs = [(int(a), int(b)) for a, b in zip(*np.unravel_index(order, changed.shape), strict=True)]
    rows = [
        {"a": wider[a].name, "b": wider[b].name, "prior": float(prior[a, b]), "posterior": float(posterior[a, b])}
        for a, b in pairs
        if a != b
    ]
    is_chance = all(abs(posterior[pair]) <= noise for pair in pairs)
    n = len(chosen)
    image = parameter_figures.correlation_map([entry.name for entry in chosen], posterior[:n, :n], noise)
    return {"map": Markup(image), "rows": rows, "noise": noise, "n_wider": len(wider), "is_chance": is_chance}
