"""Where a run stands: counts, rate, time left, failures by cause, versions, hosts.

From the results file alone, so that a login node can tell, while the run goes on and after. How people are told is
`summary_text`'s business. Knows no MPI and no engine.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout
from mosaic_mpi.error_kinds import by_kind
from mosaic_mpi.errors import EXIT_COMPLETE, EXIT_INTERNAL, EXIT_STOPPED
from mosaic_mpi.holder import read_holder
from mosaic_mpi.plan import spans
from mosaic_mpi.standing import Standing

_SILENT_HOST_SECONDS = 30.0
"""Ranks give a sign of life every few seconds: a host without one for so long, by rank 0's clock, has gone silent."""
_RECENT_SECONDS = 60.0
_RECENT_RESULTS = 20
_SILENT_SECONDS = 60.0
"""Rank 0 gives a sign of life every few seconds: without one for so long, it is dead or stuck."""
_BROKEN = layout.STATE_NAMES[layout.BROKEN]
_LOOK_FIRST = (_BROKEN, layout.STATE_NAMES[layout.TOO_MANY_FAILURES])


@dataclass(frozen=True)
class Failures:
    """Failed attempts with one text: how often, their cause, the text, and an example."""

    attempts: int
    cause: str
    text: str


@dataclass(frozen=True)
class SilentHost:
    """A host of the latest start that its rank 0 no longer heard of, and for how many seconds by then."""

    host: str
    silent_s: float


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
    sim_ids : str
        Their ids, "1-100"; of a piece of a plan "11-20".
    simulations_per_s : float or None
        Of the latest start, failed ones included, from its first assignment to its last result.
    time_left_s : float or None
        At that rate, while it runs.
    last_commit_s : float
        Seconds since rank 0's last sign of life; it gives one every five seconds at least.
    last_result_s : float or None
        Seconds since the latest result of the latest start was stored.
    recent_simulations_per_s : float or None
        Of the last minute with results, or of more where that holds few; the time left follows from it.
    elapsed_s : float
        Seconds from the beginning of the latest start to its end, to its last sign of life, or to now.
    n_ranks, n_ranks_alive, n_slots, n_slots_alive : int
        Of the latest start: those that were started, and those that answered at the last sign of life.
    silent_hosts : list of SilentHost
        Hosts of the latest start that had gone silent by then, the longest silent first.
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
    engine : str
        The loop over ticks of the latest start, and why; empty where it was not noted.
    n_stock : int
        Iterations of completed simulations that the engine's own loop ran, and not the compiled one.
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
    sim_ids: str
    simulations_per_s: float | None
    time_left_s: float | None
    last_commit_s: float
    last_result_s: float | None
    recent_simulations_per_s: float | None
    elapsed_s: float
    n_ranks: int
    n_ranks_alive: int
    n_slots: int
    n_slots_alive: int
    silent_hosts: list[SilentHost]
    master_load: float | None
    n_nonfinite: int
    best_likelihood: float | None
    failures: list[Failures]
    starts: list[dict[str, Any]]
    plan: dict[str, Any]
    versions: dict[str, str]
    engine: str
    n_stock: int
    hosts: list[str]
    time_series: str


def summarise(path: str) -> Summary:
    """Read where a run stands.

    Raises
    ------
    InputError
        The file is missing, damaged or not a results file.
    """
    was_abandoned = _is_abandoned(path)
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
        status = h5file.read_status(file)
        sim_ids = spans(file["simulations/sim_id"][...])
        likelihood = file["simulations/likelihood"][...][status == layout.COMPLETED]
        starts = _starts(file)
        hosts = [
            name.decode("utf-8", "replace")
            for name in file["hosts/name"][: h5file.read_count(file, "hosts", layout.N_HOSTS)]
        ]
        finished_at = _finished_at(file, status, starts)
        heard_at = file["hosts/heard_at"][: len(hosts)] if "hosts/heard_at" in file else np.zeros(len(hosts))
        failures = _failures(file)
        counted = file["simulations/n_stock"][...] if "simulations/n_stock" in file else np.zeros(0, np.int32)
        n_stock = int(counted[status[: len(counted)] == layout.COMPLETED].sum())
    counts = np.bincount(status, minlength=3)
    pending = int(counts[layout.PENDING])
    silent_s = time.time() - starts[-1]["last_commit_at"] if starts else math.inf
    # Rank 0 notes its end and then lets go; whoever takes the file up again takes hold first and notes it then. So
    # only a lock that was free before and after the reading tells of a rank 0 that left the file as it was read.
    is_abandoned = was_abandoned and _is_abandoned(path)
    state = _state(starts, pending, is_abandoned or silent_s > _SILENT_SECONDS)
    finite = likelihood[np.isfinite(likelihood)]
    last = starts[-1] if starts else None
    rate, recent = _rate(finished_at, last), _recent_rate(finished_at, last)
    return Summary(
        file=path,
        state=state,
        n_simulations=header.n_simulations,
        completed=int(counts[layout.COMPLETED]),
        failed=int(counts[layout.FAILED]),
        pending=pending,
        complete=pending == 0,
        sim_ids=sim_ids,
        simulations_per_s=rate,
        time_left_s=pending / recent if recent and state == "running" else None,
        last_commit_s=silent_s,
        last_result_s=time.time() - float(finished_at.max()) if len(finished_at) else None,
        recent_simulations_per_s=recent,
        elapsed_s=_elapsed_s(last, state),
        n_ranks=last["n_ranks"] if last else 0,
        n_ranks_alive=last["n_ranks"] - last["n_ranks_lost"] if last else 0,
        n_slots=last["n_slots"] if last else 0,
        n_slots_alive=last["n_slots_live"] if last else 0,
        silent_hosts=_silent_hosts(hosts, heard_at, last),
        master_load=_master_load(starts),
        n_nonfinite=len(likelihood) - len(finite),
        best_likelihood=float(finite.max()) if len(finite) else None,
        failures=failures,
        starts=starts,
        plan=header.identity,
        versions=_versions(starts),
        engine=str(last.get("engine", "")) if last else "",
        n_stock=n_stock,
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


def _finished_at(file: Any, status: Any, starts: list[dict[str, Any]]) -> NDArray[np.float64]:
    """When each result of the latest start came, in no order."""
    if not starts or not starts[-1]["first_assignment_at"]:
        return np.empty(0)
    mine = (file["simulations/start"][...] == len(starts) - 1) & (status != layout.PENDING)
    found: NDArray[np.float64] = file["simulations/finished_at"][...][mine]
    return found


def _rate(finished_at: NDArray[np.float64], start: dict[str, Any] | None) -> float | None:
    """Simulations a second of a start, from its first assignment to its last result."""
    if start is None or not len(finished_at):
        return None
    elapsed = float(finished_at.max()) - start["first_assignment_at"]
    return float(len(finished_at) / elapsed) if elapsed > 0 else None


def _recent_rate(finished_at: NDArray[np.float64], start: dict[str, Any] | None) -> float | None:
    """Simulations a second up to the last result: of a minute, or of two results a slot where that is longer."""
    if start is None or not len(finished_at):
        return None
    last = float(finished_at.max())
    n_recent = max(int((finished_at > last - _RECENT_SECONDS).sum()), 2 * start["n_slots"], _RECENT_RESULTS)
    if n_recent >= len(finished_at):
        return _rate(finished_at, start)
    place = len(finished_at) - n_recent - 1
    elapsed = last - float(np.partition(finished_at, place)[place])
    return n_recent / elapsed if elapsed > 0 else None


def _elapsed_s(start: dict[str, Any] | None, state: str) -> float:
    if start is None:
        return 0.0
    until = time.time() if state == "running" else start["ended_at"] or start["last_commit_at"]
    return float(max(until - start["started_at"], 0.0))


def _silent_hosts(hosts: list[str], heard_at: NDArray[np.float64], start: dict[str, Any] | None) -> list[SilentHost]:
    if start is None:
        return []
    silent_s = start["last_commit_at"] - heard_at
    silent = np.flatnonzero((heard_at > 0) & (silent_s > _SILENT_HOST_SECONDS))
    found = [SilentHost(hosts[row], float(silent_s[row])) for row in map(int, silent)]
    return sorted(found, key=lambda entry: -entry.silent_s)


def standing(summary: Summary) -> Standing:
    """Return a summary's few figures that change while a run goes on."""
    return Standing(
        state=summary.state,
        n_simulations=summary.n_simulations,
        completed=summary.completed,
        failed=summary.failed,
        per_s=summary.recent_simulations_per_s,
        left_s=summary.time_left_s,
        elapsed_s=summary.elapsed_s,
        n_ranks_alive=summary.n_ranks_alive,
        n_ranks=summary.n_ranks,
        n_slots_alive=summary.n_slots_alive,
        n_slots=summary.n_slots,
        best_likelihood=summary.best_likelihood,
        last_result_s=summary.last_result_s,
    )


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


def kinds_of_failures(failures: list[Failures]) -> list[Failures]:
    """Take texts that differ in numbers only together, the commonest first; the commonest text stands for them."""
    kinds = by_kind((entry.cause, entry.text, entry) for entry in failures)
    found = [replace(kind[0], attempts=sum(entry.attempts for entry in kind)) for kind in kinds]
    return sorted(found, key=lambda entry: -entry.attempts)


def _state(starts: list[dict[str, Any]], pending: int, is_without_master: bool) -> str:
    if not starts:
        return "stopped"
    state = layout.STATE_NAMES.get(starts[-1]["state"], _BROKEN)
    if state == "running" and is_without_master:
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
