"""Results of a slot that wait to be sent together: the records of finished units, and their series.

Owns the bytes of one message of results. A record is written where it will be sent from, column by column: an object
a simulation would cost more than a simulation that takes no time. Knows no pipe and no engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.likelihood import collapse
from mosaic_mpi.records import Checksums
from mosaic_mpi.units import WHOLE

_MAX_BYTES = 1 << 16
"""Less than a pipe holds, so that a slot need not wait until its rank has read them."""


class Outcome(NamedTuple):
    """What came out of a unit.

    Parameters
    ----------
    row : int
        Of the simulation in the plan.
    iteration : int
        From 1, or `units.WHOLE`.
    parameters : ndarray of float64, shape (n_parameters,)
        As stored.
    likelihoods : list of float, length n_iterations
        Of iterations; NaN where it was not run.
    series : sequence of bytes
        Compressed channels, in the plan's order.
    elapsed_s : float
        Seconds of the slot.
    n_stock : int
        Iterations that the engine's own loop ran.
    """

    row: int
    iteration: int
    parameters: NDArray[np.float64]
    likelihoods: list[float]
    series: Sequence[bytes]
    elapsed_s: float
    n_stock: int


class Parcel:
    """Records and series, in the order in which they were added.

    Parameters
    ----------
    dtype : numpy.dtype
        See `records.record_dtype`.
    slot : int
        Index of the slot in its rank, noted in each record.

    Attributes
    ----------
    n_records : int
        How many there are.
    seconds : float
        That they took together.
    """

    def __init__(self, dtype: np.dtype[np.void], slot: int) -> None:
        self._capacity = max(_MAX_BYTES // dtype.itemsize, 1)
        self._records = np.zeros(self._capacity, dtype)
        self._records["slot"] = slot
        self._bytes = memoryview(self._records.view(np.uint8).data)
        self._columns: list[NDArray[Any]] = [
            self._records[name] for name in ("row", "iteration", "elapsed_s", "finished_at", "likelihood", "n_stock")
        ]
        self._parameters, self._likelihoods = self._records["parameters"], self._records["iteration_likelihood"]
        self._checksums, self._series_bytes = self._records["checksum"].view(np.uint32), self._records["series_bytes"]
        self._size, self._has_series = dtype.itemsize, bool(self._series_bytes.shape[1])
        self._sums = Checksums(dtype)
        self._series: list[bytes] = []
        self._n_series_bytes = 0
        self.n_records, self.seconds = 0, 0.0

    @property
    def is_full(self) -> bool:
        """Whether it should be sent before anything is added."""
        return self.n_records == self._capacity or self._n_series_bytes >= _MAX_BYTES

    def add(self, outcome: Outcome) -> None:
        """Write a record, to be called while it is not full."""
        index = self.n_records
        whole = outcome.iteration == WHOLE
        row, iteration, elapsed_s, finished_at, likelihood, n_stock = self._columns
        row[index], iteration[index], elapsed_s[index] = outcome.row, outcome.iteration, outcome.elapsed_s
        finished_at[index], n_stock[index] = time.time(), outcome.n_stock
        likelihood[index] = collapse(outcome.likelihoods) if whole else 0.0
        self._likelihoods[index] = outcome.likelihoods
        self._parameters[index] = outcome.parameters
        self._checksums[index] = self._sums.of(self._bytes, index, outcome.series) if whole else 0
        if self._has_series:
            sizes = [len(data) for data in outcome.series]
            self._series_bytes[index] = sizes
            self._series += outcome.series
            self._n_series_bytes += sum(sizes)
        self.n_records, self.seconds = index + 1, self.seconds + outcome.elapsed_s

    def payload(self) -> bytes:
        """Return the bytes of all records, then of all series."""
        return b"".join((self._bytes[: self.n_records * self._size], *self._series))

    def clear(self) -> None:
        """Begin anew."""
        self._series, self._n_series_bytes, self.n_records, self.seconds = [], 0, 0, 0.0
