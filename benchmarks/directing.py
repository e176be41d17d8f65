"""CPU that directing a run takes, by time of the run: the real master, ranks and slots played in a virtual time.

    python benchmarks/directing.py --ranks 833 --slots-per-rank 120 --spread 0.3 --per-slot 3 [--profile]

Nothing waits for anything here, so that what directing costs can be seen on a busy machine, too, and where it would
take more than its core has. Messages take no time and cost little, and nothing is stored: with MPI and a results file
see `virtual_cluster.py`.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import time
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from played_fleet import Fleet
from tail import N_ITERATIONS, NoProgress, NoStore, Plan
from virtual_time import Clock

from mosaic_mpi.comm import LocalComm
from mosaic_mpi.master import Master
from mosaic_mpi.messages import Assign, Drain, Message, Ready, Results, Returned
from mosaic_mpi.records import record_dtype
from mosaic_mpi.units import Units
from mosaic_mpi.worker import flush_interval_s
from mosaic_mpi.workqueue import WorkQueue

_STEP_S = 0.002
"""The master looks around so often."""
_SHOWN_S = 0.25
_N_PARAMETERS = 60


class Comm(LocalComm):
    """Keeps what ranks are sent."""

    def __init__(self, n_ranks: int) -> None:
        super().__init__()
        self.size = n_ranks + 1
        self.sent: list[tuple[int, Message]] = []

    def send(self, to: int, message: Message) -> None:
        """See `Comm.send`."""
        if to:
            self.sent.append((to, message))


class Directed:
    """A run, and what it costs.

    Parameters
    ----------
    options : argparse.Namespace
        Its size.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        n_ranks, self._n_slots = options.ranks, options.slots_per_rank
        self._n_all = n_ranks * self._n_slots
        self.n_simulations = round(self._n_all * options.per_slot)
        self._units, self._clock, self._comm = Units(N_ITERATIONS), Clock(), Comm(n_ranks)
        self._fleet = Fleet(n_ranks, self._n_slots, options.seconds, options.spread, self._units)
        self._dtype = record_dtype(N_ITERATIONS, _N_PARAMETERS, 0)
        self._flush_s = flush_interval_s(n_ranks + 1)
        self._flushed = -np.random.default_rng(1).random(n_ranks) * self._flush_s
        self._waiting: list[NDArray[Any]] = [np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0)]
        self._queue = WorkQueue(
            np.zeros(self.n_simulations, np.int8), np.zeros(self.n_simulations, np.int32), 3, n_ranks + 1
        )
        self._ended, self._busy_s = 0.0, 0.0
        self.profile = cProfile.Profile() if options.profile else None
        self.account = ""

    def run(self) -> NDArray[np.float64]:
        """Run to the end; return virtual seconds and CPU seconds of each step of the master, shape (n, 2)."""
        plan, store, progress = Plan(self.n_simulations), NoStore(), NoProgress()
        plan.record_dtype = self._dtype
        costs = []
        with mock.patch("mosaic_mpi.master.time", self._clock):
            n_ranks = self._comm.size
            arguments: Any = (self._comm, store, self._queue, progress, ["here"] * n_ranks, plan, 1e9)
            master = Master(*arguments, n_slots=self._n_all)
            messages: list[tuple[int, Message]] = [(rank, Ready(self._n_slots)) for rank in range(1, n_ranks)]
            messages.append((0, Ready(0)))
            done = False
            while not done:
                began = time.process_time()
                done = self._step(master, messages)
                costs.append((self._clock.now, time.process_time() - began))
                messages = self._answers()
                self._clock.now += _STEP_S
                messages += self._results()
            self.account = master.account_of_tail
        return np.array(costs)

    @property
    def efficiency(self) -> float:
        """Slot time that was used, by slots x time to the last result."""
        return self._busy_s / (self._n_all * self._ended)

    def _step(self, master: Master, messages: list[tuple[int, Message]]) -> bool:
        if self.profile:
            self.profile.enable()
        for source, message in messages:
            master.handle(source, message)
        done = master.step(True)
        if self.profile:
            self.profile.disable()
        return done

    def _answers(self) -> list[tuple[int, Message]]:
        """Let ranks have what they were sent."""
        found: list[tuple[int, Message]] = []
        for to, message in self._comm.sent:
            match message:
                case Assign(units):
                    self._fleet.give(to - 1, units, self._clock.now)
                case Drain():
                    found.append((to, Returned(self._fleet.drop_backlog(to - 1))))
        self._comm.sent.clear()
        return found

    def _results(self) -> list[tuple[int, Message]]:
        """What ranks have finished and send by now, a message each."""
        finished = self._fleet.advance(self._clock.now)
        self._waiting = [np.concatenate(pair) for pair in zip(self._waiting, finished, strict=True)]
        ranks = self._waiting[0] // self._n_slots
        due = self._clock.now - self._flushed[ranks] >= self._flush_s
        order = np.flatnonzero(due)[np.argsort(ranks[due], kind="stable")]
        if not len(order):
            return []
        slots, units, elapsed_s, ended = (column[order] for column in self._waiting)
        self._waiting = [column[~due] for column in self._waiting]
        records = np.zeros(len(order), self._dtype)
        records["row"], records["iteration"] = np.divmod(units, N_ITERATIONS + 1)
        records["slot"], records["elapsed_s"], records["finished_at"] = slots % self._n_slots, elapsed_s, ended
        self._busy_s, self._ended = self._busy_s + float(elapsed_s.sum()), float(ended.max())
        starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
        self._flushed[ranks[order][starts]] = self._clock.now
        return [
            (int(ranks[order][first]) + 1, Results(int(last - first), records[first:last].tobytes()))
            for first, last in zip(starts, (*starts[1:], len(order)), strict=True)
        ]


def main() -> None:
    """Direct a run and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--slots-per-rank", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a simulation")
    parser.add_argument("--spread", type=float, default=0.05, help="by which part of it that varies, either way")
    parser.add_argument("--per-slot", type=float, default=3.0, help="simulations")
    parser.add_argument(
        "--profile", action="store_true", help="also print where the CPU goes, which costs more of it"
    )
    options = parser.parse_args()
    run = Directed(options)
    costs = run.run()
    spans = (costs[:, 0] // _SHOWN_S).astype(int)
    report = {
        "seconds": float(costs[-1, 0]),
        "efficiency": run.efficiency,
        "cpu_s": float(costs[:, 1].sum()),
        "us_a_simulation": 1e6 * float(costs[:, 1].sum()) / run.n_simulations,
        "longest_step_ms": 1e3 * float(costs[:, 1].max()),
        f"core_in_each_{_SHOWN_S}_s": np.round(np.bincount(spans, costs[:, 1]) / _SHOWN_S, 3).tolist(),
        "tail": run.account,
    }
    print(json.dumps(report, indent=1))
    if run.profile:
        pstats.Stats(run.profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
