"""The slots of played ranks: a timer for each, and what waits for them. Knows no MPI."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.units import Units


class Fleet:
    """All slots of all ranks that one process plays.

    Parameters
    ----------
    n_ranks, n_slots : int
        Ranks, and slots of each.
    seconds, spread : float
        A simulation takes between ``seconds * (1 - spread)`` and ``seconds * (1 + spread)``.
    units : Units
        Of the run; an iteration takes its share.
    """

    def __init__(self, n_ranks: int, n_slots: int, seconds: float, spread: float, units: Units) -> None:
        self.n_slots, self._units = n_slots, units
        self._until = np.full(n_ranks * n_slots, np.inf)
        self._unit = np.full(n_ranks * n_slots, -1, np.int64)
        self._began = np.zeros(n_ranks * n_slots)
        draws = np.random.default_rng(1).uniform(-1, 1, 4093)
        self._durations = seconds * (1 + spread * draws)
        room = n_slots * (8 + int(np.ceil(4 / seconds)))
        self._backlog = np.zeros((n_ranks, room), np.int64)
        self._head, self._tail, self._given = (
            np.zeros(n_ranks, np.int64),
            np.zeros(n_ranks, np.int64),
            np.zeros(n_ranks),
        )

    def give(self, rank: int, units: NDArray[np.int64], now: float) -> None:
        """Units for a rank: idle slots begin at once, the rest waits."""
        room = self._backlog.shape[1]
        if self._tail[rank] - self._head[rank] + len(units) > room:
            raise RuntimeError(f"more than {room} units for a rank of {self.n_slots} slots")
        self._backlog[rank, (self._tail[rank] + np.arange(len(units))) % room] = units
        self._tail[rank] += len(units)
        self._given[rank] = now
        first = rank * self.n_slots
        idle = np.flatnonzero(self._unit[first : first + self.n_slots] < 0) + first
        self._begin(idle[: self._tail[rank] - self._head[rank]])

    def advance(self, now: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Any]:
        """End what is due by now and begin what follows.

        Returns
        -------
        slots, units : ndarray of int64, shape (n,)
            Finished units and their slots, counted over all ranks.
        elapsed_s, ended : ndarray of float64, shape (n,)
            How long each took, and when it ended.
        """
        found: list[Any] = []
        while len(due := np.flatnonzero(self._until <= now)):
            due = due[np.lexsort((self._until[due], due // self.n_slots))]
            ended = self._until[due]
            found.append((due, self._unit[due], ended - self._began[due], ended))
            self._unit[due], self._until[due], self._began[due] = -1, np.inf, ended
            ranks = due // self.n_slots
            starts = np.flatnonzero(np.diff(ranks, prepend=-1))
            nth = np.arange(len(due)) - np.repeat(starts, np.diff(starts, append=len(due)))
            self._begin(due[self._head[ranks] + nth < self._tail[ranks]])
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0)
        slots, units, elapsed_s, ended = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return slots, units, elapsed_s, ended

    @property
    def first_idle_at(self) -> float:
        """When the slot that has been idle longest began to be so, if all are idle."""
        return float(self._began.min())

    def drop_backlog(self, rank: int) -> NDArray[np.int64]:
        """Units that no slot of a rank has begun."""
        waiting = np.arange(self._head[rank], self._tail[rank]) % self._backlog.shape[1]
        self._head[rank] = self._tail[rank]
        return self._backlog[rank, waiting]

    def _begin(self, slots: NDArray[np.int64]) -> None:
        """Begin the next units of their ranks in idle slots, which come in the order of their ranks."""
        if not len(slots):
            return
        ranks = slots // self.n_slots
        starts = np.flatnonzero(np.diff(ranks, prepend=-1))
        counts = np.diff(starts, append=len(slots))
        nth = np.arange(len(slots)) - np.repeat(starts, counts)
        units = self._backlog[ranks, (self._head[ranks] + nth) % self._backlog.shape[1]]
        self._head[ranks[starts]] += counts
        self._unit[slots] = units
        self._began[slots] = np.maximum(self._began[slots], self._given[ranks])
        self._until[slots] = self._began[slots] + self._seconds_of(units)

    def _seconds_of(self, units: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = self._units.rows(units)
        is_whole = units == self._units.whole(rows)
        seconds: NDArray[np.float64] = self._durations[rows % len(self._durations)]
        return np.where(is_whole, seconds, seconds / self._units.n_iterations)
