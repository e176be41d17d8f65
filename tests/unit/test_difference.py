"""Differences between numbers: how large, by three measures, and where."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mosaic_mpi.difference import Tally, Where


def where(place: tuple[int, ...]) -> Where:
    return {"row": place[0], "column": place[1] if len(place) > 1 else 0}


def tally_of(first: object, second: object, dtype: str = "<f8") -> Tally:
    tally = Tally("x")
    tally.add(np.array(first, dtype), np.array(second, dtype), where)
    return tally


def test_equal_numbers_differ_by_nothing() -> None:
    values = [1.0, -0.0, math.nan, math.inf, -math.inf]
    tally = tally_of(values, [1.0, 0.0, math.nan, math.inf, -math.inf])
    assert (tally.n_compared, tally.n_differing, tally.absolute, tally.relative, tally.ulps) == (
        5,
        0,
        None,
        None,
        None,
    )


def test_each_measure_finds_its_own_largest() -> None:
    tiny = 1e-300
    tally = tally_of([[1.0, 1000.0], [tiny, 3.0]], [[1.0, 1001.0], [2 * tiny, 3.0]])
    assert (tally.n_compared, tally.n_differing) == (4, 2)
    assert tally.absolute is not None
    assert (tally.absolute.value, tally.absolute.where) == (1.0, {"row": 0, "column": 1})
    assert (tally.absolute.first, tally.absolute.second) == (1000.0, 1001.0)
    assert tally.relative is not None
    assert (tally.relative.value, tally.relative.where) == (0.5, {"row": 1, "column": 0})
    assert tally.ulps is not None
    assert (tally.ulps.value, tally.ulps.where) == (2**52, {"row": 1, "column": 0})
    assert tally.scaled is not None
    assert tally.scaled.value == pytest.approx(1 / 1001)


@pytest.mark.parametrize(
    ("first", "second", "dtype", "ulps"),
    [
        (1.0, math.nextafter(1.0, 2.0), "<f8", 1),
        (5e-324, -5e-324, "<f8", 2),
        (-1.0, math.nextafter(-1.0, -2.0), "<f8", 1),
        (1.0, 1.0 + 2**-23, "<f4", 1),
        (7, 12, "<i4", 5),
        (-1.7e308, 1.7e308, "<f8", 2 * int(np.float64(1.7e308).view(np.int64))),
    ],
)
def test_units_in_the_last_place(first: float, second: float, dtype: str, ulps: int) -> None:
    for pair in ((first, second), (second, first)):
        tally = tally_of([pair[0]], [pair[1]], dtype)
        assert tally.ulps is not None
        assert tally.ulps.value == ulps


@pytest.mark.parametrize("other", [1.0, math.inf, -math.inf])
def test_a_number_against_none_is_as_far_as_can_be(other: float) -> None:
    tally = tally_of([math.nan, 2.0], [other, 2.5])
    assert tally.n_differing == 2
    for largest in (tally.absolute, tally.relative, tally.ulps, tally.scaled):
        assert largest is not None
        assert largest.value == math.inf
        assert largest.where["row"] == 0


def test_the_largest_of_all_blocks_is_kept() -> None:
    tally = Tally("x")
    for block, step in enumerate((1.0, 3.0, 2.0)):
        tally.add(np.zeros(4), np.full(4, step), lambda place, block=block: {"block": block})  # type: ignore[misc]
    assert tally.absolute is not None
    assert (tally.n_compared, tally.n_differing, tally.absolute.value) == (12, 12, 3.0)
    assert tally.absolute.where == {"block": 1}


def test_arrays_of_two_kinds_are_compared_as_numbers() -> None:
    tally = Tally("x")
    tally.add(np.array([1, 2], "<i4"), np.array([1.0, 2.5], "<f8"), where)
    assert tally.absolute is not None
    assert (tally.n_differing, tally.absolute.value) == (1, 0.5)
