"""The end of a run, where there are fewer simulations than slots: who helps whom.

Decides when simulations are handed out by iterations, so that no slot is left without work while others have three
iterations before them, and when others do again what a slow rank is at; the first answer wins, and the numbers are
the same. Knows no MPI and no file.

A simulation is split while it has no failed attempt; the attempt fails with the first iteration that does so. A
simulation that a rank has whole may be done again by others in iterations, and an iteration a second time; then the
attempt fails when the last of them does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.parts import Parts
from mosaic_mpi.ranks import Ranks
from mosaic_mpi.units import WHOLE, Units
from mosaic_mpi.workqueue import WorkQueue

WORTH_SECONDS = 0.2
"""Shorter simulations are left alone: what could be won is less than that."""
_SPLIT_LOOK_SECONDS = 0.02
_HELP_LOOK_SECONDS = 0.05
_OVERDUE = (0.25, 1.0)
"""What has taken so much longer than usual, as a share, is done again elsewhere: at least, at most …"""
_OVERDUE_DEVIATIONS = 4.0
"""… and between these, so many standard deviations of what is usual."""
_SLOW = 1.5
"""At once is done again what a slow rank will be at for so many times as long as others take for all of it."""
_NONE = np.empty(0, np.int64)


class Tail:
    """Hands out iterations, and copies of what takes too long.

    Parameters
    ----------
    queue : WorkQueue
        State of every simulation.
    ranks : Ranks
        Their slots and paces.
    units : Units
        Numbers of iterations.
    n_slots : int
        Slots that there will be when all ranks have reported.
    """

    def __init__(self, queue: WorkQueue, ranks: Ranks, units: Units, n_slots: int = 0) -> None:
        self._queue, self._ranks, self._units, self._n_slots = queue, ranks, units, n_slots
        self._parts = Parts(units, len(ranks))
        self._begun_at = np.zeros(queue.n_simulations)
        self._not_again: set[int] = set()
        self._is_recalled = np.zeros(len(ranks), bool)
        self._looked_for_split = self._looked_for_help = -np.inf
        self._n_shared = self._n_again = 0

    # ---- what ranks hold and bring ------------------------------------------------------------------

    def n_held(self, rank: int) -> int:
        """Units that a rank is at or has before it."""
        return self._queue.n_held(rank) + int(self._parts.n_busy[rank])

    @property
    def n_to_do(self) -> int:
        """Iterations that nobody is at."""
        return self._parts.n_to_do

    def note_given(self, rank: int, rows: NDArray[np.int64], now: float) -> None:
        """Note that a rank was given whole simulations; those beyond its slots begin later."""
        self._begun_at[rows] = now
        n_slots = int(self._ranks.n_slots[rank])
        n_waiting = self.n_held(rank) - n_slots
        if n_waiting > 0:
            places = np.arange(n_waiting - len(rows), n_waiting) + 1
            self._begun_at[rows] += np.clip(places, 0, None) / n_slots * np.nan_to_num(self._ranks.pace_s[rank])
        self._is_recalled[rank] = False

    def learn(self, ranks: NDArray[np.int64], records: NDArray[np.void], now: float) -> None:
        """Ranks bring simulations or iterations: take note of how long they took, before anything else."""
        if not len(records):
            return
        pieces = np.where(records["iteration"] == WHOLE, 1, self._units.n_iterations)
        for index in np.flatnonzero(np.isnan(self._ranks.pace_s[ranks])).tolist():
            rank = int(ranks[index])
            begun_at = self._since(rank, int(records["row"][index]), int(records["iteration"][index]))
            waited_s = max(now - float(records["elapsed_s"][index]) - begun_at, 0.0)
            self._ranks.start_s[rank] = np.fmax(self._ranks.start_s[rank], waited_s)
        self._ranks.learn(ranks, records["elapsed_s"], pieces)

    def _since(self, rank: int, row: int, iteration: int) -> float:
        if iteration == WHOLE:
            return float(self._begun_at[row])
        return self._parts.since(rank, self._units.parts(row)[iteration - 1])

    def settle(self, ranks: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Ranks bring whole simulations: nobody else need be at them any more."""
        if not self._parts:
            return
        settled: set[int] = set()
        for rank, row, unit in zip(ranks.tolist(), rows.tolist(), self._units.whole(rows).tolist(), strict=True):
            self._parts.release(rank, unit)
            if row not in settled:  # else its holder, who may have brought it a moment ago, would count as busy
                self._finish(rank, row)
                settled.add(row)

    def take_part(self, rank: int, record: Any, series: memoryview) -> tuple[NDArray[np.void], bytes] | None:
        """A rank brings an iteration; return the whole simulation if it was the last one."""
        whole = self._parts.add(rank, record, series)
        if whole is not None:
            self._finish(rank, int(record["row"]))
        return whole

    def _finish(self, rank: int, row: int) -> None:
        """Want nothing more of a simulation; who is at it as a whole has a slot that is busy all the same."""
        holder = self._queue.holder(row)
        if holder is not None and holder not in (rank, self._queue.apart):
            self._parts.keep_busy(holder, row * (self._units.n_iterations + 1), self._begun_at[row])
        self._parts.forget(row)

    def has_failed(self, rank: int, unit: int) -> bool:
        """Take note of a unit's failure; return whether with it the attempt at its simulation has failed."""
        row, iteration = self._units.split(unit)
        was_wanted = self._parts.release(rank, unit)
        holder = self._queue.holder(row)
        if iteration == WHOLE:
            if holder != rank:  # it had been given up, and others are at it or have done it
                return False
            if row not in self._parts:
                return True
            self._queue.set_apart(np.array([row]))
        elif not was_wanted:
            return False
        elif not self._parts.is_held(unit):
            self._parts.forget(row)
            if holder == self._queue.apart:
                return True
        self._not_again.add(row)
        return False

    def give_back(self, rank: int, units: NDArray[np.int64] | None = None) -> int:
        """Take back what a rank will not finish, all or some units; return how many those were."""
        queue = self._queue
        if units is None:
            rows, parts = queue.rows_of(rank), None
        else:
            is_whole = units % (self._units.n_iterations + 1) == WHOLE
            rows, parts = self._units.rows(units[is_whole]), units[~is_whole].tolist()
            for unit in units[is_whole].tolist():
                self._parts.release(rank, unit)
            rows = rows[[queue.holder(row) == rank for row in rows.tolist()]] if len(rows) else rows
        if not self._parts:
            return queue.give_back(rank, rows)
        is_copied = np.array([row in self._parts for row in rows.tolist()], bool)
        queue.set_apart(rows[is_copied])
        return queue.give_back(rank, rows[~is_copied]) + int(is_copied.sum()) + self._parts.put_back(rank, parts)

    def drain(self) -> None:
        """Nothing more will be handed out: simulations of which an iteration is to do cannot be finished."""
        rows = self._parts.rows_to_do()
        for row in rows:
            self._parts.forget(row)
        self._queue.give_back(self._queue.apart, np.array(sorted(rows), np.int64))

    # ---- iterations instead of simulations ----------------------------------------------------------

    def split_if_due(self, now: float) -> None:
        """Have what is to do done by iterations, if there is so little that a round of iterations is saved."""
        if now - self._looked_for_split > _SPLIT_LOOK_SECONDS and self._is_time_to_split(now):
            rows = self._queue.take_untried().tolist()
            self._parts.split(rows)
            self._n_shared += len(rows)

    def _is_time_to_split(self, now: float) -> bool:
        """Whether all slots together could do the rest in the time of a simulation less an iteration.

        Then a simulation begun now would end after all others, had those been shared out.
        """
        n_slots = self._ranks.n_live_slots if self._ranks.are_all_known else self._n_slots
        saved = n_slots * (1 - 1 / self._units.n_iterations)
        if self._queue.n_pending > saved or not self._queue.n_pending:
            return False
        self._looked_for_split = now
        typical_s = self._ranks.typical_s
        if typical_s is not None and typical_s < WORTH_SECONDS:
            return False
        return self._queue.n_pending + self._n_under_way(now, typical_s) <= saved

    def _n_under_way(self, now: float, typical_s: float | None) -> float:
        """What slots still have to do of what they are at, in simulations."""
        rows, _ = self._queue.held_by_ranks()
        parts = self._parts.n_open / self._units.n_iterations
        if typical_s is None:
            return len(rows) + parts
        return float(np.clip(1 - (now - self._begun_at[rows]) / typical_s, 0, 1).sum()) + parts

    def take(self, rank: int, n_units: int, now: float) -> list[int]:
        """Hand out up to so many iterations to a rank, none of a simulation that it is at itself."""
        taken = self._parts.take(rank, n_units, now, lambda row: self._queue.holder(row) != rank)
        self._is_recalled[rank] &= not taken
        return taken

    @property
    def account(self) -> str:
        """What was done here, for a person; empty if nothing was."""
        shared = f"{self._n_shared} simulations were shared out by iterations" if self._n_shared else ""
        again = f"{self._n_again} times what was late was begun again elsewhere" if self._n_again else ""
        return "; ".join(part for part in (shared, again) if part)

    # ---- help for those that are late ---------------------------------------------------------------

    def is_help_due(self, now: float) -> bool:
        """Whether to look again, when slots are idle and nothing is to do."""
        if now - self._looked_for_help < _HELP_LOOK_SECONDS:
            return False
        self._looked_for_help = now
        typical_s = self._ranks.typical_s
        return typical_s is not None and typical_s >= WORTH_SECONDS

    def hoarders(self) -> list[int]:
        """Ranks that have more before them than they are at, each told once until it is given more."""
        n_held = self._queue.n_held_by_ranks + self._parts.n_busy
        found = np.flatnonzero((n_held > self._ranks.n_slots) & (self._ranks.n_slots > 0) & ~self._is_recalled)
        self._is_recalled[found] = True
        return [int(rank) for rank in found]

    def help(self, now: float, idle: Mapping[int, int]) -> dict[int, list[int]]:
        """Have others do again what takes too long.

        Simulations are split for that, and their iterations are to do then; what is handed out again are iterations.

        Parameters
        ----------
        now : float
            Time of the monotonic clock.
        idle : mapping of int to int
            Idle slots of ranks.

        Returns
        -------
        dict of int to list of int
            Iterations that ranks are given.
        """
        typical_s = self._ranks.typical_s
        assert typical_s is not None
        given = self._copy_iterations(now, typical_s / self._units.n_iterations, dict(idle))
        n_idle = sum(idle.values()) - sum(map(len, given.values()))
        self._split_late(now, typical_s, n_idle, idle)
        return given

    def _copy_iterations(self, now: float, typical_s: float, idle: dict[int, int]) -> dict[int, list[int]]:
        given: dict[int, list[int]] = {}
        start_s, allowed = self._ranks.longest_start_s, self._overdue(self._units.n_iterations)
        for since, rank, unit in sorted(self._parts.held_once()):
            row = self._units.split(unit)[0]
            pace_s = self._ranks.pace_s[rank] / self._units.n_iterations
            if row in self._not_again or not is_late(now - since, start_s, allowed, typical_s, pace_s):
                continue
            able = (other for other, free in idle.items() if free and other not in (rank, self._queue.holder(row)))
            helper = next(able, None)
            if helper is not None:
                idle[helper] -= 1
                self._parts.hold(helper, unit, now)
                self._n_again += 1
                given.setdefault(helper, []).append(unit)
        return given

    def _split_late(self, now: float, typical_s: float, n_idle: int, idle: Mapping[int, int]) -> None:
        rows, holders = self._queue.held_by_ranks()
        ages_s = now - self._begun_at[rows]
        late = is_late(ages_s, self._ranks.longest_start_s, self._overdue(1), typical_s, self._ranks.pace_s[holders])
        late &= ~self._queue.have_failed(rows)
        order = np.flatnonzero(late)[np.argsort(-ages_s[late], kind="stable")]
        for row, holder in zip(rows[order].tolist(), holders[order].tolist(), strict=True):
            if n_idle <= 0:
                return
            if row not in self._parts and row not in self._not_again and any(rank != holder for rank in idle):
                self._parts.split([row])
                self._n_again += 1
                n_idle -= self._units.n_iterations

    def _overdue(self, n_pieces: int) -> float:
        """How many times as long as usual one of so many pieces of a simulation may take."""
        least, most = _OVERDUE
        deviation = self._ranks.deviation * math.sqrt(n_pieces)
        return 1 + min(max(_OVERDUE_DEVIATIONS * deviation, least), most)


def is_late(age_s: Any, start_s: float, allowed: float, typical_s: float, pace_s: Any) -> Any:
    """Whether units have taken too long, or will as their ranks are slow; NaN stands for a pace not known."""
    return (age_s - start_s > allowed * typical_s) | (pace_s - age_s > _SLOW * typical_s)
