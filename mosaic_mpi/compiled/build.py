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

_WAIT_SECONDS = 120.0
_POLL_SECONDS = 0.05


def build(arguments: Sequence[Any], directory: Path | None) -> tuple[Advance, str | None]:
    """Return the compiled loop.

    Parameters
    ----------
    arguments : sequence
        As the loop is called with; their types are those it is compiled for.
    directory : pathlib.Path or None
        Where compiled code is kept; None keeps none.

    Returns
    -------
    advance : callable
        The loop. It compiles nothing any more: arguments of other types are a TypeError.
    note : str or None
        Why nothing was kept, where it should have been.
    """
    kinds = tuple(numba.typeof(argument) for argument in arguments)
    if directory is None:
        return _compiled(kinds), None
    try:
        folder = private_folder(directory, _digest())
        with _one_at_a_time(folder):
            return _compiled(kinds, folder), None
    except Exception as error:  # a full or foreign disk, or damaged files: of whatever kind, the loop can do without
        return _compiled(kinds), f"compiled code is not kept in {directory}: {error}"


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


def private_folder(directory: Path, name: str) -> Path:
    """Make a folder in a directory; both must be one's own, and no one else's to write to.

    Raises
    ------
    OSError
        They are not, or cannot be made.
    """
    for folder in (directory, directory / name):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PermissionError(f"{folder} is another user's, or open to others")
    return directory / name


def _digest() -> str:
    """Of everything that decides the code, the kind of processor included: directories may be shared by hosts."""
    versions = (numba.__version__, llvmlite.__version__, platform.python_version(), platform.machine())
    processor = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    installed = (loop.__file__, os.stat(loop.__file__).st_mtime_ns)  # by which Numba tells whether code is stale
    digest = hashlib.sha256(repr((versions, processor, installed)).encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:24]


def _is_kept(folder: Path) -> bool:
    """Whether there is code in a folder; Numba puts it there last, and whole."""
    return any(folder.rglob("*.nbc"))


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait, within reason, until the code is there or no other process compiles it; its death ends its turn."""
    with (folder / "lock").open("w") as file:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not _is_kept(folder) and time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
            except OSError:  # a file system without locks: several compile, and each leaves the same
                break
        yield
