"""Limits of time and of failures, by their rules."""

from __future__ import annotations

import time

import pytest

from mosaic_mpi import batch_limit
from mosaic_mpi.deadline import Deadline, earliest, parse_duration
from mosaic_mpi.failure_limit import DEFAULT, FailureLimit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("02:00:00", 7200), ("0:00:05", 5), ("1-12:00:00", 129600), (" 100:00:00 ", 360000), ("00:01:30", 90)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "1:30", "1:60:00", "00:00:00", "1-00", "a:00:00", "1:00:00.5"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_duration(text)


def deadline(left_s: float, whole_s: float) -> Deadline:
    now = time.time()
    return Deadline(now + left_s, now + left_s - whole_s, "test")


def test_long_before_the_end_nothing_stops() -> None:
    assert not deadline(3600, 7200).is_near(1.0)
    assert not deadline(3600, 7200).is_near(None)


def test_time_is_kept_for_what_runs_and_for_leaving() -> None:
    """Two hours: 20 s for leaving, one and a half simulations and a second for what runs."""
    assert deadline(25, 7200).is_near(10.0)
    assert deadline(35, 7200).is_near(10.0)
    assert not deadline(37, 7200).is_near(10.0)


def test_neither_takes_more_than_its_share() -> None:
    assert deadline(100, 100).grace_s(1000.0) == pytest.approx(15)
    assert deadline(100, 100).grace_s(None) == pytest.approx(15)
    assert not deadline(26, 100).is_near(1000.0)
    assert deadline(24, 100).is_near(1000.0)


def test_the_earliest_counts() -> None:
    near, far = deadline(10, 100), deadline(50, 100)
    assert earliest(far, None, near) is near
    assert earliest(None, None) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1-02:03:04", 93784), ("2:03:04", 7384), ("3:04", 184), ("UNLIMITED", None), ("INVALID", None), ("", None)],
)
def test_what_squeue_says(text: str, seconds: float | None) -> None:
    assert batch_limit._parse_left(text) == seconds


def test_slurms_variable_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1000))
    found = batch_limit.job_deadline()
    assert found is not None
    assert 990 < found.at - time.time() <= 1000
    assert "17" in found.why


@pytest.mark.parametrize("end", ["0", "99999999999", ""])
def test_a_job_without_an_end_has_no_deadline(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_END_TIME", end)
    monkeypatch.setenv("PATH", "/nowhere")
    assert batch_limit.job_deadline() is None


def test_no_batch_job_has_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert batch_limit.job_deadline() is None


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "0%", "101%", "nan%", "%", "", "many"])
def test_no_limits(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        FailureLimit.parse(text)


def test_a_count_is_a_count() -> None:
    limit = FailureLimit.parse("5")
    assert str(limit) == "5"
    assert not limit.is_reached(4, 4, 1000)
    assert limit.is_reached(5, 2000, 2000)


def test_a_share_is_judged_from_a_hundred_on() -> None:
    limit = FailureLimit.parse("12.5%")
    assert str(limit) == "12.5%"
    assert not limit.is_reached(99, 99, 1000)
    assert limit.is_reached(13, 100, 1000)
    assert not limit.is_reached(12, 100, 1000)
    assert limit.is_reached(2, 8, 8), "all of a small run"


def test_by_default_one_success_in_the_first_hundred_goes_on() -> None:
    assert DEFAULT.is_reached(100, 100, 1000)
    assert not DEFAULT.is_reached(100, 101, 1000)
    assert not DEFAULT.is_reached(0, 0, 0)
