"""The sections on how the run went: progress and simulation times."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from mosaic_mpi.report import host_times
from mosaic_mpi.report.slot_time import SlotTime
from mosaic_mpi.report.snapshot import Snapshot

_N_WARNINGS = 5
_WORTH_A_WORD = 0.001
"""Share of the slots' time."""


def progress(snapshot: Snapshot, slots: SlotTime) -> dict[str, Any] | None:
    """Return throughput, timeline and the use of slot seconds; None before the first start."""
    if not slots.spans:
        return None
    from mosaic_mpi.report import run_figures

    failed = slots.clock.of(snapshot.failed_start, snapshot.failed_at)
    ledger = slots.ledger
    tail = "at work on the next" if snapshot.is_running else "the tail"
    uses = (
        ("simulating what was completed", ledger.simulating),
        ("before a slot's first one: starting up", ledger.starting),
        ("between a slot's completed simulations", ledger.waiting),
        (f"after a slot's last one: {tail}", ledger.tail),
        ("slots that completed nothing in their start", ledger.unused),
    )
    unit_s, unit = (3600.0, "slot-hours") if ledger.total >= 3600 else (1.0, "slot-seconds")
    shares = [(name, seconds / unit_s, seconds / ledger.total if ledger.total else 0.0) for name, seconds in uses]
    return {
        "throughput": Markup(run_figures.throughput(slots, snapshot.hosts, failed))
        if snapshot.n_completed or len(failed)
        else None,
        "timeline": Markup(run_figures.timeline(slots, snapshot.hosts, failed)) if slots.n_places else None,
        "has_failures": len(failed) > 0,
        "row": _row_words(slots.timeline(1, run_figures.MOST_ROWS, snapshot.hosts).unit) if slots.n_places else "",
        "n_places": slots.n_places,
        "uses": shares,
        "total": ledger.total / unit_s,
        "unit": unit,
        "elsewhere": slots.elsewhere_s / unit_s if slots.elsewhere_s > _WORTH_A_WORD * ledger.total else 0.0,
        "has_failed_attempts": bool(snapshot.failed_attempts.any()),
        "efficiency": ledger.efficiency,
        "n_starts": snapshot.n_starts,
        "n_untimed": snapshot.n_completed - int(slots.finished(1).sum()),
        "lost": [start for start in snapshot.summary.starts if start["n_ranks_lost"]][-_N_WARNINGS:],
    }


def _row_words(unit: str) -> str:
    if unit.startswith("slot"):
        return "each"
    return f"for {'each host' if unit == 'host' else unit}, paler where some of its slots are idle"


def times(snapshot: Snapshot) -> dict[str, Any] | None:
    """Return simulation times, by host; None without a completed simulation."""
    completed = snapshot.completed
    if not len(completed):
        return None
    from mosaic_mpi.report import run_figures

    times = host_times.by_host(completed.host, completed.elapsed_s)
    slow = [snapshot.hosts[host] for host in times.host[times.slow]]
    usual = float(np.median(times.quantiles[:, 2]))
    rows = [
        {"host": snapshot.hosts[host], "n": int(n), "quantiles": quantiles.tolist(), "slow": bool(is_slow)}
        for host, n, quantiles, is_slow in zip(times.host, times.n, times.quantiles, times.slow, strict=True)
    ]
    levels = np.quantile(completed.elapsed_s, [0.05, 0.5, 0.95, 1.0]).tolist()
    return {
        "distribution": Markup(run_figures.simulation_times(completed.elapsed_s)),
        "hosts": Markup(run_figures.hosts(times, snapshot.hosts)),
        "n_hosts": len(rows),
        "most_hosts": run_figures.MOST_HOSTS,
        "rows": rows,
        "slow": slow,
        "ratio": float(times.quantiles[0, 2] / usual) if usual > 0 else 1.0,
        "levels": levels,
        "slowest_sim": int(completed.sim_id[int(np.argmax(completed.elapsed_s))]),
    }
