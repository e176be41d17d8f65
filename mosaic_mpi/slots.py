"""The pool of simulation processes of one rank.

Owns slots: starts them, feeds them units, notices results, exceptions, deaths and hangs, replaces what died.
One pipe a slot, one selector over all of them: a slot's death touches no other slot and never the rank. Fast
simulations are given to a slot many at a time, and so their results come back; what it was at is in the logbook.
Knows no MPI and no results file; what an event means is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from mosaic_mpi import fork_server, logbook, slot_process
from mosaic_mpi.engine_choice import Verdict
from mosaic_mpi.errors import EngineError
from mosaic_mpi.logbook import Logbook
from mosaic_mpi.slot_events import Failed, Finished, Replaced, SlotEvent, Unbegun
from mosaic_mpi.slot_messages import (
    GATHER_SECONDS,
    LOOP,
    READY,
    RECALL,
    REST,
    RESULTS,
    RETURNED,
    UNFIT,
    WORK,
    order,
    verdict_of,
)

_FAST_SECONDS = 0.25
"""Below this a slot gets its next units before it asks, so that it does not wait for the rank: …"""
_AHEAD_SECONDS, _MOST_AHEAD = 2 * GATHER_SECONDS, 4096
"""… work for so long, at least two units, at most so many: an order that is not read yet fits into the pipe, or else
rank and slot could wait for one another. What a slot has waiting is called back when one unit takes long."""
_MEMORY = 0.9
"""How much of what was known of their duration stays with each unit."""
_MAX_READS = 64
"""Answers taken from a slot at once, so that the rank looks after the rest in between."""
_MAX_STARTS_IN_VAIN = 5
_AUTO_FLOOR_SECONDS = 600.0
_AUTO_FACTOR = 20.0
_CHECK_SECONDS = 0.25


@dataclass(eq=False)
class _Slot:
    index: int
    process: ForkServerProcess
    connection: Connection
    units: deque[int] = field(default_factory=deque)
    """Given and not answered yet: finished and not sent, then one that it is at, then those that wait."""
    n_given: int = 0
    n_answered: int = 0
    since: float = field(default_factory=time.monotonic)
    """Last message of it, or when it was given something to do after that."""
    ready: bool = False
    is_recalled: bool = False
    """Whether it was told to return what waits behind a slow unit, and is at that still, as far as is known."""
    suspect: int | None = None
    """How many units it had begun when the last seemed to take too long."""
    overdue: tuple[int, float] | None = None
    """How many units it had begun when it was killed because the last took too long, and the limit."""


class SlotPool:
    """Slots of one rank.

    Parameters
    ----------
    n_slots : int
        How many processes; may be 0.
    plan_block : bytes
        `SlotPlan.to_bytes`.
    timeout_s : float or None
        Limit of one unit, seconds; None takes 20 times the slowest one seen here, at least 600.
    max_simulations : int, optional
        A slot is replaced by a fresh process after so many, against what leaks; None never.

    Attributes
    ----------
    verdict : Verdict or None
        Which loop over ticks the latest slot to start runs; None before the first, and of a stand-in for the engine.
    """

    def __init__(
        self, n_slots: int, plan_block: bytes, timeout_s: float | None = None, max_simulations: int | None = None
    ) -> None:
        self.n_slots = n_slots
        self.verdict: Verdict | None = None
        self._timeout_s = timeout_s
        self._max_simulations = max_simulations
        self._slowest_s = 0.0
        self._mean_s: float | None = None
        self._starts_in_vain = 0
        self._backlog: deque[int] = deque()
        self._slots: list[_Slot] = []
        self._selector = selectors.DefaultSelector()
        self._events: deque[SlotEvent] = deque()
        self._checked = time.monotonic()
        self._plan_size = len(plan_block)
        self._files = [
            _shared_file("plan", plan_block if n_slots else b""),
            _shared_file("logbook", bytes(logbook.size_of(n_slots))),
        ]
        self._logbook = Logbook(self._files[1])

    def start(self) -> None:
        """Start the slots; returns as soon as they run, before they have prepared themselves."""
        for index in range(self.n_slots):
            self._start(index)

    def private_bytes(self) -> int:
        """Memory of the largest slot that it shares with no other process, in bytes (Linux; else 0)."""
        sizes = [0]
        for slot in self._slots:
            with contextlib.suppress(OSError), open(f"/proc/{slot.process.pid}/smaps_rollup") as file:
                private = (line.split() for line in file if line.startswith("Private"))
                sizes.append(sum(int(words[1]) for words in private) * 1024)
        return max(sizes)

    def submit(self, units: list[int]) -> None:
        """Queue units for the next free slots."""
        self._backlog.extend(units)
        self._feed()

    def poll(self, timeout_s: float) -> list[SlotEvent]:
        """Wait for something to happen, at most so long, and return what did.

        Raises
        ------
        EngineError
            Slots cannot be started.
        """
        for _ in range(_MAX_READS):
            ready = self._selector.select(timeout_s)
            for key, _ in ready:
                self._read(key.data)
            if not ready:
                break
            timeout_s = 0.0
        if time.monotonic() - self._checked > _CHECK_SECONDS:
            self._look_after_slow_ones()
        self._feed()
        events, self._events = list(self._events), deque()
        return events

    def drop_backlog(self) -> list[int]:
        """Forget units that no slot has, and return them; `Unbegun` brings those that wait in slots."""
        units, self._backlog = list(self._backlog), deque()
        for slot in self._slots:
            self._recall(slot)
        return units

    def close(self) -> None:
        """End all slots at once; what they were at is lost."""
        for slot in self._slots:
            slot.process.kill()
        for slot in self._slots:
            slot.process.join(5)
            slot.connection.close()
        self._slots.clear()
        self._selector.close()
        self._logbook.close()
        for descriptor in self._files:
            os.close(descriptor)
        self._files = []

    def _start(self, index: int) -> None:
        plan_file, logbook_file = map(fork_server.OpenFile, self._files)
        self._logbook.clear(index)
        process, connection = fork_server.spawn(slot_process.main, plan_file, self._plan_size, logbook_file, index)
        slot = _Slot(index, process, connection)
        self._slots.append(slot)
        self._selector.register(connection, selectors.EVENT_READ, slot)

    def _feed(self) -> None:
        """Refill slots that have worked off half of what they may have, the idle ones first."""
        if not self._backlog:
            return
        depth = self._depth
        free = [slot for slot in self._slots if slot.ready and not slot.is_recalled and len(slot.units) <= depth // 2]
        free.sort(key=lambda slot: len(slot.units))
        for n_before, slot in enumerate(free):
            share = -(-len(self._backlog) // (len(free) - n_before))
            n_units = min(depth - len(slot.units), share, self._n_until_worn(slot))
            if n_units > 0:
                self._give(slot, [self._backlog.popleft() for _ in range(n_units)])

    @property
    def _depth(self) -> int:
        """Units that a slot may have, with the one that it is at."""
        if self._mean_s is None or self._mean_s >= _FAST_SECONDS:
            return 1
        return min(max(2, math.ceil(_AHEAD_SECONDS / max(self._mean_s, 1e-6))), _MOST_AHEAD)

    def _give(self, slot: _Slot, units: list[int]) -> None:
        if not slot.units:
            slot.since = time.monotonic()
        slot.units.extend(units)
        slot.n_given += len(units)
        with contextlib.suppress(OSError):  # it just died: its pipe says so next, and its units are seen to there
            slot.connection.send_bytes(order(units))

    def _read(self, slot: _Slot) -> None:
        try:
            self._receive(slot, slot.connection.recv_bytes())
        except (EOFError, OSError):
            self._bury(slot)
        else:
            if not slot.units and not self._n_until_worn(slot):
                self._replace(slot)

    def _receive(self, slot: _Slot, message: bytes) -> None:
        kind, body = message[:1], memoryview(message)[1:]
        if kind == READY:
            slot.ready = True
            return
        if kind == LOOP:
            self.verdict = verdict_of(body)
            return
        if kind == UNFIT:
            raise EngineError(f"a slot cannot start:\n{bytes(body).decode()}")
        slot.is_recalled = False
        if kind == RESULTS:
            n_records, elapsed_s = WORK.unpack_from(body)
            self._answered(slot, n_records)
            self._learn(elapsed_s, n_records)
            self._events.append(Finished(n_records, body[WORK.size :]))
        elif kind == RETURNED:
            n_units, n_at = REST.unpack_from(body)
            is_at = [slot.units.popleft() for _ in range(n_at)]
            units = [slot.units.popleft() for _ in range(n_units)]
            slot.units.extendleft(is_at)
            slot.n_given -= n_units
            slot.is_recalled = bool(is_at)
            self._events.append(Unbegun(units))
        else:
            unit = slot.units[0]
            self._answered(slot, 1)
            self._events.append(Failed(unit, "exception", bytes(body).decode()))
        slot.since = time.monotonic()
        self._starts_in_vain = 0

    def _answered(self, slot: _Slot, n_units: int) -> None:
        for _ in range(n_units):
            slot.units.popleft()
        slot.n_answered += n_units

    def _n_until_worn(self, slot: _Slot) -> int:
        """Units that a slot may still be given before it is replaced."""
        return _MOST_AHEAD if self._max_simulations is None else self._max_simulations - slot.n_given

    def _replace(self, slot: _Slot) -> None:
        """Start a fresh process for a slot that has nothing to do."""
        slot.process.kill()
        self._remove(slot)
        self._start(slot.index)

    def _learn(self, elapsed_s: float, n_units: int) -> None:
        """Take note of how long units took, together; any of them may have taken nearly all of it."""
        self._slowest_s = max(self._slowest_s, elapsed_s)
        old_s = elapsed_s / n_units if self._mean_s is None else self._mean_s
        weight = 1 - _MEMORY**n_units
        self._mean_s = old_s + weight * (elapsed_s / n_units - old_s)

    def _bury(self, slot: _Slot) -> None:
        """Charge the unit that a dead slot was at, take back the others that it had, start a new slot."""
        self._remove(slot)
        n_begun = self._logbook.n_begun(slot.index)
        units, at = list(slot.units), n_begun - slot.n_answered - 1
        if at >= 0:
            if slot.overdue is None or slot.overdue[0] == n_begun:  # else it had just come to the next one
                self._events.append(self._post_mortem(slot, units.pop(at)))
        else:
            if slot.overdue is None:  # else it was killed by us, and had just come to an end
                when = "between simulations" if slot.ready else "while it started"
                self._events.append(Replaced(f"a slot {_ending(slot.process)} {when}; a new one is started"))
            if units or not slot.ready:
                self._count_vain_start(slot)
        self._backlog.extendleft(reversed(units))
        self._start(slot.index)

    def _remove(self, slot: _Slot) -> None:
        self._selector.unregister(slot.connection)
        slot.connection.close()
        slot.process.join(5)
        self._slots.remove(slot)

    def _count_vain_start(self, slot: _Slot) -> None:
        self._starts_in_vain += 1
        if self._starts_in_vain >= _MAX_STARTS_IN_VAIN:
            raise EngineError(
                f"{self._starts_in_vain} slots in a row ended while starting, the last {_ending(slot.process)}; "
                "is there enough memory for so many slots (--slots)?"
            )

    def _post_mortem(self, slot: _Slot, unit: int) -> Failed:
        if slot.overdue is not None:
            return Failed(unit, "timeout", f"took longer than {slot.overdue[1]:.0f} s and was ended")
        hint = "" if slot.process.exitcode != -signal.SIGKILL else "; out of memory, if nobody killed it"
        return Failed(unit, "killed", f"its process {_ending(slot.process)}{hint}")

    @property
    def _limit_s(self) -> float:
        if self._timeout_s is not None:
            return self._timeout_s
        return max(_AUTO_FLOOR_SECONDS, _AUTO_FACTOR * self._slowest_s)

    def _look_after_slow_ones(self) -> None:
        """Kill slots that are at a unit for too long; what waits behind a slow one may go elsewhere."""
        now = self._checked = time.monotonic()
        for slot in self._slots:
            if not slot.units or slot.overdue is not None:
                continue
            n_begun = self._logbook.n_begun(slot.index)
            is_at_one = n_begun > slot.n_answered
            elapsed_s = now - (self._logbook.began_at(slot.index) if is_at_one else slot.since)
            if elapsed_s > self._limit_s:
                if slot.suspect == n_begun:  # else it may only have waited to send, while this rank stood still
                    slot.overdue = n_begun, self._limit_s
                    slot.process.kill()
                slot.suspect = n_begun
            elif elapsed_s > _FAST_SECONDS:
                self._recall(slot)

    def _recall(self, slot: _Slot) -> None:
        """Have a slot give back what waits there, if anything does."""
        n_waiting = len(slot.units) - (self._logbook.n_begun(slot.index) - slot.n_answered)
        if n_waiting > 0 and not slot.is_recalled:
            slot.is_recalled = True
            with contextlib.suppress(OSError):
                slot.connection.send_bytes(RECALL)


def _ending(process: ForkServerProcess) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _shared_file(what: str, block: bytes) -> int:
    """Put bytes into a file in memory, that no folder knows, and return its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(f"mosaic_mpi {what}")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor
