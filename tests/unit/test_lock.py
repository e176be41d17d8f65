"""One writer a results file."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import kernel_says_no
import pytest
from helpers import finished_run, make_plan, wait_until

from mosaic_mpi import environment
from mosaic_mpi.earlier_file import is_finished
from mosaic_mpi.errors import FileInUse, StorageError
from mosaic_mpi.holder import read_holder, this_process
from mosaic_mpi.lock import WriterLock
from mosaic_mpi.store import Store

HOLD = (
    "import sys, time; from mosaic_mpi.lock import WriterLock; lock = WriterLock(sys.argv[1]);"
    "print('held', flush=True); time.sleep(60)"
)


@pytest.fixture(params=["flock", "no flock"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a file system that grants flock, and with one that refuses it (the only thing pretended here)."""
    if request.param == "no flock":

        def refuse(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
    return str(request.param)


def test_the_second_is_told_host_process_and_job_of_the_first(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    first = WriterLock(tmp_path / "run.h5")
    with pytest.raises(FileInUse) as caught:
        WriterLock(tmp_path / "run.h5")
    message = str(caught.value)
    for part in ("run.h5: another run writes it", f"process {os.getpid()} on {environment.host()}", "Slurm job 4711"):
        assert part in message
    first.release()


def test_after_release_nothing_is_left_and_the_next_may(tmp_path: Path, kind: str) -> None:
    for _ in range(2):
        WriterLock(tmp_path / "run.h5").release()
        assert list(tmp_path.iterdir()) == []


def test_a_refusal_leaves_the_holders_lock_alone(tmp_path: Path, kind: str) -> None:
    first = WriterLock(tmp_path / "run.h5")
    before = (tmp_path / "run.h5.lock").read_text()
    for _ in range(2):
        with pytest.raises(FileInUse):
            WriterLock(tmp_path / "run.h5")
    assert (tmp_path / "run.h5.lock").read_text() == before
    first.release()


def test_locks_of_other_files_do_not_matter(tmp_path: Path, kind: str) -> None:
    first, second = WriterLock(tmp_path / "a.h5"), WriterLock(tmp_path / "b.h5")
    first.release()
    second.release()


@pytest.mark.parametrize("content", [b"", b'{"host": "gone", "pid": 1, "job": "", "since": "long ago"}', b"rubbish"])
def test_the_lock_file_of_a_dead_process_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.h5.lock").write_bytes(content)
    lock = WriterLock(tmp_path / "run.h5")
    assert json.loads((tmp_path / "run.h5.lock").read_text())["pid"] == os.getpid()
    lock.release()


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run.h5")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FileInUse, match=f"process {holder.pid} on"):
            WriterLock(tmp_path / "run.h5")
    finally:
        holder.kill()
        holder.communicate(timeout=60)
    assert (tmp_path / "run.h5.lock").exists()
    WriterLock(tmp_path / "run.h5").release()


def test_without_flock_a_dead_holder_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    holder = {"host": "elsewhere", "pid": 99, "job": "", "since": "long ago"}
    (tmp_path / "run.h5.lock").write_text(json.dumps(holder))
    with pytest.raises(FileInUse, match=r"process 99 on elsewhere.*if that process is gone .*rm .*run\.h5\.lock"):
        WriterLock(tmp_path / "run.h5")


def test_a_folder_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere.*folder that exists"):
        WriterLock(tmp_path / "nowhere" / "run.h5")


# ---- a file system that refuses flock, by the kernel ------------------------------------------------

CONTEND = """
import sys, time
from mosaic_mpi.errors import FileInUse
from mosaic_mpi.lock import WriterLock
while time.time() < float(sys.argv[2]):
    pass
try:
    lock = WriterLock(sys.argv[1])
except FileInUse as error:
    print(error)
    sys.exit(7)
print("held", flush=True)
sys.stdin.readline()
lock.release()
"""


def contend(path: Path, kind: str, n: int, wait_s: float = 1.5) -> list[subprocess.Popen[str]]:
    """Processes that reach for a lock at the same instant."""
    command = [sys.executable, "-c", CONTEND, str(path), str(time.time() + wait_s)]
    if kind == "no flock":
        command = [*kernel_says_no.COMMAND, "flock", *command]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return [subprocess.Popen(command, **pipes) for _ in range(n)]  # type: ignore[call-overload]


def end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate(timeout=60)


def outcome(processes: list[subprocess.Popen[str]]) -> tuple[list[subprocess.Popen[str]], list[str]]:
    """Winners, and what the losers were told."""
    winners, told = [], []
    for process in processes:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line == "held\n":
            winners.append(process)
        else:
            assert process.wait(timeout=30) == 7, line
            told.append(line)
    return winners, told


REAL_KINDS = ["flock", "no flock"]


@pytest.mark.parametrize("dead_before", [False, True], ids=["fresh", "after a killed one"])
@pytest.mark.parametrize("real_kind", REAL_KINDS)
def test_of_twenty_at_once_exactly_one_wins_and_is_named(tmp_path: Path, real_kind: str, dead_before: bool) -> None:
    path = tmp_path / "run.h5"
    if dead_before:
        end(outcome(contend(path, real_kind, 1, 0))[0])
        assert (tmp_path / "run.h5.lock").exists()
    processes = contend(path, real_kind, 20)
    try:
        winners, told = outcome(processes)
        assert len(winners) == 1
        assert len(told) == 19
        assert all(f"process {winners[0].pid} on {environment.host()}" in line for line in told), told
        winners[0].communicate("\n", timeout=60)
    finally:
        end(processes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("real_kind", REAL_KINDS)
def test_a_killed_holder_on_this_host_is_followed_at_once(tmp_path: Path, real_kind: str) -> None:
    path = tmp_path / "run.h5"
    for _ in range(3):  # SIGKILL, and the next takes over
        processes = contend(path, real_kind, 1, 0)
        winners, told = outcome(processes)
        end(processes)
        assert len(winners) == 1, told
    holder = read_holder(tmp_path / "run.h5.lock")
    assert holder is not None
    assert holder.is_dead


@pytest.mark.parametrize("real_kind", REAL_KINDS)
def test_a_stopped_or_living_holder_is_not_dead(tmp_path: Path, real_kind: str) -> None:
    path = tmp_path / "run.h5"
    first = contend(path, real_kind, 1, 0)
    try:
        outcome(first)
        first[0].send_signal(signal.SIGSTOP)
        holder = read_holder(tmp_path / "run.h5.lock")
        assert holder is not None
        assert not holder.is_dead
        second = contend(path, real_kind, 1, 0)
        winners, told = outcome(second)
        assert not winners
        assert f"process {first[0].pid} on" in told[0]
        if real_kind == "no flock":
            assert f"rm {tmp_path}/run.h5.lock" in told[0]
    finally:
        end(first)


def test_a_process_id_used_again_is_not_the_holder() -> None:
    me = this_process()
    assert not me.is_dead
    assert replace(me, born=me.born - 1).is_dead
    assert replace(me, pid=2**22 + 1).is_dead
    assert not replace(me, born=0).is_dead  # not known


@pytest.mark.parametrize("machine", ["", "another boot"])
def test_of_another_machine_nobody_can_say(machine: str) -> None:
    assert not replace(this_process(), machine=machine, pid=2**22 + 1).is_dead


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "its end")
    assert replace(this_process(), pid=child.pid, born=0).is_dead
    child.wait()


def test_a_lock_that_someone_removed_by_hand_is_not_taken_from_its_new_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = WriterLock(tmp_path / "run.h5")
    (tmp_path / "run.h5.lock").unlink()
    second = WriterLock(tmp_path / "run.h5")
    first.release()
    assert (tmp_path / "run.h5.lock").exists()
    second.release()


def test_a_link_and_its_file_share_one_lock(tmp_path: Path) -> None:
    (tmp_path / "run.h5").touch()
    (tmp_path / "link.h5").symlink_to("run.h5")
    first = WriterLock(tmp_path / "link.h5")
    with pytest.raises(FileInUse):
        WriterLock(tmp_path / "run.h5")
    first.release()


def test_many_at_once_and_only_one_gets_it(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom mosaic_mpi.lock import WriterLock\nfrom mosaic_mpi.errors import FileInUse\n"
        "print(flush=True)\n"
        "at = float(sys.stdin.readline())\n"
        "while time.time() < at: pass\n"
        "try: WriterLock(sys.argv[1])\nexcept FileInUse: sys.exit(7)\n"
        "sys.stdin.read()\n"  # hold it until the others have tried
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run.h5")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "\n", "it is ready"
        at = time.time() + 0.2
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{at}\n")
            process.stdin.flush()
        wait_until(lambda: sum(process.poll() is not None for process in processes) >= 5, "five that do not get it")
        winners = [process for process in processes if process.poll() is None]
        codes = [process.returncode for process in processes if process not in winners]
        assert codes == [7] * 5
        assert len(winners) == 1
    finally:
        for process in processes:
            process.communicate(timeout=60)
    assert winners[0].returncode == 0


def test_what_a_killed_attempt_to_lock_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    plan = make_plan(tmp_path)
    finished_run(path, plan)
    assert is_finished(str(path), plan)
    leftover = tmp_path / "run.h5.lock-elsewhere-7"
    leftover.touch()
    assert not is_finished(str(path), plan)
    Store(str(path), plan).close()
    assert not leftover.exists()
    assert is_finished(str(path), plan)
