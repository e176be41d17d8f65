"""The inputs of a merge: what each holds, whether they belong together, and whose row is taken for each simulation.

Owns every reason to refuse them. Writes nothing; looks at one file at a time.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout
from mosaic_mpi.blueprint import Blueprint
from mosaic_mpi.config import Config, parse_config
from mosaic_mpi.errors import InputError
from mosaic_mpi.h5file import Header
from mosaic_mpi.lock import living_holder
from mosaic_mpi.plan import rows_of, spans
from mosaic_mpi.plan_differences import identity_differences
from mosaic_mpi.spool import SpoolReader
from mosaic_mpi.verification import mismatching, unverified

_IDS_AT_ONCE = 2**22
_COMPLETED_RANK = 2 * 2**32
_FAILED_RANK = 2**32
"""What is worth more wins: completed over failed over pending, then more failed attempts."""
_CHANGED = "it changed while it was read: a run has started on it; merge again when that has ended"


@dataclass(frozen=True)
class Piece:
    """One input.

    Parameters
    ----------
    path : str
        The results file.
    header : Header
        Without the labels, which all share.
    state : int
        A checksum of how far it was; it changes when a run goes on with it.
    lost : ndarray of int64, shape (n_lost,)
        Rows whose results did not reach the disk before their node died: still to be run.
    """

    path: str
    header: Header
    state: int
    lost: NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """What a merge is to write.

    Parameters
    ----------
    blueprint : Blueprint
        Of all simulations of all pieces.
    pieces : list of Piece
        The inputs.
    owner : ndarray of int32, shape (n_simulations,)
        Index of the piece whose row is taken.
    status : ndarray of int8, shape (n_simulations,)
        As it will be.
    series_bytes : int
        Space that the stored time series take.
    """

    blueprint: Blueprint
    pieces: list[Piece]
    owner: NDArray[np.int32]
    status: NDArray[np.int8]
    series_bytes: int

    @property
    def is_complete(self) -> bool:
        """Whether no simulation is pending."""
        return not (self.status == layout.PENDING).any()


@dataclass(frozen=True)
class Contents:
    """How far the simulations of one piece are: one row each."""

    sim_ids: NDArray[np.int32]
    status: NDArray[np.int8]
    failed_attempts: NDArray[np.int32]
    commits: NDArray[np.int32]
    checksums: NDArray[np.int32]

    def state(self, header: Header) -> int:
        """See `Piece`."""
        total = zlib.crc32(f"{header.spool_id} {header.folded} {len(self.sim_ids)}".encode())
        for column in (self.status, self.failed_attempts, self.commits, self.checksums):
            total = zlib.crc32(np.ascontiguousarray(column).tobytes(), total)
        return total

    def without(self, lost: NDArray[np.int64]) -> Contents:
        """The same with some results still to be run."""
        status = self.status.copy()
        status[lost] = layout.PENDING
        return replace(self, status=status)


def read_contents(file: Any) -> Contents:
    """Read how far the simulations of an open results file are."""
    names = ("sim_id", "status", "failed_attempts", "commit", "checksum")
    return Contents(*(file[f"simulations/{name}"][...] for name in names))


def read_piece(path: str, piece: Piece, file: Any) -> Contents:
    """Read a piece again, as it was when it was chosen from.

    Raises
    ------
    InputError
        It has changed since.
    """
    contents = read_contents(file)
    if contents.state(h5file.read_header(file)) != piece.state:
        raise InputError(f"{path}: {_CHANGED}")
    return contents.without(piece.lost)


def refuse_changed(piece: Piece) -> None:
    """Refuse a piece that a run has gone on with since it was chosen from."""
    with undamaged(piece.path), h5file.reading(piece.path) as file:
        read_piece(piece.path, piece, file)


@contextlib.contextmanager
def undamaged(path: str) -> Iterator[None]:
    """Tell an error of reading a results file as its damage."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: damaged, cannot be read: {error}") from error


def select(paths: Sequence[str]) -> Selection:
    """Look at the inputs of a merge, and choose whose row is taken for each simulation.

    Parameters
    ----------
    paths : sequence of str
        Results files; one that is named twice counts once.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        With every reason why they cannot be joined.
    """
    chooser = _Chooser()
    for path in _distinct(paths):
        chooser.look(path)
    return chooser.choose()


def _distinct(paths: Sequence[str]) -> list[str]:
    found: dict[object, str] = {}
    for path in paths:
        key: object = path
        with contextlib.suppress(OSError):
            entry = os.stat(path)
            key = entry.st_dev, entry.st_ino
        found.setdefault(key, path)
    return list(found.values())


@dataclass
class _Chooser:
    """Gathers problems over two looks at each file: first at its plan and ids, then at its results."""

    problems: list[str] = field(default_factory=list)
    _first: str = ""
    _blueprint: Blueprint | None = None
    _good: list[str] = field(default_factory=list)
    _ids: list[NDArray[np.int64]] = field(default_factory=list)
    _series_bytes: int = 0

    def look(self, path: str) -> None:
        """Take a file's ids, if it is of the same plan as the first."""
        try:
            if holder := living_holder(path):
                self.problems.append(f"{path}: a run writes it: {holder}; merge when that has ended")
            with undamaged(path), h5file.reading(path) as file:
                self._look(path, file)
        except InputError as error:
            self.problems += error.problems

    def _look(self, path: str, file: Any) -> None:
        ids = file["simulations/sim_id"][...].astype(np.int64)
        if self._blueprint is None:
            self._first, self._blueprint = path, h5file.read_blueprint(file, ids)
        elif h5file.read_header(file).fingerprint != self._blueprint.fingerprint:
            self.problems += self._differences(path, file, self._blueprint)
            return
        self._good.append(path)
        self._ids.append(ids)
        if len(self._ids) > 1 and sum(map(len, self._ids[1:])) > max(_IDS_AT_ONCE, len(self._ids[0])):
            self._ids = [np.unique(np.concatenate(self._ids))]

    def _differences(self, path: str, file: Any, first: Blueprint) -> list[str]:
        other = h5file.read_blueprint(file, range(0))

        def configs() -> tuple[Config, Config]:
            return (
                parse_config(first.config, first.locations, f"the config of {self._first}"),
                parse_config(other.config, other.locations, f"the config of {path}"),
            )

        where = (f"in {self._first}", f"in {path}")
        found = identity_differences(first.identity, other.identity, configs, where)
        return [f"{path} belongs to another plan than {self._first}:", *(f"  {line}" for line in found)]

    def choose(self) -> Selection:
        """Look at all results.

        Raises
        ------
        InputError
            With every problem of both looks.
        """
        if self._blueprint is None:
            raise InputError(self.problems)
        ids = np.unique(np.concatenate(self._ids))
        self._owner = np.full(len(ids), -1, np.int32)
        self._rank = np.full(len(ids), -1, np.int64)
        self._checksum = np.zeros(len(ids), np.int32)
        pieces: list[Piece] = []
        for path in self._good:
            try:
                with undamaged(path), h5file.reading(path) as file:
                    piece, contents = self._piece(path, file)
            except InputError as error:
                self.problems += error.problems
                continue
            pieces.append(piece)
            self._offer(pieces, contents, ids)
        if self.problems:
            raise InputError(self.problems)
        status = np.where(self._rank >= _COMPLETED_RANK, layout.COMPLETED, layout.PENDING)
        status[(self._rank >= _FAILED_RANK) & (self._rank < _COMPLETED_RANK)] = layout.FAILED
        blueprint = replace(self._blueprint, sim_ids=ids)
        return Selection(blueprint, pieces, self._owner, status.astype(np.int8), self._series_bytes)

    def _piece(self, path: str, file: Any) -> tuple[Piece, Contents]:
        header = replace(h5file.read_header(file), identity={}, locations=(), dates=())
        contents = read_contents(file)
        completed = contents.status == layout.COMPLETED
        suspects = np.flatnonzero(completed & unverified(contents.commits, int(file["progress/durable_commit"][0])))
        lost: list[int] = []
        if header.channels and not header.folded and completed.any():
            with SpoolReader(layout.spool_path(path), header.spool_id) as spool:
                lost = list(mismatching(file, suspects, spool.read))
                completed[lost] = False
                self._measure(file, completed, spool)
        else:
            lost = [] if header.folded else list(mismatching(file, suspects, None))
            self._series_bytes += h5file.chunks_bytes(file, header.channels) if header.folded else 0
        piece = Piece(path, header, contents.state(header), np.array(lost, dtype=np.int64))
        return piece, contents.without(piece.lost)

    def _measure(self, file: Any, completed: NDArray[np.bool_], spool: SpoolReader) -> None:
        sizes = file["series/bytes"][...][completed]
        ends = file["series/offset"][...][completed] + sizes
        if len(ends) and ends.max() > spool.size():
            raise InputError(f"{layout.spool_path(file.filename)}: damaged: it ends before the series it should hold")
        self._series_bytes += int(sizes.sum())

    def _offer(self, pieces: list[Piece], contents: Contents, ids: NDArray[np.int64]) -> None:
        """Let the newest piece have the simulations of which it holds more than the ones before it."""
        rows = rows_of(ids, contents.sim_ids)
        completed = contents.status == layout.COMPLETED
        base = np.where(contents.status == layout.FAILED, _FAILED_RANK, 0) + contents.failed_attempts
        rank = np.where(completed, _COMPLETED_RANK, base)
        both = completed & (self._rank[rows] == _COMPLETED_RANK)
        self._note_conflicts(pieces, rows[both & (self._checksum[rows] != contents.checksums)], ids)
        better = rank > self._rank[rows]
        won = rows[better]
        self._rank[won] = rank[better]
        self._owner[won] = len(pieces) - 1
        self._checksum[won] = contents.checksums[better]

    def _note_conflicts(self, pieces: list[Piece], rows: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        for owner in map(int, np.unique(self._owner[rows])):
            theirs = ids[rows[self._owner[rows] == owner]]
            self.problems.append(
                f"{pieces[-1].path} and {pieces[owner].path}: both completed simulations {spans(theirs)}, with "
                "different results; find out which to trust, and leave the other out"
            )
