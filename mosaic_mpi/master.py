"""Rank 0's part: hand out simulations, take in what comes back, see that it is stored.

One handler a message. What to hand out is decided by the work queue, what is remembered by the store; how it is
shown is the reporter's business. Knows no MPI and no HDF5.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.comm import Comm
from mosaic_mpi.errors import EngineError, Interrupted
from mosaic_mpi.failure_limit import DEFAULT as DEFAULT_FAILURE_LIMIT
from mosaic_mpi.failure_limit import FailureLimit
from mosaic_mpi.messages import (
    Assign,
    Beat,
    Broken,
    Drain,
    Failure,
    Message,
    Ready,
    Results,
    Returned,
    Stop,
)
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.progress import Progress
from mosaic_mpi.ranks import Ranks
from mosaic_mpi.store import Store
from mosaic_mpi.tail import Tail
from mosaic_mpi.units import WHOLE, Units
from mosaic_mpi.worker import beat_interval_s, flush_interval_s
from mosaic_mpi.workqueue import WorkQueue

_ANSWER_SECONDS = 0.1
"""Ample time for rows to reach a rank after its message that it needs some."""
_PLENTY = 8
"""With so many simulations a slot to do, each slot is given two before it is known how long they take."""
_COMMIT_SECONDS = 0.1
_COMMIT_BYTES = 2 << 20
"""Results wait for one another so long, or so many: a commit of many costs each of them little, but copying
larger ones costs more than that (measured in `benchmarks/README.md`)."""
_ALIVE_NEWS_SECONDS = 1.0
DEFAULT_RANK_TIMEOUT_SECONDS = 300.0
"""A rank that says nothing for so long is given up; far above any stall of a disk or a network."""

_Arrived = tuple[int, int, memoryview]
"""Of results: their rank, how many, records and series."""


class Master:
    """The master of a run.

    Parameters
    ----------
    comm : Comm
        To reach the workers.
    store : Store
        Its start has begun.
    queue : WorkQueue
        State of every simulation.
    progress : Progress
        Told of everything that a person wants to see.
    hosts : list of str
        Host of each rank.
    plan : SlotPlan
        Ids of the simulations, and the dtype of their records.
    check_point_s : float
        Seconds between two check points.
    rank_timeout_s : float
        A rank that is silent for so long is given up.
    failure_limit : FailureLimit
        After so many failed simulations the run stops.
    n_slots : int
        Slots that there will be when all ranks have reported.

    Attributes
    ----------
    mean_s : float or None
        Mean duration of a simulation lately, seconds.
    has_failed_too_often : bool
        Whether the run stops because of its failure limit.
    """

    def __init__(
        self,
        comm: Comm,
        store: Store,
        queue: WorkQueue,
        progress: Progress,
        hosts: list[str],
        plan: SlotPlan,
        check_point_s: float,
        rank_timeout_s: float = DEFAULT_RANK_TIMEOUT_SECONDS,
        failure_limit: FailureLimit = DEFAULT_FAILURE_LIMIT,
        n_slots: int = 0,
    ) -> None:
        self._comm, self._store, self._queue, self._progress = comm, store, queue, progress
        self._dtype, self._sim_ids, self._check_point_s = plan.record_dtype, plan.sim_ids, check_point_s
        self._ranks = Ranks(hosts, [store.host_row(host) for host in hosts], time.monotonic())
        self._units = Units(plan.n_iterations)
        self._tail = Tail(queue, self._ranks, self._units, n_slots)
        self._arrived: list[_Arrived] = []
        """Results to be taken in."""
        self._arrived_bytes = 0
        self._hungry: set[int] = set()
        """Ranks that may need rows: the others hold enough, since nothing came from them."""
        self._lookahead_s = 2 * (_ANSWER_SECONDS + flush_interval_s(comm.size))
        self._rank_timeout_s, self._beat_s = rank_timeout_s, beat_interval_s(rank_timeout_s)
        self._failure_limit, self._n_to_do = failure_limit, queue.n_pending
        self._n_ended = self._n_failed = 0
        self.mean_s: float | None = None
        self.has_failed_too_often = False
        self._drain_until: float | None = None
        self._last_trouble = ""
        self._checked = self._beaten = self._buffered_at = self._committed = self._stepped = time.monotonic()
        self._alive_noted = -1
        self._assigned = False
        self._cpu_began = time.process_time()

    # ---- messages -----------------------------------------------------------------------------------

    def handle(self, source: int, message: Message) -> None:
        """Act on a message of a worker."""
        ranks = self._ranks
        ranks.heard[source] = time.monotonic()
        if ranks.is_given_up[source] and not ranks.is_dead[source]:
            self._take_back(source)
        if isinstance(message, Results):
            self._arrived.append((source, message.n_records, memoryview(message.payload)))
            self._arrived_bytes += len(message.payload)
            if self._arrived_bytes >= _COMMIT_BYTES:
                self._file_results()
            return
        self._file_results()  # what a rank said before comes before
        match message:
            case Ready(n_slots) if not ranks.is_dead[source]:
                ranks.report(source, n_slots)
            case Failure(unit, cause, text):
                self._take_failure(source, unit, cause, text)
            case Returned(units):
                self._tail.give_back(source, units)
                if self._drain_until is not None:
                    self._tail.drain()
            case Broken(text):
                self._take_breakdown(source, text)
            case _:
                return
        self._hungry.add(source)

    def _take_back(self, source: int) -> None:
        """A rank that was given up speaks: it was suspended, or cut off for a while."""
        self._ranks.take_back(source)
        self._hungry.add(source)
        self._comm.silent.discard(source)
        self._progress.say(f"{self._ranks.name(source)} is back")

    def _take_breakdown(self, source: int, text: str) -> None:
        """A rank can start no slots: the others go on without it."""
        self._ranks.break_down(source)
        self._go_on_without(source, f"cannot go on: {text}")
        self._last_trouble = f"{self._ranks.name(source)}: {text}"

    def _file_results(self) -> None:
        """Take in the results of all messages that have come, together: that costs little more than one alone."""
        if not self._arrived:
            return
        arrived, self._arrived, self._arrived_bytes = self._arrived, [], 0
        self._hungry.update(source for source, _, _ in arrived)
        records, sources = self._records_of(arrived)
        self._tail.learn(sources, records, time.monotonic())
        if records["iteration"].any():
            arrived = self._joined(arrived)
            if not arrived:
                return
            records, sources = self._records_of(arrived)
        self._tail.settle(sources, records["row"])
        series = (
            [payload[n * self._dtype.itemsize :] for _, n, payload in arrived] if records["series_bytes"].size else []
        )
        wanted, attempts = self._queue.complete(np.ascontiguousarray(records["row"]))
        if not wanted.all():  # of a rank that others have overtaken; the same numbers are stored already
            series = _only(records["series_bytes"], series, wanted)
            records, sources = records[wanted], sources[wanted]
        if not len(records):
            return
        if not self._store.n_buffered:
            self._buffered_at = time.monotonic()
        self._store.add(records, series, sources, self._ranks.host_rows[sources], attempts)
        if self._store.buffered_bytes >= _COMMIT_BYTES:  # at once: many messages may follow before the next step
            self._commit(time.monotonic())
        self._note_results(len(records), float(records["elapsed_s"].mean()), records["likelihood"])

    def _records_of(self, arrived: list[_Arrived]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """The records of messages, and which rank each is from."""
        size = self._dtype.itemsize
        records = np.frombuffer(b"".join([payload[: n * size] for _, n, payload in arrived]), self._dtype)
        return records, np.repeat([source for source, _, _ in arrived], [n for _, n, _ in arrived])

    def _joined(self, arrived: list[_Arrived]) -> list[_Arrived]:
        """Replace iterations by the simulations that they complete."""
        found: list[_Arrived] = []
        for source, n, payload in arrived:
            records = np.frombuffer(payload, self._dtype, n)
            rest = payload[n * self._dtype.itemsize :]
            for record, series in zip(records, _only(records["series_bytes"], [rest], np.ones(n, bool)), strict=True):
                whole = (
                    (record, series) if record["iteration"] == WHOLE else self._tail.take_part(source, record, series)
                )
                if whole is not None:
                    found.append((source, 1, memoryview(whole[0].tobytes() + whole[1])))
        return found

    def _note_results(self, n_results: int, elapsed_s: float, likelihoods: NDArray[np.float64]) -> None:
        self.mean_s = elapsed_s if self.mean_s is None else 0.8 * self.mean_s + 0.2 * elapsed_s
        self._n_ended += n_results
        self._progress.results(n_results, likelihoods)

    def _take_failure(self, source: int, unit: int, cause: str, text: str) -> None:
        if not self._tail.has_failed(source, unit):
            return
        row, _ = self._units.split(unit)
        verdict = self._queue.fail(row)
        self._store.add_failure(row, verdict.attempts, cause, text, verdict.final)
        self._n_ended += verdict.final
        self._n_failed += verdict.final
        where = self._ranks.name(source)
        self._progress.failure(int(self._sim_ids[row]), verdict.attempts, verdict.final, cause, text, where)

    def _lose(self, source: int, why: str) -> None:
        """Give up a rank."""
        if not self._ranks.is_given_up[source]:
            self._ranks.give_up(source)
            self._go_on_without(source, why)

    def _go_on_without(self, source: int, why: str) -> None:
        """What a rank was at goes back to the queue."""
        self._last_trouble = f"{self._ranks.name(source)} {why}"
        n_units = self._tail.give_back(source)
        if self._drain_until is not None:
            self._tail.drain()
        self._progress.lost_rank(source, self._ranks.host(source), why, n_units)

    # ---- the clock ----------------------------------------------------------------------------------

    def step(self, busy: bool) -> bool:
        """Do what is due; return whether the run has ended.

        Parameters
        ----------
        busy : bool
            Whether more messages may be waiting, so that a commit can wait for them a little.
        """
        now = time.monotonic()
        self._allow_for_own_stall(now)
        self._file_results()
        for source in self._comm.lost_ranks():
            self._lose(source, "died")
            self._ranks.is_dead[source] = True
            self._comm.silent.discard(source)  # MPI knows as well
        if self._drain_until is None and self._failure_limit.is_reached(self._n_failed, self._n_ended, self._n_to_do):
            self.has_failed_too_often = not self._queue.is_done
            self.drain(0.0)
        if self._drain_until is None:
            self._assign(now)  # before anything that takes long: slots may be waiting
        self._commit_if_due(now, busy)
        if now - self._checked > self._check_point_s:
            self._check_point()
        if now - self._beaten > self._beat_s or self._is_alive_news(now):
            self._beat(now)
        if self._progress.is_due(now):
            self._show()
        if self._drain_until is not None:
            return now > self._drain_until or not self._queue.n_running
        self._refuse_to_wait_for_nobody()
        return self._queue.is_done

    def _is_alive_news(self, now: float) -> bool:
        """Whether the file should not wait for the next beat to know how many slots there are."""
        return now - self._beaten > _ALIVE_NEWS_SECONDS and self._ranks.n_live_slots != self._alive_noted

    def _show(self) -> None:
        n_ranks = len(self._ranks) - self._ranks.n_lost
        self._progress.tick(self._queue.n_completed, self._queue.n_failed, self._ranks.n_live_slots, n_ranks)

    def _allow_for_own_stall(self, now: float) -> None:
        """While rank 0 itself stood still, nobody could be heard."""
        if now - self._stepped > self._beat_s:
            self._ranks.heard[:] = now
        self._stepped = now

    def _refuse_to_wait_for_nobody(self) -> None:
        if self._ranks.n_live_slots or self._queue.is_done or not self._ranks.are_all_known:
            return
        what = f"no slot is left to run simulations: {self._last_trouble}"
        if self._ranks.is_given_up.any():
            raise Interrupted(f"{what}; what was finished is kept, the same command resumes")
        raise EngineError(what)

    @property
    def n_live_slots(self) -> int:
        """Slots of ranks that are heard of."""
        return self._ranks.n_live_slots

    @property
    def account_of_tail(self) -> str:
        """What was done so that no slot waited long at the end, for a person; empty if nothing was."""
        return self._tail.account

    def drain(self, grace_s: float) -> None:
        """Hand out nothing more, and end when what runs has finished or the grace is over."""
        until = time.monotonic() + grace_s
        self._drain_until = until if self._drain_until is None else min(until, self._drain_until)
        self._tail.drain()
        for source in map(int, np.flatnonzero(self._ranks.n_slots)):
            self._comm.send(source, Drain())

    def stop_workers(self) -> None:
        """Tell every worker to end."""
        for source in map(int, np.flatnonzero(~self._ranks.is_dead)):
            self._comm.send(source, Stop())

    def beat(self) -> None:
        """Let the workers know that the master lives, when it is at something long."""
        now = time.monotonic()
        if now - self._beaten > self._beat_s:
            self._send_beats(now)

    def _send_beats(self, now: float) -> None:
        self._beaten = now
        for source in range(1, len(self._ranks)):
            self._comm.send(source, Beat())

    def _beat(self, now: float) -> None:
        self._send_beats(now)
        self._alive_noted = self._ranks.n_live_slots
        self._store.note(last_commit_at=time.time())
        self._note_standing(now)
        for source in self._ranks.silent(now, self._rank_timeout_s):
            self._lose(source, f"has not been heard of for {self._rank_timeout_s:g} s")
            if not self._ranks.is_dead[source]:
                self._comm.silent.add(source)

    def _note_standing(self, now: float) -> None:
        """Note how much CPU directing has taken, and who answers."""
        self._ranks.heard[self._comm.rank] = now
        self._store.note_hosts(self._ranks.hosts_heard_at(time.time() - now))
        n_slots, n_lost = self._ranks.n_live_slots, self._ranks.n_lost
        self._store.note(loop_cpu_s=self._cpu_s(), n_slots_live=n_slots, n_ranks_lost=n_lost)

    def note_cpu(self) -> None:
        """Note and show, at the end, how much CPU directing has taken and who is left."""
        self._show()
        self._note_standing(time.monotonic())

    def _cpu_s(self) -> float:
        return time.process_time() - self._cpu_began

    def _commit_if_due(self, now: float, busy: bool) -> None:
        """A lone result at once, and what follows it closely together."""
        if not self._store.n_buffered:
            return
        since = self._buffered_at if busy else self._committed
        if now - since > _COMMIT_SECONDS:
            self._commit(now)

    def _commit(self, now: float) -> None:
        self._store.commit()
        self._committed = now

    def _check_point(self) -> None:
        self._checked = time.monotonic()
        self._store.commit()
        self._store.check_point()

    # ---- handing out --------------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        """Give units to those who need some; who still has too few is asked for again at the next step."""
        if not self._hungry:
            return
        self._tail.split_if_due(now)
        if self._is_anything_to_do:
            self._feed_the_hungry(now)
        elif self._tail.is_help_due(now):
            self._help(now)

    @property
    def _is_anything_to_do(self) -> bool:
        return bool(self._queue.n_pending or self._tail.n_to_do)

    def _feed_the_hungry(self, now: float) -> None:
        lookahead = self._lookahead()
        for source in sorted(self._hungry):
            if not self._is_anything_to_do:
                return
            self._feed(source, lookahead, now)
            if self._tail.n_held(source) >= self._ranks.n_slots[source]:
                self._hungry.discard(source)

    def _feed(self, source: int, lookahead: float, now: float) -> None:
        n_slots, n_held = int(self._ranks.n_slots[source]), self._tail.n_held(source)
        spare = math.ceil(n_slots * lookahead)
        need = n_slots + spare - n_held
        if not n_slots or (need <= spare // 2 and n_held >= n_slots):
            return
        rows = self._take(source, n_slots, need, now)
        parts = self._tail.take(source, n_slots - n_held - len(rows), now) if self._tail.n_to_do else []
        self._send(source, np.concatenate([self._units.whole(rows), np.array(parts, np.int64)]))

    def _help(self, now: float) -> None:
        """Slots are idle, and nothing is to do: see to it that the others need not be waited for long."""
        for source in self._tail.hoarders():
            self._comm.send(source, Drain())
        n_idle = {rank: int(self._ranks.n_slots[rank]) - self._tail.n_held(rank) for rank in sorted(self._hungry)}
        for source, parts in self._tail.help(now, {rank: n for rank, n in n_idle.items() if n > 0}).items():
            self._send(source, np.array(parts, np.int64))

    def _lookahead(self) -> float:
        """Rows beyond one a slot, so that none waits for an answer of the master; none when few are left.

        A rank asks for more, by its results, when half of them are used up.
        """
        n_pending, n_slots = self._queue.n_pending, self._ranks.n_live_slots
        if self.mean_s is None:
            return 1.0 if n_pending > _PLENTY * n_slots else 0.0
        if n_pending <= n_slots:
            return 0.0
        return min(max(self._lookahead_s / max(self.mean_s, 1e-4), 0.1), 1000.0)

    def _take(self, source: int, n_slots: int, n_rows: int, now: float) -> NDArray[np.int64]:
        fair = -(-self._queue.n_pending * n_slots // self._ranks.n_live_slots)
        rows = self._queue.take(min(n_rows, max(fair, 1)), source)
        self._tail.note_given(source, rows, now)
        return rows

    def _send(self, source: int, units: NDArray[np.int64]) -> None:
        if not len(units):
            return
        if not self._assigned:
            self._assigned = True
            self._cpu_began = time.process_time()
            self._store.note(first_assignment_at=time.time())
        self._comm.send(source, Assign(units))


def _only(series_bytes: NDArray[np.int64], series: list[memoryview], wanted: NDArray[np.bool_]) -> list[memoryview]:
    """Keep the series of some results, which lie one after the other in several pieces."""
    whole = memoryview(b"".join(series))
    ends = np.cumsum(series_bytes.sum(axis=1)).tolist()
    return [whole[first:last] for first, last, keep in zip([0, *ends], ends, wanted, strict=False) if keep]
