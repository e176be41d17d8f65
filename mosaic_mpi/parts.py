"""Simulations of which iterations are handed out one by one: what is to do, who is at what, what has come in.

Keeps accounts and decides nothing; see `mosaic_mpi.tail`. Knows no MPI, file or clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.joins import Join
from mosaic_mpi.units import Units


class Parts:
    """Iterations by unit (see `mosaic_mpi.units`).

    An iteration that is wanted and that nobody holds is to do. A rank may be at one that is not wanted any more, its
    simulation being finished or failed: that only keeps a slot busy.

    Parameters
    ----------
    units : Units
        Their numbers.
    n_ranks : int
        Who may hold some.

    Attributes
    ----------
    n_busy : ndarray of int64, shape (n_ranks,)
        Slots of each rank that are at units known here, wanted or not.
    """

    def __init__(self, units: Units, n_ranks: int) -> None:
        self._units = units
        self._joins: dict[int, Join] = {}
        self._to_do: deque[int] = deque()
        self._holders: dict[int, list[int]] = {}
        self._busy: list[dict[int, float]] = [{} for _ in range(n_ranks)]
        self.n_busy = np.zeros(n_ranks, np.int64)
        self._n_units = 0
        """Sum of it: asked for with every message."""

    def __bool__(self) -> bool:
        """Whether there is anything to keep account of."""
        return bool(self._joins) or self._n_units > 0

    def __contains__(self, row: int) -> bool:
        """Whether a simulation is split."""
        return row in self._joins

    @property
    def n_to_do(self) -> int:
        """Iterations that nobody is at."""
        return len(self._to_do)

    @property
    def n_open(self) -> int:
        """Iterations to do or under way."""
        return len(self._to_do) + len(self._holders)

    def split(self, rows: Iterable[int]) -> None:
        """Have the iterations of simulations done one by one."""
        for row in rows:
            self._joins[row] = Join(self._units.n_iterations)
            self._to_do.extend(self._units.parts(row))

    def take(self, rank: int, n_units: int, now: float, may: Callable[[int], bool]) -> list[int]:
        """Hand out up to so many iterations to a rank, of simulations of which it may have some."""
        taken: list[int] = []
        passed: list[int] = []
        while self._to_do and len(taken) < n_units:
            unit = self._to_do.popleft()
            (taken if may(self._units.split(unit)[0]) else passed).append(unit)
        self._to_do.extendleft(reversed(passed))
        for unit in taken:
            self.hold(rank, unit, now)
        return taken

    def hold(self, rank: int, unit: int, now: float) -> None:
        """Note that a rank is at a wanted iteration, alone or besides another."""
        self._holders.setdefault(unit, []).append(rank)
        self.keep_busy(rank, unit, now)

    def keep_busy(self, rank: int, unit: int, since: float) -> None:
        """Note that a slot of a rank is at a unit."""
        if unit not in self._busy[rank]:
            self.n_busy[rank] += 1
            self._n_units += 1
        self._busy[rank][unit] = since

    def release(self, rank: int, unit: int) -> bool:
        """Note that a rank is not at a unit any more; return whether it was wanted of it."""
        if self._busy[rank].pop(unit, None) is not None:
            self.n_busy[rank] -= 1
            self._n_units -= 1
        holders = self._holders.get(unit, [])
        if rank not in holders:
            return False
        holders.remove(rank)
        if not holders:
            del self._holders[unit]
        return True

    def since(self, rank: int, unit: int) -> float:
        """Since when a rank is at a unit; infinity if it is not."""
        return self._busy[rank].get(unit, math.inf)

    def is_held(self, unit: int) -> bool:
        """Whether somebody is at a wanted iteration."""
        return unit in self._holders

    def put_back(self, rank: int, units: Iterable[int] | None = None) -> int:
        """Take back what a rank will not finish, all or some units; return how many of them were wanted of it."""
        given = list(self._busy[rank]) if units is None else units
        mine = [unit for unit in given if self.release(rank, unit)]
        self._to_do.extendleft(unit for unit in mine if not self.is_held(unit))
        return len(mine)

    def add(self, rank: int, record: Any, series: memoryview) -> tuple[NDArray[np.void], bytes] | None:
        """Take an iteration's result from a rank; return the whole simulation if it was the last (`Join.joined`)."""
        row, iteration = int(record["row"]), int(record["iteration"])
        unit = self._units.parts(row)[iteration - 1]
        was_held = self.is_held(unit)
        self.release(rank, unit)
        join = self._joins.get(row)
        if join is None or not join.lacks(iteration):
            return None
        if was_held:
            self._holders.pop(unit, None)  # of a second rank, if it was at it too
        else:
            self._to_do.remove(unit)  # a late result of a rank that had been given up
        join.add(record, series)
        return join.joined() if join.is_whole else None

    def forget(self, row: int) -> None:
        """Want nothing of a simulation any more."""
        join = self._joins.pop(row, None)
        if join is None:
            return
        parts = self._units.parts(row)
        wanted = {unit for iteration, unit in enumerate(parts, start=1) if join.lacks(iteration)}
        idle = {unit for unit in wanted if self._holders.pop(unit, None) is None}
        if idle:
            self._to_do = deque(unit for unit in self._to_do if unit not in idle)

    def rows_to_do(self) -> set[int]:
        """Simulations of which an iteration waits for somebody."""
        return {self._units.split(unit)[0] for unit in self._to_do}

    def held_once(self) -> list[tuple[float, int, int]]:
        """Since when, which rank and which unit, of all wanted iterations that a single rank is at."""
        return [
            (self._busy[ranks[0]][unit], ranks[0], unit) for unit, ranks in self._holders.items() if len(ranks) == 1
        ]
