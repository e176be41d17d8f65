"""When the batch system will end this job, where it tells.

Knows Slurm: its variable where it sets one (since 23.02), else a question to its controller. Elsewhere nothing is
known, and `--time-limit` is for that.
"""

from __future__ import annotations

import re
import subprocess
import time

from mosaic_mpi import environment
from mosaic_mpi.deadline import Deadline

_ASK_SECONDS = 10.0
_LONG_SECONDS = 400 * 86400.0
"""Slurm gives a job without a limit an end a year away."""
_TIME_LEFT = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")


def job_deadline() -> Deadline | None:
    """Return the end of the Slurm job that this process belongs to; None where there is none or it is not known."""
    job, end = environment.slurm_job()
    if not job:
        return None
    now = time.time()
    left_s = float(end) - now if end.isdigit() else _parse_left(_ask(job))
    if left_s is None or not 0 < left_s < _LONG_SECONDS:
        return None
    return Deadline(now + left_s, now, f"end of Slurm job {job}")


def _ask(job: str) -> str:
    """What squeue says of the time left; an empty string if it cannot be asked."""
    words = ["squeue", "--noheader", f"--job={job}", "--format=%L"]
    try:
        answer = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _parse_left(text: str) -> float | None:
    """Seconds of "1-02:03:04", "2:03:04" or "3:04"; None for UNLIMITED and the like."""
    found = _TIME_LEFT.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((24 * days + hours) * 60 + minutes) * 60 + seconds)
