"""What a calibration costs: core-hours, and time on a laptop, a node and ten nodes, from what one core takes.

    python benchmarks/cost.py                                     # the table, from the figures in results/
    python benchmarks/cost.py --try auto 4000 --try stock 60      # and real runs of one country here, beside it

Measured are the seconds of a simulation of three iterations on one core (`iteration.py --save`, kept in
results/iteration.json), how much of their time slots are kept busy where they offer rank 0 so many results a second
(`virtual_cluster.py`, group fast, in results/virtual_cluster.json), and with `--try` the start of a run and the rate
that it reaches on all cores of this machine. Everything else is computed, by the model of `run --dry-run`
(`mosaic_mpi.forecast`). It presumes that each core is like the one measured: how those of a full node slow each other
down (memory bandwidth, hyperthreads, clock rates) is not in it, nor are simulations that fail. No series is saved.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine

import mosaic_mpi
from mosaic_mpi.forecast import Measured, forecast

RESULTS = Path(__file__).parent / "results"
N_SIMULATIONS = 100_000
CASES = {"one country": "ETH", "40 countries": "40 countries"}
"""By their names in what `iteration.py` prints."""
R_WORKER_S = {"one country": (2.0, 1.5), "40 countries": (3.3, 2.7)}
"""A simulation of three iterations by a worker of MOSAIC's local R backend, the engine included, and three bare calls
of `run_model` in the same minute; on two cores, 2026-11. Their ratio is used, since machines and minutes differ."""
START_S = 4.0
"""Of a run, where none was tried: `start.py` with a slot a core."""


@dataclass(frozen=True)
class Layout:
    """Cores to run on."""

    name: str
    n_nodes: int
    n_cores: int
    """Of each node; a slot each."""

    @property
    def n_slots(self) -> int:
        return self.n_nodes * self.n_cores


LAYOUTS = (Layout("laptop", 1, 8), Layout("node", 1, 120), Layout("10 nodes", 10, 120))
_RUN_MODEL = "stock, arrays"
WAYS = {
    "MOSAIC's local R worker": None,
    "bare loop of `run_model`": _RUN_MODEL,
    "mosaic_mpi, `--engine stock`": "prepared",
    "mosaic_mpi, compiled": "compiled",
}
"""By their names in what `iteration.py` prints."""


def busy_share(results_per_s: float, measured: Sequence[tuple[float, float]]) -> float:
    """Share of their time that slots are kept busy.

    Parameters
    ----------
    results_per_s : float
        What slots offer that never wait.
    measured : sequence of (float, float)
        The same and the share, in ascending order; between them lines are drawn, and beyond the last one rank 0 takes
        in as much as there.
    """
    (least, share), *rest = measured
    if results_per_s <= least:
        return share
    for more, next_share in rest:
        if results_per_s <= more:
            return share + (next_share - share) * (results_per_s - least) / (more - least)
        least, share = more, next_share
    return share * least / results_per_s


def measured_shares(report: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return offered results a second and the share of slot time that was used, start and end included."""
    return sorted(
        (entry["offered_per_s"], entry["figures"]["efficiency"]["median"]) for entry in report["groups"]["fast"]
    )


def cost(
    n_simulations: int, seconds: float, start_s: float, layout: Layout, shares: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """Return what a run of so many simulations takes, each so many seconds of a core.

    Parameters
    ----------
    n_simulations : int
    seconds : float
        Of a simulation.
    start_s : float
        From the command to the first simulation.
    layout : Layout
    shares : sequence
        See `busy_share`.
    """
    offered = layout.n_slots / seconds
    share = busy_share(offered, shares)
    pace = Measured(layout.n_slots, start_s, 0.0, seconds / share, 0.0, 0, 0)
    told = forecast(pace, n_simulations, 3, layout.n_nodes, layout.n_slots)
    return {
        "offered_per_s": offered,
        "busy_share": share,
        "wall_s": told.wall_s,
        "core_hours_held": told.held_s / 3600,
    }


def alone(n_simulations: int, seconds: float, layout: Layout) -> dict[str, float]:
    """Return what the same takes where nothing is lost to handing out, and nothing to the start."""
    return {"wall_s": n_simulations * seconds / layout.n_slots}


def costs(
    measured: Mapping[str, Any], shares: Sequence[tuple[float, float]], start_s: float, n_simulations: int
) -> dict[str, Any]:
    """Return seconds, core-hours and what each layout takes, by case and way.

    Parameters
    ----------
    measured : mapping
        What `iteration.py` prints.
    shares : sequence
        See `busy_share`.
    start_s : float
        Of a run of mosaic_mpi.
    n_simulations : int
    """
    found: dict[str, Any] = {}
    for case, name in CASES.items():
        for way, key in WAYS.items():
            seconds = measured[name]["simulation_s"][key or _RUN_MODEL]
            if key is None:
                seconds *= R_WORKER_S[case][0] / R_WORKER_S[case][1]
            if way.startswith("mosaic_mpi"):
                layouts = {at.name: cost(n_simulations, seconds, start_s, at, shares) for at in LAYOUTS}
            else:  # one machine each: nothing of them hands out simulations to others
                layouts = {at.name: alone(n_simulations, seconds, at) for at in LAYOUTS if at.n_nodes == 1}
            work = {"seconds": seconds, "core_hours": n_simulations * seconds / 3600}
            found.setdefault(case, {})[way] = {**work, "layouts": layouts}
    return found


def table(found: Mapping[str, Any]) -> str:
    """Markdown."""
    heads = [f"{at.name}, {at.n_slots} cores" for at in LAYOUTS]
    rows = [["", "a simulation", "core-hours", *heads], ["---"] * (3 + len(heads))]
    for case, ways in found.items():
        for way, told in ways.items():
            walls = [told["layouts"].get(at.name, {}).get("wall_s") for at in LAYOUTS]
            shown = ["" if wall is None else duration(wall) for wall in walls]
            seconds, hours = told["seconds"], told["core_hours"]
            rows.append(
                [f"{case}: {way}", f"{1000 * seconds:,.{1 if seconds < 0.1 else 0}f} ms", f"{hours:,.3g}", *shown]
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def duration(seconds: float) -> str:
    """For a person: two digits or so."""
    for name, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {name}" if seconds < 100 * size else f"{seconds / size:.0f} {name}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def tried(engine: str, n_simulations: int, seconds: float, shares: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Run one country on all cores of this machine, and hold its rate against the one computed."""
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "run.h5")
        words = ["--locations", "ETH", "--n-simulations", str(n_simulations), "--n-iterations", "3"]
        command = [sys.executable, "-m", "mosaic_mpi", "run", *words, "--engine", engine, "--output", output]
        began = time.time()
        subprocess.run(command, check=True, stdout=sys.stderr)
        whole_s = time.time() - began
        run = mosaic_mpi.open(output)
        finished, inside = run.table("simulations/finished_at"), run.table("simulations/elapsed_s")
        first, n_slots = float(run.table("starts/first_assignment_at")[0]), int(run.table("starts/n_slots")[0])
        used = str(run.table("starts/engine")[0], "utf-8")
    span_s = float(finished.max()) - first
    rate, computed = n_simulations / span_s, n_slots / seconds
    return {
        "engine": used,
        "n_simulations": n_simulations,
        "n_slots": n_slots,
        "start_s": first - began,
        "whole_s": whole_s,
        "simulations_per_s": rate,
        "computed_per_s": computed * busy_share(computed, shares),
        "of_computed": rate / (computed * busy_share(computed, shares)),
        "busy_share": float(inside.sum()) / (n_slots * span_s),
        "mean_s": float(inside.mean()),
        "median_s": statistics.median(inside.tolist()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-simulations", type=int, default=N_SIMULATIONS, help="of the calibration")
    parser.add_argument(
        "--iteration", type=Path, default=RESULTS / "iteration.json", help="what iteration.py printed"
    )
    parser.add_argument(
        "--cluster", type=Path, default=RESULTS / "virtual_cluster.json", help="of virtual_cluster.py"
    )
    parser.add_argument("--try", dest="tries", nargs=2, action="append", default=[], metavar=("ENGINE", "N"))
    parser.add_argument("--output", type=Path, help="write everything there, as JSON")
    options = parser.parse_args()
    measured = json.loads(options.iteration.read_text())
    shares = measured_shares(json.loads(options.cluster.read_text()))
    keys = {"auto": "compiled", "compiled": "compiled", "stock": "prepared"}
    runs = [
        tried(engine, int(n), measured["ETH"]["simulation_s"][keys[engine]], shares) for engine, n in options.tries
    ]
    start_s = statistics.median(run["start_s"] for run in runs) if runs else START_S
    found = costs(measured, shares, start_s, options.n_simulations)
    print(table(found))
    for run in runs:
        print(f"\ntried: {json.dumps(run, indent=1)}")
    if options.output:
        inputs = {"machine": machine(), "seconds_of": measured["machine"], "start_s": start_s, "busy_shares": shares}
        whole = {**inputs, "n_simulations": options.n_simulations, "costs": found, "tried": runs}
        options.output.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
