"""The results file's notes on the run itself: starts, hosts and error texts.

Owns which row belongs to what. Knows nothing of simulations.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from mosaic_mpi import h5file, layout
from mosaic_mpi.tablefile import TableFile, cut

_CAUSE_BYTES = 16
_OTHER_TEXTS = f"other texts: only the first {layout.N_ERRORS - 1} different ones are kept"


class Journal:
    """Notes of one start.

    Parameters
    ----------
    tables : TableFile
        To write to.
    file : h5py.File
        The same file, open for reading; needed only here.
    """

    def __init__(self, tables: TableFile, file: Any) -> None:
        self._tables = tables
        self.n_starts = max(int(file["progress/n_starts"][0]), 0)
        self.start_row = -1
        n_errors = h5file.read_count(file, "errors", layout.N_ERRORS)
        n_hosts = h5file.read_count(file, "hosts", layout.N_HOSTS)
        keys = zip(file["errors/cause"][:n_errors], file["errors/text"][:n_errors], strict=True)
        self._errors = {(bytes(cause), bytes(text)): row for row, (cause, text) in enumerate(keys)}
        self._error_attempts = file["errors/attempts"][...]
        self._hosts = {
            bytes(name).decode("utf-8", "replace"): row for row, name in enumerate(file["hosts/name"][:n_hosts])
        }

    def begin_start(self, **fields: Any) -> None:
        """Note that a run starts now; see `note`."""
        self.start_row = min(self.n_starts, layout.N_STARTS - 1)
        self.n_starts += 1
        for table in layout.TABLES:
            if table.name.startswith("starts/"):
                self._tables.write(table.name, self.start_row, np.zeros(1, table.dtype))
        self.note(started_at=time.time(), last_commit_at=time.time(), **fields)
        self._tables.write("progress/n_starts", 0, [self.n_starts])

    def adopt_start(self, columns: Mapping[str, Any]) -> int:
        """Take over a start of another results file.

        Parameters
        ----------
        columns : mapping
            Of ``starts/*``, by their names.

        Returns
        -------
        int
            Its row in ``starts/*``.
        """
        row = min(self.n_starts, layout.N_STARTS - 1)
        self.n_starts += 1
        for name, value in columns.items():
            self._tables.write(f"starts/{name}", row, [value])
        self._tables.write("progress/n_starts", 0, [self.n_starts])
        return row

    def note(self, **fields: Any) -> None:
        """Set columns of this start's row of ``starts/*``, by their names."""
        for name, value in fields.items():
            table = f"starts/{name}"
            if self._tables.is_text(table):
                self._tables.write_text(table, self.start_row, str(value))
            else:
                self._tables.write(table, self.start_row, [value])

    def host_row(self, name: str) -> int:
        """Return the row of a host in ``hosts/name``, adding it if it is new."""
        if name not in self._hosts:
            row = min(len(self._hosts), layout.N_HOSTS - 1)
            self._tables.write_text("hosts/name", row, name)
            self._tables.write("progress/n_hosts", 0, [row + 1])
            self._hosts[name] = row
        return self._hosts[name]

    def error_number(self, cause: str, text: str, n_attempts: int = 1) -> int:
        """Count failed attempts; return their text's row in ``errors/*``, from 1."""
        key = (cause.encode()[:_CAUSE_BYTES], cut(text, layout.ERROR_BYTES, keep_end=True))
        if key not in self._errors and len(self._errors) >= layout.N_ERRORS - 1:
            cause, text = "other", _OTHER_TEXTS
            key = (cause.encode(), text.encode())
        row = self._errors.get(key)
        if row is None:
            row = self._errors[key] = len(self._errors)
            self._tables.write_text("errors/cause", row, cause)
            self._tables.write_text("errors/text", row, text, keep_end=True)
            self._tables.write("progress/n_errors", 0, [row + 1])
        self._error_attempts[row] += n_attempts
        self._tables.write("errors/attempts", row, self._error_attempts[row : row + 1])
        return row + 1
