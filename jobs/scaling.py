"""A table of a scaling study: simulations a second and efficiency of runs in several sizes.

    for slots in 1 2 4 8; do
        python -m mosaic_mpi run --n-simulations 200 --slots $slots --overwrite --output scaling-$slots.h5
    done
    python jobs/scaling.py --plot scaling.svg scaling-*.h5

Efficiency is the rate of a slot, relative to that in the smallest run; that is so of strong scaling (the same
simulations at every size) and of weak scaling (as many more as there are more slots). Rates are those of
`status --json`: from the first assignment to the last result, so that starting Python and MPI does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

HEADER = ("file", "hosts", "ranks", "slots", "simulations", "per s", "per s and slot", "efficiency")


def main(words: list[str]) -> int:
    """Print the table; return 1 if a file has no place in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help="results files, one a size")
    parser.add_argument("--plot", metavar="OUT.svg", help="draw efficiency against slots, too")
    options = parser.parse_args(words)
    runs = []
    for file in options.files:
        status = ask(file)
        problem = unfit(status) if status else "no readable results file"
        if status and not problem:
            runs.append(status)
        else:
            print(f"{file}: left out: {problem}", file=sys.stderr)
    if runs:
        print_table(rows(runs))
    if runs and options.plot:
        plot(runs, options.plot)
    return 0 if runs and len(runs) == len(options.files) else 1


def ask(file: str) -> dict[str, Any] | None:
    """What `status --json` says of a file; None where there is none."""
    command = [sys.executable, "-m", "mosaic_mpi", "status", "--json", file]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if found.returncode:
        return None
    status: dict[str, Any] = json.loads(found.stdout)
    return status


def unfit(status: dict[str, Any]) -> str:
    """Why a run cannot be compared with others; an empty string if it can."""
    if not status["complete"]:
        return f"{status['pending']} of {status['n_simulations']} simulations not done; what is last is slow"
    if len(status["starts"]) != 1:
        return f"{len(status['starts'])} starts; measure in one piece (--overwrite)"
    return "" if status["simulations_per_s"] else "no rate: too few simulations"


def slots_of(run: dict[str, Any]) -> int:
    """Slots of a run."""
    return int(run["starts"][0]["n_slots"])


def rates(runs: list[dict[str, Any]]) -> list[float]:
    """Simulations a second of a slot, by run."""
    return [run["simulations_per_s"] / slots_of(run) for run in runs]


def rows(runs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table's cells, by the number of slots."""
    runs = sorted(runs, key=slots_of)
    per_slot = rates(runs)
    return [
        (
            run["file"],
            *(str(run["starts"][0][name]) for name in ("n_hosts", "n_ranks", "n_slots")),
            str(run["n_simulations"]),
            f"{run['simulations_per_s']:.4g}",
            f"{rate:.4g}",
            f"{100 * rate / per_slot[0]:.0f} %",
        )
        for run, rate in zip(runs, per_slot, strict=True)
    ]


def plot(runs: list[dict[str, Any]], path: str) -> None:
    """Draw efficiency against slots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    runs = sorted(runs, key=slots_of)
    per_slot, n_slots = rates(runs), [slots_of(run) for run in runs]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(n_slots, [100 * rate / per_slot[0] for rate in per_slot], "o-")
    axes.axhline(100, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(n_slots, [str(n) for n in n_slots])
    axes.set_ylim(0, 110)
    axes.set_xlabel("slots")
    axes.set_ylabel("efficiency, %")
    numbers = sorted({int(run["n_simulations"]) for run in runs})
    axes.set_title(f"{numbers[0]} simulations" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} simulations")
    figure.savefig(path)
    plt.close(figure)


def print_table(cells: list[tuple[str, ...]]) -> None:
    """Print cells in columns as wide as they need."""
    widths = [max(len(row[column]) for row in [HEADER, *cells]) for column in range(len(HEADER))]
    for row in [HEADER, *cells]:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
