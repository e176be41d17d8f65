"""R's random generators, bit for bit.

Owns the stream that ``set.seed(seed)`` starts in R with its default kinds (Mersenne-Twister, Inversion,
Rejection; R 3.6 and later) and the variates MOSAIC takes from it. The algorithms are in ``rvariates``. Knows
nothing of priors or of cholera.

References
----------
.. [MT98] Matsumoto and Nishimura (1998), Mersenne Twister, ACM TOMACS 8(1), 3-30.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.mosaic.rvariates import (
    Unit,
    beta,
    standard_exponential,
    standard_gamma,
    standard_normal,
    standard_normal_between,
)

__all__ = ["LARGEST_SEED", "RRandom"]

LARGEST_SEED = 2**31 - 1
_STATE_WORDS = 624
_TO_UNIT = 2.3283064365386963e-10  # 2^-32, so that the largest output stays below 1
_LARGE_POOL = 10_000_000  # above it R draws again for a number it already has
_SMALLEST_UNIFORM = 0.5 * 2.328306437080797e-10  # what R puts in place of 0


def _seed_recurrence(steps: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Factors and offsets of ``x -> 69069 x + 1`` (mod 2^32) applied 1, 2, ... ``steps`` times."""
    factor, offset = 1, 0
    factors, offsets = [], []
    for _ in range(steps):
        factor, offset = factor * 69069 % 2**32, (offset * 69069 + 1) % 2**32
        factors.append(factor)
        offsets.append(offset)
    return np.array(factors, dtype=np.uint32), np.array(offsets, dtype=np.uint32)


# R discards 50 values and then the first of 625, in whose place it keeps the position in the state.
_SEED_FACTORS, _SEED_OFFSETS = (words[51:] for words in _seed_recurrence(51 + _STATE_WORDS))


class RRandom:
    """The stream of ``set.seed(seed)`` and R's variates on it.

    Each call takes one variate and advances the stream exactly as R's function of the same purpose does with
    ``n = 1``. Parameters of distributions are not checked: an invalid one may never return. Not safe for use
    from several threads at once.

    Parameters
    ----------
    seed : int
        As in ``set.seed``; from -2147483647 to 2147483647.

    Raises
    ------
    ValueError
        If the seed is outside R's integer range.
    """

    def __init__(self, seed: int) -> None:
        self._twister = np.random.MT19937(0)
        self._unit: Unit
        self.set_seed(seed)

    def set_seed(self, seed: int) -> None:
        """Start the stream again, as ``set.seed(seed)`` does."""
        if not -LARGEST_SEED <= seed <= LARGEST_SEED:
            raise ValueError(f"seed: found {seed}, expected from -{LARGEST_SEED} to {LARGEST_SEED}")
        self._set_state(_SEED_FACTORS * np.uint32(seed & 0xFFFFFFFF) + _SEED_OFFSETS, _STATE_WORDS)

    def _set_state(self, key: NDArray[np.uint32], position: int) -> None:
        self._twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
        self._unit = chain.from_iterable(self._blocks()).__next__

    def _blocks(self) -> Iterator[list[float]]:
        while True:
            block = self._twister.random_raw(_STATE_WORDS) * _TO_UNIT
            yield np.maximum(block, _SMALLEST_UNIFORM).tolist()

    def uniform(self, minimum: float = 0.0, maximum: float = 1.0) -> float:
        """Uniform variate strictly between the bounds; equal bounds are returned without a draw."""
        if minimum == maximum:
            return minimum
        return minimum + (maximum - minimum) * self._unit()

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> float:
        """Normal variate by inversion of two uniforms; ``sd = 0`` gives the mean without a draw."""
        if sd == 0.0:
            return mean
        return mean + sd * standard_normal(self._unit)

    def lognormal(self, meanlog: float = 0.0, sdlog: float = 1.0) -> float:
        """Exponential of a normal variate; infinite where that overflows."""
        try:
            return math.exp(self.normal(meanlog, sdlog))
        except OverflowError:
            return math.inf

    def exponential(self, rate: float = 1.0) -> float:
        """Exponential variate with mean ``1 / rate``."""
        return 1.0 / rate * standard_exponential(self._unit)

    def gamma(self, shape: float, rate: float = 1.0) -> float:
        """Gamma variate with mean ``shape / rate``."""
        return standard_gamma(self._unit, shape, 1.0 / rate)

    def beta(self, shape1: float, shape2: float) -> float:
        """Beta variate with mean ``shape1 / (shape1 + shape2)``."""
        return beta(self._unit, shape1, shape2)

    def truncated_normal(self, mean: float, sd: float, lower: float, upper: float) -> float:
        """Normal variate between two bounds, as of R's package truncnorm.

        Parameters
        ----------
        mean, sd : float
            Of the normal distribution before truncation; ``sd > 0``.
        lower, upper : float
            Bounds, ``lower < upper``; either may be infinite.
        """
        a, b = (lower - mean) / sd, (upper - mean) / sd
        return mean + sd * standard_normal_between(self._unit, a, b)

    def gompertz(self, b: float, eta: float) -> float:
        """Gompertz variate ``log(1 - log(1 - u) / eta) / b``, by inversion of one uniform ``u``."""
        return 1.0 / b * math.log1p(-math.log1p(-self._unit()) / eta)

    def sample(self, n: int, size: int = 1, replace: bool = False) -> list[int]:
        """Random choice of ``size`` numbers from 1 to ``n``, R's ``sample.int`` with kind Rejection.

        Raises
        ------
        ValueError
            If more than ``n`` numbers are asked for without replacement.
        """
        if replace:
            return [self._index(n) + 1 for _ in range(size)]
        if size > n:
            raise ValueError(f"size: found {size}, expected at most n = {n} without replacement")
        if n > _LARGE_POOL and size <= n / 2:
            return self._distinct(n, size)
        pool, chosen = list(range(1, n + 1)), []
        for left in range(n, n - size, -1):
            j = self._index(left)
            chosen.append(pool[j])
            pool[j] = pool[left - 1]
        return chosen

    def _distinct(self, n: int, size: int) -> list[int]:
        chosen: dict[int, None] = {}
        while len(chosen) < size:
            chosen[self._index(n) + 1] = None
        return list(chosen)

    def _index(self, n: int) -> int:
        bits = (n - 1).bit_length()
        while (value := self._bits(bits)) >= n:
            pass
        return value

    def _bits(self, bits: int) -> int:
        value = 0
        for _ in range(0, bits + 1, 16):
            value = 65536 * value + int(self._unit() * 65536)
        return value & ((1 << bits) - 1)
