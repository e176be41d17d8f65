"""The loop, compiled once: taken from a directory if it is there, else compiled and left there.

Owns what makes that safe when many processes start at once: one compiles while the others wait for what it leaves, a
file appears whole or not at all (Numba renames it into its place), and a directory is of one kind of processor, one
version of everything and these very sources. A directory holds code that is run: only one's own is trusted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
from numba.core import config as numba_config

from mosaic_mpi.compiled import loop
from mosaic_mpi.compiled.model import Advance
from mosaic_mpi.compiled.njit import OPTIONS

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.05
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "CPU_NAME")
"""Of Numba: code made with others, which a user may have set for once, is not for everybody."""
_UNUSED_SECONDS = 90 * 86400.0
"""Code that nobody asked for in so long is of an old version, or of a processor that is gone."""
_HALF_DONE_SECONDS = 3600.0
"""A file that was not finished in so long never will be: its writer was killed."""
_FOLDER = "[0-9a-f]" * 24
"""Names of our folders: a directory that a user names may hold other things."""
_LOCK = "lock"
"""Its time is that of the latest use of a folder."""


def build(arguments: Sequence[Any], *directories: Path) -> tuple[Advance, str | None]:
    """Return the compiled loop.

    Parameters
    ----------
    arguments : sequence
        As the loop is called with; their types are those it is compiled for.
    *directories : pathlib.Path
        Where compiled code is kept: in the first where that is possible, if in any.

    Returns
    -------
    advance : callable
        The loop. It compiles nothing any more: arguments of other types are a TypeError.
    note : str or None
        Why nothing was kept, where it should have been.
    """
    kinds = tuple(numba.typeof(argument) for argument in arguments)
    troubles: list[str] = []
    for directory in directories:
        try:
            advance = _kept(kinds, private_folder(directory, _digest()))
        except Exception as error:  # a full or foreign disk: of whatever kind, the loop can do without
            troubles.append(f"compiled code is not kept in {directory}: {error}")
        else:
            return advance, "; ".join([*troubles, f"it is kept in {directory}"]) if troubles else None
    return _compiled(kinds), "; ".join(troubles) or None


def _kept(kinds: tuple[Any, ...], folder: Path) -> Advance:
    """The loop from a folder, or compiled and left there; damaged code is compiled anew."""
    for is_last in (False, True):
        with _one_at_a_time(folder) as is_mine:
            if is_mine:
                _tidy(folder)
            try:
                return _compiled(kinds, folder)
            except OSError:
                raise
            except Exception:
                if is_last:
                    raise
                _forget(folder)
    raise AssertionError("the second time returns or raises")


def _compiled(kinds: tuple[Any, ...], folder: Path | None = None) -> Advance:
    before = numba_config.CACHE_DIR
    try:
        if folder is not None:
            numba_config.CACHE_DIR = str(folder)  # read when a function is decorated, and of no other one
        dispatcher = numba.njit(cache=folder is not None, **OPTIONS)(loop.advance)
    finally:
        numba_config.CACHE_DIR = before
    dispatcher.compile(kinds)
    dispatcher.disable_compile()
    advance: Advance = dispatcher
    return advance


def _files(folder: Path, pattern: str) -> list[Path]:
    return [path for path in folder.rglob(pattern) if path.is_file()]


def _forget(folder: Path) -> None:
    for path in (*_files(folder, "*.nbi"), *_files(folder, "*.nbc")):
        path.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Before something is added, remove what nobody needs: old code beside it, and what killed processes left."""
    now = time.time()
    with contextlib.suppress(OSError):
        for lock in folder.parent.glob(f"{_FOLDER}/{_LOCK}"):
            if now - lock.stat().st_mtime > _UNUSED_SECONDS and _holds_code_alone(lock.parent):
                shutil.rmtree(lock.parent, ignore_errors=True)
        for path in _files(folder, "*.tmp.*"):
            if now - path.stat().st_mtime > _HALF_DONE_SECONDS:
                path.unlink()


def _holds_code_alone(folder: Path) -> bool:
    """Whether a folder holds code and nothing but what belongs to it: another program's may be called alike."""
    names = [path.name for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    is_code = [name.endswith((".nbi", ".nbc")) for name in names]
    return any(is_code) and all(
        known or name == _LOCK or ".tmp." in name for known, name in zip(is_code, names, strict=True)
    )


def private_folder(directory: Path, name: str) -> Path:
    """Make a folder in a directory; both must be one's own, and no one else's to write to.

    Raises
    ------
    OSError
        They are not, or cannot be made.
    """
    for folder in (directory, directory / name):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found, named = folder.stat(), folder.lstat()  # who owns a link may let it point elsewhere later
        if {found.st_uid, named.st_uid} != {os.getuid()} or found.st_mode & 0o022:
            raise PermissionError(f"{folder} is another user's, or open to others")
    return directory / name


def _digest() -> str:
    """Of everything that decides the code, the kind of processor included: directories may be shared by hosts."""
    versions = (numba.__version__, llvmlite.__version__, platform.python_version(), platform.machine())
    processor = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    settings = [str(getattr(numba_config, name, None)) for name in _SETTINGS]
    installed = (loop.__file__, os.stat(loop.__file__).st_mtime_ns)  # by which Numba tells whether code is stale
    digest = hashlib.sha256(repr((versions, processor, settings, installed)).encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:24]


def _is_kept(folder: Path) -> bool:
    """Whether there is code in a folder, and the index without which it is not found."""
    return any(folder.rglob("*.nbc")) and any(folder.rglob("*.nbi"))


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[bool]:
    """Wait, within reason, until the code is there or no other process compiles it; its death ends its turn.

    Yields
    ------
    bool
        Whether it is for this process to compile it.
    """
    with (folder / _LOCK).open("w") as file:
        os.utime(file.fileno())
        deadline = time.monotonic() + _WAIT_SECONDS
        is_mine = False
        while not is_mine and not _is_kept(folder) and time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_mine = True
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
            except OSError:  # a file system without locks: several compile, and each leaves the same
                break
        yield is_mine
