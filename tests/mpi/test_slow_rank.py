"""The end of a run on several ranks: a slow one holds nobody up, and what one that dies was at is run again."""

from __future__ import annotations

from collections import Counter

import launchers
import numpy as np
import pytest
from launchers import Launcher
from runs import Run, Workplace, assert_same_numbers, wait_until

from mosaic_mpi.results import Results

pytestmark = pytest.mark.timeout(300)

FAKE = "seconds=0.2,size=12"
N_SIMULATIONS = 12
SLOWNESS = 500
"""A simulation takes the slow rank five minutes, and a test has but two."""
LOG = "begun.txt"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The numbers of one slot, which never shares anything."""
    place = Workplace(tmp_path_factory.mktemp("expected"))
    ended = place.complete(launchers.alone(), 1, n_simulations=N_SIMULATIONS, fake="seconds=0,size=12")
    assert ended.code == 0, ended.output
    return place.numbers()


def seeds_begun(place: Workplace) -> Counter[int]:
    """How often each iteration was begun."""
    log = place.folder / LOG
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(int(line.split()[0]) for line in lines)


def start_with_a_slow_rank(launcher: Launcher, place: Workplace) -> Run:
    """Two ranks of two slots and a third, whose slots are slow."""
    words = ["run", "--output", place.file.name, "--n-simulations", str(N_SIMULATIONS), "--slots", "2"]
    ranks = launcher.command(2, *words, "--save", "fake")
    slow = ["-n", "1", "env", f"MOSAIC_MPI_FAKE_SLOWNESS={SLOWNESS}", *ranks[ranks.index(launcher.python) :]]
    variables = {**launcher.variables, "MOSAIC_MPI_FAKE": FAKE, "MOSAIC_MPI_FAKE_LOG": str(place.folder / LOG)}
    return place.start_command([*ranks, ":", *slow], variables)


@pytest.mark.parametrize("launcher", ["openmpi", "openmpi-ulfm", "mpich"], indirect=True)
def test_a_slow_rank_does_not_hold_up_the_end(
    launcher: Launcher, place: Workplace, expected: dict[str, np.ndarray]
) -> None:
    """Its simulations are done again elsewhere, and the run ends although it is still at them."""
    run = start_with_a_slow_rank(launcher, place)
    ended = run.wait(100)
    assert ended.code == 0, ended.output
    assert "begun again elsewhere" in ended.output
    assert "not been heard of" not in ended.output
    run.assert_no_orphans()
    assert_same_numbers(place.numbers(), expected)
    assert place.table("simulations/attempts").tolist() == [1] * N_SIMULATIONS
    assert sorted(place.table("simulations/commit").tolist()) == list(range(1, N_SIMULATIONS + 1))
    assert Results(place.file).verify() == []
    assert 2 <= max(seeds_begun(place).values()) <= 3, "with the whole simulation, and a copy that looked late itself"


def begin_shared(launcher: Launcher, place: Workplace) -> Run:
    """Two simulations on three ranks, shared out from the start, caught while their iterations run."""
    variables = {"MOSAIC_MPI_FAKE_LOG": str(place.folder / LOG)}
    run = place.start(launcher, 3, n_simulations=2, slots=2, fake="seconds=3,size=12", variables=variables)
    wait_until(lambda: len(seeds_begun(place)) == 6, "all iterations to begin")
    return run


@pytest.mark.fault("worker rank killed at iterations")
@pytest.mark.parametrize("launcher", ["openmpi-ulfm"], indirect=True)
def test_of_a_rank_that_dies_its_iterations_alone_are_run_again(
    launcher: Launcher, place: Workplace, expected: dict[str, np.ndarray]
) -> None:
    run = begin_shared(launcher, place)
    run.ranks()[1].kill()
    ended = run.wait()
    assert ended.code == 0, ended.output
    assert "2 simulations were shared out by iterations" in ended.output
    times = seeds_begun(place)
    assert len(times) == 6
    assert sum(times.values()) >= 8, "its two iterations"
    assert max(times.values()) <= 3, "what was run again may have looked late as well, and was copied once"
    assert place.table("simulations/attempts").tolist() == [1, 1]
    assert_same_numbers(place.numbers(), {name: values[:2] for name, values in expected.items()})
    run.assert_no_orphans()


@pytest.mark.fault("worker rank killed at iterations")
@pytest.mark.parametrize("launcher", ["openmpi", "mpich"], indirect=True)
def test_where_the_launcher_ends_the_job_the_same_command_does_them_again(
    launcher: Launcher, place: Workplace, expected: dict[str, np.ndarray]
) -> None:
    run = begin_shared(launcher, place)
    run.ranks()[1].kill()
    assert run.wait().code != 0
    run.assert_no_orphans()
    assert place.n_completed == 0
    again = place.complete(launcher, 3, n_simulations=2, slots=2, fake="seconds=3,size=12")
    assert again.code == 0, again.output
    assert_same_numbers(place.numbers(), {name: values[:2] for name, values in expected.items()})
    assert place.table("simulations/attempts").tolist() == [1, 1]
