"""What a simulation can do to its process: each costs one attempt, names its cause, and stalls nothing."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import CI, Cli, few_parameters, wait_until, write_config

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED, FAILED
from mosaic_mpi.summary import summarise

pytestmark = pytest.mark.timeout(300)

LIMIT_BYTES = 700 << 20


@pytest.fixture
def arguments(cli: Cli) -> tuple[str, ...]:
    config = write_config(cli.folder, few_parameters())
    return ("run", "--config", config, "--n-iterations", "1", "--output", "r.h5", "--max-attempts", "2")


class Outcome:
    """What a results file says of a run with trouble."""

    def __init__(self, cli: Cli) -> None:
        self.path = str(cli.folder / "r.h5")
        self.results = mosaic_mpi.open(self.path)
        self.status = self.results.table("simulations/status")
        self.attempts = self.results.table("simulations/attempts")
        self.table = self.results.simulations()

    @property
    def failed(self) -> list[int]:
        return [int(row) + 1 for row in np.flatnonzero(self.status == FAILED)]

    @property
    def causes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for entry in summarise(self.path).failures:
            found[entry.cause] = found.get(entry.cause, 0) + entry.attempts
        return found

    def assert_only_these_failed(self, sim_ids: list[int], n_simulations: int) -> None:
        assert self.failed == sim_ids
        assert int((self.status == COMPLETED).sum()) == n_simulations - len(sim_ids)
        rows = np.array(sim_ids) - 1
        assert (self.attempts[rows] == 2).all()
        assert (np.delete(self.attempts, rows) == 1).all(), "a neighbour was charged"


def test_every_way_to_go_is_one_attempt_with_its_cause(cli: Cli, arguments: tuple[str, ...]) -> None:
    fake = "fail=2,kill=5,segfault=8,exit=11,hang=14,stuck=17"
    # A busy machine may leave a healthy slot without a core for a second.
    options = ("--n-simulations", "40", "--slots", "3", "--simulation-timeout", "3")
    done = cli(*arguments, *options, fake=fake)
    assert done.returncode == 3, done.stderr
    outcome = Outcome(cli)
    outcome.assert_only_these_failed([2, 5, 8, 11, 14, 17], 40)
    assert outcome.causes == {"exception": 2, "killed": 6, "timeout": 4}
    errors = outcome.table["error"]
    assert errors[2].endswith("ValueError: simulation 2 was told to fail")
    assert "was killed by SIGKILL" in errors[5]
    assert "was killed by SIGSEGV" in errors[8]
    assert "ended with exit code 3" in errors[11]
    for stuck in (14, 17):
        assert "took longer than 3 s" in errors[stuck]
    assert "40: 34 completed, 6 failed, 0 pending" in cli("status", "r.h5").stdout
    assert not cli.survivors()


def test_poison_among_simulations_that_a_slot_is_given_many_of_at_once(cli: Cli, arguments: tuple[str, ...]) -> None:
    """Of what a slot has before it, the one that it died of is charged, and it alone."""
    poison = [400, 401, 402, 900, 1500, 1990]
    fake = f"kill={';'.join(map(str, poison))},fail=700;701"
    done = cli(*arguments, "--n-simulations", "2000", "--slots", "2", fake=fake)
    assert done.returncode == 3, done.stderr
    outcome = Outcome(cli)
    outcome.assert_only_these_failed(sorted([*poison, 700, 701]), 2000)
    assert outcome.causes == {"killed": 12, "exception": 4}


def begun(cli: Cli) -> dict[int, list[int]]:
    """Of every simulation that was begun, the processes that did so, from the stand-in's log."""
    found: dict[int, list[int]] = {}
    for line in (cli.folder / "begun").read_text().splitlines():
        seed, pid = map(int, line.split())
        found.setdefault(seed, []).append(pid)
    return found


def test_a_hang_among_fast_simulations_is_ended_alone_and_what_came_before_is_not_run_again(
    cli: Cli, arguments: tuple[str, ...]
) -> None:
    """What waits to be sent when one hangs is sent meanwhile, and what waits behind it goes to others."""
    options = ("--n-simulations", "1500", "--slots", "2", "--simulation-timeout", "4")
    log = str(cli.folder / "begun")
    done = cli(*arguments, *options, fake="hang=700", MOSAIC_MPI_FAKE_LOG=log)
    assert done.returncode == 3, done.stderr
    outcome = Outcome(cli)
    outcome.assert_only_these_failed([700], 1500)
    assert outcome.causes == {"timeout": 2}
    times = {sim_id: len(pids) for sim_id, pids in begun(cli).items()}
    assert times == {sim_id: 1 + (sim_id == 700) for sim_id in range(1, 1501)}


def test_what_waits_behind_a_hang_need_not_wait_for_its_end(cli: Cli, arguments: tuple[str, ...]) -> None:
    options = ("--n-simulations", "1500", "--slots", "2", "--simulation-timeout", "600")
    process = cli.start(*arguments, *options, fake="seconds=0.001,hang=700")
    path = cli.folder / "r.h5"
    wait_until(lambda: path.exists() and summarise(str(path)).completed == 1499, "all others", 60)
    assert process.poll() is None


def test_a_kill_costs_what_ran_and_what_was_not_sent_is_run_again(cli: Cli, arguments: tuple[str, ...]) -> None:
    """A slot that is stuck in C cannot send what it has finished before; nobody is charged for that."""
    trouble, log = cli.folder / "trouble", cli.folder / "begun"
    trouble.touch()
    options = ("--n-simulations", "1500", "--slots", "2")
    process = cli.start(*arguments, *options, fake=f"stuck=700,while={trouble}", MOSAIC_MPI_FAKE_LOG=str(log))
    path = cli.folder / "r.h5"
    wait_until(lambda: log.exists() and 700 in begun(cli), "the one that gets stuck")
    wait_until(lambda: summarise(str(path)).completed > 1500 // 2, "the other slot going on")
    assert process.poll() is None
    trouble.unlink()
    (stuck,) = begun(cli)[700]
    os.kill(stuck, signal.SIGKILL)
    done = cli.end(process)
    assert done.returncode == 0, done.stderr
    outcome = Outcome(cli)
    assert (outcome.status == COMPLETED).all()
    assert outcome.attempts.tolist() == [1 + (sim_id == 700) for sim_id in range(1, 1501)]
    assert outcome.causes == {"killed": 1}
    assert summarise(outcome.path).failures[0].text.startswith("its process was killed by SIGKILL")
    assert all(pids.count(stuck) == 1 for pids in begun(cli).values() if stuck in pids)


def test_slots_that_are_killed_while_they_start_end_nothing_and_leave_no_traceback(
    cli: Cli, arguments: tuple[str, ...]
) -> None:
    process = cli.start(*arguments, "--n-simulations", "40", "--slots", "2", fake="seconds=0.05")
    path, killed = cli.folder / "r.h5", set[int]()
    wait_until(path.exists, "the file, before which the engine is asked for its channels by a process of its own")
    (server,) = (
        child for child in psutil.Process(process.pid).children() if "forkserver" in " ".join(child.cmdline())
    )
    while len(killed) < 4:  # of five in a row it would be said that slots cannot be started
        for slot in server.children():
            if slot.pid not in killed and len(killed) < 4:
                time.sleep(0.005 * len(killed))  # the first has read nothing yet, the others some
                killed.add(slot.pid)
                slot.kill()
    done = cli.end(process)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (Outcome(cli).status == COMPLETED).all()


def test_poison_first_and_everywhere_at_four_slots(cli: Cli, arguments: tuple[str, ...]) -> None:
    """More deadly simulations at once than there are slots, from the very first on."""
    poison = [*range(1, 13), 30, 31, 60]
    fake = f"kill={';'.join(map(str, poison[::2]))},segfault={';'.join(map(str, poison[1::2]))}"
    done = cli(*arguments, "--n-simulations", "60", "--slots", "4", fake=fake)
    assert done.returncode == 3, done.stderr
    outcome = Outcome(cli)
    outcome.assert_only_these_failed(poison, 60)
    assert outcome.causes == {"killed": 30}
    assert not cli.survivors()


@pytest.mark.parametrize("kind", ["long", "lines", "bytes"])
def test_any_text_of_an_exception_is_kept_by_its_end(cli: Cli, arguments: tuple[str, ...], kind: str) -> None:
    done = cli(*arguments, "--n-simulations", "3", fake=f"fail=2,fail_text={kind}")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr.replace("Traceback (most recent call last):\n  File", "")
    outcome = Outcome(cli)
    text = outcome.table["error"][2]
    assert len(text.encode()) <= 2000
    expected = {"long": "x" * 100 + " and this is the end", "lines": "{braces}\r\nthe end", "bytes": "31m \u03b2"}
    assert text.endswith(expected[kind]), repr(text[-200:])
    if kind != "long":
        assert "ValueError: simulation 2 was told to fail" in text
    assert outcome.causes == {"exception": 2}
    for command in (("status", "r.h5"), ("status", "r.h5", "--json")):
        shown = cli(*command)
        assert shown.returncode == 0, shown.stderr
        assert "\x1b" not in shown.stdout
    shown = cli("status", "r.h5", LC_ALL="C", PYTHONIOENCODING="ascii:strict", PYTHONUTF8="0")
    assert shown.returncode == 0, "a terminal that knows ASCII only"


class MemoryGroup:
    """A control group with a limit of memory, version 1 or 2 of the kernel's interface."""

    def __init__(self, limit_bytes: int) -> None:
        first = Path("/sys/fs/cgroup/memory")
        root = first if first.is_dir() else Path("/sys/fs/cgroup")
        self.path = root / f"mosaic_mpi-test-{secrets.token_hex(4)}"
        self.path.mkdir()
        limit = self.path / ("memory.limit_in_bytes" if first.is_dir() else "memory.max")
        try:
            limit.write_text(str(limit_bytes))
            swap = self.path / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        except OSError:
            self.path.rmdir()
            raise

    def command(self, *words: str) -> list[str]:
        """A command that runs inside."""
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh", *words]

    def remove(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                return self.path.rmdir()
            except OSError:
                assert time.monotonic() < deadline, (self.path / "cgroup.procs").read_text()
                time.sleep(0.05)


@pytest.fixture
def memory_group(cli: Cli) -> Iterator[MemoryGroup]:
    try:
        group = MemoryGroup(LIMIT_BYTES)
    except OSError as error:
        if CI:
            pytest.fail(f"no control group for memory can be made here: {error} (CI=true: nothing may be missing)")
        pytest.skip(f"no control group for memory can be made here: {error}")
    yield group
    cli.close()
    group.remove()


def test_out_of_memory_the_kernel_takes_the_slot_and_not_the_rank(
    cli: Cli, arguments: tuple[str, ...], memory_group: MemoryGroup
) -> None:
    words = (sys.executable, "-m", "mosaic_mpi", *arguments, "--n-simulations", "20", "--slots", "2")
    done = cli.end(cli.launch(memory_group.command(*words), fake="seconds=0.01,oom=3;10"))
    assert done.returncode == 3, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    outcome = Outcome(cli)
    assert outcome.failed == [3, 10]
    assert int((outcome.status == COMPLETED).sum()) == 18
    assert outcome.attempts[[2, 9]].tolist() == [2, 2]
    # A neighbour in the other slot may be the larger one for a moment, and then pays an attempt.
    for sim_id in (3, 10):
        assert "SIGKILL; out of memory, if nobody killed it" in outcome.table["error"][sim_id]
    assert len(summarise(outcome.path).starts) == 1


def test_out_of_memory_by_a_limit_of_the_process_is_an_exception(cli: Cli, arguments: tuple[str, ...]) -> None:
    words = (sys.executable, "-m", "mosaic_mpi", *arguments, "--n-simulations", "10", "--slots", "2")
    command = ["sh", "-c", 'ulimit -v 3000000 && exec "$@"', "sh", *words]
    done = cli.end(cli.launch(command, fake="oom=3"))
    assert done.returncode == 3, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    outcome = Outcome(cli)
    outcome.assert_only_these_failed([3], 10)
    assert outcome.causes == {"exception": 2}
    assert outcome.table["error"][3].endswith("MemoryError")


def test_a_leak_ends_its_slot_and_not_the_run(
    cli: Cli, arguments: tuple[str, ...], memory_group: MemoryGroup
) -> None:
    """Each simulation keeps 40 MiB: far more than there is in the end, and yet all complete."""
    words = (sys.executable, "-m", "mosaic_mpi", *arguments, "--n-simulations", "60", "--slots", "2")
    done = cli.end(cli.launch(memory_group.command(*words, "--max-attempts", "5"), fake="leak=40"))
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    outcome = Outcome(cli)
    assert (outcome.status == COMPLETED).all()
    assert 1 <= outcome.causes["killed"] <= 60
