"""Ranks that are played: few processes that take the parts of thousands of ranks, for `virtual_cluster.py`.

Rank 0 is the real one: its master loop, its results file, its messages through MPI. The other processes each play
many ranks of some slots, whose simulations are entries of a timer: nothing is computed, but every message that so
many real ranks would send is sent, with records and series of the right bytes. A tag carries which played rank it
concerns.

Players note how late they are themselves: the time by which an answer left them later than a rank of its own would
have sent it. Runs under mpirun only; started by `virtual_cluster.py`.
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
from lateness import Lateness
from numpy.typing import NDArray
from played_comm import PlayedComm, peak_resident_bytes
from played_fleet import Fleet
from played_results import N_RECORDS, PlayedResults

import mosaic_mpi.run as program
from mosaic_mpi import cli, environment, worker
from mosaic_mpi.errors import EXIT_STOPPED
from mosaic_mpi.messages import Assign, Beat, Drain, Message, Ready, Results, Returned, Stop
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.tail import Tail
from mosaic_mpi.units import Units

_NAP_SECONDS = 0.002
_SLOTS_PER_NODE = 120
_MESSAGE_BYTES = 4 << 20
"""As a real rank's `worker._FLUSH_BYTES`."""
_SETTINGS: dict[str, Any] = json.loads(os.environ.get("VIRTUAL_CLUSTER", "{}"))


class Outbox:
    """Results that wait to be sent, of all ranks that one process plays.

    Parameters
    ----------
    comm : PlayedComm
        Where they go.
    fleet : Fleet
        Where they come from.
    dtype : numpy.dtype
        Of records.
    flush_s : float
        How long a rank collects results; 0: each is sent by itself.
    """

    def __init__(self, comm: PlayedComm, fleet: Fleet, dtype: np.dtype[np.void], flush_s: float) -> None:
        self._comm, self._fleet, self._size = comm, fleet, dtype.itemsize
        self._played = PlayedResults(dtype, _SETTINGS["n_countries"], _SETTINGS["n_days"])
        self._units, self._has_series = Units(self._played.n_iterations), dtype["series_bytes"].shape[0] > 0
        self._flush_s = flush_s
        phases = np.random.default_rng(comm.rank).random(comm.n_played)
        self._flushed = time.monotonic() - phases * flush_s
        self._waiting: list[Any] = [np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0)]
        self._offset = time.time() - time.monotonic()
        self.lateness = Lateness()

    def put(self, finished: Any) -> None:
        """Add what has finished."""
        self._waiting = [np.concatenate(pair) for pair in zip(self._waiting, finished, strict=True)]

    def flush(self, now: float) -> None:
        """Send for every played rank whose time has come, a message each."""
        ranks = self._waiting[0] // self._fleet.n_slots
        due = now - self._flushed[ranks] >= self._flush_s
        if not due.any():
            return
        order = np.flatnonzero(due)[np.argsort(ranks[due], kind="stable")]
        slots, units, elapsed_s, ended = (column[order] for column in self._waiting)
        self._waiting = [column[~due] for column in self._waiting]
        ranks = ranks[order]
        self.lateness.add(now - np.maximum(ended, self._flushed[ranks] + self._flush_s))
        records = self._records(slots, units, elapsed_s, ended)
        starts = np.flatnonzero(np.diff(ranks, prepend=-1)) if self._flush_s else np.arange(len(ranks))
        data = memoryview(records.tobytes())
        for first, last in zip(starts, (*starts[1:], len(ranks)), strict=True):
            part = data[first * self._size : last * self._size]
            self._send(int(ranks[first]), units[first:last], part)
        self._flushed[ranks[starts]] = now

    def _records(self, slots: Any, units: NDArray[np.int64], elapsed_s: Any, ended: Any) -> NDArray[np.void]:
        rows = self._units.rows(units)
        records = self._played.records[rows % N_RECORDS]
        records["row"], records["slot"] = rows, slots % self._fleet.n_slots
        records["iteration"] = iterations = units - self._units.whole(rows)
        for index in np.flatnonzero(iterations) if self._has_series else ():
            part = self._played.part(int(rows[index] % N_RECORDS), int(iterations[index]))
            records["series_bytes"][index] = len(part)
        records["elapsed_s"], records["finished_at"] = elapsed_s, ended + self._offset
        return records

    def _send(self, rank: int, units: NDArray[np.int64], records: memoryview) -> None:
        n_records = len(units)
        series = [self._series_of(unit) for unit in units.tolist()] if self._has_series else []
        most = max(_MESSAGE_BYTES // (self._size + max(map(len, series), default=0)), 1)
        for first in range(0, n_records, most):
            last = min(first + most, n_records)
            payload = b"".join((records[first * self._size : last * self._size], *series[first:last]))
            self._comm.send_as(rank, Results(last - first, payload))

    def _series_of(self, unit: int) -> bytes:
        row, iteration = self._units.split(unit)
        number = row % N_RECORDS
        return self._played.part(number, iteration) if iteration else self._played.series(number)[0]


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
            node = (comm.rank + place * comm.n_players) * _SETTINGS["slots_per_rank"] // _SLOTS_PER_NODE
            comm.send_as(place, replace(hello, host=f"node{node}"))
        order = pickle.loads(comm.broadcast(None))
        if isinstance(order, int):
            return order
        plan = SlotPlan.from_buffer(memoryview(order[1]))
        units = Units(plan.n_iterations)
        seconds, spread = _SETTINGS["seconds"], _SETTINGS["spread"]
        fleet = Fleet(comm.n_played, _SETTINGS["slots_per_rank"], seconds, spread, units)
        flush_s = worker.flush_interval_s(comm.size) if _SETTINGS["is_batched"] else 0.0
        outbox = Outbox(comm, fleet, plan.record_dtype, flush_s)
        for place in range(comm.n_played):
            comm.send_as(place, Ready(fleet.n_slots))
        self._play(fleet, outbox)
        return 0

    def _play(self, fleet: Fleet, outbox: Outbox) -> None:
        cpu_s, offset = time.process_time(), time.time() - time.monotonic()
        most_unsent = 0
        while not self._stopped:
            time.sleep(_NAP_SECONDS)
            outbox.put(fleet.advance(time.monotonic()))  # first: what comes now does not delay what was there
            for place, message in self._comm.receive():
                self._handle(fleet, place, message)
            outbox.flush(time.monotonic())
            most_unsent = max(most_unsent, self._comm.n_unsent)
            if environment.parent_is_gone():
                os._exit(EXIT_STOPPED)
        _note(
            self._comm.rank,
            cpu_s=time.process_time() - cpu_s,
            late_median_s=outbox.lateness.quantile_s(0.5),
            late_p99_s=outbox.lateness.quantile_s(0.99),
            late_most_s=outbox.lateness.most_s,
            first_idle_at=fleet.first_idle_at + offset,
            most_unsent=most_unsent,
        )

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


class _Rank0Comm(PlayedComm):
    def close(self, code: int) -> None:
        """See `Comm.close`; some libraries end the process there."""
        _note(0, peak_resident_bytes=peak_resident_bytes())
        super().close(code)


def _note(process: int, **values: float) -> None:
    Path(_SETTINGS["folder"], f"process{process}.json").write_text(json.dumps(values))


def _arrange(rank: int) -> None:
    """Give rank 0 a core for itself, if there are two, and put the play into the program."""
    cores = _SETTINGS["cores"]
    os.sched_setaffinity(0, cores[:1] if rank == 0 else cores[1:] or cores)
    comm = _Rank0Comm if rank == 0 else PlayedComm
    program.connect = lambda launcher: comm(launcher, _SETTINGS["n_ranks"])
    program._OtherRank = Player  # type: ignore[assignment,misc]
    program.allocate = lambda hellos, _: [0] + [_SETTINGS["slots_per_rank"]] * (len(hellos) - 1)
    if not _SETTINGS["shares_iterations"]:
        Tail.split_if_due = lambda *_: None  # type: ignore[method-assign]


def main() -> int:
    """Be rank 0, or play others, on the core that each is given."""
    if not _SETTINGS:
        print("usage: started by virtual_cluster.py, as rank 0 and the others of a run")
        return 0
    rank = next((int(os.environ[name]) for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK") if name in os.environ), 0)
    _arrange(rank)
    Path(_SETTINGS["folder"], f"pid{rank}").write_text(str(os.getpid()))
    if rank or not _SETTINGS["profile"]:
        return int(cli.main(sys.argv[1:]) or 0)
    import cProfile

    profile = cProfile.Profile()
    code = profile.runcall(cli.main, sys.argv[1:])
    profile.dump_stats(_SETTINGS["profile"])
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
