"""When a run that keeps failing is not worth going on with.

Pure: from counts to a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_ENDED = 100
"""Simulations that must have ended before a share of them says anything."""


@dataclass(frozen=True)
class FailureLimit:
    """How many simulations of one start may fail.

    Parameters
    ----------
    count : int, optional
        So many.
    percent : float, optional
        So many of a hundred that have ended, judged from `MIN_ENDED` on (or from all, if there are fewer).
    """

    count: int | None = None
    percent: float | None = None

    @staticmethod
    def parse(text: str) -> FailureLimit:
        """Read "50" or "10%".

        Raises
        ------
        ValueError
            It is neither a whole number from 1 nor a percentage above 0 up to 100.
        """
        number = text.strip().removesuffix("%").strip()
        if number == text.strip():
            limit = FailureLimit(count=int(number.replace("_", "")))
        else:
            limit = FailureLimit(percent=float(number))
        number_given = limit.count or limit.percent or 0
        if not number_given > 0 or not (limit.percent or 0) <= 100:
            raise ValueError(text)
        return limit

    def is_reached(self, n_failed: int, n_ended: int, n_to_do: int) -> bool:
        """Whether to stop.

        Parameters
        ----------
        n_failed : int
            Simulations given up in this start.
        n_ended : int
            Simulations completed or given up in this start.
        n_to_do : int
            Simulations that this start had to do when it began.
        """
        if not n_failed:
            return False
        if self.count is not None:
            return n_failed >= self.count
        assert self.percent is not None
        return n_ended >= min(MIN_ENDED, n_to_do) and 100 * n_failed >= self.percent * n_ended

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.count is None else str(self.count)


DEFAULT = FailureLimit(percent=100)
"""Where the first hundred fail without exception, the rest would too."""
