"""Pieces of a plan, each run into a file of its own as the elements of a job array do, and joined."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers import Cli, listing, same_numbers, small_config, wait_until, write_config

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED

DAYS = "size=8"
"""As long as the config, so that exports know the dates."""


@pytest.fixture
def config(tmp_path: Path) -> str:
    return write_config(tmp_path, small_config(("ETH", "KEN")))


def test_pieces_joined_are_the_whole_run(cli: Cli, config: str) -> None:
    common = ("run", "--config", config, "--n-simulations", "30", "--save", "fake")
    dry = cli(*common, "--simulations", "11-29", "--dry-run", fake=DAYS)
    assert "19 x 3 iterations; 19 to do" in dry.stdout
    for number, span in enumerate(("1-10", "11-29", "30"), 1):
        done = cli(*common, "--simulations", span, "--output", f"run-{number}.h5", fake=DAYS)
        assert done.returncode == 0, done.stderr
    assert "1 simulation (30 to 30) x 3 iterations" in done.stdout
    again = cli(*common, "--simulations", "30", "--output", "run-3.h5", fake=DAYS)
    assert "is complete: 1 simulations; nothing to do" in again.stdout
    merged = cli("merge", "run-1.h5", "run-2.h5", "run-3.h5", "--output", "run.h5")
    assert (merged.returncode, merged.stderr) == (0, "")
    assert merged.stdout == "run.h5: 30 simulations of 3 files: 30 completed, 0 failed, 0 pending\n"
    assert cli(*common, "--output", "whole.h5", fake=DAYS).returncode == 0
    same_numbers(cli.folder / "run.h5", cli.folder / "whole.h5")
    assert "run.h5: complete" in cli("status", "run.h5").stdout
    for name in ("run", "whole"):
        exported = cli("export", f"{name}.h5", "--samples", f"{name}.parquet", "--timeseries", f"{name}-t.parquet")
        assert exported.returncode == 0, exported.stderr
    assert (cli.folder / "run.parquet").read_bytes() == (cli.folder / "whole.parquet").read_bytes()
    before = listing(cli.folder)
    finished = cli(*common, "--output", "run.h5", fake=DAYS)
    assert "run.h5 is complete: 30 simulations; nothing to do" in finished.stdout
    assert listing(cli.folder) == before
    words = ("run", "--config", config, "--n-simulations", "33", "--save", "fake", "--output", "run.h5")
    longer = cli(*words, fake=DAYS)
    assert "resumed, 30 done" in longer.stdout
    assert longer.returncode == 0


def test_pieces_of_a_table(cli: Cli, config: str) -> None:
    rows = [f"{sim_id},{sim_id / 1000}" for sim_id in range(500, 0, -37)]
    (cli.folder / "t.csv").write_text("\n".join(["sim,rho", *rows]))
    common = ("run", "--config", config, "--samples", "t.csv", "--save", "fake")
    for number, span in enumerate(("1-200", "201-400", "401-600"), 1):
        assert cli(*common, "--simulations", span, "--output", f"run-{number}.h5").returncode == 0
    merged = cli("merge", "run-3.h5", "run-1.h5", "run-2.h5", "--output", "run.h5")
    assert merged.returncode == 0, merged.stderr
    assert cli(*common, "--output", "whole.h5").returncode == 0
    same_numbers(cli.folder / "run.h5", cli.folder / "whole.h5")


def test_a_killed_piece_resumes_and_what_is_left_of_it_is_completed_after_the_merge(cli: Cli, config: str) -> None:
    common = ("run", "--config", config, "--n-simulations", "60", "--n-iterations", "1", "--save", "fake")
    piece = (*common, "--simulations", "21-60", "--slots", "2", "--output", "run-2.h5")
    assert cli(*common, "--simulations", "1-8", "--output", "run-1.h5", fake="seconds=0.1").returncode == 0
    path = cli.folder / "run-2.h5"
    for n_done, how in ((5, signal.SIGKILL), (15, signal.SIGTERM)):
        process = cli.start(*piece, fake="seconds=0.1")
        wait_until(lambda n=n_done: path.exists() and n_completed(path) >= n, "results")  # type: ignore[misc]
        if n_done == 5:
            process.send_signal(signal.SIGSTOP)
            refused = cli("merge", "run-1.h5", "run-2.h5", "--output", "run.h5")
            assert refused.returncode == 2
            assert f"run-2.h5: a run writes it: process {process.pid} on " in refused.stderr
            assert not (cli.folder / "run.h5").exists()
        process.send_signal(how)
        cli.end(process)
    n_done = n_completed(path)
    assert 15 <= n_done < 40
    merged = cli("merge", "run-1.h5", "run-2.h5", "--output", "run.h5")
    assert merged.returncode == 75, merged.stderr
    lines = merged.stdout.splitlines()
    assert lines[0] == f"run.h5: 48 simulations of 2 files: {8 + n_done} completed, 0 failed, {40 - n_done} pending"
    assert lines[1] == "simulations in none of the files: 9-20"
    words = lines[2].removeprefix("to complete: python -m mosaic_mpi ").split()
    assert words == [*common, "--output", "run.h5"]
    dry = cli(*words, "--dry-run", fake="seconds=0.1")
    assert f"60 x 1 iterations; {60 - 8 - n_done} to do" in dry.stdout
    completed = cli(*words, fake="seconds=0.1")
    assert completed.returncode == 0, completed.stderr
    assert cli(*common, "--output", "whole.h5", fake="seconds=0.1").returncode == 0
    same_numbers(cli.folder / "run.h5", cli.folder / "whole.h5")


def n_completed(path: Path) -> int:
    return int(np.sum(mosaic_mpi.open(str(path)).table("simulations/status") == COMPLETED))


def test_failures_of_pieces_are_failures_of_the_whole(cli: Cli, config: str) -> None:
    for number, span in enumerate(("1-4", "5-8"), 1):
        words = ("run", "--config", config, "--simulations", span, "--output", f"run-{number}.h5")
        assert cli(*words, fake="fail=3;7").returncode == 3
    merged = cli("merge", "run-1.h5", "run-2.h5", "--output", "run.h5")
    assert merged.returncode == 3
    assert "6 completed, 2 failed, 0 pending" in merged.stdout
    found = json.loads(cli("status", "run.h5", "--json").stdout)
    assert (found["failed"], found["complete"], len(found["failures"])) == (2, True, 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--simulations", "900-1100"), "--simulations 900-1100: the plan has simulations 1 to 1000"),
        (("--simulations", "5-2"), "found '5-2', expected A-B with 1 <= A <= B"),
        (("--simulations", "0-2"), "found '0-2', expected A-B"),
        (("--simulations", "7-"), "found '7-', expected A-B"),
    ],
)
def test_pieces_that_cannot_be_are_refused(cli: Cli, config: str, words: tuple[str, ...], expected: str) -> None:
    refused = cli("run", "--config", config, "--n-simulations", "1000", *words)
    assert refused.returncode == 2
    assert expected in refused.stderr
    assert os.listdir(cli.folder) == ["config.json"]


def test_a_merge_tells_all_its_problems(cli: Cli, config: str) -> None:
    assert cli("run", "--config", config, "--simulations", "1-2", "--output", "a.h5").returncode == 0
    assert cli("run", "--config", config, "--n-iterations", "2", "--output", "b.h5").returncode == 0
    refused = cli("merge", "a.h5", "b.h5", "c.h5", "--output", "no/where.h5")
    assert refused.returncode == 2
    for part in ("n_iterations: 3 in a.h5, 2 in b.h5", "c.h5: no such file", "the folder"):
        assert part in refused.stderr
    assert "Traceback" not in refused.stderr
