"""Figures of what the run found: likelihoods, weights, effective sample size."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mosaic_mpi.report.canvas import BLUE, GREEN, INK, MUTED, ORANGE, Canvas, plain_log_ticks
from mosaic_mpi.report.weights import Curve

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 420.0, 215.0


def likelihood_distribution(likelihood: Floats, lowest: float) -> str:
    """Finite log-likelihoods; what lies below a limit is counted in the first bar."""
    canvas = Canvas(WIDTH, HEIGHT, "simulations")
    axes = canvas.axes
    high = float(likelihood.max())
    low = lowest if lowest < high else high - 1.0
    n_bins = min(60, max(14, int(2 * len(likelihood) ** (1 / 3))))
    edges = np.linspace(low, high, n_bins + 1)
    counts, _ = np.histogram(np.clip(likelihood, low, high), edges)
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.3)
    axes.stairs(counts, edges, color=BLUE, linewidth=1.4)
    axes.axvline(high, color=GREEN, linewidth=1.4)
    axes.annotate(
        "best", (high, 1), (-4, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
        color=INK, fontsize=11, ha="right", va="top",
    )  # fmt: skip
    axes.set_ylim(0, 1.18 * float(counts.max()))
    canvas.few_ticks(5, 4, whole_y=True)
    axes.set_xlabel("log-likelihood of a simulation")
    return canvas.svg("Distribution of log-likelihoods")


def best_so_far(curve: Curve) -> str:
    """The highest log-likelihood against simulations run."""
    canvas = Canvas(WIDTH, HEIGHT, "best log-likelihood so far", left=60)
    canvas.axes.step(curve.n, curve.best, where="post", color=GREEN)
    canvas.axes.plot(curve.n[-1:], curve.best[-1:], "o", color=GREEN, markersize=4)
    return _against_simulations(canvas, curve, "Best log-likelihood so far against completed simulations")


def _against_simulations(canvas: Canvas, curve: Curve, description: str) -> str:
    canvas.few_ticks(5, 4, whole_x=True)
    canvas.axes.set_xlim(0, max(int(curve.n[-1]) * 1.03, 1))
    canvas.axes.set_xlabel("simulations completed")
    return canvas.svg(description)


def iteration_spread(likelihood: Floats, spread: Floats) -> str:
    """Range of the iterations' log-likelihoods against that of their simulation.

    Parameters
    ----------
    likelihood, spread : ndarray of float64, shape (n,)
        Finite ones; of very many, a sample.
    """
    canvas = Canvas(WIDTH, HEIGHT, "range between iterations of a simulation", left=60)
    axes = canvas.axes
    many = len(likelihood) > 400
    axes.plot(
        likelihood,
        spread,
        "o",
        color=BLUE,
        markersize=2.2 if many else 4.5,
        alpha=0.35 if many else 0.6,
        markeredgewidth=0,
    )
    if len(spread) and spread.max() > 50 * max(float(np.median(spread)), 1e-12) > 1e-9 and spread.min() > 0:
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
    else:
        canvas.few_ticks(5, 4)
        axes.set_ylim(0, float(spread.max(initial=0.0)) * 1.08 + 1e-9)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("log-likelihood of the simulation")
    return canvas.svg("Range of log-likelihoods between the iterations of a simulation")


def effective_size(curve: Curve) -> str:
    """Effective sample sizes against simulations run."""
    canvas = Canvas(WIDTH, HEIGHT, "effective sample size", right=16)
    axes = canvas.axes
    axes.plot(curve.n, curve.kish, color=BLUE, marker="o" if len(curve.n) == 1 else None, markersize=4)
    axes.plot(curve.n, curve.perplexity, color=ORANGE, linestyle=(0, (4, 2)))
    high = max(float(curve.kish.max(initial=0)), float(curve.perplexity.max(initial=0)), 1.0)
    axes.set_ylim(0, high * 1.18)
    canvas.text(WIDTH - 178, HEIGHT - 14, "━ Kish", color=BLUE)
    canvas.text(WIDTH - 112, HEIGHT - 14, "╍ perplexity", color=ORANGE)
    return _against_simulations(canvas, curve, "Effective sample size after Kish and perplexity")


def weight_shares(weights: Floats) -> str:
    """How much of all weight the heaviest simulations hold together."""
    canvas = Canvas(WIDTH, HEIGHT, "share of all weight, %")
    axes = canvas.axes
    sums = 100 * np.cumsum(np.sort(weights)[::-1])
    n = len(sums)
    at = np.unique(np.geomspace(1, n, 200).round().astype(np.int64))
    axes.plot(at, sums[at - 1], color=BLUE, marker="o" if n <= 30 else None, markersize=4)
    equal = 100 * at / n
    axes.plot(at, equal, color=MUTED, linewidth=1.0, linestyle=(0, (2, 2)))
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    axes.set_xlim(0.9, max(n * 1.1, 2))
    axes.set_ylim(0, 105)
    axes.set_yticks([0, 25, 50, 75, 100])
    canvas.text(WIDTH - 190, HEIGHT - 14, "┈ if all weighed the same", color=MUTED)
    axes.set_xlabel("number of the heaviest simulations")
    return canvas.svg("Cumulative share of weight of the heaviest simulations")
