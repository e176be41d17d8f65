"""What a report is made from, read at one moment: the small columns of a results file.

Owns the reading of everything that has one value a simulation, or one an iteration. Parameters and time series are
read later, of the simulations that matter. Knows no figure and no page.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout
from mosaic_mpi.fake import PREFIX
from mosaic_mpi.results import Results
from mosaic_mpi.summary import Summary, summarise


@dataclass(frozen=True)
class Completed:
    """Completed simulations in the order in which their results were stored.

    Parameters
    ----------
    row, sim_id : ndarray of int64, shape (n,)
        Row in the file, and id.
    likelihood : ndarray of float64, shape (n,)
        Log-likelihood; -inf and NaN are possible.
    iteration_likelihood : ndarray of float64, shape (n, n_iterations)
        Log-likelihood of each iteration.
    elapsed_s, finished_at : ndarray of float64, shape (n,)
        Seconds in its slot; seconds since 1970.
    rank, slot, host, start : ndarray of int64, shape (n,)
        Where it ran; host is an index of `Snapshot.hosts`, start one of `Summary.starts`.
    """

    row: NDArray[np.int64]
    sim_id: NDArray[np.int64]
    likelihood: NDArray[np.float64]
    iteration_likelihood: NDArray[np.float64]
    elapsed_s: NDArray[np.float64]
    finished_at: NDArray[np.float64]
    rank: NDArray[np.int64]
    slot: NDArray[np.int64]
    host: NDArray[np.int64]
    start: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def chosen(self, which: NDArray[np.bool_]) -> Completed:
        """Return some of them, by a mask."""
        return Completed(**{entry.name: getattr(self, entry.name)[which] for entry in fields(self)})


@dataclass(frozen=True)
class Snapshot:
    """A run as its results file shows it at one moment.

    Parameters
    ----------
    results : Results
        For what is read later.
    summary : Summary
        State, starts, plan, versions.
    taken_at : float
        Seconds since 1970.
    n_starts : int
        Of all starts, also those beyond the rows of ``starts/*``.
    hosts : list of str
        Names by index.
    completed : Completed
    status : ndarray of int8, shape (n_simulations,)
    sim_id, attempts, failed_attempts, error : ndarray of int32, shape (n_simulations,)
        As in ``simulations/*``.
    failed_at : ndarray of float64, shape (n_failed,)
        When simulations were given up, seconds since 1970.
    failed_start : ndarray of int64, shape (n_failed,)
        In which start.
    size_bytes : int
        Of the results file, with its spool.
    created : str
        By what and when the file was made.
    """

    results: Results
    summary: Summary
    taken_at: float
    n_starts: int
    hosts: list[str]
    completed: Completed
    status: NDArray[np.int8]
    sim_id: NDArray[np.int32]
    attempts: NDArray[np.int32]
    failed_attempts: NDArray[np.int32]
    error: NDArray[np.int32]
    failed_at: NDArray[np.float64]
    failed_start: NDArray[np.int64]
    size_bytes: int
    created: str

    @property
    def n_simulations(self) -> int:
        """Of the plan."""
        return len(self.status)

    @property
    def n_completed(self) -> int:
        """Simulations with a result."""
        return len(self.completed)

    @property
    def n_failed(self) -> int:
        """Simulations that were given up."""
        return len(self.failed_at)

    @property
    def n_pending(self) -> int:
        """Simulations still to run."""
        return self.n_simulations - self.n_completed - self.n_failed

    @property
    def is_fake(self) -> bool:
        """Whether a stand-in took the engine's place, so that the numbers mean nothing."""
        return str(self.summary.plan["simulator"]).startswith(PREFIX)

    @property
    def is_running(self) -> bool:
        """Whether rank 0 has given a sign of life lately."""
        return self.summary.state == "running"


def take(path: str) -> Snapshot:
    """Read a results file, finished or still growing.

    Raises
    ------
    InputError
        It is missing, damaged or not a results file.
    """
    summary = summarise(path)
    results = Results(path)
    with h5file.reading(path) as file:
        status = file["simulations/status"][...]  # first: what it calls completed is all there
        columns = {name: file[f"simulations/{name}"][...] for name in _COLUMNS}
        iterations = file["iterations/likelihood"][...]
        n_starts = int(file["progress/n_starts"][0])
        size_bytes = h5file.stored_bytes(file)
        created = h5file.origin(file)
    done = np.flatnonzero(status == layout.COMPLETED)
    done = done[np.argsort(columns["commit"][done], kind="stable")]
    failed = np.flatnonzero(status == layout.FAILED)
    last_start, last_host = max(len(summary.starts) - 1, 0), max(len(summary.hosts) - 1, 0)
    start = np.clip(columns["start"].astype(np.int64), 0, last_start)
    completed = Completed(
        row=done,
        sim_id=columns["sim_id"][done].astype(np.int64),
        likelihood=columns["likelihood"][done],
        iteration_likelihood=iterations[done],
        elapsed_s=columns["elapsed_s"][done],
        finished_at=columns["finished_at"][done],
        rank=columns["rank"][done].astype(np.int64),
        slot=columns["slot"][done].astype(np.int64),
        host=np.clip(columns["host"][done].astype(np.int64), 0, last_host),
        start=start[done],
    )
    return Snapshot(
        results=results,
        summary=summary,
        taken_at=time.time(),
        n_starts=n_starts,
        hosts=summary.hosts or ["?"],
        completed=completed,
        status=status,
        sim_id=columns["sim_id"],
        attempts=columns["attempts"],
        failed_attempts=columns["failed_attempts"],
        error=columns["error"],
        failed_at=columns["finished_at"][failed],
        failed_start=start[failed],
        size_bytes=size_bytes,
        created=created,
    )


_COLUMNS = (
    *("sim_id", "attempts", "failed_attempts", "likelihood", "elapsed_s", "finished_at"),
    *("rank", "slot", "host", "start", "error", "commit"),
)
