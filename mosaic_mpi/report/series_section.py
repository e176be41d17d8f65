"""The section on time series: observations against bands, location by location."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from markupsafe import Markup

from mosaic_mpi.errors import InputError
from mosaic_mpi.report import bands as bands_of
from mosaic_mpi.report import weights as importance
from mosaic_mpi.report import wording as say
from mosaic_mpi.report.bands import Bands
from mosaic_mpi.report.snapshot import Snapshot
from mosaic_mpi.results import Results

_N_LOCATIONS = 12
"""Shown at once; of more, the rest is folded away."""


def series(snapshot: Snapshot, flattened: importance.Flattened) -> dict[str, Any]:
    """Return bands of every saved channel, or why there are none."""
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
