"""Signals: stop within seconds, keep what finished, print the command that resumes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import Cli, same_numbers, wait_until, write_config

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED
from mosaic_mpi.summary import summarise

QUICK = "seconds=0.02"
SLOWLY = {"MOSAIC_MPI_FAKE_SLOWNESS": "10"}
"""So that a busy machine, or one of many cores, can catch a run half-way; what completes it need not wait as long."""
ARGUMENTS = ("run", "--n-simulations", "60", "--n-iterations", "1", "--save", "fake", "--output", "my run.h5")


def n_done(path: Path) -> int:
    return int((mosaic_mpi.open(str(path)).table("simulations/status") == COMPLETED).sum()) if path.exists() else 0


def started(cli: Cli, fake: str = QUICK, n_results: int = 5) -> tuple[subprocess.Popen[str], Path]:
    """A run of the given simulations that has some results."""
    process = cli.start(*ARGUMENTS, "--config", write_config(cli.folder), fake=fake, **SLOWLY)
    path = cli.folder / "my run.h5"
    wait_until(lambda: n_done(path) >= n_results or process.poll() is not None, "results")
    assert process.poll() is None
    return process, path


def interrupt_like_a_terminal(process: subprocess.Popen[str]) -> None:
    """Ctrl-C reaches every process of the foreground group."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("name", ["Ctrl-C", "SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_signal_stops_it_and_the_printed_command_completes_it(cli: Cli, name: str) -> None:
    process, path = started(cli)
    if name == "Ctrl-C":
        interrupt_like_a_terminal(process)
    else:
        process.send_signal(getattr(signal, name))
    stopped = cli.end(process, timeout=60)
    assert stopped.returncode == 75, stopped.stderr
    assert stopped.stderr == ""
    assert f"{'SIGINT' if name == 'Ctrl-C' else name}: stopping" in stopped.stdout
    assert not cli.survivors()
    summary = summarise(str(path))
    assert summary.state == "stopped"
    assert 5 <= summary.completed < 60
    assert f"{summary.completed} completed, 0 failed, {60 - summary.completed} to do" in stopped.stdout
    before = mosaic_mpi.open(str(path))
    kept = {
        table: before.table(table)[before.completed()] for table in ("simulations/commit", "simulations/finished_at")
    }
    rows = before.completed()

    last_line = stopped.stdout.rstrip().splitlines()[-1]
    assert last_line.startswith("to resume: python -m mosaic_mpi run ")
    command = shlex.split(last_line.removeprefix("to resume: "))
    resumed = cli.end(cli.launch(command, fake=QUICK))
    assert resumed.returncode == 0, resumed.stderr
    after = mosaic_mpi.open(str(path))
    assert len(after.completed()) == 60
    for table, values in kept.items():
        assert np.array_equal(after.table(table)[rows], values), "none is run twice"
    assert after.table("simulations/attempts").tolist() == [1] * 60
    whole = [word if word != "my run.h5" else "whole.h5" for word in command[3:]]
    assert cli(*whole, fake=QUICK).returncode == 0
    same_numbers(path, cli.folder / "whole.h5")


def test_what_runs_may_finish_within_the_grace(cli: Cli) -> None:
    process, path = started(cli, fake="seconds=0.1", n_results=1)
    time.sleep(0.3)  # into the next ones
    process.send_signal(signal.SIGTERM)
    before = n_done(path)
    stopped = cli.end(process, timeout=60)
    assert stopped.returncode == 75
    assert n_done(path) > before


def test_a_stop_waits_for_results_that_slots_have_not_sent(cli: Cli) -> None:
    """Fast simulations: all that was begun is completed, once, and what only waited in a slot was not begun."""
    log = cli.folder / "begun"
    arguments = ("run", "--n-simulations", "20000", "--n-iterations", "1", "--output", "my run.h5")
    fake = "seconds=0.001"
    process = cli.start(*arguments, "--config", write_config(cli.folder), fake=fake, MOSAIC_MPI_FAKE_LOG=str(log))
    path = cli.folder / "my run.h5"
    wait_until(lambda: n_done(path) >= 300 or process.poll() is not None, "results")
    process.send_signal(signal.SIGTERM)
    stopped = cli.end(process, timeout=60)
    assert stopped.returncode == 75, stopped.stderr
    begun = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert len(begun) < 20000
    assert sorted(begun) == [int(row) + 1 for row in mosaic_mpi.open(str(path)).completed()]


def at_work(cli: Cli, fake: str) -> subprocess.Popen[str]:
    """A run of which a simulation has begun: before that, there is nothing that could be waited for."""
    log = cli.folder / "begun"
    process = cli.start(*ARGUMENTS, "--config", write_config(cli.folder), fake=fake, MOSAIC_MPI_FAKE_LOG=str(log))
    wait_until(log.exists, "the first iteration")
    return process


def test_what_takes_longer_is_abandoned(cli: Cli) -> None:
    """Within the five seconds of grace and a little more, not after the simulation's own time."""
    process = at_work(cli, fake="hang=1;2;3;4")
    process.send_signal(signal.SIGTERM)
    stopped = cli.end(process, timeout=60)
    assert stopped.returncode == 75
    assert not cli.survivors()
    assert mosaic_mpi.open(str(cli.folder / "my run.h5")).table("simulations/attempts")[:1].tolist() == [0]


def test_a_second_interrupt_ends_it_at_once(cli: Cli) -> None:
    process = at_work(cli, fake="hang=1;2;3;4")
    process.send_signal(signal.SIGUSR1)  # a minute of grace
    time.sleep(0.5)
    assert process.poll() is None
    interrupt_like_a_terminal(process)
    stopped = cli.end(process, timeout=40)
    assert stopped.returncode == 75
    assert "to resume: " in stopped.stdout.splitlines()[-1]
    assert not cli.survivors()


def test_an_interrupt_before_anything_began_leaves_nothing_half_made(cli: Cli) -> None:
    config = write_config(cli.folder)
    for delay in (0.05, 0.15, 0.25, 0.35, 0.5):
        process = cli.start(*ARGUMENTS, "--config", config, fake=QUICK, **SLOWLY)
        time.sleep(delay)
        interrupt_like_a_terminal(process)
        stopped = cli.end(process, timeout=60)
        assert stopped.returncode in (75, 1, 130, -signal.SIGINT), stopped
        assert not cli.survivors()
        assert not list(cli.folder.glob("*.tmp-*"))
    done = cli(*ARGUMENTS, "--config", config)
    assert done.returncode == 2 or n_done(cli.folder / "my run.h5") == 60


def test_an_overwriting_run_resumes_without_overwriting(cli: Cli) -> None:
    config = write_config(cli.folder)
    assert cli(*ARGUMENTS, "--config", config, fake=QUICK).returncode == 0
    process = cli.start(*ARGUMENTS, "--config", config, "--overwrite", fake=QUICK, **SLOWLY)
    path = cli.folder / "my run.h5"
    wait_until(lambda: 3 <= n_done(path) < 60 or process.poll() is not None, "results of the new run")
    process.send_signal(signal.SIGTERM)
    stopped = cli.end(process, timeout=60)
    assert stopped.returncode == 75
    assert "--overwrite" not in stopped.stdout.splitlines()[-1]


def test_a_suspended_run_goes_on(cli: Cli) -> None:
    process, path = started(cli)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    assert cli.end(process).returncode == 0
    assert n_done(path) == 60


def test_nohup_is_respected(cli: Cli) -> None:
    """A run started to ignore SIGHUP goes on when its terminal closes."""
    command = ["nohup", sys.executable, "-m", "mosaic_mpi", "run", "--n-simulations", "40", "--output", "run.h5"]
    variables = {**os.environ, "MOSAIC_MPI_FAKE": "seconds=0.05"}
    process = subprocess.Popen(command, cwd=cli.folder, env=variables, stdout=subprocess.DEVNULL)
    wait_until((cli.folder / "run.h5").exists, "the run's beginning")
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0


def test_a_run_goes_on_without_anyone_to_tell(cli: Cli) -> None:
    command = f'"{sys.executable}" -m mosaic_mpi run --n-simulations 30 --output run.h5 | head -n 1'
    variables = {**os.environ, "MOSAIC_MPI_FAKE": "seconds=0.01"}
    shell = ["bash", "-o", "pipefail", "-c", command]
    assert subprocess.run(shell, cwd=cli.folder, env=variables, timeout=60, stdout=subprocess.DEVNULL).returncode == 0
