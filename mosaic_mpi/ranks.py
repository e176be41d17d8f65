"""What rank 0 knows of the ranks: their slots, when each was last heard of, which are gone.

One array a property, so that a look at thousands of ranks costs hardly more than one at a few, and counts that are
asked for at every step are kept. Decides nothing, and knows no MPI and no simulations.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SHORT_SECONDS = 0.1
"""How times of such simulations vary, nobody asks."""
_N_REMEMBERED = 50
"""Times that the variance is about."""

_START_WITHIN = 2.0
"""A start that takes so many times as long as the middle one says nothing of others."""


class Ranks:
    """The ranks of a run.

    Parameters
    ----------
    hosts : list of str
        Host of each rank.
    host_rows : list of int
        Their rows in ``hosts/name``.
    now : float
        Time of the monotonic clock: all count as heard.

    Attributes
    ----------
    host_rows : ndarray of int64, shape (n_ranks,)
        Row of its host in ``hosts/name``.
    n_slots : ndarray of int64, shape (n_ranks,)
        Slots that can be given work; 0 of ranks that have not reported yet or are gone.
    n_live_slots : int
        All of those.
    heard : ndarray of float64, shape (n_ranks,)
        Last sign of life, by the monotonic clock.
    is_known : ndarray of bool, shape (n_ranks,)
        Whether it has reported its slots, or is gone.
    pace_s : ndarray of float64, shape (n_ranks,)
        Seconds that a simulation lately took a slot of it; NaN before its first result.
    start_s : ndarray of float64, shape (n_ranks,)
        Longest time from a rank's first assignment until a slot of it was at work; NaN before its first result.
    is_given_up, is_dead, is_broken : ndarray of bool, shape (n_ranks,)
        Silent for too long or dead; dead, so that it cannot come back; unable to start slots.
    """

    def __init__(self, hosts: list[str], host_rows: list[int], now: float) -> None:
        self._hosts, self.host_rows = hosts, np.array(host_rows)
        n_ranks = len(hosts)
        self.n_slots, self._n_own_slots = np.zeros(n_ranks, np.int64), np.zeros(n_ranks, np.int64)
        self.n_live_slots = 0
        self.heard, self.pace_s = np.full(n_ranks, now), np.full(n_ranks, np.nan)
        self.start_s = np.full(n_ranks, np.nan)
        self.is_known, self.is_given_up = np.zeros(n_ranks, bool), np.zeros(n_ranks, bool)
        self.is_dead, self.is_broken = np.zeros(n_ranks, bool), np.zeros(n_ranks, bool)
        self._all_known = False
        self._variance = 0.0

    def __len__(self) -> int:
        return len(self._hosts)

    def name(self, rank: int) -> str:
        """A rank as messages call it."""
        return f"rank {rank} on {self._hosts[rank]}"

    def host(self, rank: int) -> str:
        """Its host."""
        return self._hosts[rank]

    @property
    def n_lost(self) -> int:
        """Ranks that are given up, or have no slots although they should."""
        return int((self.is_given_up | self.is_broken).sum())

    @property
    def are_all_known(self) -> bool:
        """Whether every rank has reported, or is gone."""
        self._all_known = self._all_known or bool(self.is_known.all())
        return self._all_known

    @property
    def typical_s(self) -> float | None:
        """The middle one of all paces, of two the faster one; None before the first."""
        paces = np.sort(self.pace_s[~np.isnan(self.pace_s)])
        return float(paces[(len(paces) - 1) // 2]) if len(paces) else None

    @property
    def longest_start_s(self) -> float:
        """Time to allow a rank for its start: the longest, within reason; 0 before the first result.

        A rank that was suspended as it started is no reason to wait as long for another.
        """
        known = np.sort(self.start_s[~np.isnan(self.start_s)])
        return float(min(known[-1], _START_WITHIN * known[(len(known) - 1) // 2])) if len(known) else 0.0

    def learn(self, ranks: NDArray[np.int64], seconds: NDArray[np.float64], pieces: NDArray[np.int64]) -> None:
        """Take note of times.

        Parameters
        ----------
        ranks : ndarray of int64, shape (n,)
            Where.
        seconds : ndarray of float64, shape (n,)
            How long a simulation, or a piece of one, took a slot of it.
        pieces : ndarray of int64, shape (n,)
            How many such make a simulation.
        """
        whole_s = seconds * pieces
        before = self.pace_s[ranks]
        who, index = np.unique(ranks, return_inverse=True)
        mean_s, old_s = np.bincount(index, whole_s) / np.bincount(index), self.pace_s[who]
        self.pace_s[who] = np.where(np.isnan(old_s), mean_s, 0.8 * old_s + 0.2 * mean_s)
        known = before > _SHORT_SECONDS
        if known.any():
            squares = np.square(whole_s[known] / before[known] - 1) / pieces[known]
            weight = len(squares) / (len(squares) + _N_REMEMBERED)
            self._variance += weight * (float(squares.mean()) - self._variance)

    @property
    def deviation(self) -> float:
        """Standard deviation of a simulation's time on a rank, as a share of its pace."""
        return math.sqrt(self._variance)

    def report(self, rank: int, n_slots: int) -> None:
        """It has started its slots."""
        self._n_own_slots[rank] = n_slots
        self._set_slots(rank, n_slots)
        self.is_known[rank] = True

    def give_up(self, rank: int) -> None:
        """It is silent or dead."""
        self._set_slots(rank, 0)
        self.is_given_up[rank] = self.is_known[rank] = True

    def take_back(self, rank: int) -> None:
        """It speaks again."""
        self._set_slots(rank, int(self._n_own_slots[rank]))
        self.is_given_up[rank] = False

    def break_down(self, rank: int) -> None:
        """It cannot start slots."""
        self._n_own_slots[rank] = 0
        self._set_slots(rank, 0)
        self.is_broken[rank] = self.is_known[rank] = True

    def silent(self, now: float, timeout_s: float) -> list[int]:
        """Ranks that have said nothing for so long."""
        found: list[int] = np.flatnonzero(now - self.heard > timeout_s).tolist()
        return found

    def hosts_heard_at(self, offset: float) -> NDArray[np.float64]:
        """When each row of ``hosts/name`` was last heard of through any of its ranks; 0: it has none.

        Parameters
        ----------
        offset : float
            What to add to the monotonic clock.
        """
        heard_at = np.zeros(1 + int(self.host_rows.max()))
        np.maximum.at(heard_at, self.host_rows, self.heard + offset)
        return heard_at

    def _set_slots(self, rank: int, n_slots: int) -> None:
        self.n_live_slots += n_slots - int(self.n_slots[rank])
        self.n_slots[rank] = n_slots
