"""What happens to a run's files while it goes on: permissions, folders, quotas, readers, killed writers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import kernel_says_no
import numpy as np
import pytest
from helpers import Cli, listing, wait_until, without_override, write_config

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED
from mosaic_mpi.summary import summarise

pytestmark = pytest.mark.timeout(300)

MOSAIC_MPI = (sys.executable, "-m", "mosaic_mpi")
SLOW = "seconds=0.02,size=2000"


@pytest.fixture
def folder(cli: Cli) -> Path:
    """Where the results go."""
    path = cli.folder / "results"
    path.mkdir()
    return path


@pytest.fixture
def arguments(cli: Cli) -> tuple[str, ...]:
    config = write_config(cli.folder)
    counts = ("--n-simulations", "60", "--n-iterations", "1", "--checkpoint-interval", "0.1")
    return ("run", "--config", config, *counts, "--save", "fake", "--output", "results/run.h5")


def n_done(path: Path) -> int:
    return int((mosaic_mpi.open(str(path)).table("simulations/status") == COMPLETED).sum()) if path.exists() else 0


def half_way(cli: Cli, command: list[str], path: Path) -> subprocess.Popen[str]:
    process = cli.launch(command, fake=SLOW)
    wait_until(lambda: n_done(path) > 5 or process.poll() is not None, "results")
    assert process.poll() is None
    return process


def kept(path: Path) -> dict[int, tuple[Any, ...]]:
    """What makes one stored result that one and no other."""
    results = mosaic_mpi.open(str(path))
    columns = [results.table(f"simulations/{name}") for name in ("commit", "finished_at", "checksum", "attempts")]
    return {int(row): tuple(column[row] for column in columns) for row in results.completed()}


def assert_resumes(cli: Cli, arguments: tuple[str, ...], path: Path, before: dict[int, tuple[Any, ...]]) -> None:
    """The same command completes it, nothing that was done is done again, and all numbers are those of the slots."""
    done = cli(*arguments, fake=SLOW)
    assert done.returncode == 0, done.stderr
    after = kept(path)
    assert before
    assert {row: after[row] for row in before} == before
    assert mosaic_mpi.open(str(path)).verify() == []
    assert [entry.name for entry in path.parent.iterdir()] == ["run.h5"]


def assert_stopped(ended: subprocess.CompletedProcess[str], path: str) -> None:
    """It ended resumably, saying where and what to do."""
    assert ended.returncode == 75, f"{ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert "Traceback" not in ended.stderr
    assert path in ended.stderr
    assert "What was committed is safe" in ended.stderr
    assert "to resume: python -m mosaic_mpi run" in ended.stdout


# ---- permissions ------------------------------------------------------------------------------------


def test_a_folder_that_may_not_be_written_is_refused(cli: Cli, arguments: tuple[str, ...], folder: Path) -> None:
    folder.chmod(0o555)
    ended = cli.end(cli.launch(without_override(*MOSAIC_MPI, *arguments), fake=SLOW))
    assert ended.returncode == 2, ended.stderr
    assert f"no permission to write into {folder}" in ended.stderr
    assert listing(folder) == {}


@pytest.mark.parametrize("mode", [0o444, 0o000], ids=["read-only", "not even readable"])
def test_a_file_that_may_not_be_written_is_refused_and_kept(
    cli: Cli, arguments: tuple[str, ...], folder: Path, mode: int
) -> None:
    path = folder / "run.h5"
    assert cli(*arguments, fake=SLOW).returncode == 0
    path.chmod(mode)
    before = listing(folder)
    more = tuple("90" if word == "60" else word for word in arguments)
    ended = cli.end(cli.launch(without_override(*MOSAIC_MPI, *more), fake=SLOW))
    if mode == 0o444:  # an extension makes a new file, which the folder allows
        assert ended.returncode == 0, ended.stderr
        return
    assert ended.returncode == 2, ended.stderr
    assert "results/run.h5: cannot be read: Permission denied" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert listing(folder) == before
    looked = cli.end(cli.launch(without_override(*MOSAIC_MPI, "status", "results/run.h5")))
    assert looked.returncode == 2
    assert "cannot be read: Permission denied" in looked.stderr


def test_permission_lost_while_it_runs_stops_it_and_given_back_it_completes(
    cli: Cli, arguments: tuple[str, ...], folder: Path
) -> None:
    """Results go into a file that is open; what is made at the end cannot be."""
    path = folder / "run.h5"
    process = half_way(cli, without_override(*MOSAIC_MPI, *arguments), path)
    folder.chmod(0o555)
    ended = cli.end(process)
    assert_stopped(ended, "results/run.h5")
    assert "Permission denied" in ended.stderr
    before = kept(path)
    folder.chmod(0o755)
    assert_resumes(cli, arguments, path, before)


# ---- folders and disks ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["renamed", "replaced"])
def test_a_folder_that_vanishes_stops_it_within_a_check_point(
    cli: Cli, arguments: tuple[str, ...], folder: Path, how: str
) -> None:
    """An open file is written to wherever it has gone, so that only looking for its name tells."""
    path = folder / "run.h5"
    process = half_way(cli, [*MOSAIC_MPI, *arguments], path)
    away = folder.rename(cli.folder / "away")
    if how == "replaced":
        folder.mkdir()
    ended = cli.end(process)
    assert_stopped(ended, "results/run.h5")
    assert "No such file or directory" in ended.stderr
    before = kept(away / "run.h5")
    assert len(before) < 60, "it went on"
    if how == "replaced":
        assert listing(folder) == {}
        folder.rmdir()
    away.rename(folder)
    assert_resumes(cli, arguments, path, before)


def test_a_disk_that_is_unmounted_stops_it(cli: Cli, arguments: tuple[str, ...], folder: Path) -> None:
    disk = cli.folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "--bind", str(disk), str(folder)], capture_output=True).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("nothing may be mounted here (CI=true: nothing may be missing)")
        pytest.skip("nothing may be mounted here")
    try:
        process = half_way(cli, [*MOSAIC_MPI, *arguments], folder / "run.h5")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    assert_stopped(cli.end(process), "results/run.h5")
    assert listing(folder) == {}
    folder.rmdir()
    before = kept(disk / "run.h5")
    disk.rename(folder)
    assert_resumes(cli, arguments, folder / "run.h5", before)


def test_results_that_are_deleted_while_it_runs_are_missed(
    cli: Cli, arguments: tuple[str, ...], folder: Path
) -> None:
    process = half_way(cli, [*MOSAIC_MPI, *arguments], folder / "run.h5")
    shutil.rmtree(folder)
    ended = cli.end(process)
    assert ended.returncode == 75, ended.stderr
    assert "No such file or directory" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("limit", ["quota", "size of files"])
def test_a_quota_stops_it_and_more_of_it_completes(
    cli: Cli, arguments: tuple[str, ...], folder: Path, limit: str
) -> None:
    """The kernel refuses what lies beyond the tables."""
    arguments = tuple("300" if word == "60" else word for word in arguments)
    fake = "seconds=0,size=80000"
    command = [*kernel_says_no.COMMAND, f"quota={4 << 20}", *MOSAIC_MPI, *arguments]
    if limit != "quota":
        command = ["bash", "-c", 'ulimit -f 4096 && exec "$@"', "bash", *MOSAIC_MPI, *arguments]
    ended = cli.end(cli.launch(command, fake=fake))
    assert_stopped(ended, "results/run.h5")
    assert ("quota exceeded" if limit == "quota" else "File too large") in ended.stderr
    before = kept(folder / "run.h5")
    assert 0 < len(before) < 300
    assert cli(*arguments, fake=fake).returncode == 0
    after = kept(folder / "run.h5")
    assert {row: after[row] for row in before} == before
    assert mosaic_mpi.open(str(folder / "run.h5")).verify() == []


# ---- writers ----------------------------------------------------------------------------------------


def test_status_knows_at_once_that_rank_0_was_killed(cli: Cli, arguments: tuple[str, ...], folder: Path) -> None:
    path = folder / "run.h5"
    process = half_way(cli, [*MOSAIC_MPI, *arguments], path)
    assert summarise(str(path)).state == "running"
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "its end")
    assert summarise(str(path)).state == "dead", "not even waited for yet"
    process.communicate(timeout=60)
    assert "rank 0 ended without a word" in cli("status", "results/run.h5").stdout
    before = kept(path)
    assert_resumes(cli, arguments, path, before)


def test_where_the_kernel_refuses_flock_a_killed_run_is_followed_and_a_living_one_is_not(
    cli: Cli, arguments: tuple[str, ...], folder: Path
) -> None:
    path = folder / "run.h5"
    command = [*kernel_says_no.COMMAND, "flock", *MOSAIC_MPI, *arguments]
    first = half_way(cli, command, path)
    first.send_signal(signal.SIGSTOP)  # so that it is still there, however long the second takes to start
    second = cli.end(cli.launch(command, fake=SLOW))
    assert second.returncode == 2
    assert f"another run writes it: process {first.pid} on" in second.stderr
    assert f"rm {folder.relative_to(cli.folder)}/run.h5.lock" in second.stderr
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    before = kept(path)
    done = cli.end(cli.launch(command, fake=SLOW))
    assert done.returncode == 0, done.stderr
    after = kept(path)
    assert {row: after[row] for row in before} == before
    assert [entry.name for entry in folder.iterdir()] == ["run.h5"]


# ---- readers ----------------------------------------------------------------------------------------

READER = """
import sys, h5py
locking = {"with": {}, "without": {"locking": False}}[sys.argv[2]]
file = h5py.File(sys.argv[1], "r", **locking)
print("open", flush=True)
for line in sys.stdin:
    done = int((file["simulations/status"][...] == 1).sum())
    total = file["simulations/likelihood"][...].sum()
    print(done, flush=True)
"""


@pytest.mark.parametrize("locking", ["with", "without"])
def test_a_reader_that_keeps_it_open_to_the_end_and_beyond_disturbs_nothing(
    cli: Cli, arguments: tuple[str, ...], folder: Path, locking: str
) -> None:
    """Over completion, folding and extension; it sees its own file grow, and then the last of it."""
    path = folder / "run.h5"
    process = half_way(cli, [*MOSAIC_MPI, *arguments], path)
    reader = cli.launch([sys.executable, "-c", READER, str(path), locking], asks=True)
    assert reader.stdout is not None

    def ask() -> int:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write("\n")
        reader.stdin.flush()
        return int(reader.stdout.readline())

    assert reader.stdout.readline() == "open\n"
    counts = [ask()]
    assert cli.end(process).returncode == 0
    counts.append(ask())
    late = cli.launch([sys.executable, "-c", READER, str(path), locking], asks=True)
    assert late.stdout is not None
    assert late.stdout.readline() == "open\n"
    more = tuple("90" if word == "60" else word for word in arguments)
    extended = cli(*more, fake=SLOW)
    assert extended.returncode == 0, extended.stderr
    counts.append(ask())
    assert counts == sorted(counts)
    assert counts[-1] == 60
    assert n_done(path) == 90
    assert np.asarray(mosaic_mpi.open(str(path)).channel("fake")).any()


# ---- foreign files, by the command line -------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("pipe", "is a pipe"),
        ("dangling link", "is a symbolic link to gone.h5"),
        ("text", "not an HDF5 file"),
        ("folder", "is a folder"),
    ],
)
def test_nothing_of_others_is_touched(
    cli: Cli, arguments: tuple[str, ...], folder: Path, kind: str, expected: str
) -> None:
    path = folder / "run.h5"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "dangling link":
            path.symlink_to("gone.h5")
        case "text":
            path.write_text("my notes")
        case "folder":
            path.mkdir()
    before = path.lstat()
    for command in (arguments, (*arguments, "--overwrite"), ("status", "results/run.h5")):
        refused = cli(*command, timeout=20)
        assert refused.returncode == 2, refused.stderr
        assert "Traceback" not in refused.stderr
        assert expected in refused.stderr or "symbolic link to gone.h5" in refused.stderr
    assert [entry.name for entry in folder.iterdir()] == ["run.h5"]
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
