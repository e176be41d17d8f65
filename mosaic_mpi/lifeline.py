"""Ties a child process to its parent, and shields it from the signals that are meant for the rank.

Linux does the tying (PR_SET_PDEATHSIG); elsewhere children end with their pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_SHIELDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


def tie_to_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends.

    Parameters
    ----------
    parent : int, optional
        The expected parent: when it is gone already, this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def ignore_signals() -> None:
    """Leave stopping to the rank: Ctrl-C and a launcher's signals reach every process of a group."""
    for name in _SHIELDED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def be_first_out_of_memory() -> None:
    """Ask the kernel to choose this process, and not its rank, when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
