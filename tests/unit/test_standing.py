"""The words and the line in which a run in progress is told of."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mosaic_mpi.progress import RecentRate
from mosaic_mpi.standing import Standing, as_line, as_rows, clock

STANDING = Standing("running", 10_000, 4320, 1, 12.345, 460.2, 350.0, 4, 4, 480, 480, -1234.567, 2.4)
UNKNOWN = Standing("too many failures", 10, 0, 0, None, None, 0.0, 1, 2, 0, 2, None, None)


def test_the_line_is_what_the_readme_promises() -> None:
    assert re.fullmatch(
        r"progress at=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d state=running done=4321/10000 percent=43\.2 failed=1 "
        r"per_s=12\.3\d left=00:07:40 elapsed=00:05:50 ranks=4/4 slots=480/480 best=-1234\.57 last_result_s=2",
        as_line(STANDING),
    )


def test_what_is_not_known_has_its_key_all_the_same() -> None:
    keys = [pair.partition("=")[0] for pair in as_line(STANDING).split()]
    pairs = dict(pair.partition("=")[::2] for pair in as_line(UNKNOWN).split())
    assert list(pairs) == keys
    assert {pairs[key] for key in ("per_s", "left", "best", "last_result_s")} == {"none"}
    assert pairs["state"] == "too-many-failures"


@pytest.mark.parametrize(("completed", "expected"), [(9999, "99.9"), (10_000, "100.0"), (0, "0.0")])
def test_a_hundred_percent_means_all(completed: int, expected: str) -> None:
    assert f"percent={expected} " in as_line(replace(STANDING, completed=completed, failed=0))


@pytest.mark.parametrize(("seconds", "expected"), [(461, "00:07:41"), (273_600, "3-04:00:00"), (-3, "00:00:00")])
def test_time_spans_are_written_as_options_take_them(seconds: float, expected: str) -> None:
    assert clock(seconds) == expected


def test_no_row_of_the_display_is_wide_so_that_narrowing_a_terminal_wraps_none() -> None:
    big = replace(STANDING, n_simulations=10**7, completed=10**7 - 1, n_slots=144_000, n_slots_alive=143_999)
    assert all(12 + len(row.text) <= 44 for row in as_rows(big))


def test_failures_and_lost_ranks_stand_out() -> None:
    assert {row.label for row in as_rows(STANDING) if row.is_worrying} == {"failed"}
    assert {row.label for row in as_rows(UNKNOWN) if row.is_worrying} == {"ranks"}


def test_the_rate_is_of_the_last_minute() -> None:
    rate = RecentRate(0.0, 100, 0)
    assert rate.after(1.0, 100) is None
    found = [rate.after(float(now), 100 + 10 * now) for now in range(2, 200)]
    assert found[-1] == pytest.approx(10.0)
    for now in range(200, 300):
        slower = rate.after(float(now), 2090 + 2 * (now - 199))
    assert slower == pytest.approx(2.0, rel=0.1)


def test_slow_simulations_are_counted_over_a_longer_time() -> None:
    """Three results an hour, all at once from three slots."""
    rate = RecentRate(0.0, 0, 6)
    found = [rate.after(float(now), 3 * (now // 3600)) for now in range(0, 12 * 3600, 10)]
    assert found[-1] == pytest.approx(3 / 3600, rel=0.15)


def test_a_stall_shows_in_the_rate() -> None:
    rate = RecentRate(0.0, 0, 0)
    busy = [rate.after(float(now), 10 * now) for now in range(1, 100)][-1]
    assert rate.after(1100.0, 990) < 0.1 * busy  # type: ignore[operator]
