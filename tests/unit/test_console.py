"""What cannot be said does not end a run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers import Cli, finished_run, make_plan

SCRIPT = "from mosaic_mpi.console import say, complain; [say('x' * 1000) for _ in range(200)]; complain('done')"


def test_a_full_log_is_no_error() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30
        )
    assert done.returncode == 0
    assert done.stderr == "done\n"


def test_nor_is_a_closed_pipe_or_none_at_all() -> None:
    for command in (f'"{sys.executable}" -c "$0" | head -c 10', f'"{sys.executable}" -c "$0" >&- 2>&-'):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command, SCRIPT], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", ["", "--json"])
def test_a_reader_that_leaves_early_changes_no_exit_code(cli: Cli, words: str) -> None:
    finished_run(cli.folder / "a.h5", make_plan(cli.folder, 4))
    finished_run(cli.folder / "b.h5", make_plan(cli.folder, 5))
    command = f'"{sys.executable}" -m mosaic_mpi compare a.h5 b.h5 {words} | true; exit ${{PIPESTATUS[0]}}'
    done = cli.end(cli.launch(["bash", "-c", command]))
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("words", ["status a.h5", "status a.h5 --json", "compare a.h5 a.h5", "report a.h5"])
def test_an_answer_that_cannot_be_written_is_told_in_words(cli: Cli, words: str) -> None:
    finished_run(cli.folder / "a.h5", make_plan(cli.folder, 4))
    done = cli.end(cli.launch(["bash", "-c", f'"{sys.executable}" -m mosaic_mpi {words} >/dev/full']))
    assert done.returncode == 1
    assert done.stderr == "mosaic_mpi: standard output: cannot be written: No space left on device\n"
