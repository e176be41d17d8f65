"""What played slots answer, known in advance: so that a results file can be compared with what was sent."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.joins import seal
from mosaic_mpi.records import compress, compress_iteration

N_RECORDS, N_SERIES = 1021, 8
_COUNTED = {1: 0.36, 3: 0.38, 40: 0.5}
"""Share of days with cases, by the number of countries: so dense that they compress as the engine's do."""


class PlayedResults:
    """Records and series; row k of a plan has those numbered ``k % N_RECORDS``.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the plan's records.
    n_countries, n_days : int
        Shape of the channel, if there is one.
    """

    def __init__(self, dtype: np.dtype[np.void], n_countries: int, n_days: int) -> None:
        self._shape = (n_countries, n_days)
        self._has_series = dtype["series_bytes"].shape[0] > 0
        self.n_iterations = dtype["iteration_likelihood"].shape[0]
        generator = np.random.default_rng(2)
        self.records = np.zeros(N_RECORDS, dtype)
        self.records["parameters"] = generator.random(self.records["parameters"].shape)
        self.records["iteration_likelihood"] = -generator.random(self.records["iteration_likelihood"].shape)
        channels = [self.series(number) for number in range(N_RECORDS)]
        self.records["series_bytes"] = [[len(data) for data in each] for each in channels]
        seal(self.records, [b"".join(each) for each in channels])

    def series(self, number: int) -> list[bytes]:
        """Compressed channels of a record."""
        return [self._whole[number % N_SERIES]] if self._has_series else []

    def part(self, number: int, iteration: int) -> bytes:
        """Compressed channels of one iteration, counted from 1."""
        return self._parts[number % N_SERIES][iteration - 1] if self._has_series else b""

    @cached_property
    def _numbers(self) -> list[list[NDArray[np.int32]]]:
        generator = np.random.default_rng(3)
        return [[self._iteration(generator) for _ in range(self.n_iterations)] for _ in range(N_SERIES)]

    def _iteration(self, generator: np.random.Generator) -> NDArray[np.int32]:
        counted = generator.random(self._shape) < _COUNTED[self._shape[0]]
        return np.where(counted, generator.poisson(4, self._shape), 0).astype(np.int32)

    @cached_property
    def _whole(self) -> list[bytes]:
        return [compress(iterations) for iterations in self._numbers]

    @cached_property
    def _parts(self) -> list[list[bytes]]:
        return [[compress_iteration(iteration) for iteration in iterations] for iterations in self._numbers]
