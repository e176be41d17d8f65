"""What a run on the virtual cluster comes to: figures from its results file and from the notes of its processes.

- efficiency: slot-seconds inside simulations by slots x time, from the first assignment to the last commit
- steady: the same between a fifth and four fifths of that time, so without start and tail
- of_ideal: time of a perfect master, which has the next simulation in a free slot at once, by the time taken; where
  simulations are shared out at the end, this can exceed 1
- tail_s: from the first moment at which a slot had nothing more to do, to the last commit
- rank_0_core: CPU time of rank 0, all threads, by that time; rank_0_waited: share of the time in which its main
  thread was ready and the kernel ran something else on its core
- rank_0_resident_mb: largest resident memory (VmHWM), libraries and other shared pages included; rank_0_pss_mb: the
  same with shared pages by their share, the largest of samples ten times a second
- players_core: CPU time of the playing processes together; late_*_s: by how much answers left them later than a real
  rank would have sent them
- stored_mb_per_s: bytes of records and series by the time; file_mb: the file in the end
- finish_s: from the last commit to the end of the command: the disk, and series moved into the file
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from played_results import N_RECORDS, PlayedResults
from virtual_cases import Case

import mosaic_mpi
from mosaic_mpi.records import record_dtype
from mosaic_mpi.results import Results

N_ITERATIONS = 3
_ROWS_AT_ONCE = 1 << 16
_N_SERIES_READ = 512
_LATE_S = 0.05
"""Half of what rank 0 allows for an answer (`master._ANSWER_SECONDS`) before a slot may run out of work."""
_FULL = 0.9
"""Of a core: who uses so much of it has no more to give."""


def figures(
    case: Case,
    output: Path,
    notes: Sequence[Mapping[str, float]],
    samples: NDArray[np.float64],
    finished_at: float,
) -> dict[str, float]:
    """Check a results file, and return its figures.

    Parameters
    ----------
    case : Case
        What was played.
    output : Path
        The results file.
    notes : sequence of mapping
        What rank 0 and the players noted.
    samples : ndarray of float64, shape (n, 3)
        Of rank 0: seconds since 1970, seconds that it was ready but not running, bytes (PSS).
    finished_at : float
        When the command had ended, seconds since 1970.
    """
    run = mosaic_mpi.open(str(output))
    check(run, case)
    elapsed_s, ended = run.table("simulations/elapsed_s"), run.table("simulations/finished_at")
    first, last, cpu_s = (float(run.table(f"starts/{name}")[0]) for name in _OF_A_START)
    time_s, n, n_slots = last - first, case.n_simulations, case.n_played_slots
    dtype = record_dtype(N_ITERATIONS, len(run.parameter_names), len(run.channels))
    n_bytes = n * dtype.itemsize + (series_bytes(run, case) if run.channels else 0)
    ends = (first + 0.2 * time_s, first + 0.8 * time_s)
    return {
        "efficiency": float(elapsed_s.sum()) / (n_slots * time_s),
        "steady": busy_s(ended - elapsed_s, ended, *ends) / (n_slots * (ends[1] - ends[0])),
        "of_ideal": ideal_s(elapsed_s, n_slots) / time_s,
        "tail_s": last - max(min(note["first_idle_at"] for note in notes[1:]), first),
        "time_s": time_s,
        "results_per_s": n / time_s,
        "rank_0_us_per_result": 1e6 * cpu_s / n,
        "rank_0_core": cpu_s / time_s,
        "rank_0_waited": waited_s(samples, first, last) / time_s,
        "rank_0_resident_mb": notes[0]["peak_resident_bytes"] / 1e6,
        "rank_0_pss_mb": float(samples[:, 2].max(initial=0.0)) / 1e6,
        "players_core": sum(note["cpu_s"] for note in notes[1:]) / time_s,
        **{name: max(note[name] for note in notes[1:]) for name in ("late_median_s", "late_p99_s", "late_most_s")},
        "stored_mb_per_s": n_bytes / time_s / 1e6,
        "file_mb": os.path.getsize(output) / 1e6,
        "finish_s": finished_at - last,
    }


_OF_A_START = ("first_assignment_at", "ended_at", "loop_cpu_s")


def series_bytes(run: Results, case: Case) -> int:
    """Stored bytes of all series of a run, known from what was played, which `check` has found in the file."""
    played = _played(run, case)
    sizes = np.array([len(played.series(number)[0]) for number in range(N_RECORDS)])
    return int(sizes[np.arange(case.n_simulations) % N_RECORDS].sum())


def _played(run: Results, case: Case) -> PlayedResults:
    dtype = record_dtype(N_ITERATIONS, len(run.parameter_names), len(run.channels))
    return PlayedResults(dtype, case.n_countries, case.n_days)


def check(run: Results, case: Case) -> None:
    """See that a results file holds every simulation of a case, with the very numbers that were played.

    Raises
    ------
    SystemExit
        It does not; says what is wrong.
    """
    if run.n_simulations != case.n_simulations:
        raise SystemExit(f"{run.path} is of {run.n_simulations} simulations, not {case.n_simulations}")
    played = _played(run, case)
    for first in range(0, case.n_simulations, _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, case.n_simulations))
        expected = played.records[rows % N_RECORDS]
        for name, values in _expected(expected).items():
            wrong = np.flatnonzero((run.rows_of(name, rows) != values).reshape(len(rows), -1).any(axis=1))
            if len(wrong):
                raise SystemExit(f"{run.path}: {name} of row {rows[wrong[0]]} is not what was played")
    if run.channels:
        _check_series(run, played)


def _expected(records: NDArray[np.void]) -> dict[str, Any]:
    return {
        "simulations/status": 1,
        "simulations/attempts": 1,
        "simulations/likelihood": records["likelihood"],
        "simulations/checksum": records["checksum"],
        "iterations/likelihood": records["iteration_likelihood"],
        "parameters/values": records["parameters"],
    }


def _check_series(run: Results, played: PlayedResults) -> None:
    """Compare the bytes of some hundred simulations, from the first to the last."""
    rows = np.unique(np.linspace(0, run.n_simulations - 1, _N_SERIES_READ).astype(np.int64))
    for row, stored in run.stored_series(rows, run.channels):
        if stored != played.series(row % N_RECORDS):
            raise SystemExit(f"{run.path}: the series of row {row} are not what was played")


def busy_s(began: NDArray[np.float64], ended: NDArray[np.float64], first: float, last: float) -> float:
    """Seconds inside simulations between two moments, all slots together."""
    return float(np.clip(np.minimum(ended, last) - np.maximum(began, first), 0.0, None).sum())


def ideal_s(elapsed_s: NDArray[np.float64], n_slots: int) -> float:
    """When the last slot is free, if each takes the next simulation as soon as it is free."""
    free = [0.0] * n_slots
    for seconds in elapsed_s.tolist():
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def waited_s(samples: NDArray[np.float64], first: float, last: float) -> float:
    """Seconds between two moments in which a process was ready and did not run, from samples of their sum."""
    if not len(samples):
        return 0.0
    return float(np.interp(last, samples[:, 0], samples[:, 1]) - np.interp(first, samples[:, 0], samples[:, 1]))


def limit(found: Mapping[str, float]) -> str:
    """Say who kept a run from being faster, by its figures: "players", "rank 0", "other programs", or nobody: ""."""
    if found["late_p99_s"] > _LATE_S:
        return "players"
    if found["rank_0_waited"] > 1 - _FULL:
        return "other programs"
    return "rank 0" if found["rank_0_core"] > _FULL else ""


def saturation(measured: Sequence[tuple[float, float]], efficiency: float) -> float | None:
    """The rate at which slots are no longer used so well, results a second that are stored.

    Parameters
    ----------
    measured : sequence of (float, float)
        Offered results a second, ascending, and the efficiency there.
    efficiency : float
        The least that is wanted.

    Returns
    -------
    float or None
        Between two measured ones by the logarithm of what is offered; None if all were used better, or none was.
    """
    for (rate, good), (next_rate, bad) in pairwise(measured):
        if good >= efficiency > bad:
            share = (good - efficiency) / (good - bad)
            return float(rate * (next_rate / rate) ** share * efficiency)
    return None
