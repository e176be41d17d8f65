"""A disk without space: the run stops resumably, says what it needs, and goes on when there is space."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CI, Cli, listing, same_numbers, wait_until, write_config
from witness import Witness

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED
from mosaic_mpi.summary import summarise

FAKE = "seconds=0,size=80000"


class SmallDisk:
    """A file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, size: str, again: bool = False) -> bool:
        options = f"remount,size={size}" if again else f"size={size}"
        return self._call("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path))

    def unmount(self) -> None:
        self._call("umount", str(self.path))

    @staticmethod
    def _call(*command: str) -> bool:
        try:
            return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
        except FileNotFoundError:
            return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    found = SmallDisk(tmp_path / "disk")
    found.path.mkdir()
    if not found.mount("1m"):
        if CI:
            pytest.fail("no tmpfs may be mounted here (CI=true: nothing may be missing)")
        pytest.skip("no tmpfs may be mounted here")
    yield found
    found.unmount()


@pytest.fixture
def arguments(tmp_path: Path, disk: SmallDisk) -> tuple[str, ...]:
    config = write_config(tmp_path)
    counts = ("--n-simulations", "300", "--n-iterations", "1")
    return ("run", "--config", config, *counts, "--save", "fake", "--output", str(disk.path / "run.h5"))


def n_done(disk: SmallDisk) -> int:
    status = mosaic_mpi.open(str(disk.path / "run.h5")).table("simulations/status")
    return int((status == COMPLETED).sum())


def stored(disk: SmallDisk) -> dict[int, tuple[Any, ...]]:
    """What makes one stored result that one and no other."""
    results = mosaic_mpi.open(str(disk.path / "run.h5"))
    columns = [results.table(f"simulations/{name}") for name in ("commit", "finished_at", "checksum")]
    return {int(row): tuple(column[row] for column in columns) for row in results.completed()}


def test_a_disk_that_others_fill_while_it_runs(cli: Cli, disk: SmallDisk, arguments: tuple[str, ...]) -> None:
    """With a check point every tenth of a second, so that both kinds of writes meet the full disk."""
    assert disk.mount("64m", again=True)
    words, slow = (*arguments, "--checkpoint-interval", "0.1"), "seconds=0.02,size=80000"
    process = cli.start(*words, fake=slow)
    wait_until(lambda: (disk.path / "run.h5").exists() and n_done(disk) > 5, "results")
    filler = disk.path / "of-others"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    stopped = cli.end(process)
    assert stopped.returncode == 75, stopped.stderr
    assert "cannot be written: No space left on device (0 MiB free there" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    before = stored(disk)
    assert 0 < len(before) < 300
    assert mosaic_mpi.open(str(disk.path / "run.h5")).verify() == []
    filler.unlink()
    assert cli(*words, fake=slow).returncode == 0
    after = stored(disk)
    assert {row: after[row] for row in before} == before
    assert mosaic_mpi.open(str(disk.path / "run.h5")).verify() == []


def test_no_space_to_create_the_file(cli: Cli, disk: SmallDisk, arguments: tuple[str, ...]) -> None:
    stopped = cli(*arguments, fake=FAKE)
    assert stopped.returncode == 75
    assert f"{disk.path}/run.h5: cannot be written: No space left on device" in stopped.stderr
    assert "MiB free there; its tables take" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert listing(disk.path) == {}
    assert disk.mount("64m", again=True)
    assert cli(*arguments, fake=FAKE).returncode == 0
    assert n_done(disk) == 300


@pytest.mark.fault("disk full half way")
def test_no_space_half_way(
    cli: Cli,
    disk: SmallDisk,
    arguments: tuple[str, ...],
    tmp_path: Path,
    witness_of: Callable[[Path], Witness],
) -> None:
    witness = witness_of(disk.path / "run.h5")
    assert disk.mount("6m", again=True)
    stopped = cli(*arguments, fake=FAKE)
    assert stopped.returncode == 75
    assert f"{disk.path}/run.h5: cannot be written: No space left on device" in stopped.stderr
    assert "What was committed is safe" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stopped.stdout.splitlines()[-1].startswith("to resume: python -m mosaic_mpi run ")
    done = n_done(disk)
    assert 0 < done < 300
    assert witness.look() == done
    before = stored(disk)
    assert mosaic_mpi.open(str(disk.path / "run.h5")).channel("fake").shape[0] == done
    assert summarise(str(disk.path / "run.h5")).state == "ended by an error"
    assert not cli.survivors()

    still_full = cli(*arguments, fake=FAKE)
    assert still_full.returncode == 75
    assert witness.look() >= done

    assert disk.mount("64m", again=True)
    assert cli(*arguments, fake=FAKE).returncode == 0
    after = stored(disk)
    assert {row: after[row] for row in before} == before, "run twice"
    whole = cli(*arguments[:-1], str(tmp_path / "whole.h5"), fake=FAKE)
    assert whole.returncode == 0
    witness.look()
    same_numbers(disk.path / "run.h5", tmp_path / "whole.h5")


@pytest.mark.fault("disk full at the end")
def test_no_space_to_fold_leaves_the_spool_and_a_complete_run(
    cli: Cli, disk: SmallDisk, arguments: tuple[str, ...]
) -> None:
    assert disk.mount("20m", again=True)
    done = cli(*arguments, fake=FAKE)
    assert done.returncode == 0, done.stderr
    assert "time series stay in" in done.stdout
    assert "GiB needed" in done.stdout
    results = mosaic_mpi.open(str(disk.path / "run.h5"))
    before = results.channel("fake")
    assert before.shape[0] == 300
    assert np.asarray(before).any()
    assert cli("export", f"{disk.path}/run.h5", "--samples", "s.parquet").returncode == 0
    assert disk.mount("64m", again=True)
    assert cli(*arguments, fake=FAKE).returncode == 0
    assert not (disk.path / "run.h5.spool").exists()
    assert results.channel("fake").identical(before)


@pytest.mark.fault("disk full when extended")
def test_no_space_to_extend_keeps_what_there_is(cli: Cli, disk: SmallDisk, arguments: tuple[str, ...]) -> None:
    small = tuple("20" if word == "300" else word for word in arguments)
    assert disk.mount("9m", again=True)
    assert cli(*small, fake=FAKE).returncode == 0
    before = listing(disk.path)
    many = tuple("30000" if word == "300" else word for word in arguments)
    stopped = cli(*many, fake=FAKE)
    assert stopped.returncode == 75
    assert "cannot be written" in stopped.stderr
    assert listing(disk.path) == before
    assert n_done(disk) == 20


def test_a_disk_that_became_read_only_is_refused_with_its_path(
    cli: Cli, disk: SmallDisk, arguments: tuple[str, ...]
) -> None:
    assert disk.mount("64m", again=True)
    assert cli(*arguments, fake=FAKE).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True, timeout=20)
    more = tuple("400" if word == "300" else word for word in arguments)
    refused = cli(*more, fake=FAKE)
    assert refused.returncode in (2, 75)
    assert str(disk.path) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert n_done(disk) == 300
