"""The page: every section's numbers, words and figures, put into the template.

Owns which section shows what, and what it says when there is nothing to show.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mosaic_mpi._version import __version__
from mosaic_mpi.errors import InputError
from mosaic_mpi.report import bands as bands_of
from mosaic_mpi.report import failures, host_times, overview, parameter_shifts
from mosaic_mpi.report import weights as importance
from mosaic_mpi.report import wording as say
from mosaic_mpi.report.bands import Bands
from mosaic_mpi.report.parameter_shifts import Parameter, ParameterShifts
from mosaic_mpi.report.provenance import provenance
from mosaic_mpi.report.slot_time import SlotTime, spans_of, within_their_starts
from mosaic_mpi.report.snapshot import Snapshot
from mosaic_mpi.results import Results

SECTIONS = (
    ("overview", "Overview"),
    ("progress", "Progress"),
    ("times", "Times"),
    ("failures", "Failures"),
    ("likelihood", "Likelihood"),
    ("weights", "Weights"),
    ("parameters", "Parameters"),
    ("series", "Time series"),
    ("provenance", "Provenance"),
)
"""Identifiers and titles, in order."""

GENERATOR = "mosaic_mpi report"
"""By which a report is recognised before it is replaced."""

_N_PANELS = 24
_N_GLOBAL_PANELS = 12
_N_CORRELATED = 12
_N_PAIRS = 8
_N_MAP_COLUMNS = 24
_N_PARAMETER_ROWS = 200
_N_LOCATIONS = 12
_FULL_SHIFT = 1.5
"""Shift, in prior standard deviations, that has the full colour; less where none is so large."""
_N_SPREAD_POINTS = 1500
_REACH = 4.0
"""Log-likelihoods are shown down to so many times the distance from the best to the median."""


def render(snapshot: Snapshot, refresh_s: float | None = None) -> str:
    """Return the report as one HTML document.

    Parameters
    ----------
    snapshot : Snapshot
        The run as it is.
    refresh_s : float, optional
        Have the browser load the page again after so many seconds.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mosaic_mpi.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(say=say)
    spans = spans_of(snapshot.summary.starts, snapshot.completed)
    timed = within_their_starts(snapshot.completed, spans) if spans else np.zeros(0, bool)
    slots = SlotTime(snapshot.completed.chosen(timed), spans)
    cost = overview.cost_of(spans)
    state, kind = overview.state(snapshot)
    flattened = importance.flatten(snapshot.completed.likelihood)
    style = Path(__file__).with_name("templates").joinpath("page.css").read_text()
    text: str = environment.get_template("page.html").render(
        title=f"{Path(snapshot.results.path).name}: {state}",
        name=Path(snapshot.results.path).name,
        style=Markup(style),
        generator=GENERATOR,
        version=__version__,
        sections=SECTIONS,
        snapshot=snapshot,
        refresh_s=refresh_s,
        state=state,
        state_kind=kind,
        headline=overview.headline(snapshot, cost, slots.ledger),
        figures=overview.key_figures(snapshot, cost, slots.ledger),
        progress=_progress(snapshot, slots),
        times=_times(snapshot),
        failures=failures.gather(snapshot),
        likelihood=_likelihood(snapshot),
        weights=_weights(snapshot),
        parameters=_parameters(snapshot, flattened),
        series=_series(snapshot, flattened),
        is_plain=flattened.is_plain,
        flattening=overview.flattening_words(flattened) if flattened.weights.any() else "",
        provenance=provenance(snapshot),
    )
    return text


# ---- how it went ------------------------------------------------------------------------------------


def _progress(snapshot: Snapshot, slots: SlotTime) -> dict[str, Any] | None:
    if not slots.spans:
        return None
    from mosaic_mpi.report import run_figures

    failed = slots.clock.of(snapshot.failed_start, snapshot.failed_at)
    ledger = slots.ledger
    tail = "no result yet, or the tail" if snapshot.is_running else "tail: after a slot's last result"
    uses = (
        ("simulating, completed", ledger.simulating),
        ("starting: until a slot's first simulation", ledger.starting),
        ("waiting between simulations, failed attempts included", ledger.waiting),
        (tail, ledger.tail),
        ("slots without any result in their start", ledger.unused),
    )
    shares = [(name, seconds / 3600, seconds / ledger.total if ledger.total else 0.0) for name, seconds in uses]
    return {
        "throughput": Markup(run_figures.throughput(slots, snapshot.hosts, failed))
        if snapshot.n_completed or len(failed)
        else None,
        "timeline": Markup(run_figures.timeline(slots, snapshot.hosts, failed)) if slots.n_places else None,
        "has_failures": len(failed) > 0,
        "row": _row_words(slots.timeline(1, run_figures.MOST_ROWS, snapshot.hosts).unit) if slots.n_places else "",
        "n_places": slots.n_places,
        "uses": shares,
        "total_h": ledger.total / 3600,
        "efficiency": ledger.efficiency,
        "n_starts": snapshot.n_starts,
        "n_untimed": snapshot.n_completed - int(slots.finished(1).sum()),
        "lost": [start for start in snapshot.summary.starts if start["n_ranks_lost"]],
    }


def _row_words(unit: str) -> str:
    if unit.startswith("slot"):
        return "each"
    return f"for {'each host' if unit == 'host' else unit}, paler where some of its slots are idle"


def _times(snapshot: Snapshot) -> dict[str, Any] | None:
    completed = snapshot.completed
    if not len(completed):
        return None
    from mosaic_mpi.report import run_figures

    times = host_times.by_host(completed.host, completed.elapsed_s)
    slow = [snapshot.hosts[host] for host in times.host[times.slow]]
    usual = float(np.median(times.quantiles[:, 2]))
    rows = [
        {"host": snapshot.hosts[host], "n": int(n), "quantiles": quantiles.tolist(), "slow": bool(is_slow)}
        for host, n, quantiles, is_slow in zip(times.host, times.n, times.quantiles, times.slow, strict=True)
    ]
    levels = np.quantile(completed.elapsed_s, [0.05, 0.5, 0.95, 1.0]).tolist()
    return {
        "distribution": Markup(run_figures.simulation_times(completed.elapsed_s)),
        "hosts": Markup(run_figures.hosts(times, snapshot.hosts)),
        "n_hosts": len(rows),
        "most_hosts": run_figures.MOST_HOSTS,
        "rows": rows,
        "slow": slow,
        "ratio": float(times.quantiles[0, 2] / usual) if usual > 0 else 1.0,
        "levels": levels,
        "slowest_sim": int(completed.sim_id[int(np.argmax(completed.elapsed_s))]),
    }


# ---- what it found ----------------------------------------------------------------------------------


def _likelihood(snapshot: Snapshot) -> dict[str, Any] | None:
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


def _weights(snapshot: Snapshot) -> dict[str, Any] | None:
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


def _parameters(snapshot: Snapshot, flattened: importance.Flattened) -> dict[str, Any] | None:
    shifts = parameter_shifts.gather(snapshot.results, snapshot.completed.row, flattened.weights)
    if shifts is None or not shifts.parameters:
        return None
    from mosaic_mpi.report import parameter_figures

    everywhere = [parameter for parameter in shifts.parameters if not parameter.location]
    local = [parameter for parameter in shifts.parameters if parameter.location]
    groups = [
        ("Global parameters", everywhere[: _N_PANELS if not local else _N_GLOBAL_PANELS]),
        ("Parameters of one location", local[: _N_PANELS if not everywhere else _N_GLOBAL_PANELS]),
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
    n = len(chosen)
    image = parameter_figures.correlation_map([entry.name for entry in chosen], posterior[:n, :n], noise)
    return {"map": Markup(image), "rows": rows, "noise": noise, "n_wider": len(wider)}


def _series(snapshot: Snapshot, flattened: importance.Flattened) -> dict[str, Any]:
    saved = snapshot.results.channels
    if not saved:
        return {
            "why": "No time series were saved; start a run with --save reported_cases,reported_deaths to have them."
        }
    if not snapshot.n_completed:
        return {"why": "No simulation is completed, so there is no time series yet."}
    try:
        found = _read_bands(snapshot, flattened)
    except (InputError, OSError, zlib.error) as error:
        return {"why": f"The saved time series cannot be read: {error}"}
    if not found:
        return {"why": f"None of the saved channels ({say.some(saved)}) has the axes location and day."}
    shown = {entry.name for entry in found}
    return {
        "why": "",
        "channels": [_channel(entry, snapshot.results.locations) for entry in found],
        "weighted": bool(flattened.weights.any()),
        "hidden": [name for name in saved if name not in shown],
    }


def _read_bands(snapshot: Snapshot, flattened: importance.Flattened) -> list[Bands]:
    rows = snapshot.completed.row
    try:
        return bands_of.gather(snapshot.results, rows, flattened.weights)
    except InputError:  # the run was completed, and its spool folded, since the snapshot
        return bands_of.gather(Results(snapshot.results.path), rows, flattened.weights)


def _busiest_first(bands: Bands) -> list[int]:
    """Locations by what was observed there, and by what was simulated where nothing was."""
    observed = np.zeros(bands.totals.shape[1]) if bands.observed_totals is None else bands.observed_totals
    order: list[int] = np.lexsort((-bands.quantiles[2].sum(axis=-1), -observed)).tolist()
    return order


def _channel(bands: Bands, locations: tuple[str, ...]) -> dict[str, Any]:
    from mosaic_mpi.report import series_figures

    order = _busiest_first(bands) if len(locations) > _N_LOCATIONS else range(len(locations))
    panels = [(locations[index], Markup(series_figures.panel(bands, index, locations[index]))) for index in order]
    totals = [
        {
            "location": name,
            "low": float(bands.totals[0, index]),
            "median": float(bands.totals[2, index]),
            "high": float(bands.totals[-1, index]),
            "observed": None if bands.observed_totals is None else float(bands.observed_totals[index]),
            "covered": float("nan") if bands.covered is None else float(bands.covered[index]),
        }
        for index, name in enumerate(locations)
    ]
    return {
        "name": bands.name,
        "title": bands.name.replace("_", " "),
        "is_observed": bands.observed is not None,
        "each": bands.n_days_each,
        "n_simulations": bands.n_simulations,
        "scored_from": str(bands.scored_from),
        "panels": panels[:_N_LOCATIONS],
        "more_panels": panels[_N_LOCATIONS:],
        "totals": totals,
    }
