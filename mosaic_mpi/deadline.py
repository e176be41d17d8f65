"""The instant by which a run must have stopped, and when to begin to.

Pure but for the clock.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

_PATTERN = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d)")
_LEAVE_SECONDS = 20.0
_LEAVE_SHARE = 0.1
"""Kept for the last commit and for MPI to end: so many seconds, but no more than this share of the whole time."""
_GRACE_SHARE = 0.15
_GRACE_FACTOR = 1.5
"""Time for what runs: as long as most simulations take, but no more than this share of the whole time."""


def parse_duration(text: str) -> float:
    """Read "02:00:00" or "1-12:00:00", hours or days and hours, as batch systems write them.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        It has another form, or is zero.
    """
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = ((24 * days + hours) * 60 + minutes) * 60 + seconds
    if not total:
        raise ValueError(text)
    return float(total)


@dataclass(frozen=True)
class Deadline:
    """The end of the time that a run has.

    Parameters
    ----------
    at : float
        Seconds since 1970-01-01 UTC.
    began : float
        When the time began to count, likewise.
    why : str
        Who sets it, for people: "--time-limit 02:00:00".
    """

    at: float
    began: float
    why: str

    def grace_s(self, mean_s: float | None) -> float:
        """Seconds that running simulations get.

        Parameters
        ----------
        mean_s : float or None
            Mean duration of a simulation, if any has finished.
        """
        longest = _GRACE_SHARE * (self.at - self.began)
        return longest if mean_s is None else min(_GRACE_FACTOR * mean_s + 1.0, longest)

    def is_near(self, mean_s: float | None) -> bool:
        """Whether it is time to hand out nothing more."""
        leave_s = min(_LEAVE_SECONDS, _LEAVE_SHARE * (self.at - self.began))
        return time.time() >= self.at - leave_s - self.grace_s(mean_s)

    def clock(self) -> str:
        """The instant in local time, for people."""
        form = "%H:%M:%S" if self.at - time.time() < 86400 / 2 else "%Y-%m-%d %H:%M"
        return time.strftime(form, time.localtime(self.at))


def earliest(*deadlines: Deadline | None) -> Deadline | None:
    """Return the first to come; None where there is none."""
    known = [deadline for deadline in deadlines if deadline is not None]
    return min(known, key=lambda deadline: deadline.at, default=None)
