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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mosaic_mpi import environment, fake, fork_server, slot_process
from mosaic_mpi.allocation import allocate, hidden_cores
from mosaic_mpi.comm import Comm, connect
from mosaic_mpi.console import complain, say
from mosaic_mpi.environment import Launcher
from mosaic_mpi.errors import (
    EXIT_COMPLETE,
    EXIT_INTERNAL,
    EXIT_SOME_FAILED,
    EXIT_STOPPED,
    EngineError,
    InputError,
    Interrupted,
    LaunchError,
    MosaicError,
    StorageError,
)
from mosaic_mpi.layout import BROKEN, COMPLETE, STOPPED
from mosaic_mpi.master import SILENCE_SECONDS, Master
from mosaic_mpi.messages import FOR_MASTER, Broken, Hello, Stop
from mosaic_mpi.plan import PlanOptions, RunPlan, SlotPlan, load_plan
from mosaic_mpi.progress import Progress, duration
from mosaic_mpi.signals import StopSignals
from mosaic_mpi.slots import SlotPool
from mosaic_mpi.store import Store, is_finished
from mosaic_mpi.worker import MASTER, Worker
from mosaic_mpi.workqueue import WorkQueue

_HELLO_SECONDS = 300.0
_WAIT_SECONDS = (0.0005, 0.02)
"""First and longest wait of an idle rank under MPI, which has nothing to wait on."""
_WAIT_ALONE_SECONDS = 0.2
_REPORT_SECONDS = 2.0
"""Time for rank 0 to say why nothing starts."""


@dataclass(frozen=True)
class RunOptions:
    """The options of `run`; see the command's help."""

    plan: PlanOptions
    output: str
    slots: int | None
    max_attempts: int
    simulation_timeout_s: float | None
    checkpoint_interval_s: float
    overwrite: bool
    command: tuple[str, ...]


def preload_module(simulator: str) -> str | None:
    """The module that a fork server imports for its slots."""
    return "mosaic_mpi.engine" if simulator == "laser" else None


def start(options: RunOptions) -> int:
    """Run, on this rank, until all is done or something stops it.

    Returns
    -------
    int
        The exit code; see `mosaic_mpi.errors`.
    """
    signals = StopSignals()
    launcher = environment.find_launcher()
    fork_server.start_fork_server(preload_module(options.plan.simulator))
    try:
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
    return code


def report(error: MosaicError) -> None:
    """Print an error the way a user should see it."""
    complain(f"mosaic_mpi: {error}")


def describe_channels(plan: RunPlan) -> RunPlan:
    """Have the engine check the config and describe its channels, in a process of its own.

    Raises
    ------
    InputError
        The engine refuses the config, or has no such channel.
    """
    found = fork_server.ask(slot_process.describe, dict(plan.config.values), plan.simulator)
    if isinstance(found, str):
        raise InputError(f"{plan.config.source}: the engine refuses it: {found.replace('AssertionError: ', '')}")
    return plan.with_channels(found)


def _hello() -> Hello:
    return Hello(
        environment.host(),
        environment.allowed_cores(),
        environment.node_cores(),
        environment.quota_cores(),
        environment.code_digest(),
    )


def _make_worker(options: RunOptions, comm: Comm, block: bytes, n_slots: int) -> Worker:
    dtype = SlotPlan.from_buffer(memoryview(block)).record_dtype
    return Worker(comm, SlotPool(n_slots, block, options.simulation_timeout_s), dtype.itemsize)


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
        try:
            return self._serve(_make_worker(self._options, self._comm, block, slots[self._comm.rank]))
        except EngineError as error:
            self._comm.send(MASTER, Broken(str(error)))
            return self._await_stop()

    def _serve(self, worker: Worker) -> int:
        wait = _Wait(self._comm)
        parent = os.getppid()
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
                if time.monotonic() - worker.heard > SILENCE_SECONDS or os.getppid() != parent:
                    os._exit(EXIT_STOPPED)  # nobody is left to speak MPI with
        finally:
            worker.close()
        return EXIT_COMPLETE

    def _await_stop(self) -> int:
        """Wait for the master to end the run, so that its message is the one that is seen."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for _ in self._comm.receive():
                return EXIT_COMPLETE
            time.sleep(0.01)
        return EXIT_INTERNAL


class _Rank0:
    """Rank 0: the master, and a worker too where its node has cores to spare."""

    def __init__(self, options: RunOptions, comm: Comm, launcher: Launcher, signals: StopSignals) -> None:
        self._options, self._comm, self._launcher, self._signals = options, comm, launcher, signals
        self._store: Store | None = None
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
            return self._give_up(error.exit_code)
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
        plan = load_inputs(self._options)
        if not self._options.overwrite and is_finished(self._options.output, plan):
            say(f"{self._options.output} is complete: {plan.n_simulations} simulations; nothing to do")
            self._send_order(EXIT_COMPLETE)
            return EXIT_COMPLETE
        refuse_unwritable(self._options.output)
        plan = describe_channels(plan)
        self._store = Store(self._options.output, plan, self._options.overwrite)
        slots = allocate(hellos, self._options.slots)
        block = plan.slot_plan().to_bytes()
        self._print_header(plan, hellos, slots)
        self._begin(hellos, slots)
        self._send_order((slots, block))
        return self._direct(plan, hellos, _make_worker(self._options, self._comm, block, slots[0]))

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
            time.sleep(0.002)
        found = [hellos[rank] for rank in range(self._comm.size)]
        _refuse_different_code(found)
        return found

    # ---- what people see ----------------------------------------------------------------------------

    def _print_header(self, plan: RunPlan, hellos: list[Hello], slots: list[int]) -> None:
        store = self._store
        assert store is not None
        hosts = list(dict.fromkeys(hello.host for hello in hellos))
        cores = sum(len({c for h in hellos if h.host == host for c in h.cores}) for host in hosts)
        versions = environment.versions()
        done = int((store.status != 0).sum())
        lines = [
            f"mosaic_mpi {versions['mosaic_mpi']}, laser-cholera {versions['laser-cholera']}, "
            f"{self._comm.library} ({self._launcher.name})",
            f"hosts  {len(hosts)}: {_shortened(hosts)}; {cores} cores seen; {_layout(slots)}",
            f"plan   {plan.n_simulations} simulations x {plan.n_iterations} iterations, "
            f"{len(plan.config.locations)} locations, {plan.config.n_ticks} days; parameters: "
            f"{plan.identity['parameters'].split(':')[0]}, {len(plan.source.names)} values a simulation; "
            f"saved: {', '.join(plan.save) or 'no time series'}",
            f"config {plan.config.source}",
            f"file   {self._options.output}: {f'resumed, {done} done' if done else 'new'}",
            f"faults {self._fault_sentence()}",
            f"resume {self._resume_command()}",
            *([f"note   {note}"] if (note := hidden_cores(hellos, self._options.slots)) else []),
        ]
        if plan.simulator != "laser":
            lines.append(f"note   NOT LASER: made-up numbers from {plan.simulator}")
        say("\n".join(lines))

    def _fault_sentence(self) -> str:
        slot = "a simulation that crashes, hangs or runs out of memory costs one attempt"
        if self._comm.size == 1:
            return f"{slot}; if this process dies, the same command resumes"
        if self._comm.survives_ranks:
            return f"{slot}; if a worker rank or its node dies, the run goes on without it"
        return f"{slot}; if a rank or node dies, the launcher ends the job, and the same command resumes"

    def _say_how_to_resume(self) -> None:
        say(f"to resume: {self._resume_command()}")

    def _resume_command(self) -> str:
        size = self._comm.size
        launcher = {"Open MPI mpirun": f"mpirun -n {size} ", "srun": f"srun -n {size} "}
        prefix = launcher.get(self._launcher.name, f"mpirun -n {size} ") if size > 1 else ""
        words = [word for word in self._options.command if word != "--overwrite"]
        return f"{prefix}{shlex.join(words)}"

    # ---- the run ------------------------------------------------------------------------------------

    def _begin(self, hellos: list[Hello], slots: list[int]) -> None:
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
            versions=json.dumps(environment.versions()),
        )
        self._began = True

    def _direct(self, plan: RunPlan, hellos: list[Hello], worker: Worker) -> int:
        store = self._store
        assert store is not None
        queue = WorkQueue(store.status, store.failed_attempts, self._options.max_attempts)
        progress = Progress(plan.n_simulations, queue.n_completed + queue.n_failed)
        hosts = [hello.host for hello in hellos]
        interval = self._options.checkpoint_interval_s
        master = Master(self._comm, store, queue, progress, hosts, plan.slot_plan(), interval)
        began = time.monotonic()
        try:
            self._signals.interrupts = False
            self._loop(master, worker)
            master.note_cpu()
            worker.close()
            store.end_start(COMPLETE if queue.is_done else STOPPED)
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
        return self._conclude(queue, progress.n_nonfinite, time.monotonic() - began, note)

    def _loop(self, master: Master, worker: Worker) -> None:
        wait = _Wait(self._comm)
        parent = os.getppid()
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
            if self._comm.size > 1 and os.getppid() != parent:
                raise Interrupted("the launcher has died; what was finished is kept, the same command resumes")
            if len(self._signals.received) > draining:
                draining = self._stop(master, draining)
            if master.step(busy):
                return

    def _stop(self, master: Master, draining: int) -> int:
        """Begin to drain on the first signal, end at once on the second."""
        received = len(self._signals.received)
        hurried = self._launcher.name == "Open MPI mpirun" and self._comm.size > 1
        grace_s = 0.0 if draining or received > 1 else self._signals.grace_s(hurried)
        say(f"\n{self._signals.received[-1]}: stopping; what runs gets {grace_s:.0f} s")
        master.drain(grace_s)
        return received

    def _conclude(self, queue: WorkQueue, n_nonfinite: int, elapsed_s: float, note: str | None) -> int:
        if note:
            say(note)
        if n_nonfinite:
            say(f"{n_nonfinite} of this start's likelihoods are not finite")
        counts = f"{queue.n_completed} completed, {queue.n_failed} failed"
        if not queue.is_done:
            say(f"stopped after {duration(elapsed_s)}: {counts}, {queue.n_pending + queue.n_running} to do")
            self._say_how_to_resume()
            return EXIT_STOPPED
        path = self._options.output
        say(f"complete after {duration(elapsed_s)}: {counts}; {path}")
        if queue.n_failed:
            say(f"why: python -m mosaic_mpi status {shlex.quote(path)}")
            return EXIT_SOME_FAILED
        return EXIT_COMPLETE


def load_inputs(options: RunOptions) -> RunPlan:
    """Load the plan; what is wrong with the place for the results is told together with its problems.

    Raises
    ------
    InputError
        With every problem found.
    """
    problems: list[str] = []
    plan: RunPlan | None = None
    try:
        refuse_misplaced(options.output)
    except InputError as error:
        problems += error.problems
    try:
        plan = load_plan(options.plan, environment.engine_versions())
    except InputError as error:
        problems += error.problems
    if problems or plan is None:
        raise InputError(problems)
    return plan


def refuse_misplaced(output: str) -> None:
    """Refuse an output that is no file, or lies in no folder."""
    path = Path(output)
    if path.is_dir():
        raise InputError(f"--output {output}: is a folder, expected the name of a file")
    if path.exists() and not path.is_file():
        raise InputError(f"--output {output}: is a pipe, a device or the like, expected the name of a file")
    if path.is_symlink() and not path.exists():
        raise InputError(f"--output {output}: is a symbolic link to {os.readlink(path)}, which does not exist")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--output {output}: the folder {path.absolute().parent} does not exist")


def refuse_unwritable(output: str) -> None:
    """Refuse an output whose folder cannot be written."""
    folder = Path(output).absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--output {output}: no permission to write into {folder}")


def _refuse_different_code(hellos: list[Hello]) -> None:
    strangers = [hello for hello in hellos if hello.code != hellos[0].code]
    if strangers:
        hosts = _shortened(list(dict.fromkeys(hello.host for hello in strangers)))
        raise LaunchError(
            f"{len(strangers)} ranks run other code or package versions than rank 0 on {hellos[0].host}: {hosts}; "
            "every host must see the same environment (same Python, same packages)"
        )


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _layout(slots: list[int]) -> str:
    working = np.array([n for n in slots if n])
    ranks = f"{len(slots)} rank{'s' if len(slots) > 1 else ''}"
    each = f"{working.min()}" if working.min() == working.max() else f"{working.min()} to {working.max()}"
    directs = "" if slots[0] else ", rank 0 only directs"
    return f"{ranks} x {each} slots = {working.sum()} slots{directs}"


def simulator_name() -> str:
    """See `mosaic_mpi.fake`."""
    return fake.simulator_name()
