"""Somebody who remembers what a results file has held, and protests when any of it is gone, changed or damaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout
from mosaic_mpi.records import checksum
from mosaic_mpi.results import Results
from mosaic_mpi.stored_series import stored_chunks
from mosaic_mpi.summary import Summary, summarise

_NUMBERS = ("likelihood", "iteration_likelihood", "parameters")
_COLUMNS = {
    "likelihood": "simulations/likelihood",
    "iteration_likelihood": "iterations/likelihood",
    "parameters": "parameters/values",
}
_PER_SIMULATION = [table.name for table in layout.TABLES if table.name.startswith("simulations/")]
_WHEN_COMPLETED = tuple(name for name in _PER_SIMULATION if name != "simulations/error")
"""What never changes again: numbers, and when, where and in which order they were found."""
_WHEN_FAILED = tuple(
    f"simulations/{name}" for name in ("status", "attempts", "failed_attempts", "finished_at", "start")
)


def damaged_rows(path: Path) -> list[int]:
    """Rows that count as completed and whose stored numbers do not give their checksum."""
    results = Results(path)
    rows = results.completed()
    columns = {name: results.table(table) for name, table in _COLUMNS.items() if name != "parameters"}
    columns["parameters"] = (
        results.table("parameters/values") if results.parameter_names else np.empty((results.n_simulations, 0))
    )
    expected = results.table("simulations/checksum")
    found = []
    with h5file.reading(path) as file, stored_chunks(str(path), file, len(rows)) as chunk:
        for row in map(int, rows):
            series = b"".join(bytes(chunk(row, index)) for index in range(len(results.channels)))
            if checksum({name: columns[name][row] for name in _NUMBERS}, series) != expected[row]:
                found.append(row)
    return found


@dataclass
class Witness:
    """Looks at a results file as any reader would, and compares with what it saw before.

    Parameters
    ----------
    path : Path
        The results file, which need not exist yet.
    may_forget_failed : bool
        Whether failed simulations may be tried again.

    Attributes
    ----------
    n_looks, n_seen : int
        Looks so far, and simulations that were completed at the last.
    n_lost, n_again : int
        Completed simulations that were gone at a later look, and those that had been run again.
    """

    path: Path
    may_forget_failed: bool = False
    n_looks: int = 0
    n_seen: int = 0
    n_lost: int = 0
    n_again: int = 0
    _known: dict[str, NDArray[Any]] = field(default_factory=dict)
    _first_start: float = 0.0

    def look(self, may_be_overwritten: bool = False) -> int:
        """Protest if anything is lost, damaged or run again; return how many simulations are completed.

        Parameters
        ----------
        may_be_overwritten : bool
            Whether a new and empty file may have taken the place of the one that was seen last.
        """
        if not self.path.exists():
            assert not self.n_seen, f"{self.path} is gone"
            return 0
        summary = self.glance(may_be_overwritten)
        assert damaged_rows(self.path) == []
        return summary.completed

    def glance(self, may_be_overwritten: bool = False) -> Summary:
        """Look at a file that is being written: what is known must be there, checksums are left alone."""
        complaints = self.count(may_be_overwritten)
        assert not complaints, "\n".join(complaints)
        summary = summarise(str(self.path))
        assert summary.completed >= self.n_seen
        return summary

    def count(self, may_be_overwritten: bool = False) -> list[str]:
        """Count what is lost or was run again since the last look, and return what is to be said of it."""
        found, first_start = self._read()
        if may_be_overwritten and first_start != self._first_start:
            self._known, self.n_seen = {}, 0
        complaints = self._compare(found)
        self._known, self._first_start = found, first_start
        self.n_seen = int((found["simulations/status"] == layout.COMPLETED).sum())
        self.n_looks += 1
        return complaints

    def _read(self) -> tuple[dict[str, NDArray[Any]], float]:
        with h5file.reading(self.path) as file:
            status = file["simulations/status"][...]  # first: what it says is complete by then
            columns = {name: file[name][...] for name in _WHEN_COMPLETED if name != "simulations/status"}
            return {**columns, "simulations/status": status}, float(file["starts/started_at"][0])

    def _compare(self, found: dict[str, NDArray[Any]]) -> list[str]:
        commits = found["simulations/commit"][found["simulations/status"] == layout.COMPLETED]
        complaints = [] if len(np.unique(commits)) == len(commits) else ["two results claim one place in the order"]
        if commits.min(initial=1) < 1:
            complaints.append("a result has no place in the order of storing")
        if self._known:
            lost, again, texts = self._compare_rows(found, layout.COMPLETED, _WHEN_COMPLETED)
            self.n_lost, self.n_again = self.n_lost + lost, self.n_again + again
            complaints += texts
            if not self.may_forget_failed:
                complaints += self._compare_rows(found, layout.FAILED, _WHEN_FAILED)[2]
        return complaints

    def _compare_rows(
        self, found: dict[str, NDArray[Any]], status: int, names: tuple[str, ...]
    ) -> tuple[int, int, list[str]]:
        """Return how many rows of a status have it no more, how many were run again, and a text of each kind."""
        word = {layout.COMPLETED: "completed", layout.FAILED: "failed"}[status]
        rows = np.flatnonzero(self._known["simulations/status"] == status)
        kept = found["simulations/status"][rows] == status
        texts = [] if kept.all() else [f"rows {rows[~kept][:10]} had {word} and have not any more"]
        changed = np.zeros(len(rows), dtype=bool)
        for name in names:
            before, now = self._known[name][rows], found[name][rows]
            differs = np.array([a.tobytes() != b.tobytes() for a, b in zip(before, now, strict=True)], dtype=bool)
            differs &= kept
            if differs.any():
                texts.append(f"rows {rows[differs][:10]} had {word} and were run again: {name} differs")
            changed |= differs
        return int((~kept).sum()), int(changed.sum()), texts
