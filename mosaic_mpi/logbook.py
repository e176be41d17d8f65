"""What each slot of a rank is at, in memory that outlives the slot.

A slot notes here when it begins a unit, in two words that its rank can read at any time. So a rank knows what a slot
died of although its results come many at a time, and how long it has been at what it is at. Knows no pipe and no
simulation.
"""

from __future__ import annotations

import mmap
import os

_LINE_BYTES = 64
"""Of a slot: what two cores write to does not lie in one line of a cache."""
_LINE_WORDS = _LINE_BYTES // 8
_N_BEGUN, _BEGAN_AT = 0, 1


def size_of(n_slots: int) -> int:
    """Bytes of the memory of so many slots."""
    return max(n_slots, 1) * _LINE_BYTES


class Logbook:
    """What slots are at.

    Parameters
    ----------
    descriptor : int
        Of a file of at least `size_of` bytes, which rank and slots map.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self._counts, self._times = memoryview(self._map).cast("q"), memoryview(self._map).cast("d")

    def clear(self, slot: int) -> None:
        """Note that a fresh process has begun nothing."""
        self._counts[slot * _LINE_WORDS + _N_BEGUN] = 0

    def begin(self, slot: int, n_begun: int, now: float) -> None:
        """Note that a slot begins a unit.

        Parameters
        ----------
        slot : int
            Its index.
        n_begun : int
            How many units its process has begun, with this one.
        now : float
            Time of the monotonic clock, which is one for all processes of a host.
        """
        self._times[slot * _LINE_WORDS + _BEGAN_AT] = now  # first: a unit must not look older than it is
        self._counts[slot * _LINE_WORDS + _N_BEGUN] = n_begun

    def n_begun(self, slot: int) -> int:
        """How many units a slot's process has begun."""
        return self._counts[slot * _LINE_WORDS + _N_BEGUN]

    def began_at(self, slot: int) -> float:
        """When it began the last of them, by the monotonic clock."""
        return self._times[slot * _LINE_WORDS + _BEGAN_AT]

    def close(self) -> None:
        """Let go of the memory."""
        self._counts.release()
        self._times.release()
        self._map.close()
