"""Questions to a process of its own: asked again when it dies, and no more than that."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from mosaic_mpi import fork_server
from mosaic_mpi.errors import EngineError


def answer_after(connection: Connection, folder: str, n_deaths: int) -> None:
    """Die so often, then answer."""
    n_before = len(list(Path(folder).iterdir()))
    if n_before < n_deaths:
        (Path(folder) / str(n_before)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    connection.send("answer")


def test_a_process_that_dies_once_is_asked_again(tmp_path: Path) -> None:
    assert fork_server.ask(answer_after, str(tmp_path), 1) == "answer"


def test_one_that_dies_again_is_an_error_with_its_end(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"exit code -9"):
        fork_server.ask(answer_after, str(tmp_path), 9)
    assert len(list(tmp_path.iterdir())) == 2
