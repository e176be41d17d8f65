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
        return _read(self._descriptor, offset, size)

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
        """Close the file; once more is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class SpoolReader:
    """A spool open for reading.

    Parameters
    ----------
    path : str
        The spool.
    identity : str
        See `Spool`.

    Raises
    ------
    InputError
        It is missing or of another results file.
    """

    def __init__(self, path: str, identity: str) -> None:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe, say, would be waited for
            raise InputError(f"{path}: is no file; it ought to hold the time series of its results file")
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else error.strerror
            raise InputError(f"{path}: {reason}; its results file needs it for its time series") from None
        if self.read(0, Spool.HEADER_BYTES) != _MAGIC + identity.encode():
            self.close()
            raise InputError(f"{path}: not the one that belongs to its results file, which needs its time series")

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, offset: int, size: int) -> bytes:
        """Return some bytes, fewer at the end of the file."""
        return _read(self._descriptor, offset, size)

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    """Offset and size may be what a damaged table says: no more memory is taken than the file has bytes."""
    there = os.fstat(descriptor).st_size - offset
    return os.pread(descriptor, min(size, there), offset) if offset >= 0 and min(size, there) > 0 else b""


def _read_header(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(Spool.HEADER_BYTES)
