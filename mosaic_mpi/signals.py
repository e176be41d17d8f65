"""Signals that ask a run to stop.

The handler only takes a note, on which the loop acts; outside the loop it can interrupt.
"""

from __future__ import annotations

import signal
from types import FrameType

_GRACE_SECONDS = {"SIGINT": 5.0, "SIGTERM": 5.0, "SIGHUP": 5.0, "SIGUSR1": 60.0}
"""How long what runs may still take; SIGUSR1 comes ahead of a limit, the others with little time behind."""


class StopSignals:
    """Takes note of SIGINT, SIGTERM, SIGHUP and SIGUSR1 from now on.

    SIGHUP stays ignored where this process was started to ignore it.

    Attributes
    ----------
    received : list of str
        Names, in order.
    interrupts : bool
        Raise KeyboardInterrupt as well: where nothing is under way that a note could end in time.
    """

    def __init__(self) -> None:
        self.received: list[str] = []
        self.interrupts = False
        for name in _GRACE_SECONDS:
            number = getattr(signal, name)
            # nohup means it. A shell's `&` ignores SIGINT too, but who sends that to a run means the run.
            if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number).name)
        if self.interrupts:
            self.interrupts = False  # once: what follows is the way out
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """Ignore them: the run has ended, and the interpreter's end would let one change its exit code."""
        for name in _GRACE_SECONDS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def grace_s(self, hurried: bool) -> float:
        """Seconds that running simulations get.

        Parameters
        ----------
        hurried : bool
            The launcher kills its ranks within half a second of the signal.
        """
        name = self.received[0]
        return 0.0 if hurried and name != "SIGUSR1" else _GRACE_SECONDS[name]
