"""Signals that ask a run to stop.

The handler only takes a note; the loop acts on it.
"""

from __future__ import annotations

import signal
from types import FrameType

_GRACE_SECONDS = {"SIGINT": 5.0, "SIGTERM": 5.0, "SIGHUP": 5.0, "SIGUSR1": 60.0}
"""How long what runs may still take; SIGUSR1 comes ahead of a limit, the others with little time behind."""


class StopSignals:
    """Takes note of SIGINT, SIGTERM, SIGHUP and SIGUSR1 from now on."""

    def __init__(self) -> None:
        self.received: list[str] = []
        for name in _GRACE_SECONDS:
            signal.signal(getattr(signal, name), self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number).name)

    def grace_s(self, hurried: bool) -> float:
        """Seconds that running simulations get.

        Parameters
        ----------
        hurried : bool
            The launcher kills its ranks within half a second of the signal.
        """
        name = self.received[0]
        return 0.0 if hurried and name != "SIGUSR1" else _GRACE_SECONDS[name]
