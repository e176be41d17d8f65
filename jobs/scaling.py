"""A table of a scaling study: simulations a second and efficiency of runs of the same simulations in several sizes.

    for slots in 1 2 4 8; do
        python -m mosaic_mpi run --n-simulations 200 --slots $slots --overwrite --output scaling-$slots.h5
    done
    python jobs/scaling.py scaling-*.h5

Efficiency is the rate of a slot, relative to that in the smallest run. Rates are those of `status --json`: from the
first assignment to the last result, so that starting Python and MPI does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

HEADER = ("file", "hosts", "ranks", "slots", "simulations", "per s", "per s and slot", "efficiency")


def main(files: list[str]) -> int:
    """Print the table; return 1 if a file has no place in it."""
    runs = []
    for file in files:
        status = ask(file)
        problem = unfit(status) if status else "no readable results file"
        if status and not problem:
            runs.append(status)
        else:
            print(f"{file}: left out: {problem}", file=sys.stderr)
    if runs:
        print_table(rows(runs))
    return 0 if runs and len(runs) == len(files) else 1


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


def rows(runs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table's cells, by the number of slots."""
    runs = sorted(runs, key=lambda run: int(run["starts"][0]["n_slots"]))
    per_slot = [run["simulations_per_s"] / run["starts"][0]["n_slots"] for run in runs]
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
