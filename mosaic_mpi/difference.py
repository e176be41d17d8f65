"""How far apart two sets of numbers are, and where they are farthest: arrays in, largest differences out.

NaN equals NaN, and zero equals negative zero. Knows no file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Where = Mapping[str, int | str]
"""What a number belongs to: sim_id, iteration, location, day, parameter … as far as it has them."""


@dataclass(frozen=True)
class Largest:
    """The largest difference by one measure.

    Parameters
    ----------
    value : float or int
        Infinite where only one of the two is NaN, or infinite.
    first, second : float
        The two numbers.
    where : mapping
        Where they stand.
    """

    value: float
    first: float
    second: float
    where: Where


class Tally:
    """What was compared of one quantity so far.

    Parameters
    ----------
    name : str
        The quantity.

    Attributes
    ----------
    n_compared, n_differing : int
        Numbers.
    absolute, relative, ulps : Largest or None
        The largest difference as it is, as a share of the larger of both, and in units in the last place (of the
        dtype they are stored in; for whole numbers the difference itself). None: no difference.
    scaled : Largest or None
        As `relative`, numbers below 1 counting as 1.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_compared = self.n_differing = 0
        self.absolute: Largest | None = None
        self.relative: Largest | None = None
        self.ulps: Largest | None = None
        self.scaled: Largest | None = None

    def same(self, n: int) -> None:
        """Count numbers that are known to be equal."""
        self.n_compared += n

    def add(self, first: NDArray[Any], second: NDArray[Any], where: Callable[[tuple[int, ...]], Where]) -> None:
        """Compare arrays of one shape.

        Parameters
        ----------
        first, second : ndarray of numbers
            Of the same shape.
        where : callable
            Says what an index belongs to.
        """
        self.n_compared += first.size
        differing = np.argwhere(~_equal(first, second))
        if not len(differing):
            return
        self.n_differing += len(differing)
        places = tuple(differing.T)
        a, b = first[places], second[places]
        absolute = _absolute(a, b)
        measures = {
            "absolute": absolute,
            "relative": _relative(a, b, absolute),
            "ulps": _ulps(a, b),
            "scaled": _relative(a, b, absolute, at_least=1.0),
        }
        for measure, values in measures.items():
            index = int(np.argmax(values))
            best: Largest | None = getattr(self, measure)
            if best is None or values[index] > best.value:
                place = tuple(map(int, differing[index]))
                found = Largest(_plain(values[index]), _plain(a[index]), _plain(b[index]), where(place))
                setattr(self, measure, found)


def _plain(number: Any) -> Any:
    return number.item() if isinstance(number, np.generic) else number


def _equal(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = first == second
    if first.dtype.kind == second.dtype.kind == "f":
        same |= np.isnan(first) & np.isnan(second)
    return same


def _absolute(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):
        found: NDArray[np.float64] = np.abs(a.astype(np.float64) - b.astype(np.float64))
    found[np.isnan(found)] = np.inf
    return found


def _relative(
    a: NDArray[Any], b: NDArray[Any], absolute: NDArray[np.float64], at_least: float = 0.0
) -> NDArray[np.float64]:
    larger = np.fmax(np.fmax(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64))), at_least)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = absolute / larger
    found[np.isinf(absolute)] = np.inf
    return found


def _ulps(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    if a.dtype.kind != "f" or a.dtype != b.dtype:
        if a.dtype.kind == b.dtype.kind != "f":
            return _absolute(a, b)
        a, b = a.astype(np.float64), b.astype(np.float64)
    first, second = _ordered(a), _ordered(b)
    unsigned = np.dtype(f"u{first.dtype.itemsize}")
    distance: NDArray[Any] = np.where(
        first > second, first.view(unsigned) - second.view(unsigned), second.view(unsigned) - first.view(unsigned)
    )
    if not (missing := np.isnan(a) | np.isnan(b)).any():
        return distance
    return np.where(missing, math.inf, distance.astype(np.float64))


def _ordered(values: NDArray[Any]) -> NDArray[Any]:
    """Floating-point numbers as integers in the same order, neighbours one apart."""
    kind = np.dtype(f"i{values.dtype.itemsize}")
    bits = np.ascontiguousarray(values).view(kind)
    found: NDArray[Any] = np.where(bits < 0, np.iinfo(kind).min - bits, bits)
    return found
