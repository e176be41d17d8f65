"""Hands out simulations, so that no slot waits for an answer of the master, and at the end none for another's slot.

How many each rank is given is decided here; which ones, by the work queue and the tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.comm import Comm
from mosaic_mpi.messages import Assign, Drain
from mosaic_mpi.ranks import Ranks
from mosaic_mpi.tail import Tail
from mosaic_mpi.units import Units
from mosaic_mpi.worker import flush_interval_s
from mosaic_mpi.workqueue import WorkQueue

_ANSWER_SECONDS = 0.1
"""Ample time for rows to reach a rank after its message that it needs some."""
_PLENTY = 8
"""With so many simulations a slot to do, each slot is given two before it is known how long they take."""
_NONE = np.empty(0, np.int64)
_MOST_AHEAD = 10_000.0
"""Rows a slot at most that a rank has beside those that its slots are at."""


class Dispatcher:
    """Sends ranks what they are to do.

    Parameters
    ----------
    comm : Comm
        To reach the workers.
    queue : WorkQueue
        State of every simulation.
    tail : Tail
        What is done by iterations.
    ranks : Ranks
        Their slots.
    units : Units
        Numbers of simulations and iterations.
    on_begin : callable
        Called before anything is handed out for the first time.
    """

    def __init__(
        self, comm: Comm, queue: WorkQueue, tail: Tail, ranks: Ranks, units: Units, on_begin: Callable[[], None]
    ) -> None:
        self._comm, self._queue, self._tail, self._ranks, self._units = comm, queue, tail, ranks, units
        self._on_begin = on_begin
        self._has_begun = False
        self._hungry: set[int] = set()
        self._lookahead_s = 2 * (_ANSWER_SECONDS + flush_interval_s(comm.size))

    def note_hungry(self, ranks: Iterable[int]) -> None:
        """Note ranks that may need something to do; all others hold enough, since nothing came from them."""
        self._hungry.update(ranks)

    def hand_out(self, now: float, mean_s: float | None) -> None:
        """Give units to those who need some; who still has too few is looked at again the next time.

        Parameters
        ----------
        now : float
            Time of the monotonic clock.
        mean_s : float or None
            Mean duration of a simulation lately, seconds; None before the first.
        """
        if not self._hungry:
            return
        self._tail.split_if_due(now)
        if self._is_anything_to_do:
            self._feed_the_hungry(now, self._lookahead(mean_s))
        elif self._tail.is_help_due(now):
            self._help(now)

    @property
    def _is_anything_to_do(self) -> bool:
        return bool(self._queue.n_pending or self._tail.n_to_do)

    def _lookahead(self, mean_s: float | None) -> float:
        """Rows beyond one a slot, so that none waits for an answer of the master; none when few are left.

        A rank asks for more, by its results, when half of them are used up.
        """
        n_pending, n_slots = self._queue.n_pending, self._ranks.n_live_slots
        if mean_s is None:
            return 1.0 if n_pending > _PLENTY * n_slots else 0.0
        if n_pending <= n_slots:
            return 0.0
        return min(max(self._lookahead_s / max(mean_s, 1e-6), 0.1), _MOST_AHEAD)

    def _feed_the_hungry(self, now: float, lookahead: float) -> None:
        for source in sorted(self._hungry):
            if not self._is_anything_to_do:
                return
            self._feed(source, lookahead, now)
            if self._tail.n_held(source) >= self._ranks.n_slots[source]:
                self._hungry.discard(source)

    def _feed(self, source: int, lookahead: float, now: float) -> None:
        n_slots, n_held = int(self._ranks.n_slots[source]), self._tail.n_held(source)
        spare = math.ceil(n_slots * lookahead)
        need = n_slots + spare - n_held
        if not n_slots or (need <= spare // 2 and n_held >= n_slots):
            return
        units = self._units.whole(self._take(source, n_slots, need, now)) if self._queue.n_pending else _NONE
        if self._tail.n_to_do and len(units) < n_slots - n_held:
            units = np.concatenate([units, self._tail.take(source, n_slots - n_held - len(units), now)])
        self._send(source, units)

    def _take(self, source: int, n_slots: int, n_rows: int, now: float) -> NDArray[np.int64]:
        """Take rows for a rank, at most its fair share."""
        fair = -(-self._queue.n_pending * n_slots // self._ranks.n_live_slots)
        rows = self._queue.take(min(n_rows, max(fair, 1)), source)
        self._tail.note_given(source, rows, now)
        return rows

    def _help(self, now: float) -> None:
        """Slots are idle, and nothing is to do: see to it that the others need not be waited for long."""
        for source in self._tail.hoarders():
            self._comm.send(source, Drain())
        hungry = np.array(sorted(self._hungry), np.int64)
        n_idle = (self._ranks.n_slots - self._tail.n_held_by_ranks)[hungry]
        idle = dict(zip(hungry[n_idle > 0].tolist(), n_idle[n_idle > 0].tolist(), strict=True))
        for source, parts in self._tail.help(now, idle).items():
            self._send(source, parts)

    def _send(self, source: int, units: NDArray[np.int64]) -> None:
        if not len(units):
            return
        if not self._has_begun:
            self._has_begun = True
            self._on_begin()
        self._comm.send(source, Assign(units))
