"""What a dry run predicts from what it has measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mosaic_mpi.forecast import MASTER_S_PER_RESULT, Measured, file_bytes, forecast

FOUND = Measured(
    n_slots=2, start_s=3.0, warm_up_s=1.0, pace_s=2.0, series_bytes=1000.0, slot_bytes=100, rank_bytes=5000
)


def test_a_last_round_that_is_nearly_full_counts_as_a_whole_one() -> None:
    told = forecast(FOUND, n_to_do=14, n_iterations=3, n_ranks=2, n_slots=5)
    assert told.n_rounds == 3
    assert told.wall_s == 3.0 + 1.0 + 3 * 2.0
    assert told.held_s == 5 * told.wall_s
    assert told.work_s == 14 * 2.0 + 5 * 1.0
    assert told.memory_bytes == 2 * 5000 + 5 * 100
    assert not told.waits_for_master


def test_fewer_simulations_than_slots() -> None:
    told = forecast(FOUND, n_to_do=3, n_iterations=3, n_ranks=1, n_slots=8)
    assert told.n_rounds == pytest.approx(2 / 3)  # nine iterations
    assert told.wall_s == pytest.approx(3.0 + 1.0 + 2 / 3 * 2.0)
    assert told.work_s == 3 * 2.0 + 3 * 1.0


def test_a_last_round_of_few_simulations_is_shared_out_by_iterations() -> None:
    told = forecast(FOUND, n_to_do=10_000, n_iterations=3, n_ranks=64, n_slots=8192)
    assert told.n_rounds == pytest.approx(4 / 3)
    assert forecast(FOUND, n_to_do=10_000, n_iterations=1, n_ranks=64, n_slots=8192).n_rounds == 2


def test_short_simulations_are_not_shared_out() -> None:
    fast = replace(FOUND, pace_s=0.1)
    assert forecast(fast, n_to_do=11, n_iterations=3, n_ranks=1, n_slots=5).n_rounds == 3


def test_nothing_to_do_takes_the_start_alone() -> None:
    told = forecast(FOUND, n_to_do=0, n_iterations=3, n_ranks=1, n_slots=8)
    assert (told.wall_s, told.work_s) == (3.0, 0.0)


def test_many_fast_slots_wait_for_rank_0() -> None:
    fast = replace(FOUND, pace_s=0.01)
    told = forecast(fast, n_to_do=10**6, n_iterations=3, n_ranks=100, n_slots=8192)
    assert told.waits_for_master
    assert told.wall_s == pytest.approx(4.0 + 10**6 * MASTER_S_PER_RESULT)


def test_bytes_of_the_file() -> None:
    assert file_bytes(500, 10_000, n_simulations=100, n_channels=0, series_bytes=0.0) == 10_500
    with_series = file_bytes(500, 10_000, n_simulations=100, n_channels=2, series_bytes=70.0)
    assert 17_500 < with_series < 23_000
