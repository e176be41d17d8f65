"""Where a run stands: counts, rate, time left, failures by cause, versions, hosts.

From the results file alone, so that a login node can tell, while the run goes on and after. Knows no MPI and no
engine.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mosaic_mpi import h5file, layout
from mosaic_mpi.errors import EXIT_COMPLETE, EXIT_INTERNAL, EXIT_STOPPED
from mosaic_mpi.holder import read_holder
from mosaic_mpi.lock import describe_holder
from mosaic_mpi.progress import duration

_OVERLOADED = 0.8
"""Share of a core beyond which rank 0 may keep slots waiting."""
_SILENT_SECONDS = 60.0
"""Rank 0 gives a sign of life every few seconds: without one for so long, it is dead or stuck."""
_STATES = {
    layout.RUNNING: "running",
    layout.COMPLETE: "complete",
    layout.STOPPED: "stopped",
    layout.TOO_MANY_FAILURES: "too many failures",
}
_BROKEN = "ended by an error"
_LOOK_FIRST = (_BROKEN, _STATES[layout.TOO_MANY_FAILURES])


@dataclass(frozen=True)
class Failures:
    """Failed attempts with one text: how often, their cause, the text, and an example."""

    attempts: int
    cause: str
    text: str


@dataclass(frozen=True)
class Summary:
    """Where a run stands.

    Parameters
    ----------
    file : str
        The results file.
    state : str
        "complete", "running", "stopped", "dead" (rank 0 went without a word), "too many failures" (see
        `run --max-failures`), or "ended by an error".
    n_simulations, completed, failed, pending : int
        Counts of simulations; pending ones are neither completed nor failed.
    complete : bool
        Whether none is pending.
    simulations_per_s : float or None
        Of the latest start, from its first assignment to its last result.
    time_left_s : float or None
        At that rate, while it runs.
    last_commit_s : float
        Seconds since rank 0's last sign of life.
    master_load : float or None
        Share of a core that directing took in the latest start (its own slots' traffic included).
    n_nonfinite : int
        Completed simulations whose log-likelihood is not finite.
    best_likelihood : float or None
        Highest log-likelihood so far.
    failures : list of Failures
        Commonest first.
    starts : list of dict
        Every start: when, where, with what.
    plan : dict
        See `RunPlan.identity`.
    versions : dict
        Of the latest start.
    hosts : list of str
        Hosts that any start used.
    time_series : str
        Where the saved channels are: "none", "in the file", or the spool's path.
    """

    file: str
    state: str
    n_simulations: int
    completed: int
    failed: int
    pending: int
    complete: bool
    simulations_per_s: float | None
    time_left_s: float | None
    last_commit_s: float
    master_load: float | None
    n_nonfinite: int
    best_likelihood: float | None
    failures: list[Failures]
    starts: list[dict[str, Any]]
    plan: dict[str, Any]
    versions: dict[str, str]
    hosts: list[str]
    time_series: str


def summarise(path: str) -> Summary:
    """Read where a run stands.

    Raises
    ------
    InputError
        The file is missing, damaged or not a results file.
    """
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
        status = h5file.read_status(file)
        likelihood = file["simulations/likelihood"][...][status == layout.COMPLETED]
        starts = _starts(file)
        rate = _rate(file, status, starts)
        hosts = [
            name.decode("utf-8", "replace")
            for name in file["hosts/name"][: h5file.read_count(file, "hosts", layout.N_HOSTS)]
        ]
        failures = _failures(file)
    counts = np.bincount(status, minlength=3)
    pending = int(counts[layout.PENDING])
    silent_s = time.time() - starts[-1]["last_commit_at"] if starts else math.inf
    state = _state(path, starts, pending, silent_s)
    finite = likelihood[np.isfinite(likelihood)]
    return Summary(
        file=path,
        state=state,
        n_simulations=header.n_simulations,
        completed=int(counts[layout.COMPLETED]),
        failed=int(counts[layout.FAILED]),
        pending=pending,
        complete=pending == 0,
        simulations_per_s=rate,
        time_left_s=pending / rate if rate and state == "running" else None,
        last_commit_s=silent_s,
        master_load=_master_load(starts),
        n_nonfinite=len(likelihood) - len(finite),
        best_likelihood=float(finite.max()) if len(finite) else None,
        failures=failures,
        starts=starts,
        plan=header.identity,
        versions=_versions(starts),
        hosts=hosts,
        time_series=_series_place(path, header),
    )


def _series_place(path: str, header: h5file.Header) -> str:
    if not header.channels:
        return "none"
    return "in the file" if header.folded else layout.spool_path(path)


def _starts(file: Any) -> list[dict[str, Any]]:
    n_starts = h5file.read_count(file, "starts", layout.N_STARTS)
    columns = {name: file[f"starts/{name}"][:n_starts] for name in file["starts"]}
    return [{name: _plain(column[row]) for name, column in columns.items()} for row in range(n_starts)]


def _versions(starts: list[dict[str, Any]]) -> dict[str, str]:
    """Of the latest start; nothing where a killed start had not noted them yet."""
    with contextlib.suppress(json.JSONDecodeError):
        found: dict[str, str] = json.loads(starts[-1]["versions"]) if starts else {}
        return found
    return {}


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value.item()


def _rate(file: Any, status: Any, starts: list[dict[str, Any]]) -> float | None:
    """Simulations a second of the latest start, from its first assignment to its last result."""
    if not starts or not starts[-1]["first_assignment_at"]:
        return None
    mine = (file["simulations/start"][...] == len(starts) - 1) & (status != layout.PENDING)
    if not mine.any():
        return None
    elapsed = float(file["simulations/finished_at"][...][mine].max()) - starts[-1]["first_assignment_at"]
    return float(mine.sum() / elapsed) if elapsed > 0 else None


def _master_load(starts: list[dict[str, Any]]) -> float | None:
    if not starts or not starts[-1]["first_assignment_at"]:
        return None
    elapsed_s = starts[-1]["last_commit_at"] - starts[-1]["first_assignment_at"]
    return float(starts[-1]["loop_cpu_s"] / elapsed_s) if elapsed_s > 1.0 else None


def _failures(file: Any) -> list[Failures]:
    n_errors = h5file.read_count(file, "errors", layout.N_ERRORS)
    columns = [file[f"errors/{name}"][:n_errors] for name in ("attempts", "cause", "text")]
    found = [
        Failures(int(attempts), cause.decode("utf-8", "replace"), text.decode("utf-8", "replace"))
        for attempts, cause, text in zip(*columns, strict=True)
    ]
    return sorted(found, key=lambda entry: -entry.attempts)


def _state(path: str, starts: list[dict[str, Any]], pending: int, silent_s: float) -> str:
    if not starts:
        return "stopped"
    state = _STATES.get(starts[-1]["state"], _BROKEN)
    if state == "running" and (silent_s > _SILENT_SECONDS or _is_abandoned(path)):
        return "dead"
    if state == "complete" and pending:  # killed between an extension and the first note of its start
        return "stopped"
    return "complete" if pending == 0 and state != "running" else state


def check_code(summary: Summary) -> int:
    """Return an exit code for scripts that have to decide whether to start a run again.

    Returns
    -------
    int
        0: nothing is pending. 75: the same command goes on. 1: it would, but the latest start ended by an error or
        by too many failures, so that somebody should look first.
    """
    if summary.complete:
        return EXIT_COMPLETE
    return EXIT_INTERNAL if summary.state in _LOOK_FIRST else EXIT_STOPPED


def _is_abandoned(path: str) -> bool:
    """Whether nobody holds the results file, as far as this host can tell."""
    lock = Path(layout.lock_path(path))
    holder = read_holder(lock)
    return not lock.exists() or (holder is not None and holder.is_dead)


def as_json(summary: Summary) -> str:
    """Return a summary as JSON; what JSON cannot say (infinity) is null."""
    return json.dumps(_finite(asdict(summary)), indent=1)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list) else value


def as_text(summary: Summary) -> str:
    """Return a summary for people."""
    lines = [
        f"{summary.file}: {summary.state}{_state_details(summary)}",
        f"  simulations  {summary.n_simulations}: {summary.completed} completed, {summary.failed} failed, "
        f"{summary.pending} pending",
        f"  rate         {_rate_text(summary)}",
        f"  likelihood   {_likelihood_text(summary)}",
        f"  time series  {_series_text(summary)}",
        *_start_lines(summary),
        f"  versions     {', '.join(f'{name} {version}' for name, version in summary.versions.items())}",
        f"  plan         {_plan_text(summary.plan)}",
        *_failure_lines(summary.failures),
    ]
    return "\n".join(lines)


def _state_details(summary: Summary) -> str:
    if summary.state == "running":
        holder = describe_holder(Path(layout.lock_path(summary.file)))
        return f" ({holder}; last sign of life {duration(summary.last_commit_s)} ago)"
    if summary.state == "dead":
        silent = duration(summary.last_commit_s)
        return f": rank 0 ended without a word, {silent} ago; the same command resumes"
    return "" if summary.complete else "; the same command resumes"


def _rate_text(summary: Summary) -> str:
    if summary.simulations_per_s is None:
        return "no result of the latest start yet"
    left = f", {duration(summary.time_left_s)} left" if summary.time_left_s else ""
    return f"{summary.simulations_per_s:.3g} simulations/s in the latest start{left}"


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


def _trouble_lines(summary: Summary, last: dict[str, Any]) -> list[str]:
    """What slows the latest start down without ending it."""
    lines = []
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


def _visible(line: str) -> str:
    """Show what would steer a terminal as its code."""
    return "".join(letter if letter.isprintable() or letter == "\t" else ascii(letter)[1:-1] for letter in line)


def _failure_lines(failures: list[Failures]) -> list[str]:
    if not failures:
        return []
    by_cause: dict[str, int] = {}
    for entry in failures:
        by_cause[entry.cause] = by_cause.get(entry.cause, 0) + entry.attempts
    causes = ", ".join(f"{count} by {cause}" for cause, count in by_cause.items())
    lines = [f"  failures     {sum(by_cause.values())} attempts: {causes}; the commonest:"]
    for entry in failures[:3]:
        lines.append(f"    {entry.attempts} x {entry.cause}:")
        lines += [f"      {_visible(line)}" for line in entry.text.splitlines()[-6:]]
    return lines
