"""Who holds a results file: signed into its lock file, described to others, and whether that process still lives.

Says "dead" only where it can know: of a process of this very host, of the same boot and the same process ids.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mosaic_mpi import environment


@dataclass(frozen=True)
class Holder:
    """A process that writes, or wrote, a results file.

    Parameters
    ----------
    host, job, since : str
        For a person.
    pid : int
        Its process id.
    machine : str
        Boot and process-id namespace of its kernel: only within the same one does a process id mean anything.
        Empty where that cannot be known.
    born : int
        Its start, clock ticks after the boot, since process ids are used again. 0 where that cannot be known.
    """

    host: str
    pid: int
    job: str
    since: str
    machine: str = ""
    born: int = 0

    def __str__(self) -> str:
        job = f", {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"

    @property
    def is_dead(self) -> bool:
        """Whether it is known to have ended."""
        if not self.machine or self.machine != _machine():
            return False
        found = _born(self.pid)
        return found is None or (self.born != 0 and found != self.born)

    def to_bytes(self) -> bytes:
        """What its lock file holds."""
        return json.dumps(asdict(self)).encode()


def this_process() -> Holder:
    """The holder that this process is."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    pid = os.getpid()
    return Holder(environment.host(), pid, environment.job(), now, _machine(), _born(pid) or 0)


def read_holder(path: Path) -> Holder | None:
    """Read a lock file; None where it is missing, unsigned yet, or of something else."""
    with suppress(OSError, ValueError, TypeError):
        fields = json.loads(path.read_bytes())
        return Holder(
            str(fields["host"]),
            int(fields["pid"]),
            str(fields["job"]),
            str(fields["since"]),
            str(fields.get("machine", "")),
            int(fields.get("born", 0)),
        )
    return None


def _machine() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _born(pid: int) -> int | None:
    """Start of a living process, or None if there is none; a zombie is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
