"""Rank 0's part: hand out simulations, take in what comes back, see that it is stored.

One handler a message, and what is due by the clock. Results are taken in by `Arrivals`, simulations handed out by the
`Dispatcher`; which those are is decided by the work queue and the tail, what is remembered by the store. Knows no MPI
and no HDF5.
"""

from __future__ import annotations

import time

import numpy as np

from mosaic_mpi.arrivals import Arrivals
from mosaic_mpi.comm import Comm
from mosaic_mpi.dispatcher import Dispatcher
from mosaic_mpi.engine_choice import Verdict
from mosaic_mpi.errors import EngineError, Interrupted
from mosaic_mpi.failure_limit import DEFAULT as DEFAULT_FAILURE_LIMIT
from mosaic_mpi.failure_limit import FailureLimit
from mosaic_mpi.loops import Loops
from mosaic_mpi.messages import (
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
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.progress import Progress
from mosaic_mpi.ranks import Ranks
from mosaic_mpi.store import Store
from mosaic_mpi.tail import Tail
from mosaic_mpi.units import Units
from mosaic_mpi.worker import beat_interval_s
from mosaic_mpi.workqueue import WorkQueue

_COMMIT_SECONDS = 0.1
_COMMIT_BYTES = 2 << 20
"""Results wait for one another so long, or so many: a commit of many costs each of them little, but copying
larger ones costs more than that (measured in `benchmarks/README.md`)."""
_ALIVE_NEWS_SECONDS = 1.0
DEFAULT_RANK_TIMEOUT_SECONDS = 300.0
"""A rank that says nothing for so long is given up; far above any stall of a disk or a network."""


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
    loop_told : str
        Which loop over ticks runs, where that was told already.

    Attributes
    ----------
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
        loop_told: str = "",
    ) -> None:
        self._comm, self._store, self._queue, self._progress = comm, store, queue, progress
        self._sim_ids, self._check_point_s = plan.sim_ids, check_point_s
        self._ranks = Ranks(hosts, [store.host_row(host) for host in hosts], time.monotonic())
        self._loops = Loops(plan, hosts, loop_told, rank_timeout_s)
        self._units = Units(plan.n_iterations)
        self._tail = Tail(queue, self._ranks, self._units, n_slots)
        self._arrivals = Arrivals(plan.record_dtype, store, queue, self._tail, self._ranks, progress)
        self._dispatcher = Dispatcher(comm, queue, self._tail, self._ranks, self._units, self._note_begin)
        self._rank_timeout_s, self._beat_s = rank_timeout_s, beat_interval_s(rank_timeout_s)
        self._failure_limit, self._n_to_do = failure_limit, queue.n_pending
        self._n_failed_before = queue.n_failed
        self.has_failed_too_often = False
        self._drain_until: float | None = None
        self._last_trouble = ""
        self._began = self._checked = self._beaten = self._buffered_at = time.monotonic()
        self._committed = self._stepped = self._began
        self._alive_noted = -1
        self._cpu_began = time.process_time()

    # ---- messages -----------------------------------------------------------------------------------

    def handle(self, source: int, message: Message) -> None:
        """Act on a message of a worker."""
        ranks, now = self._ranks, time.monotonic()
        ranks.heard[source] = now
        if ranks.is_given_up[source] and not ranks.is_dead[source]:
            self._take_back(source)
        if isinstance(message, Results):
            self._arrivals.add(source, message)
            if self._arrivals.n_bytes >= _COMMIT_BYTES:
                self._take_in_results(now)
            return
        self._take_in_results(now)  # what a rank said before comes before
        match message:
            case Ready(n_slots) if not ranks.is_dead[source]:
                ranks.report(source, n_slots)
            case Loop(name, reason):
                self._loops.learn(source, Verdict(name, reason))
            case Failure(unit, cause, text):
                self._take_failure(source, unit, cause, text)
            case Returned(units):
                self._tail.give_back(source, units)
                if self._drain_until is not None:
                    self._tail.drain()
            case Mishap(text):
                self._progress.mishap(f"{ranks.name(source)}: {text}")
            case Broken(text):
                self._take_breakdown(source, text)
            case _:
                return
        self._dispatcher.note_hungry([source])

    def _take_back(self, source: int) -> None:
        """A rank that was given up speaks: it was suspended, or cut off for a while."""
        self._ranks.take_back(source)
        self._dispatcher.note_hungry([source])
        self._comm.silent.discard(source)
        self._progress.say(f"{self._ranks.name(source)} is back")

    def _take_breakdown(self, source: int, text: str) -> None:
        """A rank can start no slots: the others go on without it."""
        self._ranks.break_down(source)
        if self._loops.is_refused(source):  # of which all hosts are told together, before anything was handed out
            return
        self._go_on_without(source, f"cannot go on: {text}")
        self._last_trouble = f"{self._ranks.name(source)}: {text}"

    def _take_in_results(self, now: float) -> None:
        was_empty = not self._store.n_buffered
        self._dispatcher.note_hungry(self._arrivals.take_in(now))
        if was_empty:
            self._buffered_at = now
        if self._store.buffered_bytes >= _COMMIT_BYTES:  # at once: many messages may follow before the next step
            self._commit(now)

    def _take_failure(self, source: int, unit: int, cause: str, text: str) -> None:
        if not self._tail.has_failed(source, unit):
            return
        row, _ = self._units.split(unit)
        verdict = self._queue.fail(row)
        self._store.add_failure(row, verdict.attempts, cause, text, verdict.final)
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
        self._take_in_results(now)
        for source in self._comm.lost_ranks():
            self._lose(source, "died")
            self._ranks.is_dead[source] = True
            self._comm.silent.discard(source)  # MPI knows as well
        if self._drain_until is None and self._is_failure_limit_reached:
            self.has_failed_too_often = not self._queue.is_done
            self.drain(0.0)
        if self._drain_until is None and self._loops.may_begin(self._ranks, now - self._began):
            self._dispatcher.hand_out(now, self.mean_s)  # before anything that takes long: slots may be waiting
        self._tell_of_loops()
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

    def _tell_of_loops(self, at_the_end: bool = False) -> None:
        """Say and note which loop over ticks runs where, once all ranks have said so."""
        if news := self._loops.news(self._ranks, at_the_end):
            self._store.note(engine=news)
            self._progress.say(f"engine {news}")

    @property
    def _is_failure_limit_reached(self) -> bool:
        n_failed = self._queue.n_failed - self._n_failed_before
        n_open = self._queue.n_pending + self._queue.n_running
        n_ended = self._n_to_do - n_open
        return self._failure_limit.is_reached(n_failed, n_ended, self._n_to_do)

    def _is_alive_news(self, now: float) -> bool:
        """Whether the file should not wait for the next beat to know how many slots there are."""
        return now - self._beaten > _ALIVE_NEWS_SECONDS and self._ranks.n_live_slots != self._alive_noted

    def _show(self) -> None:
        n_ranks = len(self._ranks) - self._ranks.n_lost
        self._progress.tick(self._queue.n_completed, self._queue.n_failed, self._ranks.n_live_slots, n_ranks)

    def _allow_for_own_stall(self, now: float) -> None:
        """While rank 0 itself stood still, nobody could be heard; waiting begins anew."""
        if now - self._stepped > self._beat_s:
            self._ranks.heard[:] = self._began = now
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
    def mean_s(self) -> float | None:
        """Mean duration of a simulation lately, seconds; None before the first."""
        return self._arrivals.mean_s

    @property
    def account_of_tail(self) -> str:
        """What was done so that no slot waited long at the end, for a person; empty if nothing was."""
        return self._tail.account

    @property
    def loops_told(self) -> str:
        """Which loops over ticks run, as it was told; empty where no engine runs."""
        return self._loops.told

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

    def _note_begin(self) -> None:
        """Note that the first simulations are about to be handed out."""
        self._cpu_began = time.process_time()
        self._store.note(first_assignment_at=time.time())

    def _note_standing(self, now: float) -> None:
        """Note how much CPU directing has taken, and who answers."""
        self._ranks.heard[self._comm.rank] = now
        self._store.note_hosts(self._ranks.hosts_heard_at(time.time() - now))
        n_slots, n_lost = self._ranks.n_live_slots, self._ranks.n_lost
        self._store.note(loop_cpu_s=time.process_time() - self._cpu_began, n_slots_live=n_slots, n_ranks_lost=n_lost)

    def note_cpu(self) -> None:
        """Note and show, at the end, how much CPU directing has taken, who is left, and which loops ran."""
        self._show()
        self._tell_of_loops(at_the_end=True)
        self._note_standing(time.monotonic())

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
