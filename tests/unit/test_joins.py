"""Iterations that ran apart, joined: what one slot makes of the whole simulation, bit for bit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from helpers import Slot, few_parameters, make_plan
from numpy.typing import NDArray

from mosaic_mpi.joins import Joins
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.units import Units

TIMES_AND_PLACES = ("elapsed_s", "finished_at", "slot", "n_stock")


def unpacked(plan: SlotPlan, payload: bytes) -> tuple[NDArray[np.void], bytes]:
    size = plan.record_dtype.itemsize
    return np.frombuffer(payload[:size], plan.record_dtype)[0], payload[size:]


def without_times(record: NDArray[np.void]) -> bytes:
    copy = record.copy()
    for name in TIMES_AND_PLACES:
        copy[name] = 0
    return copy.tobytes()


Joined = tuple[NDArray[np.void], NDArray[np.int64], list[bytes]]


class Split:
    """A simulation run whole in slot 0, and in iterations, each in a slot of its own."""

    def __init__(self, folder: Path, n_iterations: int, save: tuple[str, ...], row: int = 3) -> None:
        plan = self.plan = make_plan(folder, 5, n_iterations, save, config=few_parameters()).slot_plan()
        units = Units(n_iterations)
        self.whole = unpacked(plan, Slot(plan).run(int(units.whole(np.array([row]))[0])))
        self.parts = [
            unpacked(plan, Slot(plan, slot).run(unit)) for slot, unit in enumerate(units.parts(row), start=1)
        ]

    def added(self, joins: Joins, index: int) -> Joined:
        """What comes of it when an iteration comes in by itself, from a rank with its number."""
        record, series = self.parts[index]
        return joins.add(record.reshape(1), np.array([index]), [memoryview(series)] if series else [])

    def joined(self, order: tuple[int, ...]) -> tuple[NDArray[np.void], bytes]:
        joins = Joins(len(self.parts))
        for index in order[:-1]:
            records, ranks, series = self.added(joins, index)
            assert len(records) == len(ranks) == len(series) == 0
        return only(self.added(joins, order[-1]))


def only(joined: Joined) -> tuple[NDArray[np.void], bytes]:
    records, ranks, series = joined
    assert records.shape == ranks.shape == (1,)
    return records[0], series[0] if series else b""


@pytest.mark.parametrize("save", [(), ("fake",)], ids=["scalars", "series"])
@pytest.mark.parametrize("n_iterations", [1, 2, 3])
def test_the_joined_record_is_the_whole_one_in_any_order(
    tmp_path: Path, n_iterations: int, save: tuple[str, ...]
) -> None:
    split = Split(tmp_path, n_iterations, save)
    for order in itertools.permutations(range(n_iterations)):
        record, series = split.joined(order)
        assert without_times(record) == without_times(split.whole[0])
        assert series == split.whole[1]
        assert record["checksum"] == split.whole[0]["checksum"] != 0


def test_its_time_is_that_of_all_slots_and_its_place_that_of_the_last(tmp_path: Path) -> None:
    split = Split(tmp_path, 3, ())
    for index, (seconds, finished_at) in enumerate([(1.0, 50.0), (2.5, 70.0), (4.0, 60.0)]):
        record = split.parts[index][0].copy()
        record["elapsed_s"], record["finished_at"] = seconds, finished_at
        split.parts[index] = record, split.parts[index][1]
    record, _ = split.joined((1, 2, 0))
    assert (record["elapsed_s"], record["finished_at"], record["slot"]) == (7.5, 70.0, 2)


@pytest.mark.parametrize("save", [(), ("fake",)], ids=["scalars", "series"])
def test_many_at_once_are_what_each_is_by_itself(tmp_path: Path, save: tuple[str, ...]) -> None:
    """More than there is room for at first, in batches that end anywhere, some of them forgotten halfway."""
    n_iterations, n_rows = 3, 150
    split = Split(tmp_path, n_iterations, save)
    dice = np.random.default_rng(5)
    order = dice.permutation([(row, index) for row in range(n_rows) for index in range(n_iterations)])
    records = np.zeros(len(order), split.plan.record_dtype)
    series = []
    for place, (row, index) in enumerate(order):
        records[place], data = split.parts[index]
        records["row"][place], records["finished_at"][place], records["slot"][place] = row, place, place % 7
        records["elapsed_s"][place], records["n_stock"][place] = row, index != row % 3
        series.append(memoryview(data))
    forgotten = np.arange(0, n_rows, 10)
    joins, found = Joins(n_iterations), {}
    ends = np.sort(dice.choice(len(order), 9, replace=False)).tolist()
    for first, last in zip([0, *ends], [*ends, len(order)], strict=True):
        if first == ends[4]:
            forgotten = np.array([row for row in forgotten if row not in found])
            joins.forget(forgotten)
        wanted = first + np.flatnonzero(~np.isin(records["row"][first:last], forgotten if first >= ends[4] else []))
        whole, ranks, channels = joins.add(
            records[wanted], wanted % 11, [series[index] for index in wanted] if save else []
        )
        for index, record in enumerate(whole):
            found[int(record["row"])] = record, int(ranks[index]), channels[index] if save else b""
    assert len(forgotten) > 3
    assert sorted(found) == sorted(set(range(n_rows)) - set(forgotten.tolist()))
    assert len(joins) == 0
    for row, (record, rank, data) in found.items():
        last = int(np.flatnonzero(order[:, 0] == row).max())
        assert (record["finished_at"], record["slot"], rank) == (last, last % 7, last % 11)
        assert (record["elapsed_s"], record["n_stock"]) == (3 * row, 2)
        expected = split.whole[0].copy()
        expected["row"] = row
        assert without_times(record) == without_times(expected)
        assert data == split.whole[1]


def test_it_does_not_hold_on_to_the_message_that_brought_it(tmp_path: Path) -> None:
    split = Split(tmp_path, 2, ("fake",))
    joins = Joins(2)
    for index, (record, series) in enumerate(split.parts):
        message = bytearray(record.tobytes() + series)
        view = memoryview(message)
        size = split.plan.record_dtype.itemsize
        joined = joins.add(np.frombuffer(view, split.plan.record_dtype, 1), np.array([index]), [view[size:]])
        view = memoryview(b"")
        message[:] = b"\xee" * len(message)  # fit for the next message
    whole, data = only(joined)
    assert without_times(whole) == without_times(split.whole[0])
    assert data == split.whole[1]


def test_likelihoods_that_are_not_finite_keep_their_bits(tmp_path: Path) -> None:
    split = Split(tmp_path, 3, ())
    for index, value in enumerate((-np.inf, np.nan, -2.0)):
        record = split.parts[index][0].copy()
        record["iteration_likelihood"][index] = value
        split.parts[index] = record, b""
    record, _ = split.joined((0, 1, 2))
    assert record["iteration_likelihood"].tobytes() == np.array([-np.inf, np.nan, -2.0]).tobytes()
    assert record["likelihood"] == -2.0


def test_units_are_simulations_and_iterations_apart() -> None:
    units = Units(3)
    assert units.whole(np.array([0, 5, 2**40])).tolist() == [0, 20, 4 * 2**40]
    assert units.parts(5) == [21, 22, 23]
    assert [units.split(unit) for unit in (0, 20, 21, 23)] == [(0, 0), (5, 0), (5, 1), (5, 3)]
    assert units.rows(np.array([0, 20, 21, 23])).tolist() == [0, 5, 5, 5]
