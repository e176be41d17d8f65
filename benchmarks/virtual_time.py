"""Ranks and slots that exist in a virtual time only, directed by a real master: schedules of any size in seconds.

The master, its queue and its messages are those of a run; its clock, its ranks and what it stores are played here.
Nothing is measured of the machine: what comes out is which slot did what when.
"""

from __future__ import annotations

import heapq
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from unittest import mock

import numpy as np

from mosaic_mpi.comm import LocalComm
from mosaic_mpi.errors import MosaicError
from mosaic_mpi.master import Master
from mosaic_mpi.messages import Assign, Beat, Drain, Failure, Message, Ready, Results, Returned, Stop
from mosaic_mpi.units import WHOLE, Units

LATENCY_S = 0.001
"""Of a message, either way."""
_LOOK_S = 0.02
"""The master looks around so often when nothing comes: the longest sleep of a real one."""
_EPOCH_S = 1.8e9

Bring = Callable[[int, int, float, float], "bytes | str"]
"""Rank, unit, seconds taken and end, to the bytes of its result or the text of its failure."""


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Virtual seconds since the start."""
        return self.now

    def time(self) -> float:
        """The same since 1970, at some day."""
        return self.now + _EPOCH_S

    @staticmethod
    def process_time() -> float:
        """Real."""
        return time.process_time()


@dataclass
class VirtualRank:
    """A rank whose slots work through a backlog."""

    n_slots: int
    factor: float = 1.0
    """How much longer everything takes here."""
    is_alive: bool = True
    backlog: deque[int] = field(default_factory=deque)
    at_work: dict[int, float] = field(default_factory=dict)
    """Units and when they were begun."""
    busy_s: float = 0.0


class VirtualRanks(LocalComm):
    """All ranks of a run.

    Parameters
    ----------
    ranks : list of VirtualRank
        Rank 0 is among them.
    units : Units
        Of the run.
    seconds : callable
        Length of an iteration, from its row and its number.
    bring : callable
        See `Bring`.
    record_bytes : int
        Size of a record.
    """

    def __init__(
        self,
        ranks: list[VirtualRank],
        units: Units,
        seconds: Callable[[int, int], float],
        bring: Bring,
        record_bytes: int,
    ) -> None:
        super().__init__()
        self.size = len(ranks)
        self.clock, self.ranks, self.begun = Clock(), ranks, []
        self.master: Master | None = None
        self._units, self._seconds, self._bring, self._record_bytes = units, seconds, bring, record_bytes
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._dying: list[int] = []

    begun: list[tuple[float, int, int]]
    """When, on which rank, which unit."""

    # ---- what the master sees -----------------------------------------------------------------------

    def send(self, to: int, message: Message) -> None:
        """See `Comm.send`."""
        self.after(LATENCY_S, lambda: self._receive(to, message))

    def lost_ranks(self) -> list[int]:
        """See `Comm.lost_ranks`."""
        lost, self._dying = self._dying, []
        return lost

    # ---- what happens -------------------------------------------------------------------------------

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Have something happen later."""
        heapq.heappush(self._events, (self.clock.now + seconds, next(self._count), what))

    def kill(self, rank: int) -> None:
        """End a rank."""
        self.ranks[rank].is_alive = False
        self._dying.append(rank)

    def run(self, master: Callable[[], Master], until_s: float = 1e9) -> float:
        """Direct a run to its end, and return how long it took.

        Parameters
        ----------
        master : callable
            Makes the master, once the clock is virtual.
        until_s : float
            A run that takes longer hangs.
        """
        with mock.patch("mosaic_mpi.master.time", self.clock):
            self.master = master()
            for rank, played in enumerate(self.ranks):
                self.tell(rank, Ready(played.n_slots))
            self._beat()
            for _ in self._moments():
                if self.master.step(False):
                    return self.clock.now
                if self.clock.now > until_s:
                    break
        raise MosaicError(f"the run has not ended after {self.clock.now:.0f} s of virtual time")

    def _moments(self) -> Iterator[None]:
        """Let everything of one moment happen, then the master look around."""
        while self._events:
            moment = self.clock.now = self._events[0][0]
            while self._events and self._events[0][0] <= moment + 1e-9:
                heapq.heappop(self._events)[2]()
            yield

    def _beat(self) -> None:
        for rank, played in enumerate(self.ranks):
            if played.is_alive and self.master is not None:
                self.master.handle(rank, Beat())
        self.after(_LOOK_S, self._beat)

    def tell(self, rank: int, message: Message) -> None:
        """Send to the master."""
        assert self.master is not None
        master = self.master
        self.after(LATENCY_S, lambda: master.handle(rank, message))

    def _receive(self, rank: int, message: Message) -> None:
        played = self.ranks[rank]
        if not played.is_alive:
            return
        match message:
            case Assign(units):
                played.backlog.extend(units.tolist())
                self._begin(rank)
            case Drain():
                self.tell(rank, Returned(np.array(played.backlog, np.int64)))
                played.backlog.clear()
            case Stop():
                played.is_alive = False

    def _begin(self, rank: int) -> None:
        played = self.ranks[rank]
        while played.backlog and len(played.at_work) < played.n_slots:
            unit = played.backlog.popleft()
            key = unit if unit not in played.at_work else -1 - next(self._count)  # the same again
            played.at_work[key] = self.clock.now
            self.begun.append((self.clock.now, rank, unit))
            self.after(self.seconds_of(unit) * played.factor, lambda unit=unit, key=key: self._end(rank, unit, key))

    def seconds_of(self, unit: int) -> float:
        """How long a unit takes where nothing is slow."""
        row, iteration = self._units.split(unit)
        numbers = range(1, self._units.n_iterations + 1) if iteration == WHOLE else (iteration,)
        return sum(self._seconds(row, number) for number in numbers)

    def _end(self, rank: int, unit: int, key: int) -> None:
        played = self.ranks[rank]
        if not played.is_alive:
            return
        elapsed = self.clock.now - played.at_work.pop(key)
        played.busy_s += elapsed
        brought = self._bring(rank, unit, elapsed, self.clock.time())
        if isinstance(brought, str):
            self.tell(rank, Failure(unit, "exception", brought))
        else:
            self.tell(rank, Results(1, brought))
        self._begin(rank)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range of several runs."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
