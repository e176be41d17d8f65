"""SIGKILL at random moments of one run: nothing lost, nothing run twice, nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Cli, few_parameters, same_numbers, wait_until, write_config
from numpy.typing import NDArray

from mosaic_mpi.results import Results

FAKE = "seconds=0.002,size=4000"
KEPT = ("simulations/likelihood", "simulations/checksum", "simulations/commit", "simulations/finished_at")


@dataclass
class Witness:
    """Remembers what a results file has held, and protests when any of it is gone or changed."""

    path: Path
    known: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def look(self) -> int:
        """Check the file as any reader would, and return how many simulations are completed."""
        if not self.path.exists():
            assert not self.known
            return 0
        results = Results(self.path)
        rows = results.completed().tolist()
        columns = [results.table(name) for name in KEPT]
        found = {row: tuple(column[row] for column in columns) for row in rows}
        for row, values in self.known.items():
            assert row in found, f"row {row} was completed and is no more"
            assert found[row] == values, f"row {row} was run again"
        commits = [values[2] for values in found.values()]
        assert len(set(commits)) == len(commits)
        new = sorted(found.keys() - self.known.keys())
        self._read_series(results, np.array(new[:5], dtype=np.int64))
        self.known = found
        return len(found)

    @staticmethod
    def _read_series(results: Results, rows: NDArray[np.int64]) -> None:
        for row, (series,) in results.series(rows, ["fake"]) if len(rows) else ():
            generator = np.random.Generator(np.random.PCG64(row + 1))
            generator.random()
            assert np.array_equal(series[0], generator.poisson(3, (1, 4000)))


def kill(cli: Cli, process: subprocess.Popen[str]) -> None:
    """SIGKILL rank 0 alone: its children have to notice by themselves."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    wait_until(lambda: not cli.survivors(), "all of its processes to end", seconds=5)


@pytest.mark.timeout(200)
def test_forty_kills_over_one_run_lose_nothing_and_change_nothing(cli: Cli) -> None:
    seed = int(os.environ.get("MOSAIC_MPI_TEST_SEED", time.time_ns() % 10**6))
    print(f"MOSAIC_MPI_TEST_SEED={seed}")
    dice = random.Random(seed)
    config = write_config(cli.folder, few_parameters())
    common = ("run", "--config", config, "--n-iterations", "1", "--save", "fake", "--checkpoint-interval", "0.1")
    path = cli.folder / "run.h5"
    witness = Witness(path)
    n_kills = n_at_rewrites = 0
    for n_simulations, n_planned in ((1500, 22), (2500, 18)):
        arguments = (*common, "--n-simulations", str(n_simulations), "--output", "run.h5")
        for _ in range(n_planned):
            process = cli.start(*arguments, fake=FAKE)
            aim_at_rewrite = dice.random() < 0.4
            deadline = time.monotonic() + dice.uniform(0.2, 1.1)
            while process.poll() is None and time.monotonic() < deadline:
                if aim_at_rewrite and next(cli.folder.glob("run.h5*.tmp-*"), None):
                    time.sleep(dice.uniform(0, 0.03))
                    n_at_rewrites += 1
                    break
                time.sleep(0.001)
            if process.poll() is not None:
                assert cli.end(process).returncode == 0
                break
            kill(cli, process)
            n_kills += 1
            witness.look()
        while True:  # the end of it: fold, killed a few times on the way
            process = cli.start(*arguments, fake=FAKE)
            if n_at_rewrites % 4 != 3:
                while process.poll() is None and not next(cli.folder.glob("run.h5.tmp-*"), None):
                    time.sleep(0.001)
                time.sleep(dice.uniform(0, 0.05))
            if n_at_rewrites % 4 == 3 or process.poll() is not None:
                assert cli.end(process).returncode == 0
                n_at_rewrites += 1
                break
            kill(cli, process)
            n_kills, n_at_rewrites = n_kills + 1, n_at_rewrites + 1
            witness.look()
        assert witness.look() == n_simulations
    print(f"{n_kills} kills, {n_at_rewrites} of them while the file was rewritten")
    assert n_kills >= 10
    whole = cli(*common, "--n-simulations", "2500", "--output", "whole.h5", fake=FAKE)
    assert whole.returncode == 0
    same_numbers(path, cli.folder / "whole.h5")
    assert {entry.name for entry in cli.folder.iterdir()} == {"config.json", "run.h5", "whole.h5"}


def family(cli: Cli, process: subprocess.Popen[str]) -> tuple[list[int], list[int]]:
    """The fork server of a run (a list of one, or none), and its slots."""
    parents = {pid: parent_of(pid) for pid in cli.survivors() if pid != process.pid}
    servers = [pid for pid, parent in parents.items() if parent == process.pid and pid in parents.values()]
    return servers, [pid for pid, parent in parents.items() if parent in servers]


def endless(cli: Cli, **variables: str) -> tuple[subprocess.Popen[str], Path]:
    """A run in full swing that does not end during a test."""
    config = write_config(cli.folder)
    arguments = ("run", "--config", config, "--n-simulations", "5000", "--output", "run.h5", "--slots", "2")
    process = cli.start(*arguments, fake="seconds=0.02", **variables)
    path = cli.folder / "run.h5"
    wait_until(lambda: path.exists() and len(Results(path).completed()) > 4, "results")
    assert [len(pids) for pids in family(cli, process)] == [1, 2]
    return process, path


def test_no_process_outlives_its_run(cli: Cli) -> None:
    process, _ = endless(cli)
    kill(cli, process)


@pytest.mark.parametrize("victim", ["fork server", "slot"])
def test_a_run_outlives_its_children(cli: Cli, victim: str) -> None:
    process, path = endless(cli)
    servers, slots = family(cli, process)
    os.kill(servers[0] if victim == "fork server" else slots[0], signal.SIGKILL)
    wait_until(lambda: slots[0] not in cli.survivors(), "the slot's end")
    done = len(Results(path).completed())
    wait_until(lambda: len(Results(path).completed()) > done + 20, "the run to go on")
    wait_until(lambda: [len(pids) for pids in family(cli, process)] == [1, 2], "new slots")
    process.terminate()
    assert cli.end(process).returncode == 75
    assert (Results(path).table("errors/cause")[:1] == b"killed").all()
    assert not cli.survivors()


def sees_launcher(pid: int) -> bool:
    return b"HYDRA_LEAK=" in Path(f"/proc/{pid}/environ").read_bytes()


def test_slots_do_not_see_the_launchers_variables(cli: Cli) -> None:
    process, _ = endless(cli, HYDRA_LEAK="1")
    servers, slots = family(cli, process)
    assert sees_launcher(process.pid)
    assert not any(map(sees_launcher, servers + slots))


def test_nor_do_those_of_a_second_fork_server(cli: Cli) -> None:
    process, _ = endless(cli, HYDRA_LEAK="1")
    first = family(cli, process)[0]
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: family(cli, process)[0] not in ([], first), "another fork server")
    wait_until(lambda: len(family(cli, process)[1]) == 2, "its slots")
    assert not any(map(sees_launcher, family(cli, process)[1]))


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
