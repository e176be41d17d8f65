"""Accounts of iterations that are handed out one by one: as a plain dictionary would keep them, for many at once."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from mosaic_mpi.parts import Parts
from mosaic_mpi.units import Units

N_ITERATIONS, N_RANKS, N_ROWS = 3, 4, 40
UNITS = Units(N_ITERATIONS)
NOBODY_HAS_ANY = np.full(N_ROWS, -1, np.int32)


def rows_of(*rows: int) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def some(*rows: int) -> Parts:
    parts = Parts(UNITS, N_RANKS, N_ROWS)
    parts.split(rows_of(*rows))
    return parts


def taken(parts: Parts, rank: int, n_units: int, now: float = 0.0) -> list[int]:
    return [int(unit) for unit in parts.take(rank, n_units, now, NOBODY_HAS_ANY.__getitem__)]


def test_nothing_is_known_before_the_first_is_split() -> None:
    parts = Parts(UNITS, N_RANKS, N_ROWS)
    units, ranks = np.array([0, 5, 159]), np.array([0, 1, 2])
    assert not parts
    assert not parts.release(ranks, units).any()
    assert not parts.accept(ranks, units).any()
    assert not parts.are_held(units).any()
    assert np.isinf(parts.since(ranks, units)).all()
    assert not len(parts.forget(rows_of(0, 39)))
    assert parts.put_back(1) == parts.n_to_do == parts.n_open == 0
    assert [len(column) for column in parts.held_once()] == [0, 0, 0]


def test_a_rank_gets_none_of_a_simulation_that_it_holds_itself() -> None:
    parts = some(7, 3)
    holders = NOBODY_HAS_ANY.copy()
    holders[7] = 2
    assert parts.take(2, 2, 0.0, holders.__getitem__).tolist() == UNITS.parts(3)[:2]
    assert parts.take(2, 9, 0.0, holders.__getitem__).tolist() == UNITS.parts(3)[2:]
    assert parts.n_to_do == 3, "in their order, for others"
    assert taken(parts, 1, 9) == UNITS.parts(7)


def test_of_two_answers_the_first_counts_even_in_one_message() -> None:
    parts = some(3)
    first, *rest = taken(parts, 0, 3)
    parts.hold(1, np.array([first]), 1.0)
    assert parts.accept(np.array([1, 0]), np.array([first, first])).tolist() == [True, False]
    assert parts.n_busy.tolist() == [2, 0, 0, 0]
    assert not parts.accept(np.array([1]), np.array([first])).any()
    assert parts.accept(np.array([0, 0]), np.array(rest)).all()
    assert not parts
    assert not parts.are_split(rows_of(3)).any()
    assert parts.were_split(rows_of(3)).all(), "which is not done again"


def test_a_late_answer_of_a_rank_that_was_given_up_leaves_nothing_to_do() -> None:
    parts = some(3, 4)
    units = taken(parts, 0, 2)
    assert parts.put_back(0) == 2
    assert parts.n_to_do == 6
    assert parts.accept(np.array([0]), np.array(units[:1])).all()
    assert parts.n_to_do == parts.n_open == 5
    assert units[0] not in taken(parts, 1, 9)


class Plain:
    """The same accounts, one iteration at a time."""

    def __init__(self) -> None:
        self.wanted: set[int] = set()
        self.busy: dict[tuple[int, int], float] = {}

    def holders(self, unit: int) -> list[int]:
        return sorted(rank for rank, at in self.busy if at == unit) if unit in self.wanted else []

    def to_do(self) -> list[int]:
        return sorted(unit for unit in self.wanted if not self.holders(unit))

    def forget(self, row: int) -> None:
        self.wanted -= set(UNITS.parts(row))

    def check(self, parts: Parts) -> None:
        assert parts.n_open == len(self.wanted)
        assert parts.n_to_do == len(self.to_do())
        assert parts.rows_to_do().tolist() == sorted({UNITS.split(unit)[0] for unit in self.to_do()})
        assert parts.n_busy.tolist() == [sum(rank == at for at, _ in self.busy) for rank in range(N_RANKS)]
        assert bool(parts) == bool(self.wanted or self.busy)
        every = np.arange(N_ROWS)
        are_split = [any(unit in self.wanted for unit in UNITS.parts(row)) for row in range(N_ROWS)]
        assert parts.are_split(every).tolist() == are_split
        alone = [
            (self.busy[held[0], unit], held[0], unit) for unit in self.wanted if len(held := self.holders(unit)) == 1
        ]
        assert [tuple(one) for one in zip(*map(np.ndarray.tolist, parts.held_once()), strict=True)] == sorted(alone)
        units = np.arange(N_ROWS * (N_ITERATIONS + 1))
        assert parts.are_held(units).tolist() == [bool(self.holders(int(unit))) for unit in units]
        for rank in range(N_RANKS):
            since = [self.busy.get((rank, int(unit)), np.inf) for unit in units]
            assert parts.since(np.full(len(units), rank), units).tolist() == since


@pytest.mark.parametrize("seed", range(20))
def test_accounts_are_those_of_one_iteration_after_the_other(seed: int) -> None:
    dice = random.Random(seed)
    parts, plain, unsplit = Parts(UNITS, N_RANKS, N_ROWS), Plain(), list(range(N_ROWS))
    dice.shuffle(unsplit)
    for now in map(float, range(150)):
        rank = dice.randrange(N_RANKS)
        held = sorted(plain.busy)
        match dice.choice(["split", "take", "take", "copy", "bring", "bring", "fail", "lose", "return", "finish"]):
            case "split" if unsplit:
                rows = [unsplit.pop() for _ in range(min(dice.randint(1, 5), len(unsplit)))]
                parts.split(rows_of(*rows))
                plain.wanted.update(unit for row in rows for unit in UNITS.parts(row))
            case "take":
                n_to_do, n_units = len(plain.to_do()), dice.randint(0, 6)
                found = taken(parts, rank, n_units, now)
                assert len(found) == len(set(found)) == min(n_units, n_to_do)
                assert set(found) <= set(plain.to_do())
                plain.busy.update({(rank, unit): now for unit in found})
            case "copy":
                alone = [unit for unit in sorted(plain.wanted) if plain.holders(unit) not in ([], [rank])]
                copied = [unit for unit in alone if len(plain.holders(unit)) == 1][:3]
                parts.hold(rank, np.array(copied, np.int64), now)
                plain.busy.update({(rank, unit): now for unit in copied})
            case "bring":
                brought = dice.choices(held, k=dice.randint(1, 6)) if held else []
                brought += [(rank, unit) for unit in plain.to_do()[:1]]  # of a rank that was given up
                ranks, units = (np.array([one[index] for one in brought], np.int64) for index in (0, 1))
                expected = []
                for one in brought:
                    expected.append(one[1] in plain.wanted)
                    plain.wanted.discard(one[1])
                    plain.busy.pop(one, None)
                assert parts.accept(ranks, units).tolist() == expected
            case "fail" if held:
                one = dice.choice(held)
                was_wanted = one[1] in plain.wanted
                assert parts.release(np.array([one[0]]), np.array([one[1]])).tolist() == [was_wanted]
                del plain.busy[one]
                if was_wanted and not plain.holders(one[1]):
                    row = UNITS.split(one[1])[0]
                    assert parts.forget(rows_of(row, row)).tolist() == [row]
                    plain.forget(row)
            case "lose" | "return" as what:
                mine = [unit for at, unit in held if at == rank]
                if what == "return":
                    mine = mine[: len(mine) // 2]
                n_wanted = sum(unit in plain.wanted for unit in mine)
                given = None if what == "lose" else np.array(mine, np.int64)
                assert parts.put_back(rank, given) == n_wanted
                for unit in mine:
                    del plain.busy[rank, unit]
            case "finish":
                row = dice.randrange(N_ROWS)
                was_split = any(unit in plain.wanted for unit in UNITS.parts(row))
                assert parts.forget(rows_of(row)).tolist() == [row] * was_split
                plain.forget(row)
        plain.check(parts)
    assert len(unsplit) < N_ROWS - 5, "hardly anything was tried"
