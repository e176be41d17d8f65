"""One start of a run, from options to exit code: the same path on every rank, with or without MPI.

Owns the order of things: fork server, MPI, plan, results file, slots, loop, end. Decides nothing about simulations.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shlex
import time
import traceback

from mosaic_mpi import conclusion, environment, fork_server
from mosaic_mpi.allocation import allocate
from mosaic_mpi.batch_limit import job_deadline
from mosaic_mpi.comm import Comm, connect
from mosaic_mpi.console import complain, say
from mosaic_mpi.deadline import Deadline, earliest
from mosaic_mpi.earlier_file import is_finished
from mosaic_mpi.environment import Launcher
from mosaic_mpi.errors import (
    EXIT_COMPLETE,
    EXIT_INTERNAL,
    EXIT_STOPPED,
    Interrupted,
    LaunchError,
    MosaicError,
    StorageError,
)
from mosaic_mpi.header import header, resume_command, shortened
from mosaic_mpi.layout import BROKEN, STATE_NAMES, STOPPED
from mosaic_mpi.master import Master
from mosaic_mpi.messages import FOR_MASTER, Hello, Stop
from mosaic_mpi.place import refuse_unwritable
from mosaic_mpi.plan import RunPlan, SlotPlan
from mosaic_mpi.prepare import describe_channels, load_inputs, preload_module
from mosaic_mpi.processor import processor
from mosaic_mpi.progress import Progress, duration
from mosaic_mpi.run_options import RunOptions
from mosaic_mpi.signals import StopSignals
from mosaic_mpi.slots import SlotPool
from mosaic_mpi.store import Store
from mosaic_mpi.summary import summarise
from mosaic_mpi.worker import MASTER, Worker, beat_interval_s
from mosaic_mpi.workqueue import WorkQueue

_HELLO_SECONDS = 300.0
_WAIT_SECONDS = (0.0005, 0.02)
"""First and longest wait of an idle rank under MPI, which has nothing to wait on."""
_WAIT_ALONE_SECONDS = 0.2
_LEAVE_LAST_SECONDS = 0.5
"""A launcher that ends a job at the first exit code other than 0 is to find the others gone, and report rank 0's."""
_REPORT_SECONDS = 2.0
"""Time for rank 0 to say why nothing starts."""


def start(options: RunOptions) -> int:
    """Run, on this rank, until all is done or something stops it.

    Returns
    -------
    int
        The exit code; see `mosaic_mpi.errors`.
    """
    signals = StopSignals()
    launcher = environment.find_launcher()
    try:
        fork_server.start_fork_server(preload_module(options))
        comm = connect(launcher)
    except MosaicError as error:
        # Each of n singletons meets this: let one of them tell, before a launcher ends it for another's exit code.
        if launcher.rank == 0:
            report(error)
        else:
            time.sleep(_REPORT_SECONDS)
        return error.exit_code
    code = EXIT_INTERNAL
    try:
        rank = _Rank0(options, comm, launcher, signals) if comm.rank == MASTER else _OtherRank(options, comm, signals)
        code = rank.run()
    finally:
        comm.close(code)
        signals.ignore()
        if code and comm.rank == MASTER and comm.size > 1:
            time.sleep(_LEAVE_LAST_SECONDS)
    return code


def report(error: MosaicError) -> None:
    """Print an error the way a user should see it."""
    complain(f"mosaic_mpi: {error}")


def _hello() -> Hello:
    return Hello(
        environment.host(),
        environment.allowed_cores(),
        environment.node_cores(),
        environment.quota_cores(),
        environment.code_digest(),
        processor(),
    )


def _make_worker(options: RunOptions, comm: Comm, block: bytes, n_slots: int) -> Worker:
    dtype = SlotPlan.from_buffer(memoryview(block)).record_dtype
    pool = SlotPool(n_slots, block, options.simulation_timeout_s, options.max_simulations_per_slot)
    return Worker(comm, pool, dtype.itemsize, beat_interval_s(options.rank_timeout_s))


class _Wait:
    """How long an idle rank sleeps: briefly after something happened, then longer and longer."""

    def __init__(self, comm: Comm) -> None:
        self._first, self._longest = _WAIT_SECONDS if comm.size > 1 else (_WAIT_ALONE_SECONDS,) * 2
        self.seconds = 0.0

    def after(self, busy: bool) -> None:
        """Adapt to whether anything happened."""
        self.seconds = 0.0 if busy else min(max(self.seconds * 1.5, self._first), self._longest)


class _OtherRank:
    """A rank other than 0: a worker and nothing else."""

    def __init__(self, options: RunOptions, comm: Comm, signals: StopSignals) -> None:
        self._options, self._comm, self._signals = options, comm, signals

    def run(self) -> int:
        """Serve until the master says stop, or is gone."""
        self._comm.send(MASTER, _hello())
        order = pickle.loads(self._comm.broadcast(None))
        if isinstance(order, int):
            return order
        slots, block = order
        return self._serve(_make_worker(self._options, self._comm, block, slots[self._comm.rank]))

    def _serve(self, worker: Worker) -> int:
        wait = _Wait(self._comm)
        try:
            worker.start()
            while not worker.stopped:
                busy = False
                for _, message in self._comm.receive():
                    worker.handle(message)
                    busy = True
                wait.after(worker.step(wait.seconds) or busy)
                if MASTER in self._comm.lost_ranks():
                    os._exit(EXIT_STOPPED)
                if time.monotonic() - worker.heard > self._options.rank_timeout_s or environment.parent_is_gone():
                    os._exit(EXIT_STOPPED)  # nobody is left to speak MPI with
        finally:
            worker.close()
        return EXIT_COMPLETE


class _Rank0:
    """Rank 0: the master, and a worker too where its node has cores to spare."""

    def __init__(self, options: RunOptions, comm: Comm, launcher: Launcher, signals: StopSignals) -> None:
        self._options, self._comm, self._launcher, self._signals = options, comm, launcher, signals
        self._store: Store | None = None
        self._deadline: Deadline | None = None
        self._plan_sent = self._began = False

    def run(self) -> int:
        """Prepare, direct, and tell how it ended."""
        try:
            self._signals.interrupts = True
            return self._prepare_and_direct()
        except KeyboardInterrupt:
            say("stopped; what was finished is kept")
            self._say_how_to_resume()
            return self._give_up(EXIT_STOPPED, STOPPED)
        except MosaicError as error:
            report(error)
            if error.exit_code == EXIT_STOPPED:
                self._say_how_to_resume()
            return self._give_up(error.exit_code, STOPPED if isinstance(error, Interrupted) else BROKEN)
        except BaseException:
            complain(traceback.format_exc())
            return self._give_up(EXIT_INTERNAL)

    def _give_up(self, code: int, state: int = BROKEN) -> int:
        self._signals.interrupts = False
        if self._store is not None and self._began:
            with contextlib.suppress(StorageError):
                self._store.end_start(state)
        if self._store is not None:
            self._store.close()
        if not self._plan_sent:
            self._send_order(code)
        for rank in range(1, self._comm.size):
            self._comm.send(rank, Stop())
        return code

    def _send_order(self, order: object) -> None:
        self._signals.interrupts = False  # a broadcast half done would leave the others waiting
        self._plan_sent = True
        self._comm.broadcast(pickle.dumps(order))

    def _prepare_and_direct(self) -> int:
        hellos = self._collect_hellos()
        options = self._options
        plan = load_inputs(options)
        if not options.overwrite and is_finished(options.output, plan, options.retry_failed):
            failed = summarise(options.output).failed
            note = f"; --retry-failed runs the {failed} that failed again" if failed else ""
            say(f"{options.output} is complete: {plan.n_simulations} simulations; nothing to do{note}")
            self._send_order(EXIT_COMPLETE)
            return EXIT_COMPLETE
        refuse_unwritable(options.output)
        slots = allocate(hellos, options.slots)
        plan = describe_channels(plan, has_slots=slots[MASTER] > 0)
        self._store = Store(options.output, plan, options.overwrite, options.retry_failed)
        block = plan.slot_plan().to_bytes()
        self._deadline = earliest(self._own_deadline(), job_deadline())
        self._print_header(plan, hellos, slots)
        self._begin(plan, hellos, slots)
        self._send_order((slots, block))
        return self._direct(plan, hellos, sum(slots), _make_worker(self._options, self._comm, block, slots[0]))

    def _collect_hellos(self) -> list[Hello]:
        hellos: dict[int, Hello] = {0: _hello()}
        deadline = time.monotonic() + _HELLO_SECONDS
        while len(hellos) < self._comm.size:
            for source, message in self._comm.receive():
                if isinstance(message, Hello):
                    hellos[source] = message
            if time.monotonic() > deadline:
                missing = sorted(set(range(self._comm.size)) - hellos.keys())
                raise LaunchError(f"ranks {missing[:20]} have not reported within {_HELLO_SECONDS:.0f} s")
            self._end_with_launcher()
            if lost := self._comm.lost_ranks():
                raise Interrupted(f"ranks {lost} died while the run started; the same command resumes")
            time.sleep(0.002)
        found = [hellos[rank] for rank in range(self._comm.size)]
        _refuse_different_code(found)
        return found

    def _own_deadline(self) -> Deadline | None:
        limit_s, began = self._options.time_limit_s, self._options.began
        return None if limit_s is None else Deadline(began + limit_s, began, f"--time-limit of {duration(limit_s)}")

    # ---- what people see ----------------------------------------------------------------------------

    def _print_header(self, plan: RunPlan, hellos: list[Hello], slots: list[int]) -> None:
        assert self._store is not None
        done, retried = int((self._store.status != 0).sum()), self._store.n_retried
        state = f"resumed, {done} done" if done or retried else "new"
        again = f", {retried} that failed are tried again" if retried else ""
        say(
            header(
                plan,
                self._comm,
                self._launcher,
                hellos,
                slots,
                self._options.slots,
                f"{self._options.output}: {state}{again}",
                self._deadline,
                self._resume_command(),
            )
        )

    def _say_how_to_resume(self) -> None:
        say(f"to resume: {self._resume_command()}")

    def _resume_command(self) -> str:
        return resume_command(self._comm, self._launcher, self._options.command)

    # ---- the run ------------------------------------------------------------------------------------

    def _begin(self, plan: RunPlan, hellos: list[Hello], slots: list[int]) -> None:
        assert self._store is not None
        self._store.begin_start(
            n_ranks=self._comm.size,
            n_slots=sum(slots),
            n_hosts=len({hello.host for hello in hellos}),
            host=hellos[0].host,
            pid=os.getpid(),
            job=environment.job(),
            mpi=f"{self._comm.library} ({self._launcher.name})",
            command=shlex.join(self._options.command),
            engine=self._own_loop(plan),
            versions=json.dumps(environment.versions()),
        )
        self._began = True

    def _own_loop(self, plan: RunPlan) -> str:
        """Which loop runs, where no other rank has a say in that."""
        return str(plan.verdict) if plan.verdict and self._comm.size == 1 else ""

    def _direct(self, plan: RunPlan, hellos: list[Hello], n_slots: int, worker: Worker) -> int:
        store = self._store
        assert store is not None
        queue = WorkQueue(store.status, store.failed_attempts, self._options.max_attempts, self._comm.size)
        n_done, best = queue.n_completed + queue.n_failed, summarise(store.path).best_likelihood
        progress = Progress(plan.n_simulations, n_done, self._comm.size, n_slots, best)
        hosts = [hello.host for hello in hellos]
        master = Master(
            self._comm,
            store,
            queue,
            progress,
            hosts,
            plan.slot_plan(),
            self._options.checkpoint_interval_s,
            self._options.rank_timeout_s,
            self._options.max_failures,
            n_slots,
            self._own_loop(plan),
        )
        began = time.monotonic()
        try:
            self._signals.interrupts = False
            self._loop(master, worker)
            master.note_cpu()
            worker.close()
            state = conclusion.state(queue, master.has_failed_too_often)
            store.end_start(state)
            progress.end_state = STATE_NAMES[state]
            self._began = False
            self._signals.interrupts = True  # folding can take long, and can be begun again
            note = store.fold(master.beat) if queue.is_done else None
            self._signals.interrupts = False
        finally:
            progress.close()
            worker.close()
            master.stop_workers()
        store.close()
        self._store = None
        for line in (master.account_of_tail, note):
            if line:
                say(line)
        elapsed_s, resume = time.monotonic() - began, self._resume_command()
        return conclusion.tell(state, queue, progress, elapsed_s, self._options, resume, master.loops_told)

    def _loop(self, master: Master, worker: Worker) -> None:
        wait = _Wait(self._comm)
        worker.start()
        draining = 0
        while True:
            busy = False
            for source, message in self._comm.receive():
                busy = True
                if isinstance(message, FOR_MASTER) or source != MASTER:
                    master.handle(source, message)
                else:
                    worker.handle(message)
            busy = worker.step(0.0 if busy else wait.seconds) or busy
            wait.after(busy)
            self._end_with_launcher()
            if len(self._signals.received) > draining:
                draining = self._stop(master, draining)
            self._heed_deadline(master)
            if master.step(busy):
                return

    def _end_with_launcher(self) -> None:
        if self._launcher.name != "none" and environment.parent_is_gone():
            raise Interrupted("the launcher has died; what was finished is kept, the same command resumes")

    def _heed_deadline(self, master: Master) -> None:
        """Begin to drain, once, when the time that is left is needed for ending."""
        deadline = self._deadline
        if deadline is None or not deadline.is_near(master.mean_s):
            return
        self._deadline = None
        grace_s = deadline.grace_s(master.mean_s)
        say(f"\n{deadline.why} is near ({deadline.clock()}): stopping; what runs gets {grace_s:.0f} s")
        master.drain(grace_s)

    def _stop(self, master: Master, draining: int) -> int:
        """Begin to drain on the first signal, end at once on the second."""
        received = len(self._signals.received)
        hurried = self._launcher.name == "Open MPI mpirun" and self._comm.size > 1
        grace_s = 0.0 if draining or received > 1 else self._signals.grace_s(hurried)
        say(f"\n{self._signals.received[-1]}: stopping; what runs gets {grace_s:.0f} s")
        master.drain(grace_s)
        return received


def _refuse_different_code(hellos: list[Hello]) -> None:
    strangers = [hello for hello in hellos if hello.code != hellos[0].code]
    if strangers:
        hosts = shortened(list(dict.fromkeys(hello.host for hello in strangers)))
        raise LaunchError(
            f"{len(strangers)} ranks run other code or package versions than rank 0 on {hellos[0].host}: {hosts}; "
            "every host must see the same environment (same Python, same packages)"
        )
