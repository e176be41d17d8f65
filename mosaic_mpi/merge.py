"""`merge`: joins the results files of pieces of one plan into the file that one run would have made.

Owns how rows, notes and time series come together, and the new file's way into place. What may be joined is decided
by `pieces.py`. Needs neither MPI nor the engine, nor the inputs of the run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout, rebuild
from mosaic_mpi.errors import InputError, StorageError
from mosaic_mpi.journal import Journal
from mosaic_mpi.lock import WriterLock, living_holder
from mosaic_mpi.merge_outcome import Merged, completing, conclude
from mosaic_mpi.pieces import Contents, Piece, Selection, read_piece, refuse_changed, select, undamaged
from mosaic_mpi.place import refuse_misplaced, refuse_unwritable
from mosaic_mpi.plan import rows_of
from mosaic_mpi.spool import Spool
from mosaic_mpi.stored_series import stored_series
from mosaic_mpi.tablefile import TableFile, cut

_KNOWN = ("simulations/sim_id", "iterations/seed")
"""What the new file holds from the start."""
_EARLIEST = ("started_at", "first_assignment_at")
_LATEST = ("last_commit_at", "ended_at")
_Block = tuple[NDArray[np.int64], NDArray[Any]]
WriteSeries = Callable[[int, Sequence[bytes]], None]
"""Takes a row of the new file and its stored channels."""


def merge(paths: Sequence[str], output: str, overwrite: bool = False) -> Merged:
    """Join results files of one plan.

    Parameters
    ----------
    paths : sequence of str
        The inputs; they are only read.
    output : str
        The results file to make.
    overwrite : bool
        Replace it if it exists.

    Returns
    -------
    Merged
        Exit code 0 if it is complete, 3 if some simulations failed, 75 if some are pending or in no piece.

    Raises
    ------
    InputError
        With every reason why they cannot be joined; nothing has been written then.
    StorageError
        The output cannot be written; nothing has been left.
    """
    problems = _output_problems(paths, output, overwrite)
    selection: Selection | None = None
    try:
        selection = select(paths)
    except InputError as error:
        problems += error.problems
    if problems or selection is None:
        raise InputError(problems)
    lock = WriterLock(output)
    try:
        if again := _output_problems(paths, output, overwrite, locked=True):
            raise InputError(again)
        with _guard(output):
            command = _join(selection, layout.real_path(output), output)
    finally:
        lock.release()
    return conclude(selection, output, command)


def _output_problems(paths: Sequence[str], output: str, overwrite: bool, locked: bool = False) -> list[str]:
    try:
        refuse_misplaced(output)
        refuse_unwritable(output)
    except InputError as error:
        return error.problems
    problems = []
    if not locked and (holder := living_holder(output)):
        problems.append(f"--output {output}: a run writes it: {holder}")
    if not Path(output).exists():
        return problems
    if any(os.path.exists(path) and os.path.samefile(path, output) for path in paths):
        problems.append(f"--output {output}: is among the files to merge; give it another name")
    elif not overwrite:
        problems.append(f"--output {output}: exists; pass --overwrite to replace it, or give it another name")
    else:
        try:
            with undamaged(output), h5file.reading(output):
                pass
        except InputError as error:
            problems.append(f"--output {error}")
    return problems


@contextlib.contextmanager
def _guard(output: str) -> Iterator[None]:
    """Remove what was begun after any error, and tell a write error as one."""
    try:
        rebuild.remove_leftovers(output)
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            rebuild.remove_leftovers(output)
        # HDF5 tells of a full disk as any of these.
        if isinstance(error, (OSError, RuntimeError, ValueError)):
            reason = getattr(error, "strerror", None) or str(error)
            raise StorageError(f"{output}: cannot be written: {reason}; the inputs are untouched") from error
        raise


def _join(selection: Selection, output: str, given: str) -> str:
    """Make the new file and put it into place; return the command line of a piece.

    Parameters
    ----------
    selection : Selection
        What is written.
    output : str
        The file itself, not a symbolic link to it: the spool lies beside that, and a link stays one.
    given : str
        Its name for a person.
    """
    _refuse_without_space(selection, output, given)
    folded = bool(selection.blueprint.channels) and selection.is_complete
    new = rebuild.temporary(output)
    h5file.create(new, selection.blueprint, folded=folded)
    new_spool = rebuild.temporary(layout.spool_path(output)) if selection.blueprint.channels and not folded else None
    with contextlib.closing(TableFile(new)) as tables:
        with h5file.reading(new) as file:
            journal, spool_id = Journal(tables, file), h5file.read_header(file).spool_id
        joiner = _Joiner(selection, tables, journal, given)
        with _series_writer(selection, tables, new, new_spool, spool_id) as write:
            for index in range(len(selection.pieces)):
                joiner.add(index, write)
        joiner.finish()
    h5file.reserve(new)
    _install(new, new_spool, output)
    return joiner.command


def _refuse_without_space(selection: Selection, output: str, given: str) -> None:
    needed = layout.table_bytes(selection.blueprint.sizes) + selection.series_bytes
    free = shutil.disk_usage(Path(output).absolute().parent).free
    if needed > free:
        missing = f"{needed / 2**30:.2f} GiB needed, {free / 2**30:.2f} GiB free"
        raise StorageError(f"{given}: no space for it: {missing}; nothing was written")


@contextlib.contextmanager
def _series_writer(
    selection: Selection, tables: TableFile, new: str, new_spool: str | None, spool_id: str
) -> Iterator[WriteSeries | None]:
    """Give what stores time series in the new file, or in its spool."""
    if not selection.blueprint.channels:
        yield None
    elif new_spool is None:
        with h5file.chunk_writer(new, selection.blueprint.channels) as write:
            yield write
    else:
        with Spool(new_spool, spool_id) as spool:
            yield lambda row, parts: rebuild.spool_series(spool, tables, row, parts)
            spool.sync()


def _install(new: str, new_spool: str | None, output: str) -> None:
    """Put the new file into place, so that no kill leaves a file with another's spool.

    Whatever was there stays until then, unless its own spool has to make room: then a kill can leave neither, and the
    same merge makes the new one.
    """
    spool = Path(layout.spool_path(output))
    if new_spool is None:
        rebuild.replace(new, output)
        spool.unlink(missing_ok=True)
        return
    if _needs_spool(output):  # two names cannot change at once, and with another's spool it would be damaged
        Path(output).unlink()
    rebuild.replace(new_spool, str(spool))
    rebuild.replace(new, output)


def _needs_spool(path: str) -> bool:
    """Whether a results file is there whose time series are in the spool beside it."""
    if not Path(path).exists():
        return False
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
    return bool(header.channels) and not header.folded


class _Joiner:
    """Adds one piece after the other to the new file."""

    def __init__(self, selection: Selection, tables: TableFile, journal: Journal, given: str) -> None:
        self._given, self._selection, self._tables, self._journal = given, selection, tables, journal
        self._n_commits = 0
        self._last_start: Mapping[str, Any] = {}
        self.command = ""

    def add(self, index: int, write: WriteSeries | None) -> None:
        """Add the simulations that were chosen from one piece, and its notes."""
        piece = self._selection.pieces[index]
        with h5file.reading(piece.path) as file:
            with undamaged(piece.path):
                contents = read_piece(piece.path, piece, file)
                notes = _Notes(file)
            places = rows_of(self._selection.blueprint.sim_ids, contents.sim_ids)
            rows = np.flatnonzero(self._selection.owner[places] == index)
            columns = self._columns(notes, contents, rows)
            if len(rows):
                self._add_tables(file, columns, rows, places[rows])
                if write is not None:
                    self._add_series(piece, file, contents, places, rows, write)
        refuse_changed(piece)

    def finish(self) -> None:
        """Note that everything has reached the disk, which it has before the file gets its name."""
        self._tables.write("progress/durable_commit", 0, [self._n_commits])
        self._tables.sync()

    def _columns(self, notes: _Notes, contents: Contents, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Those columns that mean something else in the new file."""
        hosts = np.array([self._journal.host_row(name) for name in notes.hosts] or [0], dtype=np.int32)
        errors = np.array([0, *(self._journal.error_number(*entry) for entry in notes.errors)], dtype=np.int32)
        start = self._adopt(notes.start)
        status = contents.status[rows]
        done, pending = status == layout.COMPLETED, status == layout.PENDING
        commits = np.zeros(len(rows), np.int32)
        order = np.argsort(contents.commits[rows][done], kind="stable")
        commits[np.flatnonzero(done)[order]] = np.arange(self._n_commits + 1, self._n_commits + len(order) + 1)
        self._n_commits += len(order)
        return {
            "status": status,
            "attempts": np.where(pending, contents.failed_attempts[rows], notes.attempts[rows]),
            "host": hosts[np.minimum(notes.host[rows], len(hosts) - 1)],
            "start": np.full(len(rows), start, np.int32),
            "error": errors[np.minimum(notes.error[rows], len(errors) - 1)],
            "commit": commits,
        }

    def _adopt(self, start: Mapping[str, Any]) -> int:
        """Take over a piece's latest start; the row that takes all that are too many spans their times."""
        if not start:
            return 0
        self.command = self.command or bytes(start["command"]).decode("utf-8", "replace")
        if start["state"] == layout.RUNNING:  # killed; it would read as one that has gone silent just now
            start = {**start, "state": layout.STOPPED}
        if self._journal.n_starts >= layout.N_STARTS:
            early = {name: min(start[name], self._last_start[name]) for name in _EARLIEST}
            late = {name: max(start[name], self._last_start[name]) for name in _LATEST}
            start = {**start, **early, **late}
        if not self._selection.is_complete:  # "the same command resumes", says status: not the piece's
            last_id = int(self._selection.blueprint.sim_ids[-1])
            whole = completing(self.command, self._given, last_id)
            start = {**start, "command": np.bytes_(cut(whole, layout.COMMAND_BYTES))}
        self._last_start = start
        return self._journal.adopt_start(start)

    def _add_tables(
        self, file: Any, columns: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], places: NDArray[np.int64]
    ) -> None:
        for table in layout.TABLES:
            column = columns.get(table.name.removeprefix("simulations/"))
            if column is not None:
                self._tables.write_rows(table.name, places, column)
            elif (
                table.shape[0] == "n_simulations"
                and table.name not in _KNOWN
                and not table.name.startswith(layout.SERIES_PREFIX)
            ):
                blocks = rebuild.row_blocks(file, table.name, rows, places)
                while (block := _next(blocks, file.filename)) is not None:
                    self._tables.write_rows(table.name, *block)

    def _add_series(
        self,
        piece: Piece,
        file: Any,
        contents: Contents,
        places: NDArray[np.int64],
        rows: NDArray[np.int64],
        write: WriteSeries,
    ) -> None:
        done = rows[contents.status[rows] == layout.COMPLETED]
        if not len(done):
            return
        with stored_series(piece.path, file, piece.header) as series:
            for row in map(int, done):
                with undamaged(piece.path):
                    parts = series(row)
                write(int(places[row]), parts)


def _next(blocks: Iterator[_Block], path: str) -> _Block | None:
    with undamaged(path):
        return next(blocks, None)


class _Notes:
    """What a piece notes of its run: hosts, error texts, its latest start, and which belongs to which simulation."""

    def __init__(self, file: Any) -> None:
        n_starts, n_errors, n_hosts = (int(file[f"progress/n_{what}"][0]) for what in ("starts", "errors", "hosts"))
        self.hosts = [bytes(name).decode("utf-8", "replace") for name in file["hosts/name"][:n_hosts]]
        causes, texts, counts = (file[f"errors/{name}"][:n_errors] for name in ("cause", "text", "attempts"))
        self.errors = [
            (bytes(cause).decode("utf-8", "replace"), bytes(text).decode("utf-8", "replace"), int(count))
            for cause, text, count in zip(causes, texts, counts, strict=True)
        ]
        latest = min(n_starts, layout.N_STARTS) - 1
        self.start = {name: file[f"starts/{name}"][latest] for name in file["starts"]} if n_starts else {}
        self.attempts, self.host, self.error = (
            file[f"simulations/{name}"][...] for name in ("attempts", "host", "error")
        )
