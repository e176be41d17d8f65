"""How much of the machine reaches LASER: `mpirun -n 2` against two bare loops of run_model, same simulations.

    python benchmarks/efficiency.py --n-simulations 40 --rounds 3

Rounds alternate; the report gives medians, and whether the numbers agree bit for bit. Needs two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import mosaic_mpi

HERE = Path(__file__).parent
N_SLOTS = 2


def bare(options: argparse.Namespace) -> tuple[float, dict[int, list[float]]]:
    """Simulations a second of two bare loops together, and their log-likelihoods."""
    sims = range(1, options.n_simulations + 1)
    orders = [
        {"sim_ids": list(sims[slot::N_SLOTS]), "n_iterations": 3, "locations": options.locations}
        for slot in range(N_SLOTS)
    ]
    script = [sys.executable, str(HERE / "bare_loop.py")]
    loops = [
        subprocess.Popen([*script, json.dumps(order)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for order in orders
    ]
    import time

    time.sleep(8)  # both have imported the engine
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.write("\n")
        loop.stdin.flush()
    answers = [json.loads(loop.communicate()[0].splitlines()[-1]) for loop in loops]
    elapsed = max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers)
    likelihoods = {int(sim): values for answer in answers for sim, values in answer["likelihoods"].items()}
    return options.n_simulations / elapsed, likelihoods


def ours(options: argparse.Namespace, folder: str) -> tuple[float, dict[int, list[float]], float]:
    """Simulations a second of mosaic_mpi, its log-likelihoods, and seconds of CPU that rank 0 took a result."""
    output = f"{folder}/run.h5"
    command = [
        *options.mpirun.split(),
        *(sys.executable, "-m", "mosaic_mpi", "run", "--overwrite", "--slots", "1", "--output", output),
        *("--n-simulations", str(options.n_simulations)),
        *(("--locations", ",".join(options.locations)) if options.locations else ()),
    ]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **root})
    status = [sys.executable, "-m", "mosaic_mpi", "status", "--json", output]
    rate = json.loads(subprocess.run(status, check=True, capture_output=True, text=True).stdout)["simulations_per_s"]
    table = mosaic_mpi.open(output).likelihoods()
    return rate, {int(sim): row.tolist() for sim, row in table.iterrows()}, 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-simulations", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--locations", type=lambda text: text.split(","), help="default: all 40")
    parser.add_argument("--mpirun", default="mpirun -n 2 --bind-to none")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    same = True
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            rate, expected = bare(options)
            rates["bare"].append(rate)
            rate, found, _ = ours(options, folder)
            rates["ours"].append(rate)
            same = same and found == expected
            print(f"bare {rates['bare'][-1]:.3f}, mosaic_mpi {rates['ours'][-1]:.3f} simulations/s", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = [mine / theirs for mine, theirs in zip(rates["ours"], rates["bare"], strict=True)]
    report = {
        "simulations_per_s": medians,
        "rounds": rates,
        "efficiency": statistics.median(ratios),
        "efficiency_range": [min(ratios), max(ratios)],
        "identical_likelihoods": same,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
