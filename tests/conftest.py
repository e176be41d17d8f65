"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Cli

# Started in the background by a script, this process ignores SIGINT, and what it starts would as well: a person at a
# terminal, whom the tests play, does not find it so.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


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
