"""Ranks that are played: few processes that take the parts of thousands of ranks, for `virtual_cluster.py`.

Rank 0 is the real one: its master loop, its results file, its messages through MPI. The other processes each play
many ranks of some slots, whose simulations are entries of a timer: nothing is computed, but every message that so
many real ranks would send is sent, with records of the right bytes. A tag carries which played rank it concerns.

Runs under mpirun only; started by `virtual_cluster.py`.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mosaic_mpi.run as program
from mosaic_mpi import cli, worker
from mosaic_mpi.comm import MPIComm
from mosaic_mpi.messages import Assign, Beat, Drain, Message, Ready, Results, Returned, Stop, decode, encode
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.records import checksum, compress_iteration
from mosaic_mpi.units import Units

_KINDS = 16
"""A tag is a message's kind, and 16 times the rank's place among those that its process plays."""
_NAP_SECONDS = 0.002
_N_TEMPLATES = 1021
_SLOTS_PER_NODE = 120
_SETTINGS: dict[str, Any] = json.loads(os.environ.get("VIRTUAL_CLUSTER", "{}"))


class PlayedComm(MPIComm):
    """MPI's world in which process p > 0 plays the ranks p, p + P, p + 2 P, … of P playing processes."""

    def __init__(self, launcher: Any) -> None:
        super().__init__(launcher)
        self._n_players = self.size - 1
        self.size = 1 + int(_SETTINGS["n_ranks"])
        self._tag = 0

    @property
    def n_played(self) -> int:
        """Ranks that this process plays."""
        return len(range(self.rank, self.size, self._n_players))

    def send(self, to: int, message: Message) -> None:
        """See `Comm.send`; from rank 0 to a played rank."""
        if to == self.rank:
            super().send(to, message)
            return
        place, process = divmod(to - 1, self._n_players)
        self._send(process + 1, message, place)

    def send_as(self, place: int, message: Message) -> None:
        """Send to rank 0 as one of the played ranks."""
        self._send(0, message, place)

    def _send(self, process: int, message: Message, place: int) -> None:
        data = encode(message)
        request = self._world.Isend([data, self._mpi.BYTE], dest=process, tag=message.kind + _KINDS * place)
        self._sending.append((process, request, data))

    def close(self, code: int) -> None:
        """See `Comm.close`; some libraries end the process there."""
        if self.rank == 0:
            _write(0, peak_bytes=_peak_bytes())
        super().close(code)

    def _take(self) -> tuple[int, Message] | None:
        status = self._mpi.Status()
        found = self._world.Improbe(status=status)
        if found is None:
            return None
        data = bytearray(status.Get_count(self._mpi.BYTE))
        found.Recv([data, self._mpi.BYTE])
        place, kind = divmod(status.Get_tag(), _KINDS)
        source = status.Get_source()
        return (1 + place * self._n_players + source - 1 if self.rank == 0 else place), decode(kind, data)


class Fleet:
    """All slots of all ranks that one process plays.

    Parameters
    ----------
    n_ranks, n_slots : int
        Ranks, and slots of each.
    seconds, spread : float
        A simulation takes between ``seconds * (1 - spread)`` and ``seconds * (1 + spread)``.
    units : Units
        Of the run; an iteration takes its share.
    """

    def __init__(self, n_ranks: int, n_slots: int, seconds: float, spread: float, units: Units) -> None:
        self.n_slots, self._units = n_slots, units
        self._until = np.full(n_ranks * n_slots, np.inf)
        self._unit = np.full(n_ranks * n_slots, -1, np.int64)
        self._began = np.zeros(n_ranks * n_slots)
        draws = np.random.default_rng(1).uniform(-1, 1, 4093)
        self._durations = seconds * (1 + spread * draws)
        room = n_slots * (8 + int(np.ceil(4 / seconds)))
        self._backlog = np.zeros((n_ranks, room), np.int64)
        self._head, self._tail, self._given = (
            np.zeros(n_ranks, np.int64),
            np.zeros(n_ranks, np.int64),
            np.zeros(n_ranks),
        )

    def give(self, rank: int, units: NDArray[np.int64], now: float) -> None:
        """Units for a rank: idle slots begin at once, the rest waits."""
        room = self._backlog.shape[1]
        if self._tail[rank] - self._head[rank] + len(units) > room:
            raise RuntimeError(f"more than {room} units for a rank of {self.n_slots} slots")
        self._backlog[rank, (self._tail[rank] + np.arange(len(units))) % room] = units
        self._tail[rank] += len(units)
        self._given[rank] = now
        first = rank * self.n_slots
        idle = np.flatnonzero(self._unit[first : first + self.n_slots] < 0) + first
        self._begin(idle[: self._tail[rank] - self._head[rank]])

    def advance(self, now: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Any]:
        """End what is due by now and begin what follows.

        Returns
        -------
        slots, units : ndarray of int64, shape (n,)
            Finished units and their slots, counted over all ranks.
        elapsed_s, ended : ndarray of float64, shape (n,)
            How long each took, and when it ended.
        """
        found: list[Any] = []
        while len(due := np.flatnonzero(self._until <= now)):
            due = due[np.lexsort((self._until[due], due // self.n_slots))]
            ended = self._until[due]
            found.append((due, self._unit[due], ended - self._began[due], ended))
            self._unit[due], self._until[due], self._began[due] = -1, np.inf, ended
            ranks = due // self.n_slots
            starts = np.flatnonzero(np.diff(ranks, prepend=-1))
            nth = np.arange(len(due)) - np.repeat(starts, np.diff(starts, append=len(due)))
            self._begin(due[self._head[ranks] + nth < self._tail[ranks]])
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0)
        slots, units, elapsed_s, ended = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return slots, units, elapsed_s, ended

    def drop_backlog(self, rank: int) -> NDArray[np.int64]:
        """Units that no slot of a rank has begun."""
        waiting = np.arange(self._head[rank], self._tail[rank]) % self._backlog.shape[1]
        self._head[rank] = self._tail[rank]
        return self._backlog[rank, waiting]

    def _begin(self, slots: NDArray[np.int64]) -> None:
        """Begin the next units of their ranks in idle slots, which come in the order of their ranks."""
        if not len(slots):
            return
        ranks = slots // self.n_slots
        starts = np.flatnonzero(np.diff(ranks, prepend=-1))
        counts = np.diff(starts, append=len(slots))
        nth = np.arange(len(slots)) - np.repeat(starts, counts)
        units = self._backlog[ranks, (self._head[ranks] + nth) % self._backlog.shape[1]]
        self._head[ranks[starts]] += counts
        self._unit[slots] = units
        self._began[slots] = np.maximum(self._began[slots], self._given[ranks])
        self._until[slots] = self._began[slots] + self._seconds_of(units)

    def _seconds_of(self, units: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = self._units.rows(units)
        is_whole = units == self._units.whole(rows)
        seconds: NDArray[np.float64] = self._durations[rows % len(self._durations)]
        return np.where(is_whole, seconds, seconds / self._units.n_iterations)


class Outbox:
    """Results that wait to be sent, of all ranks that one process plays."""

    def __init__(self, comm: PlayedComm, fleet: Fleet, dtype: np.dtype[np.void], n_bytes: int, units: Units) -> None:
        self._comm, self._fleet, self._dtype, self._n_bytes = comm, fleet, dtype, n_bytes
        self._units = units
        self._flush_s = _SETTINGS["flush_s"] or worker.flush_interval_s(comm.size)
        self._flushed = np.zeros(comm.n_played)
        self._waiting: list[Any] = [np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0)]
        generator = np.random.default_rng(2)
        self._series = memoryview(generator.bytes(n_bytes) * 64)
        numbers = generator.integers(0, 256, n_bytes // units.n_iterations, np.uint8)
        self._part = memoryview(compress_iteration(numbers) if n_bytes else b"")
        self._templates = np.zeros(_N_TEMPLATES, dtype)
        self._templates["parameters"] = generator.random(self._templates["parameters"].shape)
        self._templates["iteration_likelihood"] = -generator.random(self._templates["iteration_likelihood"].shape)
        self._templates["likelihood"] = self._templates["iteration_likelihood"].mean(axis=1)
        self._templates["series_bytes"] = n_bytes
        for record in self._templates:
            record["checksum"] = checksum(record, self._series[:n_bytes])
        self._offset = time.time() - time.monotonic()

    def put(self, finished: Any) -> None:
        """Add what has finished."""
        self._waiting = [np.concatenate(pair) for pair in zip(self._waiting, finished, strict=True)]

    def flush(self, now: float) -> bool:
        """Send for every played rank whose time has come, a message each; return whether any was."""
        ranks = self._waiting[0] // self._fleet.n_slots
        due = now - self._flushed[ranks] >= self._flush_s
        if not due.any():
            return False
        order = np.flatnonzero(due)[np.argsort(ranks[due], kind="stable")]
        slots, units, elapsed_s, ended = (column[order] for column in self._waiting)
        self._waiting = [column[~due] for column in self._waiting]
        rows = self._units.rows(units)
        records = self._templates[rows % _N_TEMPLATES]
        records["row"], records["slot"] = rows, slots % self._fleet.n_slots
        records["iteration"] = units - self._units.whole(rows)
        records["series_bytes"][records["iteration"] > 0] = len(self._part)
        records["elapsed_s"], records["finished_at"] = elapsed_s, ended + self._offset
        ranks = ranks[order]
        starts = np.flatnonzero(np.diff(ranks, prepend=-1))
        data, size = memoryview(records.tobytes()), self._dtype.itemsize
        for first, last in zip(starts, (*starts[1:], len(ranks)), strict=True):
            is_part = records["iteration"][first:last] > 0
            self._send(int(ranks[first]), is_part, data[first * size : last * size])
        self._flushed[ranks[starts]] = now
        return True

    def _send(self, rank: int, is_part: NDArray[np.bool_], records: memoryview) -> None:
        n_records = len(is_part)
        most = max((4 << 20) // self._n_bytes, 1) if self._n_bytes else n_records  # a real rank's _FLUSH_BYTES
        size = self._dtype.itemsize
        for first in range(0, n_records, most):
            last = min(first + most, n_records)
            series = self._series_of(is_part[first:last]) if self._n_bytes else []
            payload = b"".join((records[first * size : last * size], *series))
            self._comm.send_as(rank, Results(last - first, payload))

    def _series_of(self, is_part: NDArray[np.bool_]) -> list[memoryview]:
        if is_part.any():
            return [self._part if part else self._series[: self._n_bytes] for part in is_part]
        n = len(is_part)
        return [self._series[: min(n - k, 64) * self._n_bytes] for k in range(0, n, 64)]


class Player:
    """A process that plays ranks: serves until the master says stop."""

    def __init__(self, options: Any, comm: PlayedComm, signals: Any) -> None:
        self._comm = comm
        self._stopped = False

    def run(self) -> int:
        """Say hello for each rank, play, and note what it cost."""
        comm = self._comm
        hello = program._hello()
        for place in range(comm.n_played):
            node = (comm.rank + place * comm._n_players) * _SETTINGS["n_slots"] // _SLOTS_PER_NODE
            comm.send_as(place, replace(hello, host=f"node{node}"))
        order = pickle.loads(comm.broadcast(None))
        if isinstance(order, int):
            return order
        plan = SlotPlan.from_buffer(memoryview(order[1]))
        units = Units(plan.n_iterations)
        fleet = Fleet(comm.n_played, _SETTINGS["n_slots"], _SETTINGS["seconds"], _SETTINGS["spread"], units)
        outbox = Outbox(comm, fleet, plan.record_dtype, _SETTINGS["series_bytes"], units)
        cpu_s = time.process_time()
        for place in range(comm.n_played):
            comm.send_as(place, Ready(fleet.n_slots))
        while not self._stopped:
            time.sleep(_NAP_SECONDS)
            for place, message in comm.receive():
                self._handle(fleet, place, message)
            outbox.put(fleet.advance(time.monotonic()))
            outbox.flush(time.monotonic())
        _write(comm.rank, cpu_s=time.process_time() - cpu_s)
        return 0

    def _handle(self, fleet: Fleet, place: int, message: Message) -> None:
        match message:
            case Assign(units):
                fleet.give(place, units, time.monotonic())
            case Drain():
                self._comm.send_as(place, Returned(fleet.drop_backlog(place)))
            case Stop():
                self._stopped = True
            case Beat():
                pass


def _write(process: int, **values: float) -> None:
    Path(_SETTINGS["folder"], f"process{process}.json").write_text(json.dumps(values))


def _peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> int:
    """Be rank 0, or play others, on the core that `virtual_cluster.py` gives each."""
    rank = next((int(os.environ[name]) for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK") if name in os.environ), 0)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1] if rank == 0 else cores[1:] or cores)
    program.connect = PlayedComm  # type: ignore[assignment]
    program._OtherRank = Player  # type: ignore[assignment,misc]
    program.allocate = lambda hellos, _: [0] + [_SETTINGS["n_slots"]] * (len(hellos) - 1)
    arguments = sys.argv[1:]
    if rank == 0 and _SETTINGS.get("profile"):
        import cProfile

        profile = cProfile.Profile()
        code = profile.runcall(cli.main, arguments)
        profile.dump_stats(_SETTINGS["profile"])
    else:
        code = cli.main(arguments)
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
