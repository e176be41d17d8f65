"""The end of a run with the real program: iterations shared out, in processes that die, are stopped, and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import defaultdict

import numpy as np
import pytest
from helpers import Cli, few_parameters, same_numbers, wait_until, write_config

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED, FAILED
from mosaic_mpi.results import Results

pytestmark = pytest.mark.timeout(300)

N_SIMULATIONS = 5
LAST = N_SIMULATIONS
"""The fifth simulation, when four slots have done one each."""
SHARED = "1 simulations were shared out by iterations"


@pytest.fixture
def arguments(cli: Cli) -> tuple[str, ...]:
    config = write_config(cli.folder, few_parameters())
    return ("run", "--config", config, "--n-simulations", str(N_SIMULATIONS), "--save", "fake", "--max-attempts", "2")


def begun(cli: Cli) -> dict[int, set[int]]:
    """Processes that were at each simulation."""
    found = defaultdict(set)
    log = cli.folder / "log"
    for line in log.read_text().splitlines() if log.exists() else []:
        seed, pid = map(int, line.split())
        found[(seed - 1) // 3 + 1].add(pid)
    return found


def start(cli: Cli, arguments: tuple[str, ...], fake: str, output: str = "r.h5") -> subprocess.Popen[str]:
    log = str(cli.folder / "log")
    return cli.start(*arguments, "--slots", "4", "--output", output, fake=fake, MOSAIC_MPI_FAKE_LOG=log)


def assert_same_as_on_one_slot(cli: Cli, arguments: tuple[str, ...], fake: str) -> None:
    """One slot never shares anything."""
    whole = cli(*arguments, "--slots", "1", "--output", "whole.h5", fake=fake)
    assert whole.returncode == 0, whole.stderr
    assert "shared out" not in whole.stdout
    same_numbers(cli.folder / "r.h5", cli.folder / "whole.h5", ignore=("simulations/failed_attempts",))
    ours, theirs = (Results(cli.folder / name) for name in ("r.h5", "whole.h5"))
    assert (ours.table("simulations/checksum") == theirs.table("simulations/checksum")).all()


def test_the_last_simulation_is_shared_out_and_its_numbers_are_the_same(cli: Cli, arguments: tuple[str, ...]) -> None:
    fake = "seconds=0.3"
    done = cli.end(start(cli, arguments, fake))
    assert done.returncode == 0, done.stderr
    assert SHARED in done.stdout
    assert len(begun(cli)[LAST]) > 1
    assert all(len(begun(cli)[sim_id]) == 1 for sim_id in range(1, LAST))
    assert Results(cli.folder / "r.h5").verify() == []
    assert_same_as_on_one_slot(cli, arguments, fake)


def test_a_single_simulation_uses_several_slots_from_the_start(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli.end(start(cli, (*arguments, "--n-simulations", "1"), "seconds=0.3"))
    assert done.returncode == 0, done.stderr
    assert SHARED in done.stdout
    assert len(begun(cli)[1]) == 3


@pytest.mark.parametrize(("trouble", "cause"), [("kill", b"killed"), ("fail", b"exception"), ("hang", b"timeout")])
def test_a_shared_simulation_that_never_succeeds_has_its_attempts_and_no_more(
    cli: Cli, arguments: tuple[str, ...], trouble: str, cause: bytes
) -> None:
    options = (*arguments, "--simulation-timeout", "2")
    done = cli.end(start(cli, options, f"seconds=0.3,{trouble}={LAST}"))
    assert done.returncode == 3, done.stdout + done.stderr
    results = mosaic_mpi.open(str(cli.folder / "r.h5"))
    assert results.table("simulations/status").tolist() == [COMPLETED] * 4 + [FAILED]
    assert results.table("simulations/attempts").tolist() == [1, 1, 1, 1, 2]
    assert (results.table("errors/cause")[0], results.table("errors/attempts")[0]) == (cause, 2)
    assert not cli.survivors()


def wait_for_the_last(cli: Cli, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: begun(cli)[LAST] or process.poll() is not None, "the last simulation to begin")
    assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_half_joined_simulations_are_to_do_after_a_stop_or_a_kill(
    cli: Cli, arguments: tuple[str, ...], number: signal.Signals
) -> None:
    fake = "seconds=1"
    process = start(cli, arguments, fake)
    wait_for_the_last(cli, process)
    path = cli.folder / "r.h5"
    wait_until(lambda: len(Results(path).completed()) == 4, "the others to be stored")
    process.send_signal(number)
    stopped = cli.end(process)
    wait_until(lambda: not cli.survivors(), "its processes to end")
    done = set(Results(path).completed())
    if number == signal.SIGKILL:
        assert done == {0, 1, 2, 3}
    else:
        assert done >= {0, 1, 2, 3}
        assert stopped.returncode in (0, 75), stopped.stderr
    commits = Results(path).table("simulations/commit")[:4]
    resumed = cli.end(start(cli, arguments, fake))
    assert resumed.returncode == 0, resumed.stderr
    assert np.array_equal(Results(path).table("simulations/commit")[:4], commits), "none is run twice"
    assert Results(path).table("simulations/attempts").tolist() == [1] * N_SIMULATIONS
    assert_same_as_on_one_slot(cli, arguments, fake)


def test_a_slot_killed_at_an_iteration_costs_one_attempt(cli: Cli, arguments: tuple[str, ...]) -> None:
    fake = "seconds=1"
    process = start(cli, arguments, fake)
    wait_for_the_last(cli, process)
    os.kill(next(iter(begun(cli)[LAST])), signal.SIGKILL)
    done = cli.end(process)
    assert done.returncode == 0, done.stderr
    attempts = Results(cli.folder / "r.h5").table("simulations/attempts")
    assert attempts.tolist() == [1, 1, 1, 1, 2]
    assert "killed by SIGKILL" in done.stdout + done.stderr
    (cli.folder / "log").unlink()
    whole = cli(*arguments, "--slots", "1", "--output", "whole.h5", fake=fake)
    assert whole.returncode == 0, whole.stderr
    tables = ("simulations/attempts", "simulations/failed_attempts")
    same_numbers(cli.folder / "r.h5", cli.folder / "whole.h5", ignore=tables)
