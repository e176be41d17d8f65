"""The spool: one append-only file beside the results that holds compressed time series during a run.

Owns its header and its end. Which bytes belong to which simulation stands in the results file.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from mosaic_mpi.errors import InputError

_MAGIC = b"mosaic_mpi spool"


class Spool:
    """An open spool.

    Parameters
    ----------
    path : str
        Made if it is missing or of another results file.
    identity : str
        32 hexadecimal digits that its results file names.
    must_exist : bool
        The results file refers to bytes in it.

    Raises
    ------
    InputError
        It must exist, and is missing or of another results file.
    """

    HEADER_BYTES = 48

    def __init__(self, path: str, identity: str, must_exist: bool = False) -> None:
        header = _MAGIC + identity.encode()
        if Path(path).exists() and not Path(path).is_file():
            raise InputError(f"{path}: is no file; move it away: it takes the place of the run's spool")
        if not (Path(path).exists() and _read_header(path) == header):
            if must_exist:
                raise InputError(
                    f"{path}: missing, or not the one that belongs to its results file, which needs it for the "
                    "time series stored so far; put it back beside the results file, or use --overwrite"
                )
            Path(path).write_bytes(header)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._end = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, data: memoryview) -> int:
        """Append bytes and return where they begin; after an error the end stays where it was."""
        start = position = self._end
        while data:
            written = os.pwrite(self._descriptor, data, position)
            data, position = data[written:], position + written
        self._end = position
        return start

    def read(self, offset: int, size: int) -> bytes:
        """Return some bytes, fewer at the end of the file."""
        return os.pread(self._descriptor, size, offset)

    def truncate(self, end: int) -> None:
        """Forget what no committed simulation refers to."""
        if end < self._end:
            os.ftruncate(self._descriptor, end)
            self._end = end

    def sync(self) -> None:
        """Push it to the disk."""
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        """Bytes in use."""
        return self._end

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _read_header(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(Spool.HEADER_BYTES)
