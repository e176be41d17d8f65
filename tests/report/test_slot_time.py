"""The accounting of slot seconds and the timeline, against runs worked out by hand."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from mosaic_mpi.report.host_times import by_host
from mosaic_mpi.report.slot_time import SlotTime, Span, spans_of
from mosaic_mpi.report.snapshot import Completed


def completed(*entries: tuple[int, int, int, int, float, float]) -> Completed:
    """Results from (start, host, rank, slot, began, ended), in order."""
    columns = np.array(entries, dtype=float).reshape(-1, 6).T
    start, host, rank, slot = columns[:4].astype(np.int64)
    n = len(start)
    return Completed(
        row=np.arange(n),
        sim_id=np.arange(1, n + 1),
        likelihood=np.zeros(n),
        iteration_likelihood=np.zeros((n, 1)),
        elapsed_s=columns[5] - columns[4],
        finished_at=columns[5],
        rank=rank,
        slot=slot,
        host=host,
        start=start,
    )


def test_slot_seconds_add_up() -> None:
    spans = [Span(100.0, 101.0, 120.0, 3)]
    done = completed((0, 0, 0, 0, 102.0, 107.0), (0, 0, 0, 0, 108.0, 118.0), (0, 0, 0, 1, 102.0, 112.0))
    ledger = SlotTime(done, spans).ledger
    assert ledger.simulating == pytest.approx(25)
    assert ledger.starting == pytest.approx(4)
    assert ledger.waiting == pytest.approx(1)
    assert ledger.tail == pytest.approx(2 + 8)
    assert ledger.unused == pytest.approx(20)
    assert ledger.total == pytest.approx(3 * 20)
    assert ledger.efficiency == pytest.approx(25 / 60)


def test_of_a_joined_simulation_the_time_of_its_other_slots_is_not_idle() -> None:
    """Slots 0 and 1 do one each, then an iteration of the third, 4 s each; slot 2 does nothing but its third one."""
    spans = [Span(100.0, 100.0, 115.0, 3)]
    first = completed((0, 0, 0, 0, 101.0, 111.0), (0, 0, 0, 1, 101.0, 110.0))
    third = completed((0, 0, 0, 0, 103.0, 115.0))  # 12 s, of which 4 in the slot that it names
    done = Completed(
        *(np.concatenate([getattr(part, field.name) for part in (first, third)]) for field in fields(Completed))
    )
    slots = SlotTime(done, spans)
    ledger = slots.ledger
    assert slots.elsewhere_s == pytest.approx(8)
    assert ledger.simulating == pytest.approx(10 + 9 + 12)
    assert ledger.starting == pytest.approx(2)
    assert ledger.waiting == pytest.approx(0)
    assert ledger.tail == pytest.approx(0), "5 s of slot 1, in 4 of which it was at an iteration"
    assert ledger.unused == pytest.approx(15 - 3)
    assert ledger.total == pytest.approx(3 * 15)
    busy = slots.timeline(15, 10, ["node"]).busy
    assert busy.max() == pytest.approx(2), "no slot is busy twice at a time"


def test_a_run_without_results() -> None:
    slots = SlotTime(completed(), [Span(0.0, math.nan, 10.0, 4)])
    assert slots.ledger.unused == pytest.approx(40)
    assert slots.ledger.efficiency == 0
    assert math.isnan(SlotTime(completed(), []).ledger.efficiency)
    assert slots.n_places == 0


def test_the_clock_leaves_out_pauses() -> None:
    spans = [Span(0.0, 0.0, 100.0, 1), Span(1e6, 1e6, 1e6 + 100.0, 1)]
    slots = SlotTime(completed((0, 0, 0, 0, 90.0, 100.0), (1, 0, 0, 0, 1e6, 1e6 + 50.0)), spans)
    assert slots.clock.running_s == 200
    assert slots.clock.total_s == pytest.approx(200 + slots.clock.gap_s)
    assert slots.clock.gap_s < 3
    assert slots.clock.of(np.array([1]), np.array([1e6 + 50])) == pytest.approx(150 + slots.clock.gap_s)


def test_pieces_that_ran_at_the_same_time_share_the_clock() -> None:
    spans = [Span(1000.0, 1000.0, 1100.0, 2), Span(0.0, 0.0, 100.0, 2), Span(50.0, 50.0, 150.0, 3)]
    slots = SlotTime(
        completed((1, 0, 0, 0, 0.0, 100.0), (2, 0, 0, 0, 50.0, 150.0), (0, 0, 0, 0, 1000.0, 1100.0)), spans
    )
    clock = slots.clock
    assert (clock.running_s, clock.n_slots) == (250, 5)
    assert clock.offsets == pytest.approx([150 + clock.gap_s, 0, 50])
    assert clock.breaks == pytest.approx([150 + clock.gap_s / 2])
    assert slots.n_places == 3
    assert slots.timeline(2, 9, ["a"]).labels == ["a · 0.0, start 1", "a · 0.0, start 2", "a · 0.0, start 3"]
    assert slots.ledger.total == pytest.approx(200 + 200 + 300)
    assert slots.ledger.simulating == pytest.approx(300)


def test_the_timeline_shows_work_idleness_and_absence() -> None:
    spans = [Span(0.0, 0.0, 100.0, 2)]
    done = completed((0, 0, 0, 0, 0.0, 50.0), (0, 0, 0, 1, 25.0, 100.0))
    line = SlotTime(done, spans).timeline(4, 10, ["node1"])
    assert line.labels == ["node1 · 0.0", "node1 · 0.1"]
    assert line.share == pytest.approx(np.array([[1, 1, 0, 0], [0, 1, 1, 1]]))
    spans = [Span(0.0, 0.0, 100.0, 1), Span(200.0, 200.0, 300.0, 1)]
    line = SlotTime(completed((0, 0, 0, 0, 0.0, 100.0), (1, 1, 1, 0, 200.0, 300.0)), spans).timeline(
        2, 10, ["a", "b"]
    )
    assert line.share == pytest.approx(np.array([[1, np.nan], [np.nan, 1]]), nan_ok=True, abs=0.02)


def test_many_slots_become_hosts_and_then_groups() -> None:
    spans = [Span(0.0, 0.0, 10.0, 12)]
    entries = [(0, index // 4, index // 4, index % 4, 0.0, 10.0 if index < 4 else 5.0) for index in range(12)]
    slots = SlotTime(completed(*entries), spans)
    hosts = slots.timeline(2, 5, ["a", "b", "c"])
    assert (hosts.unit, hosts.labels) == ("host", ["a", "b", "c"])
    assert hosts.share == pytest.approx(np.array([[1, 1], [1, 0], [1, 0]]))
    groups = slots.timeline(2, 2, ["a", "b", "c"])
    assert (groups.unit, len(groups.labels)) == ("2 hosts", 2)
    assert groups.share == pytest.approx(np.array([[1, 0.5], [1, 0]]))
    assert slots.timeline(7, 5, ["a", "b", "c"]).busy.sum() * 10 / 7 == pytest.approx(80)


def test_a_killed_start_ends_with_its_last_sign_of_life() -> None:
    start = {"started_at": 10.0, "first_assignment_at": 11.0, "ended_at": 0.0, "last_commit_at": 15.0, "n_slots": 1}
    assert spans_of([start], completed((0, 0, 0, 0, 12.0, 18.0)))[0].ended == 18.0
    assert spans_of([start], completed())[0].ended == 15.0


def test_a_slow_host_stands_out_and_few_simulations_do_not() -> None:
    host = np.repeat([0, 1, 2, 3], [20, 20, 20, 2])
    elapsed = np.where(host == 1, 20.0, 10.0) + np.where(host == 3, 30.0, 0.0)
    times = by_host(host, elapsed)
    assert times.host[times.slow].tolist() == [1]
    assert times.host[0] == 3
    assert times.n.tolist() == [2, 20, 20, 20]
    assert len(by_host(np.zeros(0, np.int64), np.zeros(0)).host) == 0


def test_quantiles_of_hosts_are_those_of_all_simulations_where_there_is_one_host() -> None:
    elapsed = np.random.default_rng(1).exponential(10.0, 12)
    times = by_host(np.zeros(12, np.int64), elapsed)
    assert times.quantiles[0] == pytest.approx(np.quantile(elapsed, [0.05, 0.25, 0.5, 0.75, 0.95]))
    several = by_host(np.array([3, 1, 1, 3, 7]), np.array([4.0, 1.0, 2.0, 8.0, 5.0]))
    assert dict(zip(several.host.tolist(), several.quantiles[:, 2].tolist(), strict=True)) == {3: 6.0, 7: 5.0, 1: 1.5}
