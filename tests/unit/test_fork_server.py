"""Questions to a process of its own: asked again when it dies, and no more than that."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from mosaic_mpi import fork_server, slot_process, slots
from mosaic_mpi.errors import EngineError
from mosaic_mpi.fork_server import OpenFile
from mosaic_mpi.slot_events import Replaced
from mosaic_mpi.slots import SlotPool


def answer_after(connection: Connection, folder: str, n_deaths: int) -> None:
    """Die so often, then answer."""
    n_before = len(list(Path(folder).iterdir()))
    if n_before < n_deaths:
        (Path(folder) / str(n_before)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    connection.send("answer")


def test_a_process_that_dies_once_is_asked_again(tmp_path: Path) -> None:
    assert fork_server.ask(answer_after, str(tmp_path), 1) == "answer"


def test_one_that_dies_again_is_an_error_with_its_end(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"exit code -9"):
        fork_server.ask(answer_after, str(tmp_path), 9)
    assert len(list(tmp_path.iterdir())) == 2


def read_file(connection: Connection, file: OpenFile) -> None:
    connection.send_bytes(os.pread(file.descriptor, 100, 0))


def test_an_open_file_reaches_the_process_and_stays_open_here(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"content")
        file.flush()
        for _ in range(2):
            process, connection = fork_server.spawn(read_file, OpenFile(file.fileno()))
            assert connection.recv_bytes() == b"content"
            process.join(30)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_slots_that_are_killed_while_they_start_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor, and no thread of ours that waits for them."""
    monkeypatch.setattr(slot_process, "main", die)
    monkeypatch.setattr(slots, "_MAX_STARTS_IN_VAIN", 1000)
    pool = SlotPool(2, b"plan")
    pool.start()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    told: list[object] = []
    while len(told) < 20:
        told += pool.poll(10.0)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    pool.close()
    assert set(told) == {Replaced("a slot was killed by SIGKILL while it started; a new one is started")}


@pytest.mark.parametrize(("n_kills", "is_enough"), [(4, True), (5, False)])
def test_one_that_is_killed_before_it_could_read_what_to_do_is_started_again(
    monkeypatch: pytest.MonkeyPatch, n_kills: int, is_enough: bool
) -> None:
    spawn, kills = fork_server._spawn, iter(range(n_kills))

    def spawn_or_lose(*arguments: object) -> object:
        if next(kills, None) is not None:
            raise BrokenPipeError(32, "Broken pipe")
        return spawn(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fork_server, "_spawn", spawn_or_lose)
    if not is_enough:
        with pytest.raises(EngineError, match=r"no process can be started on .*: \[Errno 32\] Broken pipe"):
            fork_server.spawn(die)
        return
    process, _ = fork_server.spawn(die)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
