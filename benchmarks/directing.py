"""What a result costs rank 0: CPU a result and results a second, with simulations that take no time.

    python benchmarks/directing.py --mpirun "mpirun -n 3 --oversubscribe"

Real ranks, real messages, a real results file; the engine is replaced by a stand-in, so that rank 0 and the slots
share the cores, and results a second is what this machine manages in all, not rank 0's limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

import mosaic_mpi


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-simulations", type=int, default=20000)
    parser.add_argument("--seconds", default="0", help="length of an iteration")
    parser.add_argument("--locations", default="ETH")
    parser.add_argument("--mpirun", default="", help="launcher and its options; none: one process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/run.h5"
        command = [
            *options.mpirun.split(),
            *(sys.executable, "-m", "mosaic_mpi", "run", "--output", output, "--slots", "1", "--n-iterations", "1"),
            *("--n-simulations", str(options.n_simulations), "--locations", options.locations),
        ]
        variables = {"MOSAIC_MPI_FAKE": f"seconds={options.seconds}"}
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **variables, **root})
        status = [sys.executable, "-m", "mosaic_mpi", "status", "--json", output]
        rate = json.loads(subprocess.run(status, check=True, capture_output=True, text=True).stdout)
        cpu_s = float(mosaic_mpi.open(output).table("starts/loop_cpu_s")[0])
    report = {
        "simulations_per_s": rate["simulations_per_s"],
        "rank_0_cpu_us_per_result": 1e6 * cpu_s / options.n_simulations,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
