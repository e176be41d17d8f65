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

from mosaic_mpi.joins import Joins
from mosaic_mpi.parts import Parts
from mosaic_mpi.ranks import Ranks
from mosaic_mpi.units import WHOLE, Units
from mosaic_mpi.workqueue import WorkQueue

WORTH_SECONDS = 0.2
"""Shorter simulations are left alone: what could be won is less than that."""
_LONG_DEVIATIONS, _MOST_LONGER = 2.0, 0.5
"""Simulations are expected to take so many standard deviations longer than usual at most, but by no larger share."""
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
        self._parts = Parts(units, len(ranks), queue.n_simulations)
        self._joins = Joins(units.n_iterations)
        self._begun_at = np.zeros(queue.n_simulations)
        self._not_again: set[int] = set()
        self._is_recalled = np.zeros(len(ranks), bool)
        self._next_look_for_split = self._looked_for_help = -np.inf
        self._n_shared = self._n_again = 0

    # ---- what ranks hold and bring ------------------------------------------------------------------

    def n_held(self, rank: int) -> int:
        """Units that a rank is at or has before it."""
        return self._queue.n_held(rank) + int(self._parts.n_busy[rank])

    @property
    def n_held_by_ranks(self) -> NDArray[np.int64]:
        """The same of all ranks."""
        return self._queue.n_held_by_ranks + self._parts.n_busy

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
        is_first = np.isnan(self._ranks.pace_s[ranks])
        if is_first.any():
            self._learn_start(ranks[is_first], records[is_first], now)
        self._ranks.learn(ranks, records["elapsed_s"], pieces)

    def _learn_start(self, ranks: NDArray[np.int64], records: NDArray[np.void], now: float) -> None:
        rows, iterations = records["row"], records["iteration"]
        parts_since = self._parts.since(ranks, self._units.of(rows, iterations))
        begun_at = np.where(iterations == WHOLE, self._begun_at[rows], parts_since)
        np.fmax.at(self._ranks.start_s, ranks, np.maximum(now - records["elapsed_s"] - begun_at, 0.0))

    def settle(self, ranks: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Simulations have come from ranks, whole or joined: nobody else need be at them any more."""
        if self._parts:
            first = np.unique(rows, return_index=True)[1]
            self._finish(ranks[first], rows[first])
            self._parts.release(ranks, self._units.whole(rows))  # after that: whoever brings it, too, is not busy

    def take_parts(
        self, ranks: NDArray[np.int64], records: NDArray[np.void], series: list[memoryview]
    ) -> tuple[NDArray[np.void], NDArray[np.int64], list[bytes]]:
        """Ranks bring iterations; return the simulations that they complete (see `Joins.add`)."""
        wanted = self._parts.accept(ranks, self._units.of(records["row"], records["iteration"]))
        chosen = [series[index] for index in np.flatnonzero(wanted)] if series else []
        return self._joins.add(records[wanted], ranks[wanted], chosen)

    def _finish(self, ranks: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Want nothing more of simulations; who is at one as a whole has a slot that is busy all the same."""
        holders = self._queue.holders(rows)
        is_other = (holders >= 0) & (holders != ranks) & (holders != self._queue.apart)
        if is_other.any():
            others = rows[is_other]
            self._parts.keep_busy(holders[is_other], self._units.whole(others), self._begun_at[others])
        self._forget(rows)

    def _forget(self, rows: NDArray[np.int64]) -> None:
        self._joins.forget(self._parts.forget(rows))

    def has_failed(self, rank: int, unit: int) -> bool:
        """Take note of a unit's failure; return whether with it the attempt at its simulation has failed."""
        row, iteration = self._units.split(unit)
        rows, units = np.array([row]), np.array([unit])
        was_wanted = bool(self._parts.release(np.array([rank]), units)[0])
        holder = self._queue.holder(row)
        if iteration == WHOLE:
            if holder != rank:  # it had been given up, and others are at it or have done it
                return False
            if not self._parts.are_split(rows)[0]:
                return True
            self._queue.set_apart(rows)
        elif not was_wanted:
            return False
        elif not self._parts.are_held(units)[0]:
            self._forget(rows)
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
            rows, parts = self._units.rows(units[is_whole]), units[~is_whole]
            self._parts.release(np.full(len(rows), rank), units[is_whole])
            rows = rows[queue.holders(rows) == rank]
        if not self._parts:
            return queue.give_back(rank, rows)
        is_copied = self._parts.are_split(rows)
        queue.set_apart(rows[is_copied])
        return queue.give_back(rank, rows[~is_copied]) + int(is_copied.sum()) + self._parts.put_back(rank, parts)

    def drain(self) -> None:
        """Nothing more will be handed out: simulations of which an iteration is to do cannot be finished."""
        rows = self._parts.rows_to_do()
        self._forget(rows)
        self._queue.give_back(self._queue.apart, rows)

    # ---- iterations instead of simulations ----------------------------------------------------------

    def split_if_due(self, now: float) -> None:
        """Have what is to do done by iterations, if there is so little that a round of iterations is saved."""
        if now > self._next_look_for_split and self._is_time_to_split(now):
            rows = self._queue.take_untried(but=self._parts.were_split)
            self._parts.split(rows)
            self._n_shared += len(rows)

    def _is_time_to_split(self, now: float) -> bool:
        """Whether all slots together could do the rest in the time of a long simulation less an iteration.

        Then such a one begun now would end after all others, had those been shared out.
        """
        n_slots = self._ranks.n_live_slots if self._ranks.are_all_known else self._n_slots
        longer = min(_LONG_DEVIATIONS * self._ranks.deviation, _MOST_LONGER)
        saved = n_slots * (1 + longer - 1 / self._units.n_iterations)
        if self._queue.n_pending > saved or not self._queue.n_pending:
            return False
        typical_s = self._ranks.typical_s
        if typical_s is not None and typical_s < WORTH_SECONDS:
            self._next_look_for_split = now + _SPLIT_LOOK_SECONDS
            return False
        excess = self._queue.n_pending + self._n_under_way(now, typical_s) - saved
        until_s = excess / n_slots * typical_s if typical_s else 0.0  # as fast as slots can work it off
        self._next_look_for_split = now + max(until_s / 2, _SPLIT_LOOK_SECONDS)
        return excess <= 0

    def _n_under_way(self, now: float, typical_s: float | None) -> float:
        """What slots still have to do of what they are at, in simulations."""
        rows, _ = self._queue.held_by_ranks()
        parts = self._parts.n_open / self._units.n_iterations
        if typical_s is None:
            return len(rows) + parts
        return float(np.clip(1 - (now - self._begun_at[rows]) / typical_s, 0, 1).sum()) + parts

    def take(self, rank: int, n_units: int, now: float) -> NDArray[np.int64]:
        """Hand out up to so many iterations to a rank, none of a simulation that it is at itself."""
        taken = self._parts.take(rank, n_units, now, self._queue.holders)
        self._is_recalled[rank] &= not len(taken)
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
        n_slots = self._ranks.n_slots
        found = np.flatnonzero((self.n_held_by_ranks > n_slots) & (n_slots > 0) & ~self._is_recalled)
        self._is_recalled[found] = True
        return [int(rank) for rank in found]

    def help(self, now: float, idle: Mapping[int, int]) -> dict[int, NDArray[np.int64]]:
        """Have others do again what takes too long.

        Simulations are split for that, and their iterations are to do then; what is handed out again are iterations.

        Parameters
        ----------
        now : float
            Time of the monotonic clock.
        idle : mapping of int to int
            Idle slots of ranks, of each some.

        Returns
        -------
        dict of int to ndarray of int64
            Iterations that ranks are given.
        """
        typical_s = self._ranks.typical_s
        assert typical_s is not None
        given = self._copy_iterations(now, typical_s / self._units.n_iterations, dict(idle))
        n_idle = sum(idle.values()) - sum(map(len, given.values()))
        self._split_late(now, typical_s, n_idle, idle)
        return given

    def _copy_iterations(self, now: float, typical_s: float, idle: dict[int, int]) -> dict[int, NDArray[np.int64]]:
        given: dict[int, list[int]] = {}
        for rank, unit in zip(*self._late_iterations(now, typical_s), strict=True):
            at_it = (rank, self._queue.holder(self._units.split(unit)[0]))
            helper = next((other for other in idle if other not in at_it), None)
            if helper is not None:
                given.setdefault(helper, []).append(unit)
                idle[helper] -= 1
                if not idle[helper]:
                    del idle[helper]
        units = {helper: np.array(copied) for helper, copied in given.items()}
        for helper, copied in units.items():
            self._parts.hold(helper, copied, now)
            self._n_again += len(copied)
        return units

    def _late_iterations(self, now: float, typical_s: float) -> tuple[list[int], list[int]]:
        """Ranks that alone are at iterations for too long, and which, longest first."""
        since, ranks, units = self._parts.held_once()
        pace_s = self._ranks.pace_s[ranks] / self._units.n_iterations
        allowed = self._overdue(self._units.n_iterations)
        late = is_late(now - since, self._ranks.longest_start_s, allowed, typical_s, pace_s)
        late &= ~self._must_not_again(self._units.rows(units))
        return ranks[late].tolist(), units[late].tolist()

    def _must_not_again(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.isin(rows, list(self._not_again)) if self._not_again else np.zeros(len(rows), bool)

    def _split_late(self, now: float, typical_s: float, n_idle: int, idle: Mapping[int, int]) -> None:
        rows, holders = self._queue.held_by_ranks()
        ages_s = now - self._begun_at[rows]
        late = is_late(ages_s, self._ranks.longest_start_s, self._overdue(1), typical_s, self._ranks.pace_s[holders])
        late &= ~self._queue.have_failed(rows) & ~self._must_not_again(rows) & ~self._parts.were_split(rows)
        if len(idle) == 1:
            late &= holders != next(iter(idle))
        chosen = np.flatnonzero(late)[np.argsort(-ages_s[late], kind="stable")]
        chosen = chosen[: max(math.ceil(n_idle / self._units.n_iterations), 0)] if idle else chosen[:0]
        self._parts.split(rows[chosen])
        self._n_again += len(chosen)

    def _overdue(self, n_pieces: int) -> float:
        """How many times as long as usual one of so many pieces of a simulation may take."""
        least, most = _OVERDUE
        deviation = self._ranks.deviation * math.sqrt(n_pieces)
        return 1 + min(max(_OVERDUE_DEVIATIONS * deviation, least), most)


def is_late(age_s: Any, start_s: float, allowed: float, typical_s: float, pace_s: Any) -> Any:
    """Whether units have taken too long, or will as their ranks are slow; NaN stands for a pace not known."""
    return (age_s - start_s > allowed * typical_s) | (pace_s - age_s > _SLOW * typical_s)
