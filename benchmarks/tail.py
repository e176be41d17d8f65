"""What handing out iterations, and doing again what is late, win at the end of a run.

    python benchmarks/tail.py [--rounds 5] [--only slower] [--output tail.json]

Schedules of the real master in a virtual time (see `virtual_time.py`): simulations of 1 s, each iteration's length
log-normal around a third of that, drawn anew in each round; with and without what `mosaic_mpi.tail` does. Efficiency
is the time that the simulations need, by slots x time from the first message to the last result. Messages take 1 ms;
the time that directing takes is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
import time
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from virtual_time import VirtualRank, VirtualRanks, spread

from mosaic_mpi.master import Master
from mosaic_mpi.records import record_dtype
from mosaic_mpi.tail import Tail
from mosaic_mpi.units import Units
from mosaic_mpi.workqueue import WorkQueue

N_ITERATIONS = 3


@dataclass(frozen=True)
class Case:
    """A layout and what is run on it."""

    name: str
    n_simulations: int
    slots: tuple[int, ...]
    sigma: float = 0.1
    """Standard deviation of the logarithm of an iteration's time."""
    slow_factor: float = 1.0
    """How much longer the last rank takes."""


NODES = (128,) * 64
CASES = (
    Case("10 000 on 8192 slots, iterations of equal length", 10_000, NODES, sigma=0.0),
    Case("10 000 on 8192 slots", 10_000, NODES),
    Case("10 000 on 8192 slots, lengths that differ much", 10_000, NODES, sigma=0.4),
    Case("98 304 on 8192 slots", 98_304, NODES),
    Case("1000 on 1200 ranks of one slot", 1000, (1,) * 1200),
    Case("10 000 on 1200 ranks of one slot", 10_000, (1,) * 1200),
    Case("98 304 on 8192 slots, one node of 64 four times slower", 98_304, NODES, slow_factor=4.0),
    Case("10 000 on 8192 slots, one node of 64 four times slower", 10_000, NODES, slow_factor=4.0),
    Case("1000 on 240 slots, one node of 2 ten times slower", 1000, (120, 120), slow_factor=10.0),
)


class Plan:
    """What the master asks of a plan."""

    def __init__(self, n_simulations: int) -> None:
        self.n_iterations, self.sim_ids = N_ITERATIONS, range(1, n_simulations + 1)
        self.record_dtype = record_dtype(N_ITERATIONS, 1, 0)


class NoStore:
    """Takes results and forgets them."""

    n_buffered = buffered_bytes = 0

    def host_row(self, name: str) -> int:
        """All ranks are on one host."""
        return 0

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class NoProgress:
    """Shows nothing."""

    def is_due(self, now: float) -> bool:
        """Never."""
        return False

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Schedule:
    """One run of a case."""

    def __init__(self, case: Case, seed: int) -> None:
        self._case, self._plan = case, Plan(case.n_simulations)
        self._units = Units(N_ITERATIONS)
        shape = (case.n_simulations, N_ITERATIONS)
        rng = np.random.default_rng(seed)
        noise = rng.lognormal(-(case.sigma**2) / 2, case.sigma, shape)
        self._seconds: NDArray[np.float64] = noise / N_ITERATIONS
        ranks = [VirtualRank(n_slots) for n_slots in case.slots]
        ranks[-1].factor = case.slow_factor
        dtype = self._plan.record_dtype
        self._record = np.zeros(1, dtype)
        self._comm = VirtualRanks(ranks, self._units, self._length, self._bring, dtype.itemsize)
        self._queue = WorkQueue(
            np.zeros(case.n_simulations, np.int8), np.zeros(case.n_simulations, np.int32), 3, len(case.slots)
        )

    def _length(self, row: int, iteration: int) -> float:
        return float(self._seconds[row, iteration - 1])

    def _bring(self, rank: int, unit: int, elapsed_s: float, finished_at: float) -> bytes:
        record = self._record
        record["row"], record["iteration"] = self._units.split(unit)
        record["elapsed_s"], record["finished_at"] = elapsed_s, finished_at
        return record.tobytes()

    def _master(self) -> Master:
        store: Any = NoStore()
        progress: Any = NoProgress()
        plan: Any = self._plan
        hosts = ["here"] * len(self._case.slots)
        return Master(self._comm, store, self._queue, progress, hosts, plan, 1e9, n_slots=sum(self._case.slots))

    def run(self) -> dict[str, float]:
        """Return what came of it."""
        seconds = self._comm.run(self._master)
        assert self._queue.n_completed == self._case.n_simulations
        units = np.array([unit for _, _, unit in self._comm.begun])
        n_slots = sum(self._case.slots)
        return {
            "seconds": seconds,
            "efficiency": float(self._seconds.sum() / (n_slots * seconds)),
            "simulations_split": len(
                {self._units.split(int(unit))[0] for unit in units if unit % (N_ITERATIONS + 1)}
            ),
            "units_twice": len(units) - len(np.unique(units)),
        }


def without_help() -> contextlib.ExitStack:
    """Have the master hand out whole simulations, each once."""
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(Tail, "split_if_due", return_value=None))
    stack.enter_context(mock.patch.object(Tail, "is_help_due", return_value=False))
    return stack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--output", help="also write the JSON there")
    options = parser.parse_args()
    report: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__, "cases": {}}
    for case in (case for case in CASES if options.only in case.name):
        began = time.monotonic()
        ours = [Schedule(case, seed).run() for seed in range(options.rounds)]
        with without_help():
            plain = [Schedule(case, seed).run() for seed in range(options.rounds)]
        entry = report["cases"][case.name] = {
            f"{what}{key}": spread([run[key] for run in runs])
            for what, runs in (("", ours), ("plain_", plain))
            for key in ("seconds", "efficiency")
        }
        for key in ("simulations_split", "units_twice"):
            entry[key] = spread([run[key] for run in ours])
        with_it, without = (entry[f"{what}efficiency"]["median"] for what in ("", "plain_"))
        took = time.monotonic() - began
        print(f"{case.name}: {without:.1%} -> {with_it:.1%} ({took:.0f} s to play)", file=sys.stderr)
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        with open(options.output, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
