"""Under mpirun rank 0's output is forwarded: plain lines, even where somebody sits at a terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from launchers import Launcher
from terminal import Terminal

from mosaic_mpi.summary import summarise

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("launcher", ["openmpi", "mpich"], indirect=True)
def test_mpirun_on_a_terminal_gets_lines(launcher: Launcher, tmp_path: Path) -> None:
    terminal = Terminal(columns=200)
    words = launcher.command(2, "run", "--n-simulations", "30", "--locations", "ETH", "--output", "run.h5")
    variables = {
        **os.environ,
        **launcher.variables,
        "TERM": "xterm-256color",
        "MOSAIC_MPI_FAKE": "seconds=0.02,fail=3",
    }
    process = terminal.start(words, tmp_path, variables)
    try:
        terminal.wait_for(lambda screen: "complete after" in screen, "the end")
        assert process.wait(90) == 3
    finally:
        process.kill()
        terminal.close()
    assert b"\x1b[" not in terminal.received
    assert b"\nsimulation 3, attempt 1 on rank " in terminal.received
    found = summarise(str(tmp_path / "run.h5"))
    assert (found.n_ranks, found.n_ranks_alive, found.silent_hosts) == (2, 2, [])
    assert found.n_slots_alive == found.n_slots > 0
