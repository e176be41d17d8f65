"""What the engine says of a config reaches the plan, and the person who reads the first lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import make_plan

from mosaic_mpi import environment, fork_server, prepare
from mosaic_mpi.comm import LocalComm
from mosaic_mpi.engine_choice import Verdict
from mosaic_mpi.errors import InputError
from mosaic_mpi.header import header
from mosaic_mpi.messages import Hello
from mosaic_mpi.plan import RunPlan

STOCK = Verdict("stock", "the engine's sources are not those of long ago")
COMPILED = Verdict("compiled")


def described(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: object, engine: str = "auto") -> RunPlan:
    """A plan after the engine's process has given this answer."""
    plan = replace(make_plan(folder), engine=engine)
    monkeypatch.setattr(fork_server, "ask", lambda *_: answer)
    return prepare.describe_channels(plan)


def first_lines(plan: RunPlan, processors: tuple[str, ...] = ("",)) -> list[str]:
    hellos = [
        Hello(f"node{number}", (0, 1), 2, 2.0, "", processor) for number, processor in enumerate(processors, start=1)
    ]
    launcher = environment.find_launcher({})
    slots = [1] * len(hellos)
    return header(plan, LocalComm(), launcher, hellos, slots, None, "run.h5: new", None, "again").splitlines()


def test_the_engine_is_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = {channel.name: channel for channel in make_plan(tmp_path).channels}
    compiled = described(tmp_path, monkeypatch, (channels, COMPILED))
    stock = described(tmp_path, monkeypatch, (channels, STOCK))
    assert "engine compiled" in first_lines(compiled)
    assert f"engine stock: {STOCK.reason}" in first_lines(stock)
    assert stock.fingerprint == compiled.fingerprint
    standin = described(tmp_path, monkeypatch, (channels, None))
    assert not any(line.startswith("engine") for line in first_lines(standin))


def test_the_compiled_loop_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = {channel.name: channel for channel in make_plan(tmp_path).channels}
    with pytest.raises(InputError, match=r"--engine compiled: not on .*: the engine's sources are not"):
        described(tmp_path, monkeypatch, (channels, STOCK), "compiled")
    assert described(tmp_path, monkeypatch, (channels, COMPILED), "compiled").slot_plan().engine == "compiled"
    assert described(tmp_path, monkeypatch, (channels, STOCK), "stock").verdict == STOCK


def test_hosts_of_another_processor_are_named(tmp_path: Path) -> None:
    old, new = "x86_64 X86_V3 glibc 2.36", "x86_64 X86_V3 X86_V4 glibc 2.36"
    plan = make_plan(tmp_path)
    assert not any("processor" in line for line in first_lines(plan, (new, new)))
    (line,) = [line for line in first_lines(plan, (new, old, new)) if "processor" in line]
    assert f"node2: {old}; node1, node3: {new}" in line
    assert "--cpu-features baseline" in line


def test_what_the_engine_refuses_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the engine refuses it: no such thing"):
        described(tmp_path, monkeypatch, "AssertionError: no such thing")
