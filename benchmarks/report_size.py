"""Time, memory and bytes of the report of a large run whose results file is made up.

    python benchmarks/report_size.py [--simulations 100000] [--locations 40] [--slots 10000] [--keep FOLDER]

Writes a results file through the store, with columns that look like a run's: two starts, many hosts, one of them
slow, failed attempts, a tail; parameters that the likelihood informs. Simulations share 24 sets of time series, so
that the files take 1 GB and not 11. No MPI and no engine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import layout
from mosaic_mpi.config import load_config
from mosaic_mpi.mosaic.parameter_names import BY_LOCATION, COUNTS, GLOBALS
from mosaic_mpi.plan import Channel, RunPlan
from mosaic_mpi.records import compress
from mosaic_mpi.store import Store

_BATCH = 500
_SLOW, _SLOW_FACTOR = 7, 1.8
"""A host, and how much longer its simulations take."""
_N_TEMPLATES = 24
_CHANNELS = ("reported_cases", "reported_deaths")


@dataclass(frozen=True)
class Slots:
    """When and where simulations ran, made up: all arrays have one entry a simulation, in order of finishing."""

    rank: NDArray[np.int64]
    slot: NDArray[np.int64]
    elapsed_s: NDArray[np.float64]
    finished_s: NDArray[np.float64]


def schedule(n: int, n_slots: int, slots_per_host: int, began_s: float, rng: np.random.Generator) -> Slots:
    """Give each of n simulations to the slot that is free first, near enough: slots take turns."""
    rounds = -(-n // n_slots)
    host = np.arange(n_slots) // slots_per_host
    seconds = rng.lognormal(np.log(40.0), 0.3, (rounds, n_slots)) * np.where(host == _SLOW, _SLOW_FACTOR, 1.0)
    starting = 6.0 + 6.0 * rng.random(n_slots)
    gaps = 0.4 * rng.random((rounds, n_slots))
    ends = began_s + starting + np.cumsum(seconds + gaps, axis=0)
    order = np.argsort(ends, axis=None)[:n]
    which = order % n_slots
    return Slots(which // slots_per_host, which % slots_per_host, seconds.ravel()[order], ends.ravel()[order])


class MadeUpSource:
    """As many parameters as MOSAIC's priors set: the global ones, and those by location in each of them."""

    def __init__(self, locations: tuple[str, ...]) -> None:
        local = [f"{name}_{iso}" for name in sorted((*BY_LOCATION, *COUNTS)) for iso in locations]
        self.names = (*sorted(GLOBALS), *local)
        self.identity = {"parameters": "made up"}


def make_plan(n: int, n_locations: int, n_iterations: int) -> RunPlan:
    """A plan of the engine's own config."""
    config = load_config(None)
    config = load_config(None, config.locations[:n_locations])
    plan = RunPlan(
        config,
        MadeUpSource(config.locations),
        range(1, n + 1),
        n_iterations,
        _CHANNELS,
        {"laser-cholera": "made up"},
        "fake:benchmark of the report",
    )
    shape = (len(config.locations), config.n_ticks)
    return plan.with_channels({name: Channel(name, ("location", "time"), shape, "<i4") for name in _CHANNELS})


def templates(plan: RunPlan, rng: np.random.Generator) -> list[list[bytes]]:
    """Compressed series near the observations, to be given to simulations in turn."""
    found = []
    for index in range(_N_TEMPLATES):
        chunks = []
        for name in _CHANNELS:
            observed = np.nan_to_num(plan.config.values[name])
            smooth = np.apply_along_axis(lambda row: np.convolve(row, np.ones(28) / 28, "same"), 1, observed)
            factor = np.exp(0.35 * rng.standard_normal((plan.n_iterations, len(smooth), 1)) + 0.02 * (index - 12))
            chunks.append(compress(rng.poisson(factor * (smooth + 0.2)).astype("<i4")))
        found.append(chunks)
    return found


def write_run(path: str, plan: RunPlan, n_slots: int, slots_per_host: int) -> None:
    """Write the results file of a run of two starts, 0.3 % of whose simulations failed."""
    rng = np.random.default_rng(1)
    n, n_iterations = plan.n_simulations, plan.n_iterations
    began = time.time() - 30_000.0
    store = Store(path, plan)
    failed = np.sort(rng.choice(n, n // 333, replace=False))
    rows = np.setdiff1d(rng.permutation(n), failed, assume_unique=True)
    scores = rng.standard_normal(n)
    centre = rng.lognormal(-2.0, 2.0, len(plan.source.names))
    spread = centre * 0.3
    pull = np.where(rng.random(len(centre)) < 0.1, rng.normal(0.0, 0.6, len(centre)), 0.0)
    places = [_lay_down(store, entry) for entry in templates(plan, rng)]
    first_part = int(0.6 * len(rows))
    for number, part in enumerate((rows[:first_part], rows[first_part:])):
        start = began + 9000.0 * number
        n_here = n_slots if number == 0 else n_slots * 4 // 5
        hosts = [store.host_row(f"node{host:04d}") for host in range(-(-n_here // slots_per_host))]
        store.begin_start(
            n_ranks=len(hosts),
            n_slots=n_here,
            n_hosts=len(hosts),
            host="node0000",
            pid=1,
            job=f"Slurm job {4711 + number}",
            mpi="Open MPI v5.0.8 (srun)",
            command="python -m mosaic_mpi run --output huge.h5",
            versions='{"mosaic_mpi": "made up"}',
        )
        store.note(started_at=start, first_assignment_at=start + 5.0, n_slots_live=n_here)
        plot = schedule(len(part), n_here, slots_per_host, start, rng)
        for first in range(0, len(part), _BATCH):
            block = part[first : first + _BATCH]
            values = centre + spread * rng.standard_normal((len(block), len(centre)))
            values += spread * pull * scores[block, None]
            _add(store, plan, block, values, scores[block], plot, first, hosts, n_iterations, rng)
            _point(store, block, places)
        for row in failed[number::2]:
            store.add_failure(int(row), 3, ("exception", "killed")[int(row) % 2], _TEXTS[int(row) % 2], True)
            store.note(last_commit_at=start)
        end = float(plot.finished_s.max()) + 3.0
        store._tables.write_rows(  # when they were given up, which the store takes from the clock
            "simulations/finished_at", failed[number::2], start + rng.random(len(failed[number::2])) * (end - start)
        )
        store.end_start(layout.COMPLETE if number else layout.STOPPED)
        store.note(ended_at=end, last_commit_at=end)
    store.close()


_TEXTS = (
    'Traceback (most recent call last):\n  File "engine.py", line 1, in run\nValueError: psi_jt must not be negative',
    "its process was killed by SIGKILL (out of memory?)",
)


def _lay_down(store: Store, chunks: list[bytes]) -> tuple[list[int], list[int]]:
    """Append one set of series to the spool: where its channels begin, and their lengths."""
    return [store._spool.append(memoryview(chunk)) for chunk in chunks], [len(chunk) for chunk in chunks]


def _point(store: Store, block: NDArray[np.int64], places: list[tuple[list[int], list[int]]]) -> None:
    """Let simulations share the series laid down, or the spool would take 10 GB."""
    rows = np.sort(block)
    mine = [places[int(row) % len(places)] for row in rows]
    store._tables.write_rows("series/offset", rows, np.array([offsets for offsets, _ in mine]))
    store._tables.write_rows("series/bytes", rows, np.array([sizes for _, sizes in mine]))


def _add(store, plan, block, values, scores, plot, first, hosts, n_iterations, rng):  # type: ignore[no-untyped-def]
    """Hand one batch to the store, host by host."""
    here = slice(first, first + len(block))
    records = np.zeros(len(block), plan.slot_plan().record_dtype)
    noise = rng.standard_normal((len(block), n_iterations))
    iterations = -9000.0 - 3.0 * np.square(scores - 1.0)[:, None] * 4.0 + noise
    records["row"], records["parameters"] = block, values
    records["iteration_likelihood"] = iterations
    records["likelihood"] = np.logaddexp.reduce(iterations, axis=1) - np.log(n_iterations)
    records["elapsed_s"], records["finished_at"] = plot.elapsed_s[here], plot.finished_s[here]
    records["slot"] = plot.slot[here]
    ranks = plot.rank[here]
    for rank in np.unique(ranks):
        chosen = np.flatnonzero(ranks == rank)
        attempts = np.ones(len(chosen), np.int32)
        store.add(records[chosen], [], int(rank), hosts[int(rank)], attempts)
    store.commit()


def measure(path: str, output: str) -> dict[str, float]:
    """Make the report in a process of its own."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "mosaic_mpi", "report", path, "--output", output])
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    assert process.returncode == 0
    return {
        "seconds": time.perf_counter() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_mib": usage.ru_maxrss / 1024,
        "html_mib": os.path.getsize(output) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=100_000)
    parser.add_argument("--locations", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--slots", type=int, default=10_000)
    parser.add_argument("--slots-per-host", type=int, default=100)
    parser.add_argument("--keep", metavar="FOLDER", help="leave the files there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        path = str(folder / "huge.h5")
        plan = make_plan(options.simulations, options.locations, options.iterations)
        if not Path(path).exists():
            write_run(path, plan, options.slots, options.slots_per_host)
        size = os.path.getsize(path) + os.path.getsize(layout.spool_path(path))
        found = measure(path, str(folder / "huge.html"))
        print(json.dumps({"n_parameters": len(plan.source.names), "file_gib": size / 2**30, **found}, indent=1))


if __name__ == "__main__":
    main()
