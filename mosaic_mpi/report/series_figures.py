"""Figures of time series: observations against bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from mosaic_mpi.report.bands import Bands
from mosaic_mpi.report.canvas import BLUE, INK, MUTED, Canvas


def panel(bands: Bands, location: int, name: str) -> str:
    """One channel in one location.

    Parameters
    ----------
    bands : Bands
        All of the channel.
    location : int
        Index of the location.
    name : str
        Its ISO code.
    """
    canvas = Canvas(340, 160, left=42, right=8, top=8, bottom=26)
    axes = canvas.axes
    low, quarter, median, three, high = bands.quantiles[:, location]
    days = bands.days
    axes.fill_between(days, low, high, color=BLUE, alpha=0.18, linewidth=0)
    axes.fill_between(days, quarter, three, color=BLUE, alpha=0.32, linewidth=0)
    axes.plot(days, median, color=BLUE, linewidth=1.4)
    top = float(np.nanmax(high, initial=0.0))
    if bands.observed is not None:
        observed = bands.observed[location]
        axes.add_patch(_dots(date2num(days), observed))
        top = max(top, float(np.nanmax(observed, initial=0.0)))
    if bands.observed is not None and bands.scored_from > days[0]:
        axes.axvline(bands.scored_from, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_ylim(0, top * 1.06 or 1.0)
    axes.set_xlim(days[0], days[-1] if len(days) > 1 else days[0] + 1)
    canvas.few_ticks(4, 3)
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    return canvas.svg(f"{bands.name} in {name}: observed, weighted median, 50 and 90 % bands")


def _dots(x: NDArray[np.float64], y: NDArray[np.float64]) -> Any:
    """Dots as one path, a tenth of the bytes of markers: lines of no length with round ends."""
    known = np.isfinite(y)
    vertices = np.repeat(np.stack([x[known], y[known]], axis=1), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], int(known.sum()))
    path = Path(vertices, codes)
    path.should_simplify = False
    return PathPatch(path, facecolor="none", edgecolor=INK, linewidth=2.6, capstyle="round", zorder=4)
