"""Iterations that ran apart, joined: what one slot makes of the whole simulation, bit for bit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from helpers import Slot, few_parameters, make_plan
from numpy.typing import NDArray

from mosaic_mpi.joins import Join
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.units import Units

TIMES_AND_PLACES = ("elapsed_s", "finished_at", "slot")


def unpacked(plan: SlotPlan, payload: bytes) -> tuple[NDArray[np.void], bytes]:
    size = plan.record_dtype.itemsize
    return np.frombuffer(payload[:size], plan.record_dtype)[0], payload[size:]


def without_times(record: NDArray[np.void]) -> bytes:
    copy = record.copy()
    for name in TIMES_AND_PLACES:
        copy[name] = 0
    return copy.tobytes()


class Split:
    """A simulation run whole in slot 0, and in iterations, each in a slot of its own."""

    def __init__(self, folder: Path, n_iterations: int, save: tuple[str, ...], row: int = 3) -> None:
        plan = self.plan = make_plan(folder, 5, n_iterations, save, config=few_parameters()).slot_plan()
        units = Units(n_iterations)
        self.whole = unpacked(plan, Slot(plan).run(int(units.whole(np.array([row]))[0])))
        self.parts = [
            unpacked(plan, Slot(plan, slot).run(unit)) for slot, unit in enumerate(units.parts(row), start=1)
        ]

    def joined(self, order: tuple[int, ...]) -> tuple[NDArray[np.void], bytes]:
        join = Join(len(self.parts))
        for index in order:
            assert not join.is_whole
            record, series = self.parts[index]
            assert join.lacks(index + 1)
            join.add(record, memoryview(series))
            assert not join.lacks(index + 1)
        assert join.is_whole
        records, series = join.joined()
        assert records.shape == (1,)
        return records[0], series


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


def test_of_two_answers_the_first_counts(tmp_path: Path) -> None:
    split = Split(tmp_path, 2, ("fake",))
    join = Join(2)
    join.add(split.parts[0][0], memoryview(split.parts[0][1]))
    wrong = split.parts[0][0].copy()
    wrong["iteration_likelihood"] = 7.0
    join.add(wrong, memoryview(b"something else"))
    join.add(split.parts[1][0], memoryview(split.parts[1][1]))
    records, series = join.joined()
    assert without_times(records[0]) == without_times(split.whole[0])
    assert series == split.whole[1]


def test_it_does_not_hold_on_to_the_message_that_brought_it(tmp_path: Path) -> None:
    split = Split(tmp_path, 2, ("fake",))
    join = Join(2)
    for record, series in split.parts:
        message = bytearray(record.tobytes() + series)
        view = memoryview(message)
        join.add(np.frombuffer(view, split.plan.record_dtype, 1)[0], view[split.plan.record_dtype.itemsize :])
        view = memoryview(b"")
        message[:] = b"\xee" * len(message)  # fit for the next message
    records, series = join.joined()
    assert without_times(records[0]) == without_times(split.whole[0])
    assert series == split.whole[1]


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
