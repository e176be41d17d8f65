"""One writer a results file.

Owns the lock file beside it: an exclusive flock where the file system grants one, else a file that is created
exclusively. Either names its holder, so that a second run can be told, and so that a dead holder can be known.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mosaic_mpi import environment, layout
from mosaic_mpi.errors import FileInUse, StorageError
from mosaic_mpi.holder import read_holder, this_process

_REFUSED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_BUSY = {errno.EWOULDBLOCK, errno.EACCES}
_GUARD_SECONDS = 10.0
_SIGNING_SECONDS = 2.0
"""Time between taking a lock and being named in it; a loser waits so long to learn who won."""
PROBE = ".lock-"
"""In the names of files on which locking is tried; the holder of the lock may remove any."""


class WriterLock:
    """Held from before the first look at a results file to after the last write to it.

    Parameters
    ----------
    results : str or path-like
        The results file; the lock file is that name and ``.lock``, beside the file that a link leads to.

    Raises
    ------
    FileInUse
        Another run holds it; the message names host, process and job.
    StorageError
        The folder cannot be written.
    """

    def __init__(self, results: str | Path) -> None:
        self._path = Path(layout.lock_path(str(results)))
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
            if self._is_current(self._descriptor):  # and not another's, after someone removed ours
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
                if self._is_current(descriptor):
                    return descriptor
            except OSError as error:
                if error.errno not in _BUSY:
                    os.close(descriptor)
                    raise
                if self._is_current(descriptor):
                    os.close(descriptor)
                    raise FileInUse(f"{self._results}: another run writes it: {self._winner()}") from None
            os.close(descriptor)  # its holder removed it between our open and our lock

    def _is_current(self, descriptor: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        return False

    def _flock_works(self) -> bool:
        """Whether this file system grants locks, tried on a file of our own."""
        probe = f"{layout.real_path(self._results)}{PROBE}{environment.host()}-{os.getpid()}"
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _REFUSED:
                return False
            raise
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(probe)
        return True

    def _acquire_by_creation(self) -> int:
        """Without flock, whoever created the file holds the lock until it is removed, or is known to be dead."""
        with _alone_on_this_host(self._path) as alone:
            holder = read_holder(self._path)
            if alone and holder is not None and holder.is_dead:
                self._path.unlink(missing_ok=True)
            try:
                return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                pass
        raise FileInUse(
            f"{self._results}: another run writes it: {self._winner()}. This file system has no locks that end with "
            f"their holder: if that process is gone (look on its host), remove the lock: rm {self._path}"
        )

    def _sign(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, this_process().to_bytes(), 0)

    def _winner(self) -> str:
        """Who holds the lock, once it has signed."""
        deadline = time.monotonic() + _SIGNING_SECONDS
        while time.monotonic() < deadline:
            holder = read_holder(self._path)
            if holder is not None and not holder.is_dead:
                return str(holder)
            time.sleep(0.01)
        return describe_holder(self._path)


def living_holder(results: str | Path) -> str | None:
    """Say who writes a results file now, without touching anything; None if nobody does."""
    path = Path(layout.lock_path(str(results)))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return describe_holder(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # held, or no locks here: then the file itself is the lock
        holder = read_holder(path)
        return None if error.errno in _REFUSED and holder is not None and holder.is_dead else describe_holder(path)
    finally:
        os.close(descriptor)
    return None


def describe_holder(path: Path) -> str:
    """Say who holds a lock file: host, process, job and since when."""
    return str(read_holder(path) or "holder unknown")


@contextlib.contextmanager
def _alone_on_this_host(path: Path) -> Iterator[bool]:
    """Let one process of this host at a time decide on a dead holder, whatever the file system can do.

    Without it, of two that find it dead, the second could remove the lock that the first has just made. Gives
    whether this process is alone; where it cannot know, it must not decide.
    """
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
    if sys.platform == "linux":  # a name that ends with its process, and needs no folder
        guard = socket.socket(socket.AF_UNIX)
        try:
            yield _bind(guard, f"\0mosaic_mpi {name}")
        finally:
            guard.close()
    else:
        with open(Path(tempfile.gettempdir()) / f"mosaic_mpi-{name}", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield True


def _bind(guard: socket.socket, name: str) -> bool:
    """Take a name that one process at a time can have; others have it for milliseconds."""
    deadline = time.monotonic() + _GUARD_SECONDS
    while time.monotonic() < deadline:
        try:
            guard.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return False
            time.sleep(0.005)
        else:
            return True
    return False
