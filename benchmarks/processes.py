"""Memory of everything that a command starts, daemons included (Linux).

Processes are known by a variable in their environment, or by their parent: what detaches itself keeps the first, and
what clears its environment has the second.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import threading
import time
from pathlib import Path

VARIABLE = "MOSAIC_BENCHMARK"
_INTERVAL_S = 2.0
_LINGER_S = 15.0


class Measured:
    """A command, run to its end, and the peak of the memory that it and its processes took together.

    Parameters
    ----------
    command : list of str
        Program and arguments.
    variables : dict
        Environment.
    folder : str
        Where it runs, and leaves what it prints in output.txt.

    Attributes
    ----------
    began, ended : float
        Seconds since 1970.
    peak_bytes : int
        Every two seconds, the sum over all processes is taken.
    """

    def __init__(self, command: list[str], variables: dict[str, str], folder: str) -> None:
        self._mark = secrets.token_hex(8)
        self._members: set[int] = set()
        self._others: set[int] = set()
        self.peak_bytes = 0
        self.ended = 0.0
        self._done = threading.Event()
        marked = {**variables, VARIABLE: self._mark}
        self.began = time.time()
        with open(f"{folder}/output.txt", "wb") as output:
            self.process = subprocess.Popen(command, env=marked, cwd=folder, stdout=output, stderr=output)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def wait(self, limit_s: float) -> int | None:
        """Wait for the command and what it leaves behind; end what lingers. None: it took longer than the limit."""
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(limit_s)
        self.ended = time.time()
        self._done.set()
        self._watcher.join()
        deadline = time.monotonic() + (_LINGER_S if code is not None else 0.0)
        while self._living() and time.monotonic() < deadline:
            time.sleep(0.1)
        while lingering := self._living():
            for pid in lingering:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.process.wait()
        return code

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL_S):
            self.peak_bytes = max(self.peak_bytes, sum(map(proportional_bytes, self._living())))

    def _living(self) -> list[int]:
        alive = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
        unknown = sorted(alive - self._members - self._others)  # parents first, mostly
        for pid in unknown:
            (self._members if self._is_ours(pid) else self._others).add(pid)
        return [pid for pid in self._members & alive if not _is_zombie(pid)]

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            marked = f"{VARIABLE}={self._mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
            return pid == self.process.pid or marked or int(_stat(pid)[1]) in self._members
        return False


def _stat(pid: int) -> list[str]:
    """State, parent and what follows."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return _stat(pid)[0] == "Z"
    return True


def proportional_bytes(pid: int) -> int:
    """Memory of a process, where each shared page counts by its share (PSS)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return 0
