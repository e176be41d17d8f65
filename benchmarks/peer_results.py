"""From the results of a comparison's rounds to its table and plot. Pure, but for the plot's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import spread

Result = Mapping[str, Any]


def span_s(results: Sequence[Result]) -> float:
    """Seconds from the beginning of the first simulation to the end of the last."""
    return float(max(result["finished"] for result in results) - min(result["began"] for result in results))


def ideal_rate(results: Sequence[Result]) -> float:
    """Simulations a second if no process ever waited, nor ran out of work before the others: the sum of their rates.

    Parameters
    ----------
    results : sequence of mapping
        With ``process``, ``began`` and ``finished`` (seconds).
    """
    by_process: dict[str, list[Result]] = {}
    for result in results:
        by_process.setdefault(result["process"], []).append(result)
    return sum(len(mine) / span_s(mine) for mine in by_process.values())


def busy_share(results: Sequence[Result], n_slots: int) -> float:
    """Share of the time of all slots, from the first beginning to the last end, that was inside a simulation."""
    inside = sum(result["finished"] - result["began"] for result in results)
    return float(inside / n_slots / span_s(results))


def measures(results: Sequence[Result], n_slots: int, began: float, ended: float) -> dict[str, float]:
    """What one measurement of a peer on simulations comes to.

    Parameters
    ----------
    results : sequence of mapping
        With ``process``, ``began`` and ``finished`` (seconds).
    n_slots : int
        Slots.
    began, ended : float
        When the command started, and had ended, seconds.
    """
    return {
        "simulations_per_s": len(results) / span_s(results),
        "ideal_per_s": ideal_rate(results),
        "busy_share": busy_share(results, n_slots),
        "mean_simulation_s": sum(r["finished"] - r["began"] for r in results) / len(results),
        "first_result_s": min(result["finished"] for result in results) - began,
        "whole_run_s": ended - began,
    }


def summarise(rounds: Sequence[Mapping[str, Any]], reference: str) -> dict[str, dict[str, Any]]:
    """Medians and ranges by peer.

    Parameters
    ----------
    rounds : sequence of mapping
        Of each round: peer's name to what was measured of it; the reference is in every round.
    reference : str
        The peer that ratios refer to, within a round.

    Returns
    -------
    dict
        By peer, in order of first appearance: each measure's spread, and ``ratio``, simulations a second over the
        ideal that the reference gives.
    """
    summary: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for found in rounds for name in found):
        mine = [(found[name], found[reference]) for found in rounds if name in found]
        measured = list(dict.fromkeys(key for one, _ in mine for key in one))
        values = {key: [one[key] for one, _ in mine if key in one] for key in measured}
        summary[name] = {
            key: all(of) if key == "identical" else spread(of) for key, of in values.items() if key != "likelihoods"
        }
        ratios = [one["simulations_per_s"] / other["ideal_per_s"] for one, other in mine if "ideal_per_s" in one]
        if ratios:
            summary[name]["ratio"] = spread(ratios)
    return summary


_COLUMNS = (
    ("simulations/s", "simulations_per_s", "{:.3f}", 1.0),
    ("of the ideal", "ratio", "{:.3f}", 1.0),
    ("beside a bare loop", "beside", "{:.3f}", 1.0),
    ("slots busy", "busy_share", "{:.3f}", 1.0),
    ("first result, s", "first_result_s", "{:.1f}", 1.0),
    ("peak memory, MiB", "peak_bytes", "{:.0f}", 2**-20),
    ("empty unit, us", "empty_us", "{:.4g}", 1.0),
)


def table(summary: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """The summary as Markdown: median, and the range in brackets."""
    head = ["peer", *(column[0] for column in _COLUMNS), "same bits"]
    lines = [head, ["---"] * len(head)]
    for name, found in summary.items():
        cells = [_cell(found.get(key), form, factor) for _, key, form, factor in _COLUMNS]
        same = {True: "yes", False: "NO"}.get(found.get("identical"), "")
        lines.append([titles.get(name, name), *cells, same])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(found: Mapping[str, float] | None, form: str, factor: float) -> str:
    if found is None:
        return ""
    median, low, high = (form.format(found[key] * factor) for key in ("median", "min", "max"))
    return median if low == high else f"{median} ({low} to {high})"


def plot(summary: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], path: Path) -> None:
    """Draw rates over the ideal, and the cost of an empty unit, as bars with their ranges."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "mosaic_mpi"
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.4 * len(summary) + 1.6), layout="constrained")
    _bars(left, summary, titles, "ratio", "simulations a second, over the ideal")
    left.axvline(1.0, color="black", linewidth=0.8)
    _bars(right, summary, titles, "empty_us", "an empty unit of work, us")
    right.set_xscale("log")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bars(
    axes: Any, summary: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], key: str, label: str
) -> None:
    shown = [(titles.get(name, name), found[key]) for name, found in reversed(summary.items()) if key in found]
    medians = [found["median"] for _, found in shown]
    below, above = ([abs(found[end] - found["median"]) for _, found in shown] for end in ("min", "max"))
    colours = ["tab:orange" if title.startswith("mosaic_mpi") else "tab:grey" for title, _ in shown]
    axes.barh([title for title, _ in shown], medians, xerr=[below, above], color=colours, capsize=2)
    axes.set_xlabel(label)
