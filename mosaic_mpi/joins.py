"""Simulations whose iterations ran in several slots, put together again into what one slot would have sent.

Owns the iterations that have come in. What is joined differs in times and places at most: likelihoods, parameters,
the bytes of series and the checksum are the same. Knows no MPI and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.likelihood import collapse
from mosaic_mpi.records import checksum, join_iterations


def seal(record: NDArray[np.void], series: Sequence[bytes]) -> None:
    """Fill the fields of a whole simulation's record that follow from all of its iterations.

    Parameters
    ----------
    record : ndarray of `records.record_dtype`, shape ()
        Its parameters and likelihoods of iterations are set.
    series : sequence of bytes
        Its compressed channels.
    """
    record["likelihood"] = collapse(record["iteration_likelihood"].tolist())
    record["series_bytes"] = [len(data) for data in series]
    record["checksum"] = checksum(record, b"".join(series))


class Join:
    """The iterations of one simulation that have come in.

    Parameters
    ----------
    n_iterations : int
        How many there must be.
    """

    def __init__(self, n_iterations: int) -> None:
        self._records: list[Any] = [None] * n_iterations
        self._series: list[bytes] = [b""] * n_iterations

    def lacks(self, iteration: int) -> bool:
        """Whether an iteration, by its number from 1, has not come in yet."""
        return self._records[iteration - 1] is None

    @property
    def is_whole(self) -> bool:
        """Whether all have."""
        return all(record is not None for record in self._records)

    def add(self, record: Any, series: memoryview) -> None:
        """Take an iteration's record and compressed channels; of a second answer, nothing."""
        index = int(record["iteration"]) - 1
        if self._records[index] is None:
            self._records[index] = record.copy()  # of its own: the message that it came in is let go
            self._series[index] = bytes(series)

    def joined(self) -> tuple[NDArray[np.void], bytes]:
        """Return the record of the whole simulation, shape (1,), and its channels.

        Its place is that of the iteration that finished last, its time is that of all of its slots together.
        """
        parts = np.array(self._records)
        whole = parts[[int(parts["finished_at"].argmax())]]
        whole["iteration"] = 0
        whole["elapsed_s"] = parts["elapsed_s"].sum()
        whole["n_stock"] = parts["n_stock"].sum()
        whole["iteration_likelihood"] = parts["iteration_likelihood"].diagonal()
        series = [join_iterations(same) for same in zip(*map(_channels, parts, self._series), strict=True)]
        seal(whole[0:1].reshape(()), series)
        return whole, b"".join(series)


def _channels(record: Any, series: bytes) -> list[memoryview]:
    ends = np.cumsum(record["series_bytes"])
    view = memoryview(series)
    return [view[end - size : end] for end, size in zip(ends, record["series_bytes"], strict=True)]
