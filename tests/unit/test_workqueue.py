"""The work queue: every simulation handed out until it is done, and never lost, whatever happens."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from mosaic_mpi.layout import COMPLETED, FAILED, PENDING
from mosaic_mpi.workqueue import Verdict, WorkQueue


def queue(n_rows: int, max_attempts: int = 3, done: tuple[int, ...] = (), failed: tuple[int, ...] = ()) -> WorkQueue:
    status = np.full(n_rows, PENDING, np.int8)
    status[list(done)] = COMPLETED
    status[list(failed)] = FAILED
    return WorkQueue(status, np.zeros(n_rows, np.int32), max_attempts, n_ranks=4)


def take(work: WorkQueue, n_rows: int, rank: int = 0) -> NDArray[np.int64]:
    return work.take(n_rows, rank)


def complete(work: WorkQueue, *rows: int) -> list[int | None]:
    """Note results; attempts of each, None where it is not wanted."""
    wanted, attempts = work.complete(np.array(rows))
    found = iter(attempts.tolist())
    return [next(found) if is_wanted else None for is_wanted in wanted]


def counts(work: WorkQueue) -> tuple[int, int, int, int]:
    return work.n_pending, work.n_running, work.n_completed, work.n_failed


def test_rows_come_in_order_and_once() -> None:
    work = queue(10)
    assert take(work, 4).tolist() == [0, 1, 2, 3]
    assert take(work, 4).tolist() == [4, 5, 6, 7]
    assert take(work, 4).tolist() == [8, 9]
    assert take(work, 4).tolist() == []
    assert counts(work) == (0, 10, 0, 0)


def test_what_is_done_is_not_handed_out() -> None:
    work = queue(6, done=(0, 3), failed=(5,))
    assert counts(work) == (3, 0, 2, 1)
    assert take(work, 10).tolist() == [1, 2, 4]


def test_a_finished_run_is_done_at_once() -> None:
    assert queue(2, done=(0,), failed=(1,)).is_done
    assert not queue(2, done=(0,)).is_done


def test_pending_rows_far_apart_are_found() -> None:
    status = np.full(10**6, COMPLETED, np.int8)
    rows = [5, 70_000, 999_999]
    status[rows] = PENDING
    assert take(WorkQueue(status, np.zeros(10**6, np.int32), 3), 50).tolist() == rows


def test_the_callers_status_is_left_alone() -> None:
    status = np.zeros(3, np.int8)
    attempts = np.zeros(3, np.int32)
    work = WorkQueue(status, attempts, 3)
    take(work, 3)
    work.fail(0)
    assert not status.any()
    assert not attempts.any()


def test_what_failed_is_tried_again_soon_but_not_at_once() -> None:
    """Else a long run in which everything fails would find out at its end."""
    work = queue(1000)
    take(work, 1)
    work.fail(0)
    order = [int(take(work, 1)[0]) for _ in range(100)]
    assert order.index(0) == 64
    assert order == [*range(1, 65), 0, *range(65, 100)]


def test_a_failed_attempt_is_tried_again_last_then_it_fails() -> None:
    work = queue(3, max_attempts=2)
    take(work, 1)
    assert work.fail(0) == Verdict(1, False)
    assert take(work, 3).tolist() == [1, 2, 0]
    assert work.fail(0) == Verdict(2, True)
    assert complete(work, 0) == [None]
    assert counts(work) == (0, 2, 0, 1)


def test_attempts_of_earlier_starts_count() -> None:
    work = WorkQueue(np.zeros(2, np.int8), np.array([2, 1], np.int32), 3)
    take(work, 2)
    assert work.fail(0) == Verdict(3, True)
    assert complete(work, 1) == [2]


def test_giving_back_blames_nobody() -> None:
    work = queue(2, max_attempts=1)
    take(work, 2)
    assert work.give_back(0) == 2
    assert counts(work) == (2, 0, 0, 0)
    assert take(work, 2).tolist() == [0, 1]
    assert complete(work, 0) == [1]


def test_giving_back_what_is_done_changes_nothing() -> None:
    work = queue(2)
    take(work, 2)
    complete(work, 0)
    assert work.give_back(0, np.array([0, 1])) == 1
    assert work.give_back(0, np.array([1])) == 0
    assert take(work, 5).tolist() == [1]


def test_only_what_a_rank_holds_is_taken_back_from_it() -> None:
    work = queue(6)
    take(work, 3, rank=1)
    take(work, 3, rank=2)
    assert (work.n_held(1), work.n_held(2), work.n_held(3)) == (3, 3, 0)
    assert work.give_back(1, np.array([2, 3])) == 1
    assert [work.holder(row) for row in range(6)] == [1, 1, None, 2, 2, 2]
    assert work.give_back(2) == 3
    assert counts(work) == (4, 2, 0, 0)
    assert take(work, 9, rank=3).tolist() == [2, 3, 4, 5]
    assert (work.n_held(1), work.n_held(2), work.n_held(3)) == (2, 0, 4)


def test_a_late_result_of_a_lost_rank_counts_once() -> None:
    work = queue(1)
    take(work, 1)
    work.give_back(0)
    assert complete(work, 0) == [1]
    assert take(work, 1).tolist() == []
    assert work.is_done
    assert complete(work, 0) == [None]
    assert counts(work) == (0, 0, 1, 0)


def test_a_late_result_ends_it_elsewhere_too() -> None:
    work = queue(2)
    take(work, 2, rank=1)
    work.give_back(1)
    take(work, 1, rank=2)
    assert complete(work, 0, 1) == [1, 1]
    assert work.n_held(2) == 0
    assert complete(work, 0) == [None]
    assert counts(work) == (0, 0, 2, 0)


def test_results_come_by_the_thousand_some_of_them_twice() -> None:
    work = queue(5000)
    take(work, 4000)
    for row in (7, 7, 9):
        work.fail(row)
        if row == 7:
            assert work.take(5000, 1)[-1] == 7
    rows = np.concatenate([np.arange(4000), [3999, 0, 7]])
    wanted, attempts = work.complete(rows)
    assert wanted.tolist() == [True] * 4000 + [False] * 3
    assert attempts.dtype == np.int32
    assert {row: int(attempts[row]) for row in np.flatnonzero(attempts != 1)} == {7: 3, 9: 2}
    assert counts(work) == (0, 1000, 4000, 0)


@pytest.mark.parametrize("seed", range(30))
def test_against_a_model_of_ranks_that_finish_fail_and_die(seed: int) -> None:
    """Random events, late duplicates included, checked after each one against plain sets."""
    dice = random.Random(seed)
    n_rows, max_attempts = dice.randint(1, 60), dice.randint(1, 3)
    status = np.array([dice.choice((PENDING, PENDING, PENDING, COMPLETED, FAILED)) for _ in range(n_rows)], np.int8)
    work = WorkQueue(status, np.zeros(n_rows, np.int32), max_attempts, n_ranks=4)
    completed = {row for row in range(n_rows) if status[row] == COMPLETED}
    failed = {row for row in range(n_rows) if status[row] == FAILED}
    running: dict[int, set[int]] = {rank: set() for rank in range(4)}
    ghosts: list[int] = []  # rows of ranks given up, which may still report
    failures: Counter[int] = Counter()

    def succeed(rows: list[int]) -> None:
        """Some at once, in any order, and perhaps one of them twice."""
        sent = dice.sample(rows, len(rows)) + ([rows[0]] if dice.random() < 0.3 else [])
        seen = completed | failed
        expected = []
        for row in sent:
            expected.append(None if row in seen else failures[row] + 1)
            seen = seen | {row}
        assert complete(work, *sent) == expected
        completed.update(set(rows) - failed)

    def go_wrong(row: int) -> None:
        failures[row] += 1
        verdict = work.fail(row)
        assert verdict == Verdict(failures[row], failures[row] >= max_attempts)
        if verdict.final:
            failed.add(row)

    for _ in range(3000):
        rank, event = dice.randrange(4), dice.random()
        mine = running[rank]
        if event < 0.4:
            rows = work.take(dice.randint(1, 5), rank).tolist()
            busy = set().union(*running.values())
            assert not set(rows) & (completed | failed | busy), "handed out what is done or runs"
            assert len(set(rows)) == len(rows)
            mine.update(rows)
        elif event < 0.7 and mine:
            succeed(dice.sample(sorted(mine), dice.randint(1, len(mine))))
        elif event < 0.8 and mine:
            row = dice.choice(sorted(mine))
            mine.discard(row)
            go_wrong(row)
        elif event < 0.85 and mine:
            given = dice.sample(range(n_rows), dice.randint(1, n_rows))
            assert work.give_back(rank, np.array(given)) == len(mine & set(given))
            mine -= set(given)
        elif event < 0.9:
            ghosts += sorted(mine)
            assert work.give_back(rank) == len(mine)
            mine.clear()
        elif ghosts:
            succeed([ghosts.pop(dice.randrange(len(ghosts)))])
        for rows_held in running.values():
            rows_held -= completed | failed
        assert [work.n_held(rank) for rank in running] == [len(rows_held) for rows_held in running.values()]
        for row in range(n_rows):
            assert work.holder(row) == next((rank for rank, held in running.items() if row in held), None)
        held = sum(map(len, running.values()))
        assert counts(work) == (n_rows - len(completed) - len(failed) - held, held, len(completed), len(failed))
        if work.is_done:
            break
    assert work.is_done, "something was lost"
    assert completed | failed == set(range(n_rows))


def test_a_row_that_waits_twice_is_handed_out_once() -> None:
    """Among those to try again and, not reached yet by the cursor, in its place; or given back when taken apart."""
    work = WorkQueue(np.zeros(5, np.int8), np.zeros(5, np.int32), max_attempts=3, n_ranks=1)
    assert work.take(4, 0).tolist() == [0, 1, 2, 3]
    assert work.take_untried().tolist() == [4]
    work.complete(np.array([0, 1, 2]))
    work.fail(4)
    work.fail(3)
    assert sorted(work.take(2, 0).tolist()) == [3, 4]
    assert (work.n_pending, work.n_running) == (0, 2)
    work.complete(np.array([3, 4]))
    assert work.is_done
