"""The state of every simulation of a run: which are to do, which run, which are done.

Decides what is handed out next and what an attempt's failure means. Knows no MPI, file or clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.layout import COMPLETED, FAILED, PENDING

_RUNNING = 3
"""Only here: the results file never says so."""
_RETRY_AFTER = 64
"""What failed is tried again after so many others: passing trouble has passed by then, lasting trouble shows soon."""


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
    """

    def __init__(self, status: NDArray[np.int8], attempts: NDArray[np.int32], max_attempts: int) -> None:
        self._status = status.copy()
        self._failures = {int(row): int(attempts[row]) for row in self._undone(attempts)}
        self._max_attempts = max_attempts
        self._cursor = 0
        self._again: deque[tuple[int, int]] = deque()
        self._n_taken = 0
        self.n_simulations = len(status)
        self.n_completed = int((status == COMPLETED).sum())
        self.n_failed = int((status == FAILED).sum())
        self.n_running = 0

    def _undone(self, attempts: NDArray[np.int32]) -> NDArray[np.int64]:
        return np.flatnonzero((self._status == PENDING) & (attempts > 0))

    @property
    def n_pending(self) -> int:
        """Simulations neither done nor handed out."""
        return self.n_simulations - self.n_completed - self.n_failed - self.n_running

    @property
    def is_done(self) -> bool:
        """Whether every simulation is completed or failed."""
        return self.n_completed + self.n_failed == self.n_simulations

    def take(self, n_rows: int) -> NDArray[np.int64]:
        """Hand out up to so many rows."""
        rows: list[int] = []
        while len(rows) < n_rows and (found := self._next(n_rows - len(rows))):
            rows += found
            self._n_taken += len(found)
        taken = np.array(rows, dtype=np.int64)
        self._status[taken] = _RUNNING
        self.n_running += len(rows)
        return taken

    def _next(self, n_rows: int) -> list[int]:
        if self._again and self._again[0][0] <= self._n_taken:
            return [self._again.popleft()[1]]
        while self._cursor < self.n_simulations:
            block = self._status[self._cursor : self._cursor + max(n_rows, 1024)]
            found = np.flatnonzero(block == PENDING)[:n_rows]
            start, whole = self._cursor, len(found) < n_rows
            self._cursor += len(block) if whole else int(found[-1]) + 1
            if len(found):
                return [int(offset) + start for offset in found]
        return [self._again.popleft()[1]] if self._again else []

    def is_open(self, row: int) -> bool:
        """Whether a result for this row is still wanted; late duplicates are not."""
        return bool(self._status[row] not in (COMPLETED, FAILED))

    def complete(self, row: int) -> int:
        """Note a result and return how many attempts it took."""
        self._leave(row, COMPLETED)
        self.n_completed += 1
        return self._failures.pop(row, 0) + 1

    def fail(self, row: int) -> Verdict:
        """Note a failed attempt and decide what it means."""
        attempts = self._failures.get(row, 0) + 1
        self._failures[row] = attempts
        final = attempts >= self._max_attempts
        if final:
            self._leave(row, FAILED)
            self.n_failed += 1
            del self._failures[row]
        else:
            self._reopen([row], self._n_taken + _RETRY_AFTER)
        return Verdict(attempts, final)

    def give_back(self, rows: list[int]) -> None:
        """Take back rows that were handed out and will not be finished there; nobody is to blame."""
        self._reopen(rows, self._n_taken)

    def _reopen(self, rows: list[int], due: int) -> None:
        for row in rows:
            if self._status[row] == _RUNNING:
                self._leave(row, PENDING)
                self._again.append((due, row))

    def _leave(self, row: int, status: int) -> None:
        if self._status[row] == _RUNNING:
            self.n_running -= 1
        elif status != PENDING:  # a late result of a rank given up
            self._again = deque(entry for entry in self._again if entry[1] != row)
        self._status[row] = status
