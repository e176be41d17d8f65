"""A rank at work: receive units, have its slots simulate them, send what comes out.

Owns the rank's slots and its outgoing results. Knows no results file, and of the others only the master.
"""

from __future__ import annotations

import time

import numpy as np

from mosaic_mpi.comm import Comm
from mosaic_mpi.engine_choice import Verdict
from mosaic_mpi.errors import EngineError
from mosaic_mpi.messages import (
    Assign,
    Beat,
    Broken,
    Drain,
    Failure,
    Loop,
    Message,
    Mishap,
    Ready,
    Results,
    Returned,
    Stop,
)
from mosaic_mpi.slot_events import Failed, Finished, Replaced, SlotEvent, Unbegun
from mosaic_mpi.slots import SlotPool

MASTER = 0
_LONGEST_BEAT_SECONDS = 5.0
_BEATS_A_TIMEOUT = 4
_FLUSH_SECONDS = (0.02, 0.25)
"""Shortest and longest time in which a rank collects results before it sends them."""
_MAX_MESSAGES_PER_SECOND = 5000
"""Of all ranks together, where that is possible: a message costs the master more than a result."""
_FLUSH_BYTES = 4 << 20


def beat_interval_s(rank_timeout_s: float) -> float:
    """Seconds between two signs of life, so that several fit into the time after which a rank is given up."""
    return min(_LONGEST_BEAT_SECONDS, rank_timeout_s / _BEATS_A_TIMEOUT)


def flush_interval_s(n_ranks: int) -> float:
    """Seconds in which a rank collects results, so that the master is not flooded by so many ranks."""
    shortest, longest = _FLUSH_SECONDS
    return min(max(shortest, n_ranks / _MAX_MESSAGES_PER_SECOND), longest)


class Worker:
    """The worker of a rank.

    Parameters
    ----------
    comm : Comm
        To reach the master.
    pool : SlotPool
        Not started yet.
    record_bytes : int
        Size of a record (see `mosaic_mpi.records`).
    beat_s : float
        Seconds of silence after which it gives a sign of life.
    """

    def __init__(self, comm: Comm, pool: SlotPool, record_bytes: int, beat_s: float = _LONGEST_BEAT_SECONDS) -> None:
        self._comm, self._pool, self._record_bytes, self._beat_s = comm, pool, record_bytes, beat_s
        self._outbox: list[Finished] = []
        self._outbox_bytes = 0
        self._flush_s = flush_interval_s(comm.size)
        self._flushed = self._sent = self._stepped = self.heard = time.monotonic()
        self.stopped = self._broken = False
        self._verdict_told: Verdict | None = None

    def start(self) -> None:
        """Start the slots and tell the master."""
        try:
            self._pool.start()
        except EngineError as error:
            self._break(error)
        else:
            self._send(Ready(self._pool.n_slots))

    def handle(self, message: Message) -> None:
        """Act on a message of the master."""
        self.heard = time.monotonic()
        match message:
            case Assign(units) if not self._broken:  # else the master has taken them back already
                self._pool.submit(units.tolist())
            case Drain() if not self._broken:
                self._send(Returned(np.array(self._pool.drop_backlog(), dtype=np.int64)))
            case Stop():
                self.stopped = True
            case _:
                pass

    def step(self, wait_s: float) -> bool:
        """Look after the slots, waiting at most so long; return whether anything happened."""
        if self._outbox:
            wait_s = min(wait_s, max(self._flushed + self._flush_s - time.monotonic(), 0.0))
        events = self._poll(wait_s)
        self._tell_verdict()
        for event in events:
            match event:
                case Finished(payload=payload):
                    self._outbox.append(event)
                    self._outbox_bytes += len(payload)
                case Failed(unit, cause, text):
                    self._send(Failure(unit, cause, text))
                case Unbegun(units):
                    self._send(Returned(np.array(units, dtype=np.int64)))
                case Replaced(text):
                    self._send(Mishap(text))
        self._flush_if_due()
        self._beat_if_due()
        self._allow_for_own_stall()
        return bool(events)

    def close(self) -> None:
        """End the slots."""
        self._pool.close()

    def _allow_for_own_stall(self) -> None:
        """While this rank itself stood still, it could hear nobody."""
        now = time.monotonic()
        if now - self._stepped > self._beat_s:
            self.heard = now
        self._stepped = now

    def _poll(self, wait_s: float) -> list[SlotEvent]:
        if self._broken:
            time.sleep(wait_s)
            return []
        try:
            return self._pool.poll(wait_s)
        except EngineError as error:
            self._break(error)
            return []

    def _break(self, error: EngineError) -> None:
        """Go on without slots: the others may have more luck, and the master decides."""
        self._broken = True
        self._tell_verdict()
        self._pool.close()
        self._send(Broken(str(error)))

    def _tell_verdict(self) -> None:
        """Tell which loop the slots run: once, unless a fork server that was started anew finds otherwise."""
        verdict = self._pool.verdict
        if verdict is not None and verdict != self._verdict_told:
            self._verdict_told = verdict
            self._send(Loop(verdict.kind, verdict.reason))

    def _flush_if_due(self) -> None:
        """Send a lone result at once, and what follows it closely together."""
        now = time.monotonic()
        if self._outbox and (now - self._flushed >= self._flush_s or self._outbox_bytes > _FLUSH_BYTES):
            ends = [(event.payload, event.n_records * self._record_bytes) for event in self._outbox]
            parts = [payload[:end] for payload, end in ends] + [payload[end:] for payload, end in ends]
            self._send(Results(sum(event.n_records for event in self._outbox), b"".join(parts)))
            self._outbox, self._outbox_bytes, self._flushed = [], 0, now

    def _beat_if_due(self) -> None:
        if self._comm.rank != MASTER and time.monotonic() - self._sent > self._beat_s:
            self._send(Beat())

    def _send(self, message: Message) -> None:
        self._sent = time.monotonic()
        self._comm.send(MASTER, message)
