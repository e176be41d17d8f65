"""One writer a results file.

Owns the lock file beside it: an exclusive flock where the file system grants one, else a file that is created
exclusively. Either names its holder, so that a second run can be told.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from pathlib import Path

from mosaic_mpi import environment
from mosaic_mpi.errors import FileInUse, StorageError

_REFUSED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_BUSY = {errno.EWOULDBLOCK, errno.EACCES}


class WriterLock:
    """Held from before the first look at a results file to after the last write to it.

    Parameters
    ----------
    results : str or path-like
        The results file; the lock file is that name and ``.lock``.

    Raises
    ------
    FileInUse
        Another run holds it; the message names host, process and job.
    StorageError
        The folder cannot be written.
    """

    def __init__(self, results: str | Path) -> None:
        self._path = Path(f"{results}.lock")
        self._results = str(results)
        try:
            self._descriptor = self._acquire()
            self._sign()
        except OSError as error:
            raise StorageError(
                f"{self._path}: cannot be written: {error.strerror}; --output must lie in a folder that exists "
                "and that you may write to"
            ) from None

    def release(self) -> None:
        """Remove the lock file while it is held, then let go."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def _acquire(self) -> int:
        if not self._flock_works():
            return self._acquire_by_creation()
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = self._holder()
                os.close(descriptor)
                if error.errno not in _BUSY:
                    raise
                raise FileInUse(f"{self._results}: another run writes it: {holder}") from None
            if self._is_current(descriptor):
                return descriptor
            os.close(descriptor)  # its holder removed it between our open and our lock

    def _is_current(self, descriptor: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        return False

    def _flock_works(self) -> bool:
        """Whether this file system grants locks, tried on a file of our own."""
        probe = f"{self._path}-{environment.host()}-{os.getpid()}"
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _REFUSED:
                return False
            raise
        finally:
            os.close(descriptor)
            os.unlink(probe)
        return True

    def _acquire_by_creation(self) -> int:
        """Without flock, whoever created the file holds the lock until it is removed."""
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise FileInUse(
                f"{self._results}: another run writes it: {self._holder()}; if that run is dead, remove "
                f"{self._path} (this file system has no locks that end with their holder)"
            ) from None

    def _sign(self) -> None:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {"host": environment.host(), "pid": os.getpid(), "job": environment.job(), "since": now}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)

    def _holder(self) -> str:
        return describe_holder(self._path)


def living_holder(results: str | Path) -> str | None:
    """Say who writes a results file now, without touching anything; None if nobody does."""
    path = Path(f"{results}.lock")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return describe_holder(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held, or no locks here: then the file itself is the lock
        return describe_holder(path)
    finally:
        os.close(descriptor)
    return None


def describe_holder(path: Path) -> str:
    """Say who holds a lock file: host, process, job and since when."""
    try:
        holder = json.loads(path.read_text())
        job = f", {holder['job']}" if holder["job"] else ""
        return f"process {holder['pid']} on {holder['host']}{job}, since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "holder unknown"
