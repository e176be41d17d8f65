"""What ranks have brought: taken in together, iterations joined to simulations, and each simulation stored once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.messages import Results
from mosaic_mpi.progress import Progress
from mosaic_mpi.ranks import Ranks
from mosaic_mpi.store import Store
from mosaic_mpi.tail import Tail
from mosaic_mpi.units import WHOLE
from mosaic_mpi.workqueue import WorkQueue

_Arrived = tuple[int, int, memoryview]
"""Of results: their rank, how many, records and series."""


class Arrivals:
    """Results on their way from messages to the store.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the records.
    store : Store
        Gets each simulation once.
    queue : WorkQueue
        State of every simulation.
    tail : Tail
        Knows who is at which iterations.
    ranks : Ranks
        Where results come from.
    progress : Progress
        Told of simulations that are completed.

    Attributes
    ----------
    n_bytes : int
        Size of what is to be taken in.
    mean_s : float or None
        Mean duration of a simulation lately, seconds; None before the first.
    """

    def __init__(
        self, dtype: np.dtype[Any], store: Store, queue: WorkQueue, tail: Tail, ranks: Ranks, progress: Progress
    ) -> None:
        self._dtype, self._store, self._queue, self._tail = dtype, store, queue, tail
        self._ranks, self._progress = ranks, progress
        self._arrived: list[_Arrived] = []
        self.n_bytes = 0
        self.mean_s: float | None = None

    def add(self, source: int, message: Results) -> None:
        """Keep results of a rank until they are taken in."""
        self._arrived.append((source, message.n_records, memoryview(message.payload)))
        self.n_bytes += len(message.payload)

    def take_in(self, now: float) -> set[int]:
        """Take in the results of all messages together, which costs little more than one alone.

        Returns
        -------
        set of int
            Ranks that they are from.
        """
        arrived, self._arrived, self.n_bytes = self._arrived, [], 0
        givers = {source for source, _, _ in arrived}
        if arrived:
            records, sources = self._records_of(arrived)
            self._tail.learn(sources, records, now)
            series = [payload[n * self._dtype.itemsize :] for _, n, payload in arrived]
            if records["iteration"].any():
                records, sources, series = self._joined(records, sources, series)
            if len(records):
                self._keep(records, sources, series)
        return givers

    def _records_of(self, arrived: list[_Arrived]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """The records of messages, and which rank each is from."""
        size = self._dtype.itemsize
        records = np.frombuffer(b"".join([payload[: n * size] for _, n, payload in arrived]), self._dtype)
        return records, np.repeat([source for source, _, _ in arrived], [n for _, n, _ in arrived])

    def _joined(
        self, records: NDArray[np.void], sources: NDArray[np.int64], series: list[memoryview]
    ) -> tuple[NDArray[np.void], NDArray[np.int64], list[memoryview]]:
        """Replace iterations by the simulations that they complete."""
        is_part = records["iteration"] != WHOLE
        apart = _apart(records["series_bytes"], series)
        joined, places, channels = self._tail.take_parts(sources[is_part], records[is_part], _chosen(apart, is_part))
        whole = records[~is_part]
        return (
            np.frombuffer(whole.tobytes() + joined.tobytes(), self._dtype),
            np.concatenate([sources[~is_part], places]),
            [*_chosen(apart, ~is_part), *(memoryview(data) for data in channels)],
        )

    def _keep(self, records: NDArray[np.void], sources: NDArray[np.int64], series: list[memoryview]) -> None:
        """Hand simulations that are not known yet to the store."""
        self._tail.settle(sources, records["row"])
        wanted, attempts = self._queue.complete(np.ascontiguousarray(records["row"]))
        if not records["series_bytes"].size:
            series = []
        if not wanted.all():  # of a rank that others have overtaken; the same numbers are stored already
            series = _chosen(_apart(records["series_bytes"], series), wanted)
            records, sources = records[wanted], sources[wanted]
        if not len(records):
            return
        self._store.add(records, series, sources, self._ranks.host_rows[sources], attempts)
        mean_s = float(records["elapsed_s"].mean())
        self.mean_s = mean_s if self.mean_s is None else 0.8 * self.mean_s + 0.2 * mean_s
        self._progress.results(records["likelihood"], int(records["n_stock"].sum()))


def _apart(series_bytes: NDArray[np.int64], series: list[memoryview]) -> list[memoryview]:
    """The series of each result, which lie one after the other in several pieces; none without channels."""
    if not series_bytes.size:
        return []
    whole = memoryview(b"".join(series))
    ends = np.cumsum(series_bytes.sum(axis=1)).tolist()
    return [whole[first:last] for first, last in zip([0, *ends], ends, strict=False)]


def _chosen(series: list[memoryview], wanted: NDArray[np.bool_]) -> list[memoryview]:
    return [data for data, keep in zip(series, wanted.tolist(), strict=True) if keep] if series else []
