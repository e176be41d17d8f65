"""Rank 0's memory does not grow with the number of simulations."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
from helpers import Cli, few_parameters, wait_until, write_config

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED

MAIN = (
    "import sys\nfrom mosaic_mpi.cli import main\ncode = main(sys.argv[1:])\n"
    "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    "print('peak kB', peak)\nsys.exit(code)"
)
N_RESULTS = 3000


def peak_mb(cli: Cli, n_simulations: int, config: str) -> float:
    """Peak memory of the main process over a new start and, for a long run, over a resume; both see results."""
    peaks = []
    path = cli.folder / f"{n_simulations}.h5"
    arguments = ("--config", config, "--n-simulations", str(n_simulations), "--n-iterations", "1")
    for _ in range(2):
        process = cli.launch([sys.executable, "-c", MAIN, "run", *arguments, "--output", str(path)])
        if n_simulations > N_RESULTS:
            before = n_done(path) if peaks else 0
            wait_until(lambda before=before: path.exists() and n_done(path) > before + N_RESULTS, "results", 60)
            process.send_signal(signal.SIGTERM)
        ended = cli.end(process)
        assert ended.returncode in (0, 75), ended.stderr
        peaks.append(int(ended.stdout.rsplit(maxsplit=1)[1]) / 1024)
    return max(peaks)


def n_done(path: Path) -> int:
    time.sleep(0.2)
    return int((mosaic_mpi.open(str(path)).table("simulations/status") == COMPLETED).sum())


@pytest.mark.timeout(300)
def test_rank_0_needs_the_same_for_a_thousand_and_a_million_simulations(cli: Cli) -> None:
    config = write_config(cli.folder, few_parameters())
    thousand, million = (peak_mb(cli, n_simulations, config) for n_simulations in (10**3, 10**6))
    print(f"peak of rank 0: {thousand:.0f} MB for 10^3, {million:.0f} MB for 10^6 simulations")
    assert million - thousand < 50
