"""The state of every simulation of a run: which are to do, who holds which, which are done.

Decides what is handed out next and what an attempt's failure means. Whatever concerns many rows is done for all of
them at once. Knows no MPI, file or clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.layout import COMPLETED, FAILED, PENDING

_RUNNING = 3
"""Only here: the results file never says so."""
_NOBODY = -1
_RETRY_AFTER = 64
"""What failed is tried again after so many others: passing trouble has passed by then, lasting trouble shows soon."""
_LEAST_LOOK = 1024
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Verdict:
    """What a failed attempt means: how many there were, and whether it was the last."""

    attempts: int
    final: bool


class WorkQueue:
    """Simulations by row, handed out in order, those to try again a little later.

    Parameters
    ----------
    status : ndarray of int8, shape (n_simulations,)
        From the results file: PENDING, COMPLETED or FAILED.
    attempts : ndarray of int32, shape (n_simulations,)
        Failed attempts so far.
    max_attempts : int
        After so many, a simulation has failed.
    n_ranks : int
        Who may hold rows: ranks 0 to n_ranks - 1.

    Attributes
    ----------
    apart : int
        Holds, beside the ranks, the rows of which no rank has the whole (see `mosaic_mpi.tail`).
    """

    def __init__(
        self, status: NDArray[np.int8], attempts: NDArray[np.int32], max_attempts: int, n_ranks: int = 1
    ) -> None:
        self._status = status.copy()
        self._attempts = attempts.copy()
        self._holder = np.full(len(status), _NOBODY, np.int32)
        self.apart = n_ranks
        self._n_held = np.zeros(n_ranks + 1, np.int64)
        self._max_attempts = max_attempts
        self._cursor = 0
        self._n_over = 0
        """So many first rows are completed or failed, or more."""
        self._again: deque[tuple[int, int]] = deque()
        """Rows to try again, each with the count of rows handed out at which it is due; done ones are passed over."""
        self._n_taken = 0
        self.n_simulations = len(status)
        self.n_completed = int((status == COMPLETED).sum())
        self.n_failed = int((status == FAILED).sum())
        self.n_running = 0

    @property
    def n_pending(self) -> int:
        """Simulations neither done nor handed out."""
        return self.n_simulations - self.n_completed - self.n_failed - self.n_running

    @property
    def is_done(self) -> bool:
        """Whether every simulation is completed or failed."""
        return self.n_completed + self.n_failed == self.n_simulations

    def n_held(self, rank: int) -> int:
        """How many rows a rank holds."""
        return int(self._n_held[rank])

    @property
    def n_held_by_ranks(self) -> NDArray[np.int64]:
        """How many rows each rank holds."""
        return self._n_held[: self.apart]

    def holder(self, row: int) -> int | None:
        """Which rank holds a row, None if nobody does."""
        found = int(self._holder[row])
        return None if found == _NOBODY else found

    def holders(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Which rank holds each of some rows, -1 where nobody does."""
        return self._holder[rows]

    def held_by_ranks(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Rows that ranks hold, and which rank holds each."""
        while self._n_over < self.n_simulations:  # not to look at what is long done, each time
            block = self._status[self._n_over : self._n_over + _LEAST_LOOK]
            is_open = (block == PENDING) | (block == _RUNNING)
            self._n_over += int(is_open.argmax()) if is_open.any() else len(block)
            if is_open.any():
                break
        holder = self._holder[self._n_over :]
        rows = np.flatnonzero((holder != _NOBODY) & (holder != self.apart)) + self._n_over
        return rows, self._holder[rows]

    def rows_of(self, rank: int) -> NDArray[np.int64]:
        """Rows that a rank holds."""
        return np.flatnonzero(self._holder == rank)

    def have_failed(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether rows have failed attempts."""
        return self._attempts[rows] > 0

    def take(self, n_rows: int, rank: int) -> NDArray[np.int64]:
        """Hand out up to so many rows to a rank, which holds them until they are done, failed or given back."""
        parts: list[NDArray[np.int64]] = []
        while n_rows > 0 and len(found := self._next(n_rows)):
            parts.append(found)
            self._give(found, rank)  # at once: it may stand among those to try again, too
            self._n_taken += len(found)
            n_rows -= len(found)
        return parts[0] if len(parts) == 1 else np.concatenate([_NONE, *parts])

    def take_untried(
        self, but: Callable[[NDArray[np.int64]], NDArray[np.bool_]] = lambda rows: np.zeros(len(rows), bool)
    ) -> NDArray[np.int64]:
        """Take all rows that are to do and have no failed attempt, but for some; they are held `apart`."""
        rows = np.flatnonzero((self._status == PENDING) & (self._attempts == 0))
        rows = rows[~but(rows)]
        self._give(rows, self.apart)
        return rows

    def _give(self, rows: NDArray[np.int64], holder: int) -> None:
        self._status[rows] = _RUNNING
        self._holder[rows] = holder
        self._n_held[holder] += len(rows)
        self.n_running += len(rows)

    def set_apart(self, rows: NDArray[np.int64]) -> None:
        """Note that ranks have lost rows which others are at in parts."""
        np.subtract.at(self._n_held, self._holder[rows], 1)
        self._holder[rows] = self.apart
        self._n_held[self.apart] += len(rows)

    def _next(self, n_rows: int) -> NDArray[np.int64]:
        """Some rows that are to do, at most so many; none only if there are none at all."""
        if len(again := self._next_again(n_rows, self._n_taken)):
            return again
        while self._cursor < self.n_simulations:
            start = self._cursor
            block = self._status[start : start + max(n_rows, _LEAST_LOOK)]
            found = np.flatnonzero(block == PENDING)[:n_rows] + start
            self._cursor = int(found[-1]) + 1 if len(found) == n_rows else start + len(block)
            if len(found):
                return found
        return self._next_again(1)

    def _next_again(self, n_rows: int, due: int | None = None) -> NDArray[np.int64]:
        """Rows to try again, due by now or in any case."""
        rows: dict[int, None] = {}
        while self._again and len(rows) < n_rows and (due is None or self._again[0][0] <= due):
            row = self._again.popleft()[1]
            if self._status[row] == PENDING:  # else a late result has come meanwhile
                rows[row] = None
        return np.array(list(rows), np.int64)

    def complete(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Note results; the first of a simulation counts, later ones are not wanted.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            As they came, whoever holds them.

        Returns
        -------
        wanted : ndarray of bool, shape (n,)
            Which are the first of their simulation.
        attempts : ndarray of int32, shape (n_wanted,)
            How many attempts each of those took.
        """
        status = self._status[rows]
        wanted = (status != COMPLETED) & (status != FAILED) & _is_first(rows)
        done = rows if wanted.all() else rows[wanted]
        self._release(done)
        self._status[done] = COMPLETED
        self.n_completed += len(done)
        return wanted, self._attempts[done] + np.int32(1)

    def fail(self, row: int) -> Verdict:
        """Note a failed attempt of a row that somebody holds, and decide what it means."""
        self._attempts[row] += 1
        attempts = int(self._attempts[row])
        final = attempts >= self._max_attempts
        rows = np.array([row])
        if final:
            self._release(rows)
            self._status[row] = FAILED
            self.n_failed += 1
        else:
            self._reopen(rows, self._n_taken + _RETRY_AFTER)
        return Verdict(attempts, final)

    def give_back(self, rank: int, rows: NDArray[np.int64] | None = None) -> int:
        """Take back what a rank holds and will not finish, all or some rows; nobody is to blame.

        Returns
        -------
        int
            How many those were; rows that it does not hold are left alone.
        """
        mine = np.flatnonzero(self._holder == rank) if rows is None else rows[self._holder[rows] == rank]
        self._reopen(mine, self._n_taken)
        return len(mine)

    def _reopen(self, rows: NDArray[np.int64], due: int) -> None:
        self._release(rows)
        self._status[rows] = PENDING
        self._again.extend((due, row) for row in rows.tolist())

    def _release(self, rows: NDArray[np.int64]) -> None:
        """Have nobody hold rows any more."""
        holders = self._holder[rows]
        holders = holders[holders != _NOBODY]  # a late result of a rank given up: perhaps nobody else is at it
        np.subtract.at(self._n_held, holders, 1)
        self.n_running -= len(holders)
        self._holder[rows] = _NOBODY


def _is_first(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a row stands here for the first time: a rank that was given up and is back may bring one twice."""
    first = np.zeros(len(rows), bool)
    first[np.unique(rows, return_index=True)[1]] = True
    return first
