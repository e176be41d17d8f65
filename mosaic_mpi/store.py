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
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout
from mosaic_mpi.errors import PlanMismatch, StorageError
from mosaic_mpi.h5file import Header, Placement
from mosaic_mpi.lock import WriterLock
from mosaic_mpi.plan import RunPlan, differences
from mosaic_mpi.records import checksum
from mosaic_mpi.spool import Spool

_TEMPORARY = ".tmp-"


def is_finished(path: str, plan: RunPlan) -> bool:
    """Whether a results file holds all of this very plan, with nothing left to do.

    Raises
    ------
    InputError
        The file is damaged, foreign, or of another plan.
    """
    if not Path(path).exists():
        return False
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
        _refuse_other_plan(path, file, header, plan)
        done = not (file["simulations/status"][...] == layout.PENDING).any()
        folded = header.folded or not header.channels
        return bool(done and folded and header.n_simulations == plan.n_simulations)


def preview(path: str, plan: RunPlan, overwrite: bool) -> tuple[str, int]:
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
    if not Path(path).exists():
        return "new", plan.n_simulations
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
        if overwrite:
            return "would be overwritten", plan.n_simulations
        _refuse_other_plan(path, file, header, plan)
        n_done = int((file["simulations/status"][...] != layout.PENDING).sum())
    extended = f", extended from {header.n_simulations}" if plan.n_simulations > header.n_simulations else ""
    return f"resumed, {n_done} done{extended}", plan.n_simulations - n_done


def _refuse_other_plan(path: str, file: Any, header: Header, plan: RunPlan) -> None:
    found = []
    if header.fingerprint != plan.fingerprint:
        found = differences(header.identity, h5file.read_config(file), plan)
    if plan.n_simulations < header.n_simulations:
        found.append(f"n_simulations: {header.n_simulations} in the file, {plan.n_simulations} now (fewer)")
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

    Raises
    ------
    FileInUse, PlanMismatch, InputError, StorageError
        See `mosaic_mpi.errors`; nothing has been changed then.
    """

    def __init__(self, path: str, plan: RunPlan, overwrite: bool = False) -> None:
        self.path, self._plan = path, plan
        self._lock = WriterLock(path)
        self._descriptor = -1
        self._spool: Spool | None = None
        try:
            with self._guard(through_hdf5=True):
                self._open(overwrite)
        except BaseException:
            self._remove_leftovers()
            self._lock.release()
            raise
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._sync: Future[int] | None = None
        self._buffered: list[dict[str, NDArray[Any]]] = []
        self.n_buffered = 0

    # ---- opening ------------------------------------------------------------------------------------

    def _open(self, overwrite: bool) -> None:
        self._remove_leftovers()
        if Path(self.path).exists():
            self._adopt(overwrite)
        else:
            self._create()
        self._places = h5file.placements(self.path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._load()

    def _remove_leftovers(self) -> None:
        folder, name = Path(self.path).parent, Path(self.path).name
        for leftover in folder.glob(f"{name}{_TEMPORARY}*"):
            leftover.unlink()

    def _adopt(self, overwrite: bool) -> None:
        with h5file.reading(self.path) as file:  # refuses what is foreign or damaged, --overwrite or not
            header = h5file.read_header(file)
            if not overwrite:
                _refuse_other_plan(self.path, file, header, self._plan)
        if overwrite:
            self._create()
        elif self._plan.n_simulations > header.n_simulations or self._must_unfold(header):
            self._rebuild(header)

    def _must_unfold(self, header: Header) -> bool:
        """A folded file with simulations still to run cannot take series; killed extensions leave none such."""
        if not (header.folded and header.channels):
            return False
        with h5file.reading(self.path) as file:
            return bool((file["simulations/status"][...] == layout.PENDING).any())

    def _temporary(self) -> str:
        return f"{self.path}{_TEMPORARY}{os.getpid()}"

    def _create(self) -> None:
        temporary = self._temporary()
        h5file.create(temporary, self._plan)
        _replace(temporary, self.path)
        Path(layout.spool_path(self.path)).unlink(missing_ok=True)

    def _rebuild(self, header: Header) -> None:
        """Rewrite an existing file for more simulations; the old one stays until the new one is whole."""
        temporary = self._temporary()
        with h5file.reading(self.path) as file:
            keep_spool = None if header.folded else header.spool_id
            h5file.create(temporary, self._plan, spool_id=keep_spool)
            h5file.copy_results(file, temporary, header.n_simulations)
            if header.folded and header.channels:
                self._unfold(file, header, temporary)
        h5file.reserve(temporary)
        _replace(temporary, self.path)

    def _unfold(self, file: Any, header: Header, temporary: str) -> None:
        with h5file.reading(temporary) as target:
            spool_id = h5file.read_header(target).spool_id
        spool_file = f"{layout.spool_path(self.path)}{_TEMPORARY}{os.getpid()}"
        places = h5file.placements(temporary)
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            with Spool(spool_file, spool_id) as spool:
                for row in np.flatnonzero(file["simulations/status"][...] == layout.COMPLETED):
                    parts = [h5file.read_chunk(file, channel, int(row)) for channel in header.channels]
                    sizes = np.array([len(part) for part in parts], dtype=np.int64)
                    start = spool.append(memoryview(b"".join(parts)))
                    offsets = start + np.cumsum(sizes) - sizes
                    _write_at(descriptor, places["series/offset"], int(row), offsets[None])
                    _write_at(descriptor, places["series/bytes"], int(row), sizes[None])
                spool.sync()
        finally:
            os.close(descriptor)
        os.replace(spool_file, layout.spool_path(self.path))

    def _load(self) -> None:
        with h5file.reading(self.path) as file:
            self._header = h5file.read_header(file)
            self.status: NDArray[np.int8] = file["simulations/status"][...]
            self.attempts: NDArray[np.int32] = file["simulations/attempts"][...]
            self._read_progress(file)
            suspects = self._suspects(file)
            self._open_spool(file)
            lost = [row for row in suspects if not self._matches_checksum(file, row)]
            end = self._spool_end(file, lost)
        for row in lost:
            self.status[row] = layout.PENDING
            self._write("simulations/status", row, np.zeros(1, np.int8))
        if self._spool is not None:
            self._spool.truncate(end)

    def _read_progress(self, file: Any) -> None:
        progress = {name: int(file[f"progress/{name}"][0]) for name in ("n_starts", "n_errors", "n_hosts")}
        self._n_starts, n_errors, n_hosts = progress.values()
        self._start_row = -1
        self._durable = int(file["progress/durable_commit"][0])
        commits = file["simulations/commit"][...]
        self._commits = int(commits.max(initial=0))
        causes, texts = file["errors/cause"][:n_errors], file["errors/text"][:n_errors]
        self._errors = {(bytes(c), bytes(t)): row for row, (c, t) in enumerate(zip(causes, texts, strict=True))}
        self._error_counts = file["errors/attempts"][...]
        self._hosts = {bytes(name).decode(): row for row, name in enumerate(file["hosts/name"][:n_hosts])}

    def _suspects(self, file: Any) -> list[int]:
        """Completed rows that no check point covers."""
        commits = file["simulations/commit"][...]
        return [int(r) for r in np.flatnonzero((commits > self._durable) & (self.status == layout.COMPLETED))]

    def _open_spool(self, file: Any) -> None:
        spool = layout.spool_path(self.path)
        if not self._plan.channels or self._header.folded:
            Path(spool).unlink(missing_ok=True)
            return
        needed = int(file["series/bytes"][...].sum()) if "series/bytes" in file else 0
        self._spool = Spool(spool, self._header.spool_id, must_exist=needed > 0)

    def _matches_checksum(self, file: Any, row: int) -> bool:
        record = {
            "likelihood": file["simulations/likelihood"][row],
            "iteration_likelihood": file["iterations/likelihood"][row],
            "parameters": file["parameters/values"][row] if self._header.n_parameters else np.empty(0),
        }
        series = b""
        if self._spool is not None:
            offsets, sizes = file["series/offset"][row], file["series/bytes"][row]
            series = self._spool.read(int(offsets[0]), int(sizes.sum()))
        found: bool = checksum(record, series) == int(file["simulations/checksum"][row])
        return found

    def _spool_end(self, file: Any, lost: list[int]) -> int:
        if self._spool is None:
            return 0
        done = self.status == layout.COMPLETED
        done[lost] = False
        ends = (file["series/offset"][...] + file["series/bytes"][...])[done]
        return int(ends.max(initial=Spool.HEADER_BYTES))

    # ---- a start ------------------------------------------------------------------------------------

    def begin_start(self, **fields: Any) -> None:
        """Note that a run starts now.

        Parameters
        ----------
        **fields
            Columns of ``starts/*``: n_ranks, n_slots, n_hosts, host, pid, job, mpi, command, versions.
        """
        with self._guard():
            self._start_row = min(self._n_starts, layout.N_STARTS - 1)
            self._n_starts += 1
            for table in layout.TABLES:
                if table.name.startswith("starts/"):
                    empty = np.zeros(1, table.dtype)
                    self._write(table.name, self._start_row, empty)
            self.note(started_at=time.time(), last_commit_at=time.time(), **fields)
            self._write_progress("n_starts", self._n_starts)

    def note(self, **fields: Any) -> None:
        """Set columns of this start's row of ``starts/*``."""
        with self._guard():
            for name, value in fields.items():
                kind = self._places[f"starts/{name}"].dtype
                data = _cut(value, kind) if kind.kind == "S" else value
                self._write(f"starts/{name}", self._start_row, np.array([data], kind))

    def host_row(self, name: str) -> int:
        """Return the row of a host in ``hosts/name``, adding it if it is new."""
        if name not in self._hosts:
            row = min(len(self._hosts), layout.N_HOSTS - 1)
            with self._guard():
                self._write("hosts/name", row, np.array([name.encode()], "S64"))
                self._write_progress("n_hosts", row + 1)
            self._hosts[name] = row
        return self._hosts[name]

    # ---- results ------------------------------------------------------------------------------------

    def add(
        self, records: NDArray[np.void], series: memoryview, rank: int, host: int, attempts: NDArray[np.int32]
    ) -> None:
        """Take finished simulations; they count once `commit` has returned.

        Parameters
        ----------
        records : ndarray of `records.record_dtype`, shape (n,)
            Each row once, none of them completed before.
        series : memoryview
            Their compressed channels, one record after the other.
        rank, host : int
            Where they ran; host is a row of ``hosts/name``.
        attempts : ndarray of int32, shape (n,)
            Attempts that each took.
        """
        columns = {
            "row": records["row"],
            "simulations/likelihood": records["likelihood"],
            "simulations/elapsed_s": records["elapsed_s"],
            "simulations/finished_at": records["finished_at"],
            "simulations/slot": records["slot"],
            "simulations/checksum": records["checksum"],
            "simulations/rank": np.full(len(records), rank, np.int32),
            "simulations/host": np.full(len(records), host, np.int32),
            "simulations/start": np.full(len(records), self._start_row, np.int32),
            "simulations/attempts": attempts,
            "iterations/likelihood": records["iteration_likelihood"],
            "parameters/values": records["parameters"],
        }
        if self._spool is not None:
            with self._guard():
                start = self._spool.append(series)
            sizes = records["series_bytes"].ravel()
            offsets = start + np.cumsum(sizes) - sizes
            columns["series/bytes"] = records["series_bytes"]
            columns["series/offset"] = offsets.reshape(records["series_bytes"].shape)
        self._buffered.append(columns)
        self.n_buffered += len(records)

    def commit(self) -> int:
        """Write what was added, then the status bytes that make it count; return how many rows."""
        if not self._buffered:
            return 0
        batch = {key: np.concatenate([part[key] for part in self._buffered]) for key in self._buffered[0]}
        order = np.argsort(batch["row"], kind="stable")
        rows = batch.pop("row")[order]
        n_rows = len(rows)
        batch["simulations/commit"] = np.arange(self._commits + 1, self._commits + n_rows + 1, dtype=np.int32)
        with self._guard():
            for name, column in batch.items():
                self._write_rows(name, rows, column if name == "simulations/commit" else column[order])
            self._write_rows("simulations/status", rows, np.full(n_rows, layout.COMPLETED, np.int8))
        self.status[rows] = layout.COMPLETED
        self._commits += n_rows
        self._buffered, self.n_buffered = [], 0
        return n_rows

    def add_failure(self, row: int, attempts: int, cause: str, text: str, final: bool) -> None:
        """Note a failed attempt at once; with `final`, the simulation counts as failed."""
        with self._guard():
            error = self._error_row(cause, text)
            self._write("simulations/error", row, np.array([error + 1], np.int32))
            self._write("simulations/attempts", row, np.array([attempts], np.int32))
            if final:
                self._write("simulations/finished_at", row, np.array([time.time()]))
                self._write("simulations/start", row, np.array([self._start_row], np.int32))
                self._write("simulations/status", row, np.array([layout.FAILED], np.int8))
                self.status[row] = layout.FAILED
        self.attempts[row] = attempts

    def _error_row(self, cause: str, text: str) -> int:
        key = (cause.encode()[:16], _cut(text, np.dtype(f"S{layout.ERROR_BYTES}"), keep_end=True))
        row = self._errors.get(key)
        if row is None:
            row = min(len(self._errors), layout.N_ERRORS - 1)
            self._errors[key] = row
            self._write("errors/cause", row, np.array([key[0]], "S16"))
            self._write("errors/text", row, np.array([key[1]], f"S{layout.ERROR_BYTES}"))
            self._write_progress("n_errors", row + 1)
        self._error_counts[row] += 1
        self._write("errors/attempts", row, self._error_counts[row : row + 1])
        return row

    # ---- durability ---------------------------------------------------------------------------------

    def check_point(self) -> None:
        """Begin to push what is committed to the disk, beside the run; does nothing while that goes on."""
        with self._guard():
            if self._sync is not None and not self._sync.done():
                return
            self._settle()
            self._sync = self._syncer.submit(self._sync_all, self._commits)

    def _sync_all(self, commits: int) -> int:
        if self._spool is not None:
            self._spool.sync()
        os.fdatasync(self._descriptor)
        return commits

    def _settle(self) -> None:
        if self._sync is not None:
            self._durable = self._sync.result()
            self._write_progress("durable_commit", self._durable)
            self._sync = None

    def end_start(self, state: int) -> None:
        """Commit, push everything to the disk, and note how this start ended."""
        self.commit()
        with self._guard():
            self.note(state=state, ended_at=time.time(), last_commit_at=time.time())
            self._settle()
            self._sync = self._syncer.submit(self._sync_all, self._commits)
            self._settle()

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
        if self._spool is None or self._header.folded:
            return None
        needed = self._spool.size() + os.fstat(self._descriptor).st_size
        free = shutil.disk_usage(Path(self.path).absolute().parent).free
        if needed > free:
            missing = f"{needed / 2**30:.2f} GiB needed, {free / 2**30:.2f} GiB free"
            return f"time series stay in {layout.spool_path(self.path)} ({missing}); exports read them there"
        with self._guard(through_hdf5=True):
            self._fold_into(self._temporary(), tick)
        return None

    def _fold_into(self, temporary: str, tick: Callable[[], None]) -> None:
        spool, channels = self._spool, self._plan.channels
        assert spool is not None
        with h5file.reading(self.path) as file:
            offsets, sizes = file["series/offset"][...], file["series/bytes"][...]

            def series(row: int) -> list[bytes]:
                pairs = zip(offsets[row], sizes[row], strict=True)
                return [spool.read(int(offset), int(size)) for offset, size in pairs]

            h5file.create(temporary, self._plan, folded=True)
            h5file.copy_results(file, temporary, self._header.n_simulations)
            done = np.flatnonzero(self.status == layout.COMPLETED)
            h5file.write_chunks(temporary, channels, done, series, tick)
        h5file.reserve(temporary)
        _replace(temporary, self.path)
        spool.close()
        self._spool = None
        Path(layout.spool_path(self.path)).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        self._syncer.shutdown(wait=True)
        if self._spool is not None:
            self._spool.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.release()

    # ---- bytes --------------------------------------------------------------------------------------

    def _write(self, name: str, first_row: int, values: NDArray[Any]) -> None:
        _write_at(self._descriptor, self._places[name], first_row, values)

    def _write_progress(self, name: str, value: int) -> None:
        self._write(f"progress/{name}", 0, np.array([value], np.int32))

    def _write_rows(self, name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write scattered rows, ascending, with one call for each run of adjacent ones."""
        if name not in self._places:  # no parameters, or no channels
            return
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, last in zip((0, *breaks), (*breaks, len(rows)), strict=True):
            self._write(name, int(rows[first]), values[first:last])

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


def _write_at(descriptor: int, place: Placement, first_row: int, values: NDArray[Any]) -> None:
    data = np.ascontiguousarray(values, dtype=place.dtype)
    row_bytes = place.dtype.itemsize * int(np.prod(place.shape[1:], dtype=np.int64))
    view = memoryview(data.reshape(-1).view(np.uint8).data)
    position = place.offset + first_row * row_bytes
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def _cut(value: Any, kind: np.dtype[Any], keep_end: bool = False) -> bytes:
    data = str(value).encode("utf-8", "replace")
    if len(data) <= kind.itemsize:
        return data
    data = data[-kind.itemsize :] if keep_end else data[: kind.itemsize]
    return data.decode("utf-8", "ignore").encode()


def _replace(temporary: str, path: str) -> None:
    """Rename into place, and make the new name last."""
    os.replace(temporary, path)
    folder = os.open(Path(path).absolute().parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system syncs folders
            os.fsync(folder)
    finally:
        os.close(folder)
