"""The virtual cluster's results as JSON, as a table in Markdown, and as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from machine import machine, spread
from virtual_cases import Case
from virtual_figures import limit, saturation

_WANTED = (0.97, 0.90)
_OF_RATES = ("fast", "unbatched")
"""Groups with more and more results a second: what is kept of all slots without start and tail counts there."""
_COLUMNS = (
    ("efficiency, %", "efficiency", "{:.1f}", 100.0),
    ("steady, %", "steady", "{:.1f}", 100.0),
    ("of ideal, %", "of_ideal", "{:.1f}", 100.0),
    ("tail, s", "tail_s", "{:.2f}", 1.0),
    ("results/s", "results_per_s", "{:.0f}", 1.0),
    ("us a result", "rank_0_us_per_result", "{:.1f}", 1.0),
    ("% of a core", "rank_0_core", "{:.1f}", 100.0),
    ("resident MB", "rank_0_resident_mb", "{:.0f}", 1.0),
    ("PSS MB", "rank_0_pss_mb", "{:.0f}", 1.0),
    ("stored MB/s", "stored_mb_per_s", "{:.1f}", 1.0),
    ("file MB", "file_mb", "{:.0f}", 1.0),
    ("late, ms", "late_p99_s", "{:.0f}", 1000.0),
)
_WITH_RANGE = ("efficiency", "results_per_s")


def keep(path: Path, group: str, library: str, case: Case, rounds: Sequence[Mapping[str, float]]) -> None:
    """Put a case's measurements into the report, in the place of earlier ones of the same case and library."""
    report = json.loads(path.read_text()) if path.exists() else {"groups": {}}
    settings = asdict(case) | {"library": library}
    derived = {"n_ranks": case.n_ranks, "n_simulations": case.n_simulations, "offered_per_s": case.offered_per_s}
    figures = {name: spread([found[name] for found in rounds]) for name in rounds[0]}
    entry = settings | derived | {"figures": figures, "rounds": list(rounds), "machine": machine()}
    others = [
        other for other in report["groups"].get(group, []) if {name: other.get(name) for name in settings} != settings
    ]
    others.append(entry)
    report["groups"][group] = sorted(others, key=lambda one: (one["library"], one["n_slots"]))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def _medians(entry: Mapping[str, Any]) -> dict[str, float]:
    return {name: found["median"] for name, found in entry["figures"].items()}


def what(entry: Mapping[str, Any]) -> str:
    """Say what is peculiar to a case within its group."""
    seconds = f"{entry['seconds']:g} s"
    said = [
        f"{seconds} +- {100 * entry['spread']:g} %" if entry["spread"] else seconds,
        f"{entry['per_slot']:.4g} a slot",
        "series" if entry["has_series"] else "",
        "" if entry["shares_iterations"] else "whole simulations",
    ]
    return ", ".join(part for part in said if part)


def table(report: Mapping[str, Any]) -> str:
    """The report as a table in Markdown, medians, with lowest and highest where there were several rounds."""
    head = ["group", "slots", "ranks", "simulations", "MPI", *(title for title, *_ in _COLUMNS), "limited by"]
    lines = [head, ["---"] * len(head)]
    for group, entries in report["groups"].items():
        for entry in entries:
            cells = [_cell(entry["figures"][name], name in _WITH_RANGE, *shown) for _, name, *shown in _COLUMNS]
            place = [group, str(entry["n_slots"]), str(entry["n_ranks"]), what(entry), entry["library"]]
            lines.append([*place, *cells, limit(_medians(entry))])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(part for part in (rows, *_saturations(report)) if part)


def _cell(found: Mapping[str, float], with_range: bool, form: str, factor: float) -> str:
    middle, low, high = (form.format(found[key] * factor) for key in ("median", "min", "max"))
    return f"{middle} ({low} to {high})" if with_range and low != high else middle


def _saturations(report: Mapping[str, Any]) -> list[str]:
    said = []
    for group in _OF_RATES:
        for library, entries in _by_library(report["groups"].get(group, [])).items():
            measured = _measured(entries)
            for wanted in _WANTED:
                rate = saturation(measured, wanted)
                if rate is not None:
                    said.append(
                        f"{group}, {library}: {100 * wanted:.0f} % of slot time used up to {rate:.0f} results/s."
                    )
    return said


def _measured(entries: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Offered results a second and steady efficiency, of cases of the shortest simulations."""
    shortest = min(entry["seconds"] for entry in entries)
    fast = [entry for entry in entries if entry["seconds"] == shortest]
    return sorted((entry["offered_per_s"], _medians(entry)["steady"]) for entry in fast)


def _by_library(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        found.setdefault(entry["library"], []).append(entry)
    return found


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw efficiency against slots, and results a second against what the slots could give."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "mosaic_mpi"
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    _draw_efficiency(left, report["groups"])
    _draw_rates(right, report["groups"])
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw_efficiency(axes: Any, of_groups: Mapping[str, Any]) -> None:
    for name in ("scalars", "one country", "forty countries", "one slot a rank"):
        for library, entries in _by_library(of_groups.get(name, [])).items():
            _line(
                axes, [(entry["n_slots"], entry["figures"]["efficiency"]) for entry in entries], f"{name}, {library}"
            )
    axes.axhline(0.97, color="grey", lw=0.8, ls="--", label="97 %")
    axes.set(
        xscale="log", ylim=(0.5, 1.01), xlabel="slots, simulations of 1 s", ylabel="slot time used, start to end"
    )
    axes.legend(fontsize="small")


def _draw_rates(axes: Any, of_groups: Mapping[str, Any]) -> None:
    offered: list[float] = []
    for name in _OF_RATES:
        for library, entries in _by_library(of_groups.get(name, [])).items():
            shortest = min(entry["seconds"] for entry in entries)
            points = [
                (entry["offered_per_s"], {key: value * entry["offered_per_s"] for key, value in steady.items()})
                for entry in entries
                if entry["seconds"] == shortest and (steady := entry["figures"]["steady"])
            ]
            offered += [rate for rate, _ in points]
            _line(axes, points, f"{name}, {library}")
    if offered:
        ends = [min(offered), max(offered)]
        axes.plot(ends, ends, color="grey", lw=0.8, ls="--", label="all that slots could give")
        axes.set(xscale="log", yscale="log")
        axes.legend(fontsize="small")
    axes.set(xlabel="results a second that slots of 10 ms could give", ylabel="results a second, stored")


def _line(axes: Any, points: Sequence[tuple[float, Mapping[str, float]]], label: str) -> None:
    middle = [found["median"] for _, found in points]
    ends = [[abs(found[end] - found["median"]) for _, found in points] for end in ("min", "max")]
    axes.errorbar([x for x, _ in points], middle, ends, marker="o", ms=4, capsize=2, label=label)
