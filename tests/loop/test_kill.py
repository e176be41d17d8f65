"""SIGKILL at random moments of a run's life: nothing lost, nothing run twice, nothing left behind.

Quick by default. MOSAIC_MPI_KILLS asks for more kills, MOSAIC_MPI_TEST_SEED for the same ones again, as far as timing
lets them be the same.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Cli, few_parameters, wait_until, write_config
from lives import N_KILLS, SEED, TROUBLE_FILE, Killer, Kind, compile_dying, kill
from witness import Witness

from mosaic_mpi.results import Results

LONG = 60 + 30 * N_KILLS
"""Seconds for a test, also on a machine that has other things to do."""
SETTINGS = "seconds=0.002,size=2000,fail=7;41,kill=11,while={}"
SMALL = ("--n-iterations", "1", "--checkpoint-interval", "0.1", "--max-attempts", "2", "--slots", "2")
LASER = ("--locations", "ETH", "--n-iterations", "1", "--checkpoint-interval", "0.5", "--slots", "2")
KINDS = {
    "series": Kind((*SMALL, "--save", "fake"), SETTINGS, (200, 300)),
    "no series": Kind(SMALL, SETTINGS, (200, 300)),
    "LASER, series": Kind((*LASER, "--save", "reported_cases"), None, (4, 6), ("new", "extension")),
}
if N_KILLS > 12:  # on request: that series make no difference to LASER's processes, the stand-in shows
    KINDS["LASER, no series"] = Kind(LASER, None, (4, 6), ("new", "extension"))


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that kills at a system call."""
    return compile_dying(tmp_path_factory.mktemp("dying"))


WitnessOf = Callable[[Path], Witness]
KillerOf = Callable[..., Killer]


@pytest.fixture
def killer_of(
    cli: Cli, dying: Path, witness_of: WitnessOf, record_property: Callable[[str, object], None]
) -> Iterator[KillerOf]:
    """Make the killer of one kind of runs, or of small ones that go through some stages; its dice are the seed's."""
    made: list[Killer] = []

    def make(name: str, stages: tuple[str, ...] = ()) -> Killer:
        print(f"MOSAIC_MPI_KILLS={N_KILLS} MOSAIC_MPI_TEST_SEED={SEED}")
        kind = KINDS[name]
        if kind.fake is not None:
            config = write_config(cli.folder, few_parameters())
            fake = kind.fake.format(cli.folder / TROUBLE_FILE)
            kind = replace(kind, options=("--config", config, *kind.options), fake=fake)
        if stages:
            kind = replace(kind, n_simulations=(42, 48), stages=stages)
        made.append(Killer(cli, kind, dying, random.Random(f"{SEED} {name} {stages}"), witness_of))
        made[-1].learn()
        return made[-1]

    yield make
    record_property("kills", sum(killer.n_kills for killer in made))


@pytest.mark.fault("rank 0 killed at random moments of start, run, finish, extension, overwriting, second tries")
@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("name", KINDS)
def test_kills_at_random_moments(killer_of: KillerOf, name: str) -> None:
    killer = killer_of(name)
    n_wanted = N_KILLS if killer.kind.fake is not None else max(N_KILLS // 4, 2)
    n_lives = 0
    while killer.n_kills < n_wanted:
        killer.live(f"life-{n_lives}", 4, n_wanted)
        n_lives += 1
        if n_lives % 10 == 0 or killer.n_kills >= n_wanted:
            print(f"{name}: {n_lives} lives, {killer.n_kills} kills: {dict(killer.counts)}", flush=True)


@pytest.mark.fault("rank 0 killed at a system call that changes a file, every other write half done")
@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("stage", ["new", "retry-failed", "extension", "overwrite"])
@pytest.mark.parametrize("name", ["series", "no series"])
def test_killed_at_every_call(cli: Cli, killer_of: KillerOf, witness_of: WitnessOf, name: str, stage: str) -> None:
    """At each system call of a small run that changes a file; in short, at some of them."""
    # What is overwritten, or not yet, must give the same in the end: nothing in it may have failed.
    earlier = {"new": (), "overwrite": ("new", "retry-failed")}.get(stage, ("new",))
    killer = killer_of(name, (*earlier, stage))
    before = cli.folder / "before"
    before.mkdir()
    if earlier:
        shutil.copy(killer.whole[earlier[-1]], before / "run.h5")
    n_calls = len(killer.calls[stage])
    for call in killer.dice.sample(range(1, n_calls + 1), min(max(N_KILLS // 12, 1), n_calls)):
        folder = shutil.copytree(before, cli.folder / "now")
        witness = witness_of(folder / "run.h5")
        witness.may_forget_failed = stage == "retry-failed"
        witness.look()
        killer.hit_at_call(stage, "now", call)
        witness.look(may_be_overwritten=stage == "overwrite")
        killer.finish("extension" if stage == "overwrite" else stage, "now")
        witness.look()
        killer.assert_undisturbed(stage, "now")
        shutil.rmtree(folder)
    print(f"{name}, {stage}: {killer.n_kills} kills at {n_calls} calls", flush=True)


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
    wait_until(lambda: [len(pids) for pids in family(cli, process)] == [1, 2], "two slots")
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
