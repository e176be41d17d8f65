"""The fork server: one process a rank that has imported the engine, and of which slots are forked.

Owns the use of `multiprocessing`'s fork server. Knows nothing of simulations.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, reduction, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from mosaic_mpi import environment
from mosaic_mpi.errors import EngineError, LaunchError

_MAX_SOCKET_PATH = 70
"""Longest temporary folder under which the server's socket has a legal name (108 bytes with its own)."""
_START_SECONDS = 300.0
"""Longer than all that may be waited for in it: for another process that compiles, and for the check of the loop."""
_MOST_TRIES = 5
"""What kills so many processes at once that have not begun anything would kill the next one too."""


def start_fork_server(preload: str | None) -> None:
    """Start the fork server without waiting for it.

    To be called from the main thread and before MPI starts, so that it inherits nothing of MPI.

    Parameters
    ----------
    preload : str or None
        A module to import once for all slots.

    Raises
    ------
    LaunchError
        There is no temporary folder, or no process can be started.
    """
    context = multiprocessing.get_context("forkserver")
    modules = ["mosaic_mpi.fork_server_guard", *([preload] if preload else []), "mosaic_mpi.fork_server_last"]
    context.set_forkserver_preload(modules)
    try:
        if len(tempfile.gettempdir()) > _MAX_SOCKET_PATH:
            tempfile.tempdir = "/tmp"
        with _without_launcher(), _deaf_to_ctrl_c():
            forkserver.ensure_running()
    except OSError as error:
        raise LaunchError(
            f"no process can be started on {environment.host()}: {error.strerror or error}; a temporary folder is "
            "needed in which a socket can be made: set TMPDIR to one that exists, is writable and has space"
        ) from None


@contextlib.contextmanager
def _without_launcher() -> Iterator[None]:
    """Hide the launcher's variables from processes that start meanwhile."""
    saved = dict(os.environ)
    for name in saved.keys() - environment.without_launcher(saved).keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(saved)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Block SIGINT, which a terminal sends to all, so that a process that starts meanwhile never meets it."""
    resource_tracker.ensure_running()  # which would unblock it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class OpenFile:
    """An open file for a process that is spawned.

    Its descriptor travels with the request to fork. (`multiprocessing`'s own way, outside of such a request, is a
    thread in this process that hands descriptors out, and fills standard error when one is killed that asks.)

    Parameters
    ----------
    descriptor : int
        In this process; it stays open here.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (reduction.DupFd(self.descriptor),)


def _arrived(duplicate: Any) -> OpenFile:
    return OpenFile(duplicate.detach())


def spawn(target: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
    """Fork a process from the server that runs ``target(connection, *arguments)``.

    Returns
    -------
    process : ForkServerProcess
        Running.
    connection : Connection
        This side of its pipe.

    Raises
    ------
    EngineError
        The fork server ended, for example because memory ran out.
    """
    for n_tries_left in reversed(range(_MOST_TRIES)):
        try:
            return _spawn(target, *arguments)
        except (EOFError, OSError) as error:
            if isinstance(error, BrokenPipeError) and n_tries_left:
                continue  # the new process alone was killed, before it could read what to do
            message = f"no process can be started on {environment.host()}: {error or type(error).__name__}"
            raise EngineError(f"{message}; is there memory and a writable {tempfile.gettempdir()}?") from None
    raise AssertionError("the last try returns or raises")


def _spawn(target: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=False)
    with theirs, _without_launcher():  # a fork server that has died is started again here
        process.start()
    return process, ours


def ask(target: Callable[..., None], *arguments: Any) -> Any:
    """Run ``target(connection, *arguments)`` in a process of its own and return what it sends.

    Like a slot's, the death of that process alone, by whatever hand, does not end a run: it is asked once more.

    Raises
    ------
    EngineError
        It ended twice, or took five minutes, without an answer.
    """
    try:
        return _ask(target, *arguments)
    except _NoAnswer:
        return _ask(target, *arguments)


class _NoAnswer(EngineError):
    """The process ended before it had answered."""


def _ask(target: Callable[..., None], *arguments: Any) -> Any:
    process, connection = spawn(target, *arguments)
    try:
        if not connection.poll(_START_SECONDS):
            raise EngineError(f"the engine did not start within {_START_SECONDS:.0f} s")
        return connection.recv()
    except (EOFError, OSError):
        process.join(5)
        raise _NoAnswer(f"the engine's process ended (exit code {process.exitcode})") from None
    finally:
        process.kill()
        connection.close()
