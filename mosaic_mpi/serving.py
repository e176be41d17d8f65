"""The loop of a slot: take orders, run what they ask for, send what comes out.

Results wait for one another for a moment, so that a simulation that takes no time costs no message of its own. Slow
ones are sent at once, and so is what waits when one takes longer than expected: a timer sees to that, and to what the
rank calls back meanwhile. Before each unit the logbook is told, so that what waits here is no riddle when the process
dies. Runs in slots only.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import time
import traceback
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

from mosaic_mpi.logbook import Logbook
from mosaic_mpi.parcel import Parcel
from mosaic_mpi.simulation import Simulation
from mosaic_mpi.slot_messages import FAILURE, GATHER_SECONDS, REST, RESULTS, RETURNED, WORK, last_words, units_of


class Server:
    """Serves a rank.

    Parameters
    ----------
    connection : Connection
        To the rank.
    simulation : Simulation
        Runs units.
    parcel : Parcel
        For what comes out.
    logbook : Logbook
        To be told of each unit.
    slot : int
        Index of this slot in its rank.
    """

    def __init__(
        self, connection: Connection, simulation: Simulation, parcel: Parcel, logbook: Logbook, slot: int
    ) -> None:
        self._connection, self._simulation, self._parcel = connection, simulation, parcel
        self._logbook, self._slot = logbook, slot
        self._units: deque[int] = deque()
        self._n_begun = 0
        self._settled = time.monotonic()
        self._is_simulating = self._is_timed = False

    def serve(self) -> None:
        """Run what is ordered until the rank is gone."""
        signal.signal(signal.SIGALRM, self._on_alarm)
        with contextlib.suppress(EOFError, OSError):
            while True:
                if not self._units:
                    self._settle()
                    self._time(0.0)
                    self._take_order()
                else:
                    self._run(self._units.popleft())

    def _take_order(self, n_at: int = 0) -> None:
        """Take one, waiting for it, while so many units are being run."""
        units = units_of(self._connection.recv_bytes())
        if units:
            self._units.extend(units)
        elif self._units:
            self._send_results()
            self._connection.send_bytes(RETURNED + REST.pack(len(self._units), n_at))
            self._units.clear()

    def _run(self, unit: int) -> None:
        """Run a unit; what comes out is sent now or later."""
        if self._units:
            self._time(GATHER_SECONDS)
        self._n_begun += 1
        self._logbook.begin(self._slot, self._n_begun, time.monotonic())
        try:
            self._is_simulating = True
            outcome = self._simulation.run(unit)
            self._is_simulating = False
            self._parcel.add(outcome)
        except Exception as error:
            self._is_simulating = False
            traceback.clear_frames(error.__traceback__)  # where memory ran out, what filled it goes first
            words = last_words()
            self._send_results()  # which come before
            self._connection.send_bytes(FAILURE + words)
        if self._parcel.is_full or time.monotonic() - self._settled >= GATHER_SECONDS:
            self._settle()
            self._take_orders()
        else:
            self._time(GATHER_SECONDS)

    def _take_orders(self, n_at: int = 0) -> None:
        """Take those that have come."""
        while self._connection.poll():
            self._take_order(n_at)

    def _settle(self) -> None:
        """Send what waits, and collect garbage: the engine's models are cycles."""
        self._send_results()
        gc.collect()
        self._settled = time.monotonic()

    def _send_results(self) -> None:
        parcel = self._parcel
        if parcel.n_records:
            work = WORK.pack(parcel.n_records, parcel.seconds)
            self._connection.send_bytes(b"".join((RESULTS, work, parcel.payload())))
            parcel.clear()  # not before: if memory runs out here, nothing is lost

    def _time(self, seconds: float) -> None:
        """Have the alarm go off again and again; not at all if it is 0."""
        if self._is_timed != bool(seconds):
            self._is_timed = bool(seconds)
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    def _on_alarm(self, *_: Any) -> None:
        """A unit may take long: what came before it need not wait, and what comes after it may go elsewhere.

        Between units, who runs there sees to it.
        """
        if self._is_simulating:
            self._is_simulating = False  # the next alarm may come before this message has gone
            try:
                self._send_results()
                self._take_orders(n_at=1)
            finally:
                self._is_simulating = True
