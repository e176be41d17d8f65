"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import Cli
from witness import Witness

# Started in the background by a script, this process ignores SIGINT, and under nohup SIGHUP; what it starts would as
# well: a person at a terminal, whom the tests play, does not find it so.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several tests at a time, those that use Slurm share one cluster, and what LASER gave is found once."""
    for item in items:
        if _uses_slurm(item):
            item.add_marker(pytest.mark.xdist_group("slurm"))
        elif "real_reference" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("real reference"))


def _uses_slurm(item: pytest.Item) -> bool:
    parameters = getattr(item, "callspec", None)
    launcher = str(parameters.params.get("launcher", "")) if parameters else ""
    return launcher.startswith("srun") or not {"cluster", "day"}.isdisjoint(getattr(item, "fixturenames", ()))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note a test's fault and launcher, for fault_table.py."""
    marker = item.get_closest_marker("fault")
    if marker is not None:
        parameters = getattr(item, "callspec", None)
        values = parameters.params if parameters else {}
        item.user_properties.append(("fault", marker.args[0].format(**values)))
        item.user_properties.append(("launcher", marker.kwargs.get("launcher") or values.get("launcher", "none")))


@pytest.fixture
def witness_of(record_property: Callable[[str, object], None]) -> Iterator[Callable[[Path], Witness]]:
    """Make witnesses of results files; what they have counted goes to fault_table.py."""
    made: list[Witness] = []

    def make(path: Path) -> Witness:
        made.append(Witness(path))
        return made[-1]

    yield make
    for witness in made:
        if witness.path.exists():
            witness.may_forget_failed = True
            witness.count(may_be_overwritten=True)
    if any(witness.n_looks for witness in made):
        record_property("lost", sum(witness.n_lost for witness in made))
        record_property("again", sum(witness.n_again for witness in made))


@pytest.fixture(scope="session")
def shared() -> Path:
    """MOSAIC's specification and fixtures, which are not part of the repository."""
    path = Path(os.environ.get("MOSAIC_MPI_SHARED", REPOSITORY.parent / "shared"))
    if not (path / "mosaic").is_dir():
        pytest.skip(f"{path}/mosaic is absent; set MOSAIC_MPI_SHARED to where MOSAIC's fixtures are")
    return path


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Run `python -m mosaic_mpi …` in the test's own folder; nothing it starts outlives the test."""
    command_line = Cli(tmp_path)
    yield command_line
    command_line.close()
