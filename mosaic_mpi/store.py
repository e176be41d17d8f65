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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout, rebuild
from mosaic_mpi.batch import Batch, columns_of
from mosaic_mpi.blueprint import blueprint_of
from mosaic_mpi.earlier_file import is_to_do, refuse_other_plan
from mosaic_mpi.errors import StorageError
from mosaic_mpi.journal import Journal
from mosaic_mpi.lock import WriterLock
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.spool import Spool
from mosaic_mpi.tablefile import TableFile
from mosaic_mpi.verification import mismatching, unverified


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
        self._buffered: list[Batch] = []
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
                refuse_other_plan(self.path, file, header, self._plan)
            unfinished = bool(is_to_do(file, self._retry_failed).any())
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
        self._buffered.append(Batch(records, ranks, hosts, attempts, start))
        self.n_buffered += len(records)
        self.buffered_bytes += records.nbytes

    def commit(self) -> int:
        """Write what was added, then the status bytes that make it count; return how many rows."""
        if not self._buffered:
            return 0
        rows, columns = columns_of(self._buffered, self._journal.start_row, self._commits, self._spool is not None)
        with self._guard():
            for name, column in columns.items():
                self._tables.write_rows(name, rows, column)
            self._tables.write_rows("simulations/status", rows, np.full(len(rows), layout.COMPLETED, np.int8))
        self.status[rows] = layout.COMPLETED
        self._commits += len(rows)
        self._buffered, self.n_buffered, self.buffered_bytes = [], 0, 0
        return len(rows)

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
