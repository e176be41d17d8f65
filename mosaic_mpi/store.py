"""Rank 0's hand on the results file: create or resume, commit, check point, finish.

Owns the order of writes. A commit writes the payload into bytes that already exist and the status byte last, so
that a row without its status does not exist and a kill at any instruction leaves an intact file. HDF5 itself is
not involved while the run goes on: tables are contiguous, and written at their offsets. Time series, compressed
by the slots, are appended to a spool beside the file and folded into it on completion.

Results after the last check point have not surely reached the disk. If a node (not only a process) dies, the
next start verifies just those by their checksums, and runs again what does not match.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout, rebuild
from mosaic_mpi.blueprint import blueprint_of
from mosaic_mpi.errors import PlanMismatch, StorageError
from mosaic_mpi.h5file import Header
from mosaic_mpi.journal import Journal
from mosaic_mpi.lock import WriterLock
from mosaic_mpi.plan import RunPlan, rows_of, spans
from mosaic_mpi.plan_differences import differences
from mosaic_mpi.spool import Spool
from mosaic_mpi.tablefile import TableFile
from mosaic_mpi.verification import mismatching, unverified

_COPIED = ("likelihood", "elapsed_s", "finished_at", "slot", "n_stock", "checksum")
"""Fields of a record that are stored as they come."""


@dataclass(frozen=True)
class _Batch:
    """Results that wait for a commit; `start` is where their series begin in the spool."""

    records: NDArray[np.void]
    ranks: NDArray[np.int64]
    hosts: NDArray[np.int64]
    attempts: NDArray[np.int32]
    start: int

    def series_offsets(self) -> NDArray[np.int64]:
        """Where each channel of each result begins, ``ndarray of int64, shape (n, n_channels)``."""
        sizes: NDArray[np.int64] = self.records["series_bytes"]
        ends = self.start + np.cumsum(sizes.ravel()).reshape(sizes.shape)
        offsets: NDArray[np.int64] = ends - sizes
        return offsets


def is_finished(path: str, plan: RunPlan, retry_failed: bool = False) -> bool:
    """Whether a results file holds all of this very plan, with nothing left to do.

    Parameters
    ----------
    path : str
        The results file.
    plan : RunPlan
        What it should hold.
    retry_failed : bool
        Whether failed simulations are to be run again.

    Raises
    ------
    InputError
        The file is damaged, foreign, or of another plan.
    """
    if not os.path.lexists(path) or rebuild.leftovers(path):  # of a killed --overwrite, say: to be removed first
        return False
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
        _refuse_other_plan(path, file, header, plan)
        done = not _to_do(file, retry_failed).any()
        folded = (header.folded and not Path(layout.spool_path(path)).exists()) or not header.channels
        return bool(done and folded and header.n_simulations == plan.n_simulations)


def _to_do(file: Any, retry_failed: bool) -> NDArray[np.bool_]:
    status: NDArray[np.int8] = file["simulations/status"][...]
    to_do: NDArray[np.bool_] = status != layout.COMPLETED  # one that is damaged counts for nothing
    return to_do if retry_failed else to_do & (status != layout.FAILED)


def preview(path: str, plan: RunPlan, overwrite: bool, retry_failed: bool = False) -> tuple[str, int]:
    """Say what a start would do with a results file, without touching it.

    Returns
    -------
    state : str
        For a person.
    n_to_do : int
        Simulations still to run.

    Raises
    ------
    InputError
        A start would refuse the file.
    """
    if not os.path.lexists(path):
        return "new", plan.n_simulations
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
        if overwrite:
            return "would be overwritten", plan.n_simulations
        _refuse_other_plan(path, file, header, plan)
        n_done = int((~_to_do(file, retry_failed)).sum())
    extended = f", extended from {header.n_simulations}" if plan.n_simulations > header.n_simulations else ""
    return f"resumed, {n_done} done{extended}", plan.n_simulations - n_done


def _refuse_other_plan(path: str, file: Any, header: Header, plan: RunPlan) -> None:
    found = []
    if header.fingerprint != plan.fingerprint:
        found = differences(header.identity, h5file.read_config(file), plan)
    ids = file["simulations/sim_id"][...]
    lacking = ids[rows_of(plan.sim_ids, ids) < 0]
    if len(lacking):
        fewer = " (fewer)" if plan.n_simulations < header.n_simulations else ""
        counts = f"n_simulations: {header.n_simulations} in the file, {plan.n_simulations} now{fewer}"
        found.append(f"{counts}; the plan lacks simulations {spans(lacking)}")
    if found:
        advice = "use the same inputs to resume it, another --output, or --overwrite to start anew"
        raise PlanMismatch([f"{path} belongs to another plan; {advice}:", *(f"  {line}" for line in found)])


class Store:
    """The open results file of a run; one a run, on rank 0.

    Parameters
    ----------
    path : str
        The results file.
    plan : RunPlan
        With its channels.
    overwrite : bool
        Start anew even if the file exists.
    retry_failed : bool
        Take simulations that have failed for pending ones without any attempt.

    Raises
    ------
    FileInUse, PlanMismatch, InputError, StorageError
        See `mosaic_mpi.errors`; nothing has been changed then.
    """

    def __init__(self, path: str, plan: RunPlan, overwrite: bool = False, retry_failed: bool = False) -> None:
        self.path, self._plan, self._retry_failed = layout.real_path(path), plan, retry_failed
        self.n_retried = 0
        self._lock = WriterLock(path)
        self._spool: Spool | None = None
        self._buffered: list[_Batch] = []
        self.n_buffered = self.buffered_bytes = 0
        self._sync: Future[int] | None = None
        try:
            with self._guard(through_hdf5=True):
                rebuild.remove_leftovers(self.path)
                self._provide(overwrite)
                self._tables = TableFile(self.path)
                self._load()
        except BaseException:
            with contextlib.suppress(OSError):
                rebuild.remove_leftovers(self.path)
            self._lock.release()
            raise
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    # ---- opening ------------------------------------------------------------------------------------

    def _provide(self, overwrite: bool) -> None:
        """See that there is a file of this plan, with room for all of its simulations."""
        if not os.path.lexists(self.path):
            rebuild.create(self.path, blueprint_of(self._plan))
            return
        with h5file.reading(self.path) as file:  # refuses what is foreign or damaged, --overwrite or not
            header = h5file.read_header(file)
            if not overwrite:
                _refuse_other_plan(self.path, file, header, self._plan)
            unfinished = bool(_to_do(file, self._retry_failed).any())
        is_closed = header.folded and header.channels and unfinished  # what runs again needs a spool
        if overwrite:
            rebuild.create(self.path, blueprint_of(self._plan))
        elif self._plan.n_simulations > header.n_simulations or is_closed:
            rebuild.extend(self.path, blueprint_of(self._plan), header)

    def _load(self) -> None:
        with h5file.reading(self.path) as file:
            self._header = h5file.read_header(file)
            self.status: NDArray[np.int8] = file["simulations/status"][...]
            self.failed_attempts: NDArray[np.int32] = file["simulations/failed_attempts"][...]
            self._journal = Journal(self._tables, file)
            commits = file["simulations/commit"][...]
            self._commits = int(commits.max(initial=0))
            durable = int(file["progress/durable_commit"][0])
            self._open_spool(file)
            done = self.status == layout.COMPLETED
            read = self._spool.read if self._spool is not None else None
            suspects = np.flatnonzero(unverified(commits, durable) & done)
            for row in (*mismatching(file, suspects, read), *np.flatnonzero(~h5file.is_known(self.status))):
                self._forget(int(row))
            if self._retry_failed:
                self._reopen_failed()
            self._count_attempts_again(file)
            if self._spool is not None:
                self._spool.truncate(self._spool_end(file))

    def _open_spool(self, file: Any) -> None:
        spool = layout.spool_path(self.path)
        if not self._plan.channels or self._header.folded:
            Path(spool).unlink(missing_ok=True)
            return
        needed = bool((self.status == layout.COMPLETED).any())
        self._spool = Spool(spool, self._header.spool_id, must_exist=needed)

    def _forget(self, row: int) -> None:
        """A result that did not reach the disk before its node died: it is to be run again."""
        self.status[row] = layout.PENDING
        self._tables.write("simulations/status", row, [layout.PENDING])

    def _reopen_failed(self) -> None:
        """Make failed simulations pending; the status comes last, as in every commit."""
        failed = np.flatnonzero(self.status == layout.FAILED)
        for name in ("simulations/failed_attempts", "simulations/attempts"):
            self._tables.write_rows(name, failed, np.zeros(len(failed), np.int32))
        self._tables.write_rows("simulations/status", failed, np.full(len(failed), layout.PENDING, np.int8))
        self.status[failed], self.failed_attempts[failed] = layout.PENDING, 0
        self.n_retried = len(failed)

    def _count_attempts_again(self, file: Any) -> None:
        """An attempt whose outcome was never quite stored counts for nothing; the last of a failed one was."""
        attempts = file["simulations/attempts"][...]
        wrong = attempts != self.failed_attempts
        for row in map(int, np.flatnonzero(wrong & (self.status == layout.PENDING))):
            self._tables.write("simulations/attempts", row, [self.failed_attempts[row]])
        for row in map(int, np.flatnonzero(wrong & (self.status == layout.FAILED))):
            self.failed_attempts[row] = attempts[row]
            self._tables.write("simulations/failed_attempts", row, [attempts[row]])

    def _spool_end(self, file: Any) -> int:
        ends = file["series/offset"][...] + file["series/bytes"][...]
        return int(ends[self.status == layout.COMPLETED].max(initial=Spool.HEADER_BYTES))

    # ---- notes --------------------------------------------------------------------------------------

    def begin_start(self, **fields: Any) -> None:
        """Note that a run starts now.

        Parameters
        ----------
        **fields
            Columns of ``starts/*``: n_ranks, n_slots, n_hosts, host, pid, job, mpi, command, versions.
        """
        with self._guard():
            self._journal.begin_start(**fields)

    def note(self, **fields: Any) -> None:
        """Set columns of this start's row of ``starts/*``."""
        with self._guard():
            self._journal.note(**fields)

    def note_hosts(self, heard_at: NDArray[np.float64]) -> None:
        """Note when each row of ``hosts/name`` was last heard of, seconds since 1970; 0: not in this start."""
        with self._guard():
            self._journal.note_hosts(heard_at)

    def host_row(self, name: str) -> int:
        """Return the row of a host in ``hosts/name``, adding it if it is new."""
        with self._guard():
            return self._journal.host_row(name)

    # ---- results ------------------------------------------------------------------------------------

    def add(
        self,
        records: NDArray[np.void],
        series: Sequence[memoryview],
        rank: NDArray[np.int64] | int,
        host: NDArray[np.int64] | int,
        attempts: NDArray[np.int32],
    ) -> None:
        """Take finished simulations; they count once `commit` has returned.

        Parameters
        ----------
        records : ndarray of `records.record_dtype`, shape (n,)
            Each row once, none of them completed before; kept until the commit.
        series : sequence of memoryview
            Their compressed channels, one record after the other, in as many pieces as it comes.
        rank, host : int, or ndarray of int64, shape (n,)
            Where they ran; host is a row of ``hosts/name``.
        attempts : ndarray of int32, shape (n,)
            Attempts that each took.
        """
        start = 0
        if self._spool is not None:
            start = self._spool.size()
            with self._guard():
                for piece in series:
                    self._spool.append(piece)
        ranks, hosts = (np.broadcast_to(value, len(records)) for value in (rank, host))
        self._buffered.append(_Batch(records, ranks, hosts, attempts, start))
        self.n_buffered += len(records)
        self.buffered_bytes += records.nbytes

    def commit(self) -> int:
        """Write what was added, then the status bytes that make it count; return how many rows."""
        if not self._buffered:
            return 0
        rows, columns = self._columns(self._buffered)
        with self._guard():
            for name, column in columns.items():
                self._tables.write_rows(name, rows, column)
            self._tables.write_rows("simulations/status", rows, np.full(len(rows), layout.COMPLETED, np.int8))
        self.status[rows] = layout.COMPLETED
        self._commits += len(rows)
        self._buffered, self.n_buffered, self.buffered_bytes = [], 0, 0
        return len(rows)

    def _columns(self, batches: list[_Batch]) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """Rows, ascending, and what is to be written of each, by table, but for the status."""
        records = np.frombuffer(
            b"".join([batch.records.view(np.uint8).data for batch in batches]), batches[0].records.dtype
        )
        order = np.argsort(records["row"], kind="stable")
        records = records[order]

        def joined(columns: Iterable[NDArray[Any]]) -> NDArray[Any]:
            return np.concatenate(list(columns))[order]

        columns = {
            **{f"simulations/{name}": records[name] for name in _COPIED},
            "simulations/rank": joined(batch.ranks for batch in batches),
            "simulations/host": joined(batch.hosts for batch in batches),
            "simulations/start": np.full(len(records), self._journal.start_row, np.int32),
            "simulations/attempts": joined(batch.attempts for batch in batches),
            "simulations/commit": (self._commits + 1 + order).astype(np.int32),
            "iterations/likelihood": records["iteration_likelihood"],
            "parameters/values": records["parameters"],
        }
        if self._spool is not None:
            columns["series/bytes"] = records["series_bytes"]
            columns["series/offset"] = joined(batch.series_offsets() for batch in batches)
        return records["row"], columns

    def add_failure(self, row: int, attempts: int, cause: str, text: str, final: bool) -> None:
        """Note a failed attempt at once; with `final`, the simulation counts as failed."""
        with self._guard():
            tables = self._tables
            tables.write("simulations/error", row, [self._journal.error_number(cause, text)])
            tables.write("simulations/attempts", row, [attempts])
            if final:
                tables.write("simulations/finished_at", row, [time.time()])
                tables.write("simulations/start", row, [self._journal.start_row])
                tables.write("simulations/status", row, [layout.FAILED])
                self.status[row] = layout.FAILED
            # Last, since this is what counts: after a kill there is at most one attempt too few, and none too many.
            tables.write("simulations/failed_attempts", row, [attempts])
        self.failed_attempts[row] = attempts

    # ---- durability ---------------------------------------------------------------------------------

    def check_point(self) -> None:
        """Begin to push what is committed to the disk, beside the run; does nothing while that goes on."""
        with self._guard():
            self._tables.check_place()
            if self._sync is None or self._sync.done():
                self._settle()
                self._sync = self._syncer.submit(self._sync_all, self._commits)

    def _sync_all(self, commits: int) -> int:
        if self._spool is not None:
            self._spool.sync()
        self._tables.sync()
        return commits

    def _settle(self) -> None:
        """Wait for the last check point, and note what it made durable."""
        if self._sync is not None:
            sync, self._sync = self._sync, None
            self._tables.write("progress/durable_commit", 0, [sync.result()])

    def end_start(self, state: int) -> None:
        """Commit, push everything to the disk, and note how this start ended."""
        self.commit()
        with self._guard():
            self._journal.note(state=state, ended_at=time.time(), last_commit_at=time.time())
            self._settle()
            self._sync = self._syncer.submit(self._sync_all, self._commits)
            self._settle()
            self._tables.check_place()

    def fold(self, tick: Callable[[], None]) -> str | None:
        """Move the spool's series into the file, once all simulations are done.

        Parameters
        ----------
        tick : callable
            Called after each simulation, since this can take long.

        Returns
        -------
        str or None
            Why it was not done: the disk lacks the space. The reading API does without.
        """
        if self._spool is None:
            return None
        with self._guard(through_hdf5=True):
            self._tables.check_place()
            needed = self._spool.size() + self._tables.size()
            free = shutil.disk_usage(Path(self.path).absolute().parent).free
            if needed > free:
                missing = f"{needed / 2**30:.2f} GiB needed, {free / 2**30:.2f} GiB free"
                return f"time series stay in {layout.spool_path(self.path)} ({missing}); exports read them there"
            rebuild.fold(self.path, blueprint_of(self._plan), self._spool, tick)
            self._spool = None
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._syncer.shutdown(wait=True)
        if self._spool is not None:
            self._spool.close()
        self._tables.close()
        self._lock.release()

    @contextlib.contextmanager
    def _guard(self, through_hdf5: bool = False) -> Iterator[None]:
        """Turn any write error into one that says where and what to do.

        HDF5 tells of a full disk as an OSError, a RuntimeError or a ValueError, as it comes.
        """
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            if not (through_hdf5 or isinstance(error, OSError)):
                raise
            raise StorageError(_describe_write_error(self.path, self._plan, error)) from error


def _describe_write_error(path: str, plan: RunPlan, error: Exception) -> str:
    folder = Path(path).absolute().parent
    reason = getattr(error, "strerror", None) or str(error)
    try:
        free = f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB free there"
    except OSError:
        free = "the folder cannot be reached"
    sizes = layout.lengths(plan.n_simulations, plan.n_iterations, len(plan.source.names), len(plan.channels))
    needed = layout.table_bytes(sizes) / 2**20
    return (
        f"{path}: cannot be written: {reason} ({free}; its tables take {needed:.0f} MiB, time series more). "
        "What was committed is safe: make space or mend the folder, then give the same command again"
    )
