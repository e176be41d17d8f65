"""Where the numbers come from: versions, plan, starts, hosts, seeds, and how to get them again."""

from __future__ import annotations

import json
import shlex
from typing import Any

from mosaic_mpi import layout
from mosaic_mpi.report import wording as say
from mosaic_mpi.report.snapshot import Snapshot

_FIRST, _LAST = 3, 9
"""Starts shown, of many."""
_ENDED = {
    layout.COMPLETE: "complete",
    layout.STOPPED: "stopped",
    layout.BROKEN: "ended by an error",
    layout.TOO_MANY_FAILURES: "too many failures",
}


def provenance(snapshot: Snapshot) -> dict[str, Any]:
    """Return what the section of that name shows."""
    summary, header = snapshot.summary, snapshot.results.header
    rows = [_start(snapshot, index) for index in range(len(summary.starts))]
    hidden = max(len(rows) - _FIRST - _LAST, 0)
    plan = {key: _plain(value) for key, value in summary.plan.items() if key != "likelihood"}
    hosts = sorted(summary.hosts)
    return {
        "versions": summary.versions | ({"loop over ticks": summary.engine} if summary.engine else {}),
        "plan": plan | {"fingerprint": header.fingerprint},
        "likelihood": {key: _plain(value) for key, value in summary.plan["likelihood"].items()},
        "starts": rows if not hidden else rows[:_FIRST] + rows[-_LAST:],
        "first": _FIRST if hidden else len(rows),
        "hidden": hidden + snapshot.n_starts - len(rows),
        "hosts": hosts,
        "file": snapshot.results.path,
        "size": say.size(snapshot.size_bytes),
        "created": snapshot.created,
        "command": summary.starts[-1]["command"] if summary.starts else "",
        "n_ranks": summary.n_ranks,
        "mpi": summary.starts[-1]["mpi"] if summary.starts else "",
        "file_word": shlex.quote(snapshot.results.path),
        "n_iterations": header.n_iterations,
        "best": _best(snapshot),
        "time_series": summary.time_series,
    }


def _start(snapshot: Snapshot, index: int) -> dict[str, Any]:
    start = snapshot.summary.starts[index]
    ended = float(start["ended_at"] or start["last_commit_at"])
    running = snapshot.is_running and index == len(snapshot.summary.starts) - 1
    state = "running" if running else _ENDED.get(start["state"], "killed, or died")
    return {
        "number": index + 1,
        "when": say.moment(start["started_at"]),
        "lasted": say.span(max(ended - start["started_at"], 0.0)),
        "ended": state,
        "completed": int((snapshot.completed.start == index).sum()),
        "n_ranks": start["n_ranks"],
        "n_slots": start["n_slots"],
        "n_hosts": start["n_hosts"],
        "host": start["host"],
        "job": start["job"],
        "mpi": start["mpi"],
    }


def _best(snapshot: Snapshot) -> int:
    """Id of a simulation to look at: the best so far, else the first."""
    import numpy as np

    likelihood = snapshot.completed.likelihood
    if not np.isfinite(likelihood).any():
        return int(snapshot.sim_id[0]) if len(snapshot.sim_id) else 1
    return int(snapshot.completed.sim_id[int(np.argmax(np.where(np.isfinite(likelihood), likelihood, -np.inf)))])


def _plain(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if isinstance(value, (str, int, float)) else json.dumps(value)
