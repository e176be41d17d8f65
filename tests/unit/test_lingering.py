"""Ending a launcher that lingers: the right process, and no other."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found under /proc")

ASK = "import os; from mosaic_mpi.lingering import end_launcher_later; print(end_launcher_later(os.environ))"


def parent_called(name: str, folder: Path) -> subprocess.Popen[str]:
    """A process of that name whose child asks for its end, and which then lingers."""
    shell = shutil.which("dash") or shutil.which("sh")
    assert shell is not None
    shutil.copy(Path(shell).resolve(), folder / name)
    script = f"'{sys.executable}' -c '{ASK}'; read forever"
    return subprocess.Popen(
        [folder / name, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    )


def said(parent: subprocess.Popen[str]) -> str:
    assert parent.stdout is not None
    return parent.stdout.readline().strip()


def test_a_launcher_that_lingers_is_ended(tmp_path: Path) -> None:
    with parent_called("mpirun", tmp_path) as parent:
        assert said(parent) == "True"
        assert parent.wait(30) == -signal.SIGTERM


def test_a_launcher_that_ends_by_itself_is_left_to(tmp_path: Path) -> None:
    with parent_called("prterun", tmp_path) as parent:
        assert said(parent) == "True"
        assert parent.stdin is not None
        parent.stdin.close()
        assert parent.wait(30) == 1  # the shell's own word for an end of input


def test_other_parents_are_left_alone(tmp_path: Path) -> None:
    with parent_called("slurmstepd", tmp_path) as parent:
        assert said(parent) == "False"
        time.sleep(0.2)
        assert parent.poll() is None
        parent.kill()
