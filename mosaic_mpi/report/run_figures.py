"""Figures of how the run went: throughput, timeline, simulation times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mosaic_mpi.report.canvas import (
    BLUE,
    BLUE_RGB,
    GREY,
    GREY_RGB,
    INK,
    MUTED,
    NARROW,
    ORANGE,
    SURFACE,
    WIDE,
    Canvas,
    bare,
    cut,
    image,
    plain_log_ticks,
)
from mosaic_mpi.report.host_times import HostTimes
from mosaic_mpi.report.slot_time import Clock, SlotTime, Timeline

_UNITS = (
    (120.0, 1.0, "seconds"),
    (7200.0, 60.0, "minutes"),
    (172_800.0, 3600.0, "hours"),
    (math.inf, 86400.0, "days"),
)
_N_LABELLED_STARTS = 12
MOST_ROWS = 128
"""Of the timeline: slots, hosts or groups of them."""


def _most_letters(width: float) -> int:
    return 24 if width == WIDE else 13


def _margin(labels: Sequence[str], width: float) -> float:
    """Room for labels left of the axes."""
    return max(48.0, 14 + 6.8 * max((len(cut(label, _most_letters(width))) for label in labels), default=0))


def time_unit(seconds: float) -> tuple[float, str]:
    """Return a unit in which a span is a handy number: its seconds and its name."""
    return next((size, name) for limit, size, name in _UNITS if seconds <= limit)


def _variants(draw: Any) -> str:
    """The same figure for a wide page and for a narrow one; the page shows one of them."""
    return "".join(draw(width, style) for width, style in ((WIDE, "wide"), (NARROW, "narrow")))


def _mark_starts(canvas: Canvas, clock: Clock, unit_s: float, labels: bool) -> None:
    """A line where a new start took over."""
    axes, n = canvas.axes, len(clock.offsets)
    width, dashes = (1.0, [(0, (2, 2))]) if n <= 40 else (0.4, ["solid"])
    axes.vlines(
        clock.breaks / unit_s,
        0,
        1,
        color=MUTED,
        linewidth=width,
        linestyle=dashes,
        zorder=3,
        transform=axes.get_xaxis_transform(),
    )
    if labels and 1 < n <= _N_LABELLED_STARTS and n == len(clock.breaks) + 1:
        last = -math.inf
        per_unit = canvas.width / max(clock.total_s, 1e-9)
        for index in range(n):
            if (clock.offsets[index] - last) * per_unit < 48:
                continue
            last = clock.offsets[index]
            where = last / unit_s
            axes.annotate(
                f"start {index + 1}",
                (where, 1.0),
                (3, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=11,
                color=MUTED,
                annotation_clip=False,
            )


def _time_axis(canvas: Canvas, total_s: float, unit_s: float, unit: str, pauses: bool) -> None:
    canvas.axes.set_xlim(0, max(total_s / unit_s, 1e-9))
    note = ", pauses between starts left out" if pauses and canvas.width > 500 else ""
    canvas.axes.set_xlabel(f"{unit} of running{note}")


def throughput(slots: SlotTime, hosts: Sequence[str], failed: NDArray[np.float64]) -> str:
    """Completed and failed simulations over the running time.

    Parameters
    ----------
    slots : SlotTime
        With the completed ones.
    hosts : sequence of str
        Names; they decide the left margin, so that the time axis stands above the timeline's.
    failed : ndarray of float64, shape (n_failed,)
        When simulations were given up, on the run's clock.
    """
    total = max(slots.clock.total_s, 1e-9)
    unit_s, unit = time_unit(total)
    labels = slots.timeline(1, MOST_ROWS, hosts).labels

    def draw(width: float, style: str) -> str:
        n_ended = int(slots.finished(1)[0]) + len(failed)
        n_bins = min(120 if width == WIDE else 48, max(12, n_ended // 3))
        bin_s = total / n_bins
        done, bad = slots.finished(n_bins), slots.count(failed, n_bins)
        rate_s, rate_name = _rate_unit(float((done + bad).max(initial=0)) / bin_s)
        canvas = Canvas(width, 240, f"simulations per {rate_name}", left=_margin(labels, width), top=38)
        axes, scale = canvas.axes, rate_s / bin_s
        edges = np.linspace(0, total / unit_s, n_bins + 1)
        axes.stairs(done * scale, edges, fill=True, color=BLUE, alpha=0.3)
        axes.stairs(done * scale, edges, color=BLUE, linewidth=1.4)
        if bad.any():
            axes.stairs((done + bad) * scale, edges, baseline=done * scale, fill=True, color=ORANGE)
        axes.set_ylim(0, max(float((done + bad).max(initial=0)) * scale * 1.12, 1e-9))
        canvas.few_ticks(9 if width == WIDE else 5)
        _mark_starts(canvas, slots.clock, unit_s, True)
        _time_axis(canvas, total, unit_s, unit, len(slots.spans) > 1)
        return canvas.svg("Simulations finished per unit of time, over the running time", style)

    return _variants(draw)


def _rate_unit(per_s: float) -> tuple[float, str]:
    return next(
        ((size, name) for size, name in ((1.0, "second"), (60.0, "minute")) if per_s * size >= 2), (3600.0, "hour")
    )


def timeline(slots: SlotTime, hosts: Sequence[str], failed: NDArray[np.float64]) -> str:
    """How busy each slot, host or group of them was over the running time."""
    total = max(slots.clock.total_s, 1e-9)
    unit_s, unit = time_unit(total)
    lines = {
        WIDE: slots.timeline(720, MOST_ROWS, hosts),
        NARROW: slots.timeline(240, MOST_ROWS, hosts),
    }

    def draw(width: float, style: str) -> str:
        line = lines[int(width)]
        n_rows = len(line.labels)
        row_height = min(22.0, max(420.0 / max(n_rows, 1), 3.2))
        left = _margin(line.labels, width)
        strip = 10 if len(failed) else 0
        canvas = Canvas(width, 70 + strip + row_height * n_rows, line.unit, left=left, top=26 + strip)
        axes = canvas.axes
        image(axes, _busy_image(line), (0, total / unit_s, n_rows, 0))
        axes.set_xlim(0, total / unit_s)
        axes.set_ylim(n_rows, 0)
        bare(axes)
        step = max(1, math.ceil(13 / row_height))
        shown = list(range(0, n_rows, step))
        axes.set_yticks([row + 0.5 for row in shown], [cut(line.labels[row], _most_letters(width)) for row in shown])
        if row_height >= 8:
            axes.hlines(range(1, n_rows), 0, total / unit_s, color=SURFACE, linewidth=2, zorder=2)
        canvas.axes.xaxis.set_major_locator(MaxNLocator(9 if width == WIDE else 4))
        _mark_starts(canvas, slots.clock, unit_s, False)
        if strip:
            _mark_failures(axes, failed / unit_s)
        _time_axis(canvas, total, unit_s, unit, len(slots.spans) > 1)
        return canvas.svg("How busy slots were over the running time", style)

    return _variants(draw)


def _mark_failures(axes: Any, moments: NDArray[np.float64]) -> None:
    """Ticks above the timeline, one where simulations were given up."""
    low, high = axes.get_xlim()
    places = np.unique(np.round((moments - low) / max(high - low, 1e-12) * 400)) / 400 * (high - low) + low
    transform = axes.get_xaxis_transform()
    axes.vlines(
        places,
        1.0,
        1.06,
        color=ORANGE,
        linewidth=1.5 if len(places) < 80 else 0.6,
        transform=transform,
        clip_on=False,
    )


def _busy_image(line: Timeline) -> NDArray[np.uint8]:
    """Grey where a slot waits, blue where it works, nothing where it took no part."""
    share = np.nan_to_num(line.share)[..., None]
    idle, busy = np.array([*GREY_RGB, 56.0]), np.array([*BLUE_RGB, 255.0])
    pixels = idle + (busy - idle) * share
    pixels[..., :3] = np.where(share > 0.02, BLUE_RGB, GREY_RGB)
    pixels[np.isnan(line.share)] = 0
    found: NDArray[np.uint8] = pixels.round().astype(np.uint8)
    return found


def simulation_times(elapsed_s: NDArray[np.float64], width: float = 420) -> str:
    """Distribution of the time of a simulation."""
    canvas = Canvas(width, 215, "simulations")
    axes = canvas.axes
    low, high = float(elapsed_s.min()), float(elapsed_s.max())
    if high < 1.05 * low:
        low, high = 0.95 * low, 1.05 * high
    wide_range = high > 20 * max(low, 1e-9)
    n_bins = min(60, max(8, int(2 * len(elapsed_s) ** (1 / 3))))
    low = max(low, high / 1e5, 1e-9)
    edges = (
        np.geomspace(low, max(high, low * 1.01), n_bins + 1)
        if wide_range
        else np.linspace(low, max(high, low * 1.01), n_bins + 1)
    )
    counts, _ = np.histogram(np.clip(elapsed_s, edges[0], edges[-1]), edges)
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.3)
    axes.stairs(counts, edges, color=BLUE, linewidth=1.4)
    if wide_range:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
    axes.set_ylim(0, 1.18 * float(counts.max()))
    median = float(np.median(elapsed_s))
    axes.axvline(median, color=INK, linewidth=1.2)
    axes.annotate(
        "median",
        (median, 1),
        (4, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=INK,
        fontsize=11,
        va="top",
    )
    if not wide_range:
        canvas.few_ticks(6, 4, whole_y=True)
    axes.set_xlabel("seconds in a slot, of one simulation")
    return canvas.svg("Distribution of the time of a simulation")


MOST_HOSTS = 40


def hosts(times: HostTimes, names: Sequence[str]) -> str:
    """Simulation times by host, the slowest first; of very many, the slowest and the fastest."""
    n = len(times.host)
    shown = np.arange(n) if n <= MOST_HOSTS else np.concatenate([np.arange(30), np.arange(n - 8, n)])

    def draw(width: float, style: str) -> str:
        row_height = 22 if len(shown) <= 20 else 16
        labels = [cut(names[times.host[row]], _most_letters(width)) for row in shown]
        left = _margin(labels, width)
        canvas = Canvas(width, 66 + row_height * len(shown), left=left, top=22)
        axes = canvas.axes
        for place, row in enumerate(shown):
            low, quarter, median, three, high = times.quantiles[row]
            colour = ORANGE if times.slow[row] else BLUE
            axes.plot([low, high], [place, place], color=colour, linewidth=1.5, alpha=0.6, solid_capstyle="butt")
            axes.plot([quarter, three], [place, place], color=colour, linewidth=7, alpha=0.45, solid_capstyle="butt")
            axes.plot([median], [place], "o", color=colour, markersize=5)
        axes.axvline(times.median_s, color=INK, linewidth=1.0, zorder=0)
        axes.annotate(
            "median of all", (times.median_s, 1), (4, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=MUTED, fontsize=11, annotation_clip=False,
        )  # fmt: skip
        axes.set_yticks(range(len(shown)), labels)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, float(times.quantiles[shown, -1].max()) * 1.05 + 1e-9)
        axes.grid(False)
        axes.grid(True, axis="x")
        if n > MOST_HOSTS:
            axes.axhline(29.5, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.set_xlabel("seconds in a slot, of one simulation")
        axes.xaxis.set_major_locator(MaxNLocator(9 if width == WIDE else 5))
        return canvas.svg("Simulation times by host, the slowest first", style)

    return _variants(draw)
