"""One writer a results file."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import finished_run, make_plan

from mosaic_mpi import environment
from mosaic_mpi.errors import FileInUse, StorageError
from mosaic_mpi.lock import WriterLock
from mosaic_mpi.store import Store, is_finished

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
        holder.communicate(timeout=10)
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
    with pytest.raises(FileInUse, match=r"process 99 on elsewhere.*if that run is dead, remove .*run\.h5\.lock"):
        WriterLock(tmp_path / "run.h5")


def test_a_folder_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere.*folder that exists"):
        WriterLock(tmp_path / "nowhere" / "run.h5")


def test_many_at_once_and_only_one_gets_it(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom mosaic_mpi.lock import WriterLock\nfrom mosaic_mpi.errors import FileInUse\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "try: WriterLock(sys.argv[1])\nexcept FileInUse: sys.exit(7)\ntime.sleep(2)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run.h5"), str(time.time() + 1)]
    processes = [subprocess.Popen(command) for _ in range(6)]
    assert sorted(process.wait(timeout=30) for process in processes) == [0] + [7] * 5


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
