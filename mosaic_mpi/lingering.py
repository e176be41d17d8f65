"""Ends a launcher that waits in vain for a host that nobody hears any more.

Such a launcher has nothing left to run, but would stay until TCP gives up, which can take a quarter of an hour. Works
in a process of its own, since the launcher ends its ranks first. Imports nothing of the package: its path is run.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_LAUNCHERS = ("mpirun", "mpiexec", "prterun", "orterun", "prted", "orted")
"""How programs are called that wait for their hosts. Slurm's is not among them: Slurm knows of its hosts itself."""
_BETWEEN = ("hydra_pmi_proxy",)
_PATIENCE = ((4.0, signal.SIGTERM), (1.0, signal.SIGTERM), (1.0, signal.SIGTERM), (5.0, signal.SIGKILL))
"""Seconds to wait, and what to send then. Open MPI's mpirun insists on being asked three times."""


def end_launcher_later(variables: Mapping[str, str]) -> bool:
    """Start a process that ends this rank's launcher, unless it ends by itself within seconds.

    Parameters
    ----------
    variables : mapping
        The environment of that process.

    Returns
    -------
    bool
        Whether there is a launcher on this host that can be ended.
    """
    launcher = _launcher_above(os.getppid())
    if launcher is None or not hasattr(os, "pidfd_open"):
        return False
    try:
        handle = os.pidfd_open(launcher)
    except OSError:
        return False
    # Nothing of the rank's may stay open in it: the launcher would wait for the end of our output.
    subprocess.Popen(
        [sys.executable, "-I", __file__, str(handle)],
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(handle,),
        start_new_session=True,
    )
    os.close(handle)
    return True


def _launcher_above(pid: int) -> int | None:
    """The process, of this one and its parents, that is a launcher."""
    with contextlib.suppress(OSError, ValueError):
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        if name in _BETWEEN:
            return _launcher_above(int(rest.split()[1]))
        if name.split(".")[0] in _LAUNCHERS:
            return pid
    return None


def _end(handle: int) -> None:
    for seconds, number in _PATIENCE:
        if select.select([handle], [], [], seconds)[0]:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


if __name__ == "__main__":
    _end(int(sys.argv[1]))
