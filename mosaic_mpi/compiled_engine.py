"""The compiled loop in this process: found fit or not, once a rank, by the fork server.

Owns the decision whether laser-cholera's ticks may be compiled here. `engine.caution` knows the engine by its
sources; NumPy is known by its version, since the loop calls functions inside it; and then the loop runs beside the
engine's own on this very machine, in a child process, since a NumPy that is built otherwise could crash it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from typing import NoReturn

import numba
import numpy as np

from mosaic_mpi import engine, environment
from mosaic_mpi.compiled import self_check
from mosaic_mpi.compiled.build import build
from mosaic_mpi.compiled.model import Advance, loop_arguments
from mosaic_mpi.lifeline import tie_to_parent

_NUMPYS = ("2.0", "2.1", "2.2", "2.3", "2.4", "2.5")
"""Minor versions of NumPy with which the loop was compared with the engine's own: all that pyproject.toml admits."""
_CHECK_SECONDS = 60.0
"""Takes a fraction of one; a child that hangs is ended before who waits for the engine gives up."""
_MAX_TEXT = 300


def find_loop() -> tuple[Advance | None, str]:
    """Compile the loop and see whether it may be used.

    Returns
    -------
    advance : callable or None
        The loop.
    reason : str
        Why not, for a person; or what is to be known of it, if anything.
    """
    if engine.caution is not None:
        return None, engine.caution
    if ".".join(np.__version__.split(".")[:2]) not in _NUMPYS:
        return None, f"the compiled loop is not known to agree with NumPy {np.__version__}"
    if numba.config.DISABLE_JIT:
        return None, "NUMBA_DISABLE_JIT is set: nothing is compiled"
    try:
        advance, note = build_loop()
    except Exception as error:
        return None, f"the loop cannot be compiled: {type(error).__name__}: {error}"
    difference = in_child(lambda: self_check.difference(advance))
    return (advance, note or "") if difference is None else (None, f"the compiled loop disagrees here: {difference}")


def build_loop() -> tuple[Advance, str | None]:
    """Compile the loop, or take it from where it is kept, whether it may be used or not; see `build`."""
    values = self_check.configs()["one country"]
    return build(loop_arguments(engine.set_up(values)), *environment.cache_directories())


def in_child(check: Callable[[], str | None]) -> str | None:
    """Return what a check finds, or how its process ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(check, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        is_late = not select.select([pipe], [], [], _CHECK_SECONDS)[0]
        if is_late:
            os.kill(child, signal.SIGKILL)
        answer = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if is_late:
        return f"it took longer than {_CHECK_SECONDS:.0f} s"
    if not answer:
        return f"its process ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with {status}"
    return None if answer == _NOTHING else answer


_NOTHING = "nothing"


def _answer(check: Callable[[], str | None], writer: int) -> NoReturn:
    """In the child: check, tell, and end without a word to anybody else."""
    tie_to_parent()
    try:
        found = check() or _NOTHING
    except BaseException as error:
        found = f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        os.write(writer, found[:_MAX_TEXT].encode())
    os._exit(0)


advance, reason = find_loop()
