"""Says where a run stands, in words for a terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mosaic_mpi import layout
from mosaic_mpi.console import visible
from mosaic_mpi.engine_choice import is_stock_alone
from mosaic_mpi.lock import describe_holder
from mosaic_mpi.standing import duration
from mosaic_mpi.summary import Failures, SilentHost, Summary, kinds_of_failures

_OVERLOADED = 0.8
"""Share of a core beyond which rank 0 may keep slots waiting."""


def as_text(summary: Summary) -> str:
    """Return a summary for people."""
    lines = [
        f"{summary.file}: {summary.state}{_state_details(summary)}",
        f"  simulations  {summary.n_simulations}{_ids_text(summary)}: {summary.completed} completed, "
        f"{summary.failed} failed, {summary.pending} pending",
        f"  rate         {_rate_text(summary)}",
        *_last_result_lines(summary),
        f"  likelihood   {_likelihood_text(summary)}",
        f"  time series  {_series_text(summary)}",
        *_start_lines(summary),
        *([f"  engine       {summary.engine}{_stock_text(summary)}"] if summary.engine else []),
        f"  versions     {', '.join(f'{name} {version}' for name, version in summary.versions.items())}",
        f"  plan         {_plan_text(summary.plan)}",
        *_failure_lines(summary.failures),
    ]
    return "\n".join(lines)


def _stock_text(summary: Summary) -> str:
    if not summary.n_stock or is_stock_alone(summary.engine):
        return ""
    return f"; {summary.n_stock} iterations by the engine's own loop"


def _ids_text(summary: Summary) -> str:
    """Which simulations of a plan they are, where they are not simply all of them."""
    return "" if summary.sim_ids in ("1", f"1-{summary.n_simulations}") else f" ({summary.sim_ids})"


def _state_details(summary: Summary) -> str:
    if summary.state == "running":
        holder = describe_holder(Path(layout.lock_path(summary.file)))
        return f" ({holder}; last sign of life {duration(summary.last_commit_s)} ago)"
    if summary.state == "dead":
        silent = duration(summary.last_commit_s)
        return f": rank 0 ended without a word, {silent} ago; the same command resumes"
    if summary.complete:
        return "; `run` with --retry-failed runs what failed again" if summary.failed else ""
    return "; the same command resumes"


def _rate_text(summary: Summary) -> str:
    if summary.simulations_per_s is None:
        return "no result of the latest start yet"
    left = f", {duration(summary.time_left_s)} left" if summary.time_left_s else ""
    failed = ", failed ones included" if summary.failed else ""
    return f"{summary.simulations_per_s:.3g} simulations/s in the latest start{failed}{left}"


def _last_result_lines(summary: Summary) -> list[str]:
    if summary.state != "running" or summary.last_result_s is None:
        return []
    return [f"  last result  {duration(summary.last_result_s)} ago"]


def _likelihood_text(summary: Summary) -> str:
    best = "none finite" if summary.best_likelihood is None else f"best {summary.best_likelihood:.2f}"
    return f"{best}, {summary.n_nonfinite} not finite"


def _series_text(summary: Summary) -> str:
    saved = ", ".join(summary.plan["save"])
    return summary.time_series if summary.time_series == "none" else f"{saved}: {summary.time_series}"


def _start_lines(summary: Summary) -> list[str]:
    if not summary.starts:
        return ["  starts       none"]
    last = summary.starts[-1]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last["started_at"]))
    job = f", {last['job']}" if last["job"] else ""
    hosts = ", ".join(summary.hosts[:6]) + (f" and {len(summary.hosts) - 6} more" if len(summary.hosts) > 6 else "")
    return [
        f"  starts       {len(summary.starts)}, the latest {when} on {last['host']}{job}: {last['n_ranks']} ranks, "
        f"{last['n_slots']} slots, {last['mpi']}",
        f"  hosts        {hosts}",
        *_trouble_lines(summary, last),
        f"  command      {last['command']}",
    ]


def silent_hosts_text(silent: list[SilentHost], n_shown: int = 6) -> str:
    """Name hosts and for how long they had been silent at rank 0's last sign of life."""
    named = ", ".join(f"{entry.host} for {duration(entry.silent_s)}" for entry in silent[:n_shown])
    return named + (f" and {len(silent) - n_shown} more" if len(silent) > n_shown else "")


def _trouble_lines(summary: Summary, last: dict[str, Any]) -> list[str]:
    """What slows the latest start down without ending it."""
    lines = [f"  silent       {silent_hosts_text(summary.silent_hosts)}"] if summary.silent_hosts else []
    if last["n_ranks_lost"]:
        alive = f"{last['n_slots_live']} of {last['n_slots']} slots alive"
        lines.append(f"  lost         {last['n_ranks_lost']} of {last['n_ranks']} ranks, {alive}")
    if (summary.master_load or 0.0) > _OVERLOADED:
        share = f"{100 * (summary.master_load or 0.0):.0f} % of a core"
        lines.append(
            f"  rank 0       takes {share}: slots may wait for it; fewer ranks with more slots each need less"
        )
    return lines


def _plan_text(plan: dict[str, Any]) -> str:
    locations = plan["locations"]
    where = ", ".join(locations) if len(locations) <= 6 else f"{len(locations)} locations"
    return f"{where}; {plan['n_iterations']} iterations; parameters: {plan['parameters'].split(':')[0]}"


def _failure_lines(failures: list[Failures]) -> list[str]:
    if not failures:
        return []
    by_cause: dict[str, int] = {}
    for entry in failures:
        by_cause[entry.cause] = by_cause.get(entry.cause, 0) + entry.attempts
    causes = ", ".join(f"{count} by {cause}" for cause, count in by_cause.items())
    lines = [f"  failures     {sum(by_cause.values())} attempts: {causes}; the commonest:"]
    for entry in kinds_of_failures(failures)[:3]:
        lines.append(f"    {entry.attempts} x {entry.cause}:")
        lines += [f"      {visible(line)}" for line in entry.text.splitlines()[-6:]]
    return lines
