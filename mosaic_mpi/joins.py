"""Simulations whose iterations ran in several slots, put together again into what one slot would have sent.

Owns the iterations that have come in. What is joined differs in times and places at most: likelihoods, parameters,
the bytes of series and the checksum are the same. Many are taken in and joined at a time. Knows no MPI and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.likelihood import collapse
from mosaic_mpi.records import Checksums, join_iterations
from mosaic_mpi.units import WHOLE

_NONE = np.empty(0, np.int64)
_ROOM = 64
"""Simulations for which there is room at first."""
_SUMMED = ("elapsed_s", "n_stock")
"""Of a whole simulation, what all of its iterations took together."""


class Joins:
    """Simulations of which iterations have come in and others have not.

    Parameters
    ----------
    n_iterations : int
        How many each must have.
    """

    def __init__(self, n_iterations: int) -> None:
        self._n_iterations = n_iterations
        self._records: NDArray[Any] | None = None
        """One a simulation, as far as it is known; the dtype is that of the first that comes."""
        self._sources = _NONE
        """Ranks of the iterations that finished last."""
        self._n_in = _NONE
        self._free: list[int] = []
        """Where there is room for another simulation."""
        self._places: dict[int, int] = {}
        """Where that of a row is."""
        self._series: dict[int, list[list[memoryview]]] = {}
        """Channels of each iteration, by place, where any are saved."""

    def __len__(self) -> int:
        return len(self._places)

    def add(
        self, records: NDArray[np.void], sources: NDArray[np.int64], series: Sequence[memoryview]
    ) -> tuple[NDArray[np.void], NDArray[np.int64], list[bytes]]:
        """Take in iterations, none of them twice, and return the simulations that they complete.

        Parameters
        ----------
        records : ndarray of `records.record_dtype`, shape (n,)
            Of iterations, as slots send them.
        sources : ndarray of int64, shape (n,)
            Ranks that they are from.
        series : sequence of memoryview, length n or 0
            Their compressed channels.

        Returns
        -------
        records : ndarray of `records.record_dtype`, shape (n_joined,)
            Of whole simulations. The place of each is that of the iteration that finished last, its time is that of
            all of its slots together.
        sources : ndarray of int64, shape (n_joined,)
            Ranks of the iterations that finished last.
        series : list of bytes, length n_joined or 0
            Their channels.
        """
        if not len(records):
            return records, sources, []
        places = self._places_of(records)
        kept: Any = self._records
        iterations = records["iteration"] - 1
        kept["iteration_likelihood"][places, iterations] = records["iteration_likelihood"][
            np.arange(len(records)), iterations
        ]
        for name in _SUMMED:
            np.add.at(kept[name], places, records[name])
        self._note_last(places, records, sources)
        for index, data in enumerate(series):
            self._series[int(places[index])][int(iterations[index])] = _channels(records["series_bytes"][index], data)
        np.add.at(self._n_in, places, 1)
        return self._take_whole(np.unique(places))

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Let go of what has come in of simulations, if anything has."""
        self._let_go([row for row in rows.tolist() if row in self._places])

    def _places_of(self, records: NDArray[np.void]) -> NDArray[np.int64]:
        rows: list[int] = records["row"].tolist()
        new = {row: index for index, row in enumerate(rows) if row not in self._places}
        if new:
            self._begin(new, records)
        return np.array([self._places[row] for row in rows], np.int64)

    def _begin(self, new: dict[int, int], records: NDArray[np.void]) -> None:
        """Make room for simulations, by their rows, and note what all of their iterations have in common."""
        kept = self._room_for(len(new), records)
        places = [self._free.pop() for _ in new]
        self._places.update(zip(new, places, strict=True))
        kept[places] = records[list(new.values())]
        kept["iteration"][places] = WHOLE
        for name in _SUMMED:
            kept[name][places] = 0
        kept["finished_at"][places] = -np.inf
        self._n_in[places] = 0
        if kept["series_bytes"].shape[1]:
            self._series.update((place, [[] for _ in range(self._n_iterations)]) for place in places)

    def _room_for(self, n: int, records: NDArray[np.void]) -> NDArray[np.void]:
        kept = np.empty(0, records.dtype) if self._records is None else self._records
        if n > len(self._free):
            room = max(2 * len(kept), len(kept) + n, _ROOM)
            self._free = [*range(room - 1, len(kept) - 1, -1), *self._free]
            grown = np.zeros(room, records.dtype)
            grown[: len(kept)] = kept
            kept = grown
            self._sources, self._n_in = np.resize(self._sources, room), np.resize(self._n_in, room)
        self._records = kept
        return kept

    def _note_last(self, places: NDArray[np.int64], records: NDArray[np.void], sources: NDArray[np.int64]) -> None:
        """Note of which iteration is known that it finished last."""
        kept: Any = self._records
        order = np.argsort(records["finished_at"], kind="stable")
        later = order[records["finished_at"][order] > kept["finished_at"][places[order]]]
        for name in ("finished_at", "slot"):
            kept[name][places[later]] = records[name][later]  # of several for one place, the last stays
        self._sources[places[later]] = sources[later]

    def _take_whole(self, places: NDArray[np.int64]) -> tuple[NDArray[np.void], NDArray[np.int64], list[bytes]]:
        kept: Any = self._records
        places = places[self._n_in[places] == self._n_iterations]
        whole, sources = kept[places], self._sources[places]
        series: list[bytes] = []
        for index, place in enumerate(places.tolist() if self._series else ()):
            channels = [join_iterations(same) for same in zip(*self._series[place], strict=True)]
            whole["series_bytes"][index] = [len(data) for data in channels]
            series.append(b"".join(channels))
        seal(whole, series)
        self._let_go(whole["row"].tolist())
        return whole, sources, series

    def _let_go(self, rows: list[int]) -> None:
        for row in rows:
            place = self._places.pop(row)
            self._series.pop(place, None)
            self._free.append(place)


def seal(records: NDArray[np.void], series: Sequence[bytes]) -> None:
    """Fill the fields of whole simulations' records that follow from all of their iterations.

    Parameters
    ----------
    records : ndarray of `records.record_dtype`, shape (n,)
        Their parameters and likelihoods of iterations are set.
    series : sequence of bytes, length n or 0
        Their compressed channels.
    """
    records["likelihood"] = [collapse(values) for values in records["iteration_likelihood"].tolist()]
    sums, data = Checksums(records.dtype), memoryview(records.tobytes())
    found = [sums.of(data, index, series[index : index + 1]) for index in range(len(records))]
    records["checksum"] = np.array(found, np.uint32).view(np.int32)


def _channels(sizes: NDArray[np.int64], data: memoryview) -> list[memoryview]:
    """The channels of an iteration, apart and of their own: the message that they came in is let go."""
    ends = np.cumsum(sizes).tolist()
    own = memoryview(bytes(data))
    return [own[end - size : end] for end, size in zip(ends, sizes.tolist(), strict=True)]
