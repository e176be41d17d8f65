"""Figures of parameters: densities, shifts by location, correlations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.report.canvas import (
    BLUE,
    BLUE_RGB,
    GREY,
    GRID,
    INK,
    NARROW,
    ORANGE_RGB,
    WIDE,
    Canvas,
    bare,
    cut,
    image,
)
from mosaic_mpi.report.parameter_shifts import Parameter, ParameterShifts
from mosaic_mpi.report.weights import kish

Floats = NDArray[np.float64]


def density(shifts: ParameterShifts, parameter: Parameter) -> str:
    """Prior draws, filled, and weighted draws, as a line."""
    canvas = Canvas(210, 112, left=8, right=8, top=4, bottom=24)
    axes = canvas.axes
    prior, posterior = shifts.prior[:, parameter.column], shifts.posterior[:, parameter.column]
    low, high = np.quantile(prior, [0.005, 0.995])
    some = posterior[shifts.weights > 0.01 * shifts.weights.max()]
    low, high = min(low, float(some.min())), max(high, float(some.max()))
    grid = np.linspace(low, high, 140)
    equal = np.full(len(prior), 1.0 / len(prior))
    before, after = _kernel(grid, prior, equal), _kernel(grid, posterior, shifts.weights)
    axes.fill_between(grid, before, color=GREY, alpha=0.45, linewidth=0)
    axes.plot(grid, after, color=BLUE, linewidth=1.8)
    axes.set_ylim(0, 1.08 * max(float(before.max()), float(after.max()), 1e-300))
    axes.set_xlim(low, high)
    axes.set_yticks([])
    axes.grid(False)
    canvas.few_ticks(3)
    axes.set_yticks([])
    return canvas.svg(f"{parameter.name}: prior draws and weighted draws")


def _kernel(grid: Floats, values: Floats, weights: Floats) -> Floats:
    """Gaussian kernel density by Silverman's rule, with the effective number of draws."""
    mean = weights @ values
    deviation = float(np.sqrt(weights @ np.square(values - mean)))
    step = float(grid[1] - grid[0])
    width = max(0.9 * deviation * max(kish(weights), 1.0) ** -0.2, 1.5 * step, 1e-300)
    # Draws are counted on a fine grid first: 140 x 4000 exponentials a panel would be slow.
    fine = np.linspace(grid[0] - 3 * width, grid[-1] + 3 * width, 600)
    counts, _ = np.histogram(values, fine, weights=weights)
    centres = (fine[1:] + fine[:-1]) / 2
    found: Floats = (
        np.exp(-0.5 * np.square((grid[:, None] - centres) / width)) @ counts / (width * np.sqrt(2 * np.pi))
    )
    return found


def shift_map(keys: Sequence[str], locations: Sequence[str], shift: Floats, is_informed: NDArray[np.bool_]) -> str:
    """Shift of each parameter by location, as a map.

    Parameters
    ----------
    keys, locations : sequence of str
        Columns and rows.
    shift : ndarray of float64, shape (n_locations, n_keys)
        1 and beyond have the full colour; NaN where there is none.
    is_informed : ndarray of bool, shape (n_locations, n_keys)
        What chance does not explain; the rest is pale.
    """

    def draw(width: float, style: str) -> str:
        row_height = 17 if len(locations) <= 45 else max(700 / len(locations), 3)
        size = 10.5 if width == WIDE else min(9.5, 290 / max(len(keys), 1) * 0.95)
        top = 6 + 0.62 * size * max(len(key) for key in keys)
        left = 52 if width == WIDE else 40
        wide = min(width, left + 12 + 46 * len(keys))
        canvas = Canvas(wide, top + 8 + row_height * len(locations), left=left, right=10, top=top, bottom=8)
        axes = canvas.axes
        image(axes, signed_image(shift, is_informed), (0, len(keys), len(locations), 0))
        bare(axes)
        axes.hlines(range(len(locations) + 1), 0, len(keys), color=GRID, linewidth=0.6)
        axes.vlines(range(len(keys) + 1), 0, len(locations), color=GRID, linewidth=0.6)
        axes.xaxis.tick_top()
        axes.set_xticks(np.arange(len(keys)) + 0.5, keys, rotation=90, fontsize=size)
        step = max(1, int(np.ceil(11 / row_height)))
        axes.set_yticks(np.arange(0, len(locations), step) + 0.5, list(locations)[::step], fontsize=10)
        return canvas.svg("Shift of each parameter in each location", f"{style} natural")

    return draw(WIDE, "wide") + draw(NARROW, "narrow")


def signed_image(values: Floats, is_strong: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Blue below 0, orange above, stronger further away, pale where it may be chance."""
    size = np.clip(np.abs(np.nan_to_num(values)), 0, 1)
    pixels = np.empty((*values.shape, 4))
    pixels[..., :3] = np.where((np.nan_to_num(values) < 0)[..., None], BLUE_RGB, ORANGE_RGB)
    pixels[..., 3] = 255 * size * np.where(is_strong, 1.0, 0.4)
    return pixels.round().astype(np.uint8)


def correlation_map(names: Sequence[str], values: Floats, noise: float) -> str:
    """Correlations of the weighted draws, with numbers in the cells."""
    n = len(names)
    canvas = Canvas(420, 128 + 23 * n, left=132, right=6, top=122, bottom=6)
    axes = canvas.axes
    shown = np.where(np.eye(n, dtype=bool), np.nan, values)
    image(axes, signed_image(shown, np.abs(values) > noise), (0, n, n, 0))
    bare(axes)
    axes.plot([0, n], [0, n], color=GRID, linewidth=1)
    axes.xaxis.tick_top()
    labels = [cut(name, 18) for name in names]
    axes.set_xticks(np.arange(n) + 0.5, labels, rotation=90, fontsize=10)
    axes.set_yticks(np.arange(n) + 0.5, labels, fontsize=10)
    for row in range(n):
        for column in range(n):
            if row != column and abs(values[row, column]) > noise:
                text = f"{values[row, column]:.1f}".replace("-", "\u2212").replace("0.", ".")
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=9, color=INK)
    return canvas.svg("Correlations among parameters, weighted draws")
