"""What a person at a terminal sees of a run, and what a log gets: real runs on real pseudo-terminals."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from helpers import Cli, wait_until, write_config
from terminal import Terminal

from mosaic_mpi.summary import summarise

LABELS = ("progress", "done", "failed", "rate", "time left", "ranks", "slots", "best", "last result")
SLOW = "seconds=0.05,fail=3"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


def command(cli: Cli, *words: str) -> list[str]:
    return [sys.executable, "-m", "mosaic_mpi", *words]


def run_command(cli: Cli, n_simulations: int = 2000) -> list[str]:
    counts = ("--n-simulations", str(n_simulations), "--n-iterations", "1", "--slots", "2")
    return command(cli, "run", *counts, "--config", write_config(cli.folder), "--output", "run.h5")


def on_terminal(
    cli: Cli, terminal: Terminal, words: list[str], fake: str = SLOW, **variables: str
) -> subprocess.Popen[bytes]:
    return terminal.start(words, cli.folder, cli.environment(fake, **{"TERM": "xterm-256color", **variables}))


@contextlib.contextmanager
def running(cli: Cli, n_simulations: int = 2000, fake: str = SLOW) -> Iterator[subprocess.Popen[str]]:
    """A run in the background with some results."""
    process = cli.launch(run_command(cli, n_simulations), fake=fake)
    path = str(cli.folder / "run.h5")
    wait_until(lambda: os.path.exists(path) and summarise(path).completed > 2, "results", 60)
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    cli.end(process)


def n_done(screen: str) -> int:
    found = re.findall(r"^done +(\d+) of", screen, re.MULTILINE)
    return int(found[-1]) if found else 0


def test_the_display_is_rewritten_in_place_survives_resizing_and_is_not_torn(cli: Cli, terminal: Terminal) -> None:
    process = on_terminal(cli, terminal, run_command(cli))
    screen = terminal.wait_for(lambda screen: n_done(screen) > 5 and "told to fail" in screen, "progress")
    for label in LABELS:
        assert len(re.findall(f"^{label} ", screen, re.MULTILINE)) == 1, screen
    assert re.search(r"^ranks +1 of 1 alive$", screen, re.MULTILINE)
    assert re.search(r"^slots +2 of 2 alive$", screen, re.MULTILINE)
    assert re.search(r"^best +log-likelihood -\d+\.\d\d$", screen, re.MULTILINE)
    message = next(line for line in screen.splitlines() if line.startswith("simulation 3, attempt 1"))
    assert "progress" not in message
    assert screen.index("simulation 3, attempt 1") < screen.index("\nprogress ")

    terminal.resize(46)
    before = n_done(terminal.text)
    screen = terminal.wait_for(lambda screen: n_done(screen) > before + 5, "progress on a narrower terminal")
    assert len(re.findall("^progress ", screen, re.MULTILINE)) == 1, screen
    terminal.resize(100)
    before = n_done(terminal.text)
    screen = terminal.wait_for(lambda screen: n_done(screen) > before + 5, "progress on a wider terminal")
    assert len(re.findall("^progress ", screen, re.MULTILINE)) == 1, screen

    terminal.type(b"\x03")
    screen = terminal.wait_for(lambda screen: "to resume: " in screen, "the end")
    assert process.wait(90) == 75
    assert screen.index("SIGINT: stopping") < screen.index("\nprogress ") < screen.index("stopped after")
    assert not cli.survivors()


def test_a_narrow_terminal_wraps_nothing(cli: Cli) -> None:
    terminal = Terminal(columns=20, lines=60)
    process = on_terminal(cli, terminal, run_command(cli))
    screen = terminal.wait_for(lambda screen: n_done(screen) > 5, "progress")
    display = screen[screen.rindex("\nprogress ") :].strip().splitlines()
    assert len(display) == len(LABELS), screen
    assert all(line.startswith(label) for line, label in zip(display, LABELS, strict=True))
    process.terminate()
    terminal.wait_for(lambda screen: "stopped after" in screen.replace("\n", ""), "the end")
    process.wait(90)
    terminal.close()


@pytest.mark.parametrize("variable", ["NO_COLOR=1", "TERM=dumb"])
def test_no_colour_means_none_and_a_dumb_terminal_gets_lines(cli: Cli, terminal: Terminal, variable: str) -> None:
    name, _, value = variable.partition("=")
    process = on_terminal(cli, terminal, run_command(cli, 20), fake="seconds=0.01", **{name: value})
    terminal.wait_for(lambda screen: "complete after" in screen, "the end")
    assert process.wait(90) == 0
    codes = re.findall(rb"\x1b\[[0-9;?]*[a-zA-Z]", terminal.received)
    if variable == "TERM=dumb":
        assert not codes
    else:
        assert codes, "lines are rewritten all the same"
        colours = [code for code in codes if code.endswith(b"m") and re.search(rb"[;\[](3|4|9)\d", code)]
        assert not colours


def test_a_terminal_behind_a_pipe_is_left_to_the_pipe(cli: Cli, terminal: Terminal) -> None:
    """`| tee log` writes to the same terminal, whenever it likes."""
    shell = ["bash", "-o", "pipefail", "-c", '"$@" | cat', "bash", *run_command(cli, 20)]
    process = on_terminal(cli, terminal, shell, fake="seconds=0.01")
    terminal.wait_for(lambda screen: "complete after" in screen, "the end")
    assert process.wait(90) == 0
    assert b"\x1b" not in terminal.received


def test_a_terminal_that_goes_away_ends_nothing(cli: Cli) -> None:
    terminal = Terminal()
    words = ["bash", "-c", 'trap "" HUP; exec "$@"', "bash", *run_command(cli, 150)]
    process = on_terminal(cli, terminal, words, fake="seconds=0.02")
    terminal.wait_for(lambda screen: n_done(screen) > 5, "progress")
    terminal.close()
    assert process.wait(60) == 0
    assert summarise(str(cli.folder / "run.h5")).complete


# ---- status --watch ---------------------------------------------------------------------------------


def test_watching_in_place_until_the_run_stops(cli: Cli, terminal: Terminal) -> None:
    with running(cli) as run:
        process = on_terminal(cli, terminal, command(cli, "status", "run.h5", "--watch", "0.2"))
        screen = terminal.wait_for(lambda screen: "errors " in screen and n_done(screen) > 5, "progress")
        assert screen.splitlines()[0].split() == ["file", "run.h5"], "at the top of the screen"
        assert "state       running, rank 0 heard of " in screen
        assert "x exception: ValueError: simulation 3 was told to fail" in screen
        before = n_done(screen)
        terminal.resize(46)
        screen = terminal.wait_for(lambda screen: n_done(screen) > before + 5, "progress on a narrower terminal")
        assert len(re.findall("^progress ", screen, re.MULTILINE)) == 1, screen
        run.send_signal(signal.SIGTERM)
        terminal.wait_for(lambda screen: "run.h5: stopped; the same command resumes" in screen, "the end")
        assert process.wait(90) == 0


def test_ctrl_c_ends_the_watching_quietly_and_not_the_run(cli: Cli, terminal: Terminal) -> None:
    with running(cli) as run:
        process = on_terminal(cli, terminal, command(cli, "status", "run.h5", "--watch"))
        terminal.wait_for(lambda screen: "state       running" in screen, "the display")
        terminal.type(b"\x03")
        assert process.wait(90) == 0
        terminal.read(0.2)
        assert b"Traceback" not in terminal.received
        assert terminal.received.rstrip().endswith(b"\x1b[?1049l"), "the screen of before is back"
        assert run.poll() is None


def test_a_log_gets_a_line_an_interval_and_a_killed_master_is_dead_at_once(cli: Cli) -> None:
    with running(cli) as run:
        watching = cli.start("status", "run.h5", "--watch", "0.1", "--check")
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(3)]
        run.kill()
        ended = cli.end(watching, 90)
    assert ended.returncode == 75
    assert ended.stderr == ""
    lines += ended.stdout.splitlines()
    assert all(re.match(r"progress at=\S+ state=(running|dead) done=\d+/2000 percent=", line) for line in lines)
    assert [" state=dead " in line for line in lines] == [False] * (len(lines) - 1) + [True]
    wait_until(lambda: not cli.survivors(), "no orphans")


def test_a_batch_log_has_lines_that_grep_well(cli: Cli) -> None:
    """The first one after ten seconds, the last one at the end."""
    process = cli.launch(run_command(cli), fake="seconds=0.05")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("progress "):
            break
    assert re.match(r"progress at=\S+ state=running done=\d+/2000 percent=\d+\.\d failed=0 per_s=", line)
    process.send_signal(signal.SIGTERM)
    ended = cli.end(process, 60)
    assert ended.returncode == 75
    last = [line for line in ended.stdout.splitlines() if line.startswith("progress ")][-1]
    assert " state=stopped " in last
    assert f" done={summarise(str(cli.folder / 'run.h5')).completed}/2000 " in last
    assert ended.stderr == ""


def test_json_and_watch_are_two_things(cli: Cli) -> None:
    refused = cli("status", "run.h5", "--watch", "--json")
    assert refused.returncode == 2
    assert "pass one of them" in refused.stderr
