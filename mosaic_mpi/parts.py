"""Simulations of which iterations are handed out one by one: what is to do, who is at what, what has come in.

Keeps accounts and decides nothing; see `mosaic_mpi.tail`. One array a property, and whatever concerns many iterations
is done for all of them at once. Knows no MPI, file or clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.units import Units

_NOBODY = -1
_NONE = np.empty(0, np.int64)
_MOST_HOLDERS = 2
"""A wanted iteration is begun again once."""


class Parts:
    """Iterations by unit (see `mosaic_mpi.units`).

    An iteration that is wanted and that nobody holds is to do. A rank may be at one that is not wanted any more, its
    simulation being finished or failed: that only keeps a slot busy. A simulation is split at most once.

    Parameters
    ----------
    units : Units
        Their numbers.
    n_ranks : int
        Who may hold some.
    n_simulations : int
        Of the run.

    Attributes
    ----------
    n_busy : ndarray of int64, shape (n_ranks,)
        Slots of each rank that are at units known here, wanted or not.
    n_open : int
        Iterations to do or under way.
    """

    def __init__(self, units: Units, n_ranks: int, n_simulations: int) -> None:
        self._units, self._width, self._n_simulations = units, units.n_iterations + 1, n_simulations
        self._places = np.empty(0, np.int32)
        """By row, where its units are in what follows; nowhere of most. Empty until there is one."""
        self._n_known = 0
        self._rows = np.full(1, _NOBODY, np.int64)
        self._is_wanted = np.zeros(self._width, bool)
        self._holders = np.full((self._width, _MOST_HOLDERS), _NOBODY)
        self._since = np.full((self._width, _MOST_HOLDERS), np.inf)
        self._to_do = _NONE
        """Keys, which are places times width plus iteration."""
        self.n_busy = np.zeros(n_ranks, np.int64)
        self.n_open = self._n_units = 0
        """The second is the sum of the former: asked for with every message."""

    def __bool__(self) -> bool:
        """Whether there is anything to keep account of."""
        return self.n_open > 0 or self._n_units > 0

    @property
    def n_to_do(self) -> int:
        """Iterations that nobody is at."""
        return len(self._to_do)

    def are_split(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether simulations are done by iterations, and not finished."""
        keys = self._keys(rows * self._width)
        found = keys >= 0
        found[found] = self._is_wanted.reshape(-1, self._width)[keys[found] // self._width].any(axis=1)
        return found

    def were_split(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether simulations are or have been done by iterations."""
        return self._keys(rows * self._width) >= 0

    def split(self, rows: NDArray[np.int64]) -> None:
        """Have the iterations of simulations done one by one."""
        first = self._make_known(rows)
        keys = (first[:, None] + np.arange(1, self._width)).ravel()
        self._is_wanted[keys] = True
        self.n_open += len(keys)
        self._to_do = np.concatenate([self._to_do, keys])

    # ---- who is at what -----------------------------------------------------------------------------

    def take(
        self, rank: int, n_units: int, now: float, holders_of: Callable[[NDArray[np.int64]], NDArray[np.int32]]
    ) -> NDArray[np.int64]:
        """Hand out up to so many iterations to a rank, of simulations that it does not hold itself."""
        keys, rest = self._to_do[: max(n_units, 0)], self._to_do[max(n_units, 0) :]
        may = holders_of(self._rows[keys // self._width]) != rank
        if not may.all():
            may = holders_of(self._rows[self._to_do // self._width]) != rank
            chosen = np.flatnonzero(may)[:n_units]
            keys, rest = self._to_do[chosen], np.delete(self._to_do, chosen)
        self._to_do = rest
        self._hold(rank, keys, now)
        return self._units_of(keys)

    def hold(self, rank: int, units: NDArray[np.int64], now: float) -> None:
        """Note that a rank is at wanted iterations, alone or besides another."""
        self._hold(rank, self._keys(units), now)

    def _hold(self, rank: int, keys: NDArray[np.int64], now: float) -> None:
        self._occupy(keys, rank, now)
        self.n_busy[rank] += len(keys)

    def keep_busy(
        self, ranks: NDArray[np.signedinteger[Any]], units: NDArray[np.int64], since: NDArray[np.float64]
    ) -> None:
        """Note that slots of ranks are at units, each a different one."""
        self._make_known(self._units.rows(units))
        self._occupy(self._keys(units), ranks, since)
        np.add.at(self.n_busy, ranks, 1)

    def _occupy(self, keys: NDArray[np.int64], ranks: Any, since: Any) -> None:
        index = (self._holders[keys, 0] != _NOBODY).astype(np.int64)
        self._holders[keys, index], self._since[keys, index] = ranks, since
        self._n_units += len(keys)

    def release(self, ranks: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Note that ranks are not at units any more; return which were wanted of them."""
        keys = self._keys(units)
        index, column = np.nonzero((self._holders[keys] == ranks[:, None]) & (keys >= 0)[:, None])
        was_wanted = np.zeros(len(units), bool)
        was_wanted[index] = self._is_wanted[keys[index]]
        cells = np.unique(keys[index] * _MOST_HOLDERS + column)
        np.subtract.at(self.n_busy, self._holders.ravel()[cells], 1)
        self._holders.ravel()[cells] = _NOBODY
        self._n_units -= len(cells)
        return was_wanted

    def since(self, ranks: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.float64]:
        """Since when ranks are at units; infinity where they are not."""
        keys = self._keys(units)
        is_at = (self._holders[keys] == ranks[:, None]) & (keys >= 0)[:, None]
        found: NDArray[np.float64] = np.where(is_at, self._since[keys], np.inf).min(axis=1)
        return found

    def are_held(self, units: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether somebody is at wanted iterations."""
        keys = self._keys(units)
        return (keys >= 0) & self._are_held(keys)

    def put_back(self, rank: int, units: NDArray[np.int64] | None = None) -> int:
        """Take back what a rank will not finish, all or some units; return how many of them were wanted of it."""
        if units is None:
            units = self._units_of(np.flatnonzero((self._holders == rank).any(axis=1)))
        mine = self._keys(units[self.release(np.full(len(units), rank), units)])
        self._to_do = np.concatenate([mine[~self._are_held(mine)], self._to_do])
        return len(mine)

    def held_once(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Since when, which rank and which unit, of all wanted iterations that a single rank is at; longest first."""
        is_held = self._holders != _NOBODY
        keys = np.flatnonzero((is_held[:, 0] != is_held[:, 1]) & self._is_wanted)
        column = is_held[keys, 1].astype(np.int64)
        since, ranks = self._since[keys, column], self._holders[keys, column]
        units = self._units_of(keys)
        order = np.lexsort((units, ranks, since))
        return since[order], ranks[order], units[order]

    # ---- what is wanted -----------------------------------------------------------------------------

    def accept(self, ranks: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Note that ranks bring iterations; return which are the first answers that are wanted.

        Parameters
        ----------
        ranks, units : ndarray of int64, shape (n,)
            In the order in which they came.
        """
        keys = self._keys(units)
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        is_first = first & (keys >= 0) & self._is_wanted[keys]
        self._want_no_more(keys[is_first])
        self.release(ranks, units)
        return is_first

    def forget(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Want nothing of simulations any more; return those of which something was wanted."""
        rows = np.unique(rows[self.are_split(rows)])
        if len(rows):
            keys = (self._keys(rows * self._width)[:, None] + np.arange(1, self._width)).ravel()
            self._want_no_more(keys[self._is_wanted[keys]])
        return rows

    def rows_to_do(self) -> NDArray[np.int64]:
        """Simulations of which an iteration waits for somebody."""
        return np.unique(self._rows[self._to_do // self._width])

    def _want_no_more(self, keys: NDArray[np.int64]) -> None:
        self._is_wanted[keys] = False
        self.n_open -= len(keys)
        if (self._holders[keys] == _NOBODY).all(axis=1).any():  # which were to do: a late answer, or forgotten
            self._to_do = self._to_do[self._is_wanted[self._to_do]]

    def _are_held(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._is_wanted[keys] & (self._holders[keys] != _NOBODY).any(axis=1)
        return found

    # ---- where units are ----------------------------------------------------------------------------

    def _keys(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where units are; -1 of those that are not known."""
        if not len(self._places):
            return np.full(len(units), -1)
        rows, iterations = np.divmod(units, self._width)
        places = self._places[rows]
        return np.where(places < 0, -1, places * self._width + iterations)

    def _units_of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        places, iterations = np.divmod(keys, self._width)
        units: NDArray[np.int64] = self._rows[places] * self._width + iterations
        return units

    def _make_known(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Make room for rows that are not known yet; return the keys of their whole simulations."""
        if not len(self._places) and len(rows):
            self._places = np.full(self._n_simulations, _NOBODY, np.int32)
        new = np.unique(rows[self._keys(rows * self._width) < 0])
        if len(new):
            self._make_room(self._n_known + len(new))
            places = np.arange(self._n_known, self._n_known + len(new))
            self._places[new], self._rows[places] = places, new
            self._n_known += len(new)
        return self._keys(rows * self._width)

    def _make_room(self, n_places: int) -> None:
        if n_places <= len(self._rows):
            return
        room = max(n_places, 2 * len(self._rows))
        self._rows = _grown(self._rows, room, _NOBODY)
        self._is_wanted = _grown(self._is_wanted, room * self._width, False)
        self._holders = _grown(self._holders, room * self._width, _NOBODY)
        self._since = _grown(self._since, room * self._width, np.inf)


def _grown(array: NDArray[Any], n: int, fill: Any) -> NDArray[Any]:
    found = np.full((n, *array.shape[1:]), fill, array.dtype)
    found[: len(array)] = array
    return found
