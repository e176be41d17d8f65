"""A trial of a plan: a few simulations, on as many slots at once as this machine has, for their figures.

Cores share caches and the way to memory, so that a simulation alone would promise too much.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.errors import EngineError
from mosaic_mpi.forecast import Measured
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.slot_events import Failed, Finished, Unbegun
from mosaic_mpi.slots import SlotPool
from mosaic_mpi.units import Units

_ENOUGH_S = 6.0
"""Timed at least so long, and one simulation a slot, unless there are many results by then."""
_ENOUGH_RESULTS = 20
_PREFETCHED = 2


def measure(plan: RunPlan, n_slots: int, began: float) -> Measured:
    """Run simulations of a plan until their pace is known.

    Parameters
    ----------
    plan : RunPlan
        With its channels.
    n_slots : int
        How many run at once.
    began : float
        When the program started, seconds since 1970.

    Raises
    ------
    EngineError
        A simulation failed, or slots cannot be started.
    """
    slot_plan = plan.slot_plan()
    pool = SlotPool(n_slots, slot_plan.to_bytes())
    try:
        pool.start()
        trial = _Trial(plan, n_slots)
        while not trial.is_enough():
            trial.take(pool)
        slot_bytes = pool.private_bytes()
        rank_bytes = max(_tree_bytes() - n_slots * slot_bytes, 0)
    finally:
        pool.close()
    return trial.measured(began, slot_bytes, rank_bytes)


class _Trial:
    """Results by slot, and which row comes next."""

    def __init__(self, plan: RunPlan, n_slots: int) -> None:
        self._dtype, self._units = plan.slot_plan().record_dtype, Units(plan.n_iterations)
        self._n_slots, self._n_rows = n_slots, plan.n_simulations
        self._n_given = self._n_taken = 0
        self._elapsed: defaultdict[int, list[float]] = defaultdict(list)
        self._finished: defaultdict[int, list[float]] = defaultdict(list)
        self._series_bytes: list[float] = []

    def take(self, pool: SlotPool) -> None:
        """Keep the slots busy, and take what has finished."""
        while self._n_given < self._n_taken + _PREFETCHED * self._n_slots:
            pool.submit(self._units.whole(np.array([self._next_row()])).tolist())
        for event in pool.poll(1.0):
            match event:
                case Finished(n_records, payload):
                    self._note(np.frombuffer(payload, self._dtype, n_records), len(payload))
                case Unbegun(units):
                    pool.submit(units)
                case Failed(unit, _, text):
                    row, _ = self._units.split(unit)
                    raise EngineError(f"the trial of simulation row {row} failed:\n{text}")

    def _next_row(self) -> int:
        """Rows from all over the plan, which may change from one end to the other."""
        self._n_given += 1
        return int(self._n_given * 0.6180339887 % 1.0 * self._n_rows)

    def _note(self, records: NDArray[np.void], n_bytes: int) -> None:
        self._n_taken += len(records)
        for record in records:
            self._elapsed[int(record["slot"])].append(float(record["elapsed_s"]))
            self._finished[int(record["slot"])].append(float(record["finished_at"]))
        self._series_bytes += [n_bytes / len(records) - self._dtype.itemsize] * len(records)

    def is_enough(self) -> bool:
        """Whether each slot has been timed beyond its first simulation, long or often enough."""
        if len(self._finished) < self._n_slots or any(len(times) < 2 for times in self._finished.values()):
            return False
        fewest = min(map(len, self._finished.values()))
        first = min(times[0] for times in self._finished.values())
        return fewest > _ENOUGH_RESULTS or time.time() - first > _ENOUGH_S

    def measured(self, began: float, slot_bytes: int, rank_bytes: int) -> Measured:
        """What was found."""
        spans = [times[-1] - times[0] for times in self._finished.values()]
        pace_s = sum(spans) / sum(len(times) - 1 for times in self._finished.values())
        firsts = [times[0] for times in self._elapsed.values()]
        began_work = min(self._finished[slot][0] - times[0] for slot, times in self._elapsed.items())
        return Measured(
            n_slots=self._n_slots,
            start_s=max(began_work - began, 0.0),
            warm_up_s=max(fmean(firsts) - pace_s, 0.0),
            pace_s=pace_s,
            series_bytes=fmean(self._series_bytes),
            slot_bytes=slot_bytes,
            rank_bytes=rank_bytes,
        )


def _tree_bytes() -> int:
    """Memory of this process and all below it, where each shared page counts by its share (Linux; else 0)."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children[int(entry.read_text(errors="replace").rpartition(") ")[2].split()[1])].append(
                int(entry.parent.name)
            )
    found = [os.getpid()]
    for pid in found:
        found += children[pid]
    return sum(map(_proportional_bytes, found))


def _proportional_bytes(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return 0
