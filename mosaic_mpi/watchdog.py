"""Ends a process that hangs inside a library, where no thread of its own can: MPI_Init keeps the interpreter's lock.

Owns a child process that does nothing but wait. To be used before MPI has started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def ended_after(seconds: float, text: str) -> Iterator[None]:
    """Kill this process, with a word of farewell, unless the block is left in time.

    Parameters
    ----------
    seconds : float
        The time.
    text : str
        Goes to standard error.
    """
    watched = os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        _watch(reader, seconds, text, watched)
    os.close(reader)
    try:
        yield
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def _watch(reader: int, seconds: float, text: str, watched: int) -> None:
    """In the child: wait for the pipe to close, as it does when the parent ends, too."""
    try:
        for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        if not select.select([reader], [], [], seconds)[0]:
            os.write(2, f"{text}\n".encode())
            os.kill(watched, signal.SIGKILL)
    finally:
        os._exit(0)
