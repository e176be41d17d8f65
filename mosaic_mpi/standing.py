"""Where a run stands, in few figures: one line for logs, a few short ones for a terminal.

Owns the words in which a run in progress is told of, by rank 0 and by `status --watch` alike. Knows no file, no MPI
and no terminal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


def duration(seconds: float) -> str:
    """Return a time span the way people say it: "42 s", "3 min 20 s", "2 h 05 min", "3 d 04 h"."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def clock(seconds: float) -> str:
    """Return a time span as options take it: "00:07:41", "3-04:00:00"."""
    whole = max(round(seconds), 0)
    days = f"{whole // 86400}-" if whole >= 86400 else ""
    return f"{days}{whole % 86400 // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Parameters
    ----------
    state : str
        "running", or how it ended.
    n_simulations, completed, failed : int
        Counts of simulations.
    per_s : float or None
        Simulations a second lately.
    left_s : float or None
        Seconds to go at that rate.
    elapsed_s : float
        Seconds since this start of the run began.
    n_ranks_alive, n_ranks, n_slots_alive, n_slots : int
        Those that answer, and those that were started.
    best_likelihood : float or None
        Highest log-likelihood so far.
    last_result_s : float or None
        Seconds since the latest result.
    """

    state: str
    n_simulations: int
    completed: int
    failed: int
    per_s: float | None
    left_s: float | None
    elapsed_s: float
    n_ranks_alive: int
    n_ranks: int
    n_slots_alive: int
    n_slots: int
    best_likelihood: float | None
    last_result_s: float | None

    @property
    def done(self) -> int:
        """Simulations that are completed or failed."""
        return self.completed + self.failed

    @property
    def share(self) -> float:
        """Of all simulations, those that are done; 1 only when all are."""
        return self.done / self.n_simulations if self.n_simulations else 1.0


@dataclass(frozen=True)
class Row:
    """One short line of a display: what, how it stands, and whether it is a worry.

    Parameters
    ----------
    label, text : str
        Shown beside each other.
    share : float or None
        Between 0 and 1, to be shown as a bar before the text.
    is_worrying : bool
        Whether somebody should look at it.
    """

    label: str
    text: str
    share: float | None = None
    is_worrying: bool = False


def percent(share: float) -> str:
    """Return a share in percent, rounded down, so that 100.0 means all."""
    return f"{int(share * 1000 + 1e-9) / 10:.1f}"


def as_line(standing: Standing) -> str:
    """Return one line of ``key=value``, the same keys in the same order always; the README lists them."""
    s = standing
    pairs = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "state": s.state.replace(" ", "-"),
        "done": f"{s.done}/{s.n_simulations}",
        "percent": percent(s.share),
        "failed": s.failed,
        "per_s": "none" if s.per_s is None else f"{s.per_s:.4g}",
        "left": "none" if s.left_s is None else clock(s.left_s),
        "elapsed": clock(s.elapsed_s),
        "ranks": f"{s.n_ranks_alive}/{s.n_ranks}",
        "slots": f"{s.n_slots_alive}/{s.n_slots}",
        "best": "none" if s.best_likelihood is None else f"{s.best_likelihood:.2f}",
        "last_result_s": "none" if s.last_result_s is None else f"{max(s.last_result_s, 0.0):.0f}",
    }
    return " ".join(("progress", *(f"{key}={value}" for key, value in pairs.items())))


def as_rows(standing: Standing) -> list[Row]:
    """Return the lines of a display, each at most about forty columns wide."""
    s = standing
    best = "none yet" if s.best_likelihood is None else f"log-likelihood {s.best_likelihood:.2f}"
    return [
        Row("progress", f"{percent(s.share)} %", s.share),
        Row("done", f"{s.done} of {s.n_simulations}"),
        Row("failed", str(s.failed), is_worrying=s.failed > 0),
        Row("rate", "no result yet" if s.per_s is None else f"{s.per_s:.3g} simulations/s"),
        Row("time left", "unknown" if s.left_s is None else duration(s.left_s)),
        Row("ranks", f"{s.n_ranks_alive} of {s.n_ranks} alive", is_worrying=s.n_ranks_alive < s.n_ranks),
        Row("slots", f"{s.n_slots_alive} of {s.n_slots} alive"),
        Row("best", best),
        Row("last result", "none yet" if s.last_result_s is None else f"{duration(s.last_result_s)} ago"),
    ]
