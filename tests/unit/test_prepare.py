"""What the engine says of a config reaches the plan, and the person who reads the first lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import make_plan

from mosaic_mpi import environment, fork_server, prepare
from mosaic_mpi.comm import LocalComm
from mosaic_mpi.errors import InputError
from mosaic_mpi.header import header
from mosaic_mpi.messages import Hello
from mosaic_mpi.plan import RunPlan

CAUTION = "the engine's sources are not those of long ago"


def described(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: object) -> RunPlan:
    """A plan after the engine's process has given this answer."""
    plan = make_plan(folder)
    monkeypatch.setattr(fork_server, "ask", lambda *_: answer)
    return prepare.describe_channels(plan)


def first_lines(plan: RunPlan) -> list[str]:
    hello = Hello("here", (0, 1), 2, 2.0, "")
    launcher = environment.find_launcher({})
    return header(plan, LocalComm(), launcher, [hello], [1], None, "run.h5: new", None, "again").splitlines()


def test_a_caution_is_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = {channel.name: channel for channel in make_plan(tmp_path).channels}
    plain = described(tmp_path, monkeypatch, (channels, None))
    cautious = described(tmp_path, monkeypatch, (channels, CAUTION))
    assert f"note   {CAUTION}" in first_lines(cautious)
    assert not any(CAUTION in line for line in first_lines(plain))
    assert cautious.fingerprint == plain.fingerprint


def test_what_the_engine_refuses_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the engine refuses it: no such thing"):
        described(tmp_path, monkeypatch, "AssertionError: no such thing")
