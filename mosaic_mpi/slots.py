"""The pool of simulation processes of one rank.

Owns slots: starts them, feeds them units, notices results, exceptions, deaths and hangs, replaces what died.
One pipe a slot, one selector over all of them: a slot's death touches no other slot and never the rank.
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
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from mosaic_mpi import fork_server, slot_process
from mosaic_mpi.errors import EngineError

_FAST_SECONDS = 0.25
"""Below this a slot gets its next units before it asks, so that it does not wait for the rank: …"""
_AHEAD_SECONDS, _MOST_AHEAD = 0.02, 64
"""… work for so long, at least two units, at most so many; what a slot has is not begun elsewhere meanwhile."""
_MAX_READS = 64
"""Answers taken from a slot at once, so that the rank looks after the rest in between."""
_MAX_STARTS_IN_VAIN = 5
_AUTO_FLOOR_SECONDS = 600.0
_AUTO_FACTOR = 20.0
_CHECK_SECONDS = 0.25


@dataclass(frozen=True)
class Finished:
    """A unit's bytes: a record and its series."""

    unit: int
    payload: memoryview


@dataclass(frozen=True)
class Failed:
    """An attempt that failed, and why.

    Parameters
    ----------
    unit : int
        See `mosaic_mpi.units`.
    cause : str
        "exception", "killed" or "timeout".
    text : str
        For a person: the end of the traceback, the signal, or the limit.
    """

    unit: int
    cause: str
    text: str


SlotEvent = Finished | Failed


@dataclass(eq=False)
class _Slot:
    index: int
    process: ForkServerProcess
    connection: Connection
    units: deque[int] = field(default_factory=deque)
    n_given: int = 0
    since: float = field(default_factory=time.monotonic)
    ready: bool = False
    timed_out: float | None = None


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
    """

    def __init__(
        self, n_slots: int, plan_block: bytes, timeout_s: float | None = None, max_simulations: int | None = None
    ) -> None:
        self.n_slots = n_slots
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
        self._plan_file = _shared_file(plan_block) if n_slots else -1

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
            self._kill_overdue()
        self._feed()
        events, self._events = list(self._events), deque()
        return events

    def drop_backlog(self) -> list[int]:
        """Forget units that no slot has begun, and return them."""
        units, self._backlog = list(self._backlog), deque()
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
        if self._plan_file >= 0:
            os.close(self._plan_file)
            self._plan_file = -1

    def _start(self, index: int) -> None:
        process, connection = fork_server.spawn(
            slot_process.main, reduction.DupFd(self._plan_file), self._plan_size, index
        )
        slot = _Slot(index, process, connection)
        self._slots.append(slot)
        self._selector.register(connection, selectors.EVENT_READ, slot)

    def _feed(self) -> None:
        """Refill slots that have worked off half of what they may have, the idle ones first."""
        if not self._backlog:
            return
        depth = self._depth
        free = [slot for slot in self._slots if slot.ready and len(slot.units) <= depth // 2]
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
            slot.connection.send_bytes(b"".join(map(slot_process.ORDER.pack, units)))

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
        if kind == slot_process.READY:
            slot.ready = True
            return
        if kind == slot_process.UNFIT:
            raise EngineError(f"a slot cannot start:\n{bytes(body).decode()}")
        unit = slot.units.popleft()
        now = time.monotonic()
        if kind == slot_process.RESULT:
            self._learn(now - slot.since)
            self._events.append(Finished(unit, body))
        else:
            self._events.append(Failed(unit, "exception", bytes(body).decode()))
        slot.since = now
        self._starts_in_vain = 0

    def _n_until_worn(self, slot: _Slot) -> int:
        """Units that a slot may still be given before it is replaced."""
        return _MOST_AHEAD if self._max_simulations is None else self._max_simulations - slot.n_given

    def _replace(self, slot: _Slot) -> None:
        """Start a fresh process for a slot that has nothing to do."""
        slot.process.kill()
        self._remove(slot)
        self._start(slot.index)

    def _learn(self, elapsed_s: float) -> None:
        self._slowest_s = max(self._slowest_s, elapsed_s)
        self._mean_s = elapsed_s if self._mean_s is None else 0.9 * self._mean_s + 0.1 * elapsed_s

    def _bury(self, slot: _Slot) -> None:
        """Charge the unit that a dead slot was at, return those it had not begun, start a new slot."""
        self._remove(slot)
        if slot.units:
            self._events.append(self._post_mortem(slot, slot.units.popleft()))
            self._backlog.extendleft(reversed(slot.units))
        elif not slot.ready:
            self._count_vain_start(slot)
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
        if slot.timed_out is not None:
            return Failed(unit, "timeout", f"took longer than {slot.timed_out:.0f} s and was ended")
        hint = "" if slot.process.exitcode != -signal.SIGKILL else "; out of memory, if nobody killed it"
        return Failed(unit, "killed", f"its process {_ending(slot.process)}{hint}")

    @property
    def _limit_s(self) -> float:
        if self._timeout_s is not None:
            return self._timeout_s
        return max(_AUTO_FLOOR_SECONDS, _AUTO_FACTOR * self._slowest_s)

    def _kill_overdue(self) -> None:
        now = self._checked = time.monotonic()
        for slot in self._slots:
            if slot.units and slot.timed_out is None and now - slot.since > self._limit_s:
                slot.timed_out = self._limit_s
                slot.process.kill()


def _ending(process: ForkServerProcess) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _shared_file(block: bytes) -> int:
    """Put bytes into a nameless file in memory and return its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("mosaic_mpi plan")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor
