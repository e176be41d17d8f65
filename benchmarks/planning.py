"""What `run --dry-run` predicts, against what the run then takes: wall time, core-hours, memory, file size.

    python benchmarks/planning.py --mpirun "mpirun -n 2 --bind-to none"

Each plan is predicted, then run, in turns, as often as asked for. Needs idle cores and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import machine, spread
from processes import Measured

import mosaic_mpi

RESULTS = Path(__file__).parent / "results"
_LIMIT_S = 900.0
_SAVE = ("--save", "reported_cases,reported_deaths")
PLANS: dict[str, tuple[str, ...]] = {
    "1 country, 60 simulations, 2 slots": ("--locations", "ETH", "--n-simulations", "60", "--slots", "2"),
    "1 country, series, 20 simulations, 1 slot": (
        "--locations",
        "ETH",
        "--n-simulations",
        "20",
        "--slots",
        "1",
        *_SAVE,
    ),
    "40 countries, 20 simulations, 2 slots": ("--n-simulations", "20", "--slots", "2"),
    "40 countries, series, 15 simulations, 2 slots": ("--n-simulations", "15", "--slots", "2", *_SAVE),
}
UNDER_MPI = {"40 countries, series, 20 simulations, MPI": ("--n-simulations", "20", "--slots", "1", *_SAVE)}
MEASURES = ("wall_s", "work_s", "memory_bytes", "file_bytes")
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def predicted(text: str) -> dict[str, float]:
    """Read a dry run's figures from what it prints."""
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line.strip())
    slots = int(lines["slots"].split()[0])
    held = re.search(r"([\d.e+-]+) core-hours held", lines["wall"])
    assert held is not None
    return {
        "wall_s": 3600 * float(held[1]) / slots,
        "work_s": 3600 * float(lines["work"].split()[0]),
        "memory_bytes": size(lines["memory"].partition(":")[0]),
        "file_bytes": size(lines["file"].rpartition("; ")[2].partition(" when")[0]),
    }


def size(text: str) -> float:
    """Bytes of a size as a person reads it."""
    number, unit = text.split()
    return float(number) * UNITS[unit]


def measured(command: list[str], folder: str) -> dict[str, float]:
    """Run a plan and take the same figures of it."""
    run = Measured(command, dict(os.environ), folder)
    code = run.wait(_LIMIT_S)
    if code != 0:
        raise SystemExit(f"{command}: exit code {code}:\n{(Path(folder) / 'output.txt').read_text()}")
    return {
        "wall_s": run.ended - run.began,
        "work_s": float(mosaic_mpi.open(f"{folder}/run.h5").table("simulations/elapsed_s").sum()),
        "memory_bytes": float(run.peak_bytes),
        "file_bytes": float(os.path.getsize(f"{folder}/run.h5")),
    }


def compare(launch: list[str], words: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Predict a plan and run it."""
    with tempfile.TemporaryDirectory(prefix="planning-", dir="/tmp") as folder:
        command = [*launch, sys.executable, "-m", "mosaic_mpi", "run", "--output", f"{folder}/run.h5", *words]
        said = subprocess.run([*command, "--dry-run"], check=True, capture_output=True, text=True).stdout
        return {"predicted": predicted(said), "measured": measured(command, folder)}


def summarise(rounds: list[dict[str, dict[str, dict[str, float]]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Ratios of prediction to measurement, by plan and measure."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for plan in dict.fromkeys(plan for found in rounds for plan in found):
        mine = [found[plan] for found in rounds if plan in found]
        summary[plan] = {
            measure: spread([one["predicted"][measure] / one["measured"][measure] for one in mine])
            for measure in MEASURES
        }
    return summary


def plot(summary: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Draw the ratios."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "mosaic_mpi"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.5 * len(summary) + 1.6), layout="constrained")
    for index, measure in enumerate(MEASURES):
        found = [summary[plan][measure] for plan in summary]
        places = [place - 0.15 * (index - 1.5) for place in range(len(summary))]
        ranges = [[abs(one[end] - one["median"]) for one in found] for end in ("min", "max")]
        label = measure.rpartition("_")[0]
        axes.errorbar([one["median"] for one in found], places, xerr=ranges, fmt="o", capsize=2, label=label)
    axes.set_yticks(range(len(summary)), list(summary))
    axes.axvspan(0.85, 1.15, color="tab:grey", alpha=0.2)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("predicted / measured (grey: within 15 %)")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def table(summary: dict[str, dict[str, dict[str, float]]]) -> str:
    """The ratios as Markdown."""
    lines = [["plan", "wall time", "core-hours at work", "memory", "file"], ["---"] * 5]
    for plan, found in summary.items():
        lines.append([plan, *("{median:.2f} ({min:.2f} to {max:.2f})".format(**found[key]) for key in MEASURES)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    options = arguments()
    os.environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    path = Path(options.output)
    rounds: list[Any] = json.loads(path.read_text())["rounds"] if options.append and path.exists() else []
    plans = {plan: ([], words) for plan, words in PLANS.items()}
    if options.mpirun:
        program, *others = options.mpirun.split()
        launch = [str(Path(shutil.which(program) or program).absolute()), *others]
        plans |= {plan: (launch, words) for plan, words in UNDER_MPI.items()}
    chosen = {name: plan for name, plan in plans.items() if options.only in name}
    for _ in range(options.rounds):
        rounds.append({})
        for name, plan in chosen.items():
            rounds[-1][name] = compare(*plan)
            write(rounds, path)
    print(table(summarise(rounds)))


def write(rounds: list[Any], path: Path) -> None:
    """Write all rounds and what they come to, and draw it."""
    summary = summarise(rounds)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "summary": summary, "rounds": rounds}, indent=1) + "\n")
    plot(summary, path.with_suffix(".svg"))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="plans whose name has this in it")
    parser.add_argument("--mpirun", default="", help="a launcher and its options, for a plan more")
    parser.add_argument("--output", default=str(RESULTS / "planning.json"))
    parser.add_argument("--append", action="store_true", help="add rounds to the file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
