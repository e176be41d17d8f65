"""The work queue: every simulation handed out until it is done, and never lost, whatever happens."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from mosaic_mpi.layout import COMPLETED, FAILED, PENDING
from mosaic_mpi.workqueue import Verdict, WorkQueue


def queue(n_rows: int, max_attempts: int = 3, done: tuple[int, ...] = (), failed: tuple[int, ...] = ()) -> WorkQueue:
    status = np.full(n_rows, PENDING, np.int8)
    status[list(done)] = COMPLETED
    status[list(failed)] = FAILED
    return WorkQueue(status, np.zeros(n_rows, np.int32), max_attempts)


def counts(work: WorkQueue) -> tuple[int, int, int, int]:
    return work.n_pending, work.n_running, work.n_completed, work.n_failed


def test_rows_come_in_order_and_once() -> None:
    work = queue(10)
    assert work.take(4).tolist() == [0, 1, 2, 3]
    assert work.take(4).tolist() == [4, 5, 6, 7]
    assert work.take(4).tolist() == [8, 9]
    assert work.take(4).tolist() == []
    assert counts(work) == (0, 10, 0, 0)


def test_what_is_done_is_not_handed_out() -> None:
    work = queue(6, done=(0, 3), failed=(5,))
    assert counts(work) == (3, 0, 2, 1)
    assert work.take(10).tolist() == [1, 2, 4]


def test_a_finished_run_is_done_at_once() -> None:
    assert queue(2, done=(0,), failed=(1,)).is_done
    assert not queue(2, done=(0,)).is_done


def test_pending_rows_far_apart_are_found() -> None:
    status = np.full(10**6, COMPLETED, np.int8)
    rows = [5, 70_000, 999_999]
    status[rows] = PENDING
    assert WorkQueue(status, np.zeros(10**6, np.int32), 3).take(50).tolist() == rows


def test_the_callers_status_is_left_alone() -> None:
    status = np.zeros(3, np.int8)
    WorkQueue(status, np.zeros(3, np.int32), 3).take(3)
    assert not status.any()


def test_what_failed_is_tried_again_soon_but_not_at_once() -> None:
    """Else a long run in which everything fails would find out at its end."""
    work = queue(1000)
    work.take(1)
    work.fail(0)
    order = [int(work.take(1)[0]) for _ in range(100)]
    assert order.index(0) == 64
    assert order == [*range(1, 65), 0, *range(65, 100)]


def test_a_failed_attempt_is_tried_again_last_then_it_fails() -> None:
    work = queue(3, max_attempts=2)
    work.take(1)
    assert work.fail(0) == Verdict(1, False)
    assert work.take(3).tolist() == [1, 2, 0]
    assert work.fail(0) == Verdict(2, True)
    assert not work.is_open(0)
    assert counts(work) == (0, 2, 0, 1)


def test_attempts_of_earlier_starts_count() -> None:
    work = WorkQueue(np.zeros(2, np.int8), np.array([2, 1], np.int32), 3)
    work.take(2)
    assert work.fail(0) == Verdict(3, True)
    assert work.complete(1) == 2


def test_giving_back_blames_nobody() -> None:
    work = queue(2, max_attempts=1)
    work.take(2)
    work.give_back([0, 1])
    assert counts(work) == (2, 0, 0, 0)
    assert work.take(2).tolist() == [0, 1]
    assert work.complete(0) == 1


def test_giving_back_what_is_done_changes_nothing() -> None:
    work = queue(2)
    work.take(2)
    work.complete(0)
    work.give_back([0, 1])
    work.give_back([1])
    assert work.take(5).tolist() == [1]


def test_a_late_result_of_a_lost_rank_counts_once() -> None:
    work = queue(1)
    work.take(1)
    work.give_back([0])
    assert work.is_open(0)
    work.complete(0)
    assert work.take(1).tolist() == []
    assert work.is_done
    assert not work.is_open(0)


@pytest.mark.parametrize("seed", range(30))
def test_against_a_model_of_ranks_that_finish_fail_and_die(seed: int) -> None:
    """Random events, late duplicates included, checked after each one against plain sets."""
    dice = random.Random(seed)
    n_rows, max_attempts = dice.randint(1, 60), dice.randint(1, 3)
    status = np.array([dice.choice((PENDING, PENDING, PENDING, COMPLETED, FAILED)) for _ in range(n_rows)], np.int8)
    work = WorkQueue(status, np.zeros(n_rows, np.int32), max_attempts)
    completed = {row for row in range(n_rows) if status[row] == COMPLETED}
    failed = {row for row in range(n_rows) if status[row] == FAILED}
    running: dict[int, set[int]] = {rank: set() for rank in range(4)}
    ghosts: list[int] = []  # rows of ranks given up, which may still report
    failures: Counter[int] = Counter()

    def finish(row: int) -> None:
        assert work.is_open(row) == (row not in completed | failed)
        if not work.is_open(row):
            return
        if dice.random() < 0.3:
            failures[row] += 1
            verdict = work.fail(row)
            assert verdict == Verdict(failures[row], failures[row] >= max_attempts)
            if verdict.final:
                failed.add(row)
        else:
            assert work.complete(row) == failures[row] + 1
            completed.add(row)

    for _ in range(3000):
        rank, event = dice.randrange(4), dice.random()
        if event < 0.4:
            rows = work.take(dice.randint(1, 5)).tolist()
            busy = set().union(*running.values()) - completed - failed
            assert not set(rows) & (completed | failed | busy), "handed out what is done or runs"
            assert len(set(rows)) == len(rows)
            running[rank].update(rows)
        elif event < 0.8 and running[rank]:
            row = dice.choice(sorted(running[rank]))
            running[rank].discard(row)
            late = any(row in rows for rows in running.values())
            finish(row)
            if late and row not in completed | failed:  # the queue takes it back; another rank still has it
                for rows in running.values():
                    rows.discard(row)
        elif event < 0.9:
            ghosts += sorted(running[rank])
            work.give_back(sorted(running[rank]))
            running[rank].clear()
        elif ghosts:
            row = ghosts.pop(dice.randrange(len(ghosts)))
            if not any(row in rows for rows in running.values()):
                finish(row)
            elif work.is_open(row):  # it runs elsewhere by now: a late success ends it there too
                assert work.complete(row) == failures[row] + 1
                completed.add(row)
        for rows in running.values():
            rows -= completed | failed
        held = set().union(*running.values())
        assert counts(work) == (
            *(n_rows - len(completed) - len(failed) - len(held), len(held), len(completed), len(failed)),
        )
        if work.is_done:
            break
    assert work.is_done, "something was lost"
    assert completed | failed == set(range(n_rows))
