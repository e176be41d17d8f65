"""A run from the command line: run, resume, extend, refuse, fail, by fake simulations in real slots."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers import Cli, few_parameters, listing, same_numbers, small_config, wait_until, write_config

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED, FAILED
from mosaic_mpi.summary import summarise


@pytest.fixture
def config(tmp_path: Path) -> str:
    return write_config(tmp_path, small_config(("ETH", "KEN")))


def status_of(path: Path) -> list[int]:
    return [int(value) for value in mosaic_mpi.open(str(path)).table("simulations/status")]


# ---- running ----------------------------------------------------------------------------------------


def test_a_run_completes_says_what_it_does_and_leaves_one_file(cli: Cli, config: str) -> None:
    before = set(os.listdir(cli.folder))
    done = cli("run", "--config", config, "--n-simulations", "12", "--n-iterations", "2", "--save", "fake")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    header = done.stdout.splitlines()
    assert header[0].startswith(f"mosaic_mpi {mosaic_mpi.__version__}, laser-cholera ")
    assert "no MPI: one process" in header[0]
    for word in ("hosts", "plan", "config", "file", "faults"):
        assert any(line.startswith(word) for line in header), word
    assert "12 simulations x 2 iterations, 2 locations, 8 days" in done.stdout
    assert "NOT LASER" in done.stdout
    assert "complete after" in header[-1]
    assert set(os.listdir(cli.folder)) - before == {"mosaic_run.h5"}
    results = mosaic_mpi.open(str(cli.folder / "mosaic_run.h5"))
    assert results.table("simulations/attempts").tolist() == [1] * 12
    assert sorted(results.table("simulations/commit").tolist()) == list(range(1, 13))
    assert results.channel("fake").shape == (12, 2, 2, 10)
    assert not cli.survivors()


def test_a_finished_run_exits_at_once_and_changes_nothing(cli: Cli, config: str) -> None:
    arguments = ("run", "--config", config, "--n-simulations", "5", "--save", "fake", "--output", "r.h5")
    assert cli(*arguments).returncode == 0
    before = listing(cli.folder)
    again = cli(*arguments)
    assert again.returncode == 0
    assert "r.h5 is complete: 5 simulations; nothing to do" in again.stdout
    assert listing(cli.folder) == before


def test_more_simulations_extend_a_finished_run(cli: Cli, config: str) -> None:
    common = ("run", "--config", config, "--save", "fake")
    for n_simulations in ("6", "15"):
        done = cli(*common, "--n-simulations", n_simulations, "--output", "r.h5")
        assert done.returncode == 0, done.stderr
    assert "resumed, 6 done" in done.stdout
    assert cli(*common, "--n-simulations", "15", "--output", "whole.h5").returncode == 0
    same_numbers(cli.folder / "r.h5", cli.folder / "whole.h5")
    starts = mosaic_mpi.open(str(cli.folder / "r.h5")).table("simulations/start")
    assert starts.tolist() == [0] * 6 + [1] * 9


def test_a_table_runs_its_rows(cli: Cli, config: str) -> None:
    (cli.folder / "t.csv").write_text("sim,rho,theta_j_KEN\n9,0.5,0.25\n4,0.125,0.75\n")
    assert cli("run", "--config", config, "--samples", "t.csv", "--output", "r.h5").returncode == 0
    table = mosaic_mpi.open(str(cli.folder / "r.h5")).parameters()
    assert table.drop(columns="likelihood").to_dict("index") == {
        4: {"rho": 0.125, "theta_j_KEN": 0.75},
        9: {"rho": 0.5, "theta_j_KEN": 0.25},
    }


def test_an_export_goes_back_in_and_gives_the_same_numbers(cli: Cli, config: str) -> None:
    common = ("run", "--config", config, "--save", "fake")
    assert cli(*common, "--n-simulations", "4", "--output", "a.h5", fake="size=8").returncode == 0
    exported = cli("export", "a.h5", "--samples", "s.parquet", "--timeseries", "t.parquet")
    assert exported.returncode == 0, exported.stderr
    assert "s.parquet: 4 simulations" in exported.stdout
    assert "t.parquet: fake of 4 simulations" in exported.stdout
    assert cli(*common, "--samples", "s.parquet", "--output", "b.h5", fake="size=8").returncode == 0
    a, b = (mosaic_mpi.open(str(cli.folder / name)) for name in ("a.h5", "b.h5"))
    assert a.parameters().equals(b.parameters())
    assert a.channel("fake").identical(b.channel("fake"))


@pytest.mark.parametrize("slots", ["1", "3"])
def test_slots_change_nothing_but_times_and_places(cli: Cli, config: str, slots: str) -> None:
    common = ("run", "--config", config, "--n-simulations", "20", "--save", "fake")
    assert cli(*common, "--output", "a.h5", "--slots", "2").returncode == 0
    assert cli(*common, "--output", "b.h5", "--slots", slots).returncode == 0
    same_numbers(cli.folder / "a.h5", cli.folder / "b.h5")
    used = set(mosaic_mpi.open(str(cli.folder / "b.h5")).table("simulations/slot").tolist())
    assert used <= set(range(int(slots)))


def test_one_run_killed_and_resumed_with_other_slots_equals_one_left_alone(cli: Cli, config: str) -> None:
    common = ("run", "--config", config, "--n-simulations", "60", "--save", "fake")
    assert cli(*common, "--output", "plain.h5", "--slots", "1", fake="seconds=0.01").returncode == 0
    process = cli.start(*common, "--output", "rough.h5", "--slots", "3", fake="seconds=0.01")
    rough = cli.folder / "rough.h5"
    wait_until(lambda: rough.exists() and sum(status_of(rough)) >= 10, "ten results")
    process.kill()
    cli.end(process)
    assert 10 <= sum(status_of(rough)) < 60
    resumed = cli(*common, "--output", "rough.h5", "--slots", "2", fake="seconds=0.01")
    assert resumed.returncode == 0
    same_numbers(cli.folder / "plain.h5", rough)


# ---- refusing ---------------------------------------------------------------------------------------


def test_another_plan_is_refused_and_overwrite_starts_anew(cli: Cli, config: str) -> None:
    assert cli("run", "--config", config, "--n-simulations", "3", "--output", "r.h5").returncode == 0
    before = listing(cli.folder)
    refused = cli("run", "--config", config, "--n-simulations", "3", "--n-iterations", "2", "--output", "r.h5")
    assert refused.returncode == 2
    assert "n_iterations: 3 in the file, 2 now" in refused.stderr
    assert listing(cli.folder) == before
    arguments = ("--config", config, "--n-simulations", "3", "--n-iterations", "2", "--output", "r.h5")
    assert cli("run", *arguments, "--overwrite").returncode == 0
    assert cli("run", *arguments).returncode == 0
    assert mosaic_mpi.open(str(cli.folder / "r.h5")).header.n_iterations == 2


def test_fewer_simulations_are_refused(cli: Cli, config: str) -> None:
    assert cli("run", "--config", config, "--n-simulations", "4", "--output", "r.h5").returncode == 0
    refused = cli("run", "--config", config, "--n-simulations", "3", "--output", "r.h5")
    assert refused.returncode == 2
    assert "n_simulations: 4 in the file, 3 now (fewer)" in refused.stderr


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_foreign_file_is_never_overwritten(cli: Cli, config: str, overwrite: tuple[str, ...]) -> None:
    (cli.folder / "r.h5").write_text("thesis")
    refused = cli("run", "--config", config, "--output", "r.h5", *overwrite)
    assert refused.returncode == 2
    assert "r.h5: not an HDF5 file" in refused.stderr
    assert (cli.folder / "r.h5").read_text() == "thesis"
    assert set(os.listdir(cli.folder)) == {"config.json", "r.h5"}


def test_problems_of_config_and_of_channels_end_with_2_and_leave_nothing(cli: Cli, tmp_path: Path) -> None:
    bad = write_config(tmp_path, small_config(rho=2, sigma="x"), "bad.json")
    refused = cli("run", "--config", bad)
    assert refused.returncode == 2
    assert "rho: found 2" in refused.stderr
    assert "sigma: found" in refused.stderr
    assert "Traceback" not in refused.stderr
    good = write_config(tmp_path)
    refused = cli("run", "--config", good, "--save", "fak")
    assert refused.returncode == 2
    assert "did you mean fake?" in refused.stderr
    assert set(os.listdir(cli.folder)) == {"bad.json", "config.json"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--n-simulations", "0"], "found '0', expected a whole number from 1"),
        (["--n-iterations", "some"], "found 'some', expected a whole number from 1"),
        (["--simulation-timeout", "-3"], "expected seconds above 0"),
        (["--checkpoint-interval", "nan"], "expected seconds above 0"),
        (["--slots", "0"], "expected a whole number from 1"),
        (["--frobnicate"], "unrecognized arguments"),
        (["--config", "nowhere.json"], "--config nowhere.json: cannot be read"),
        (["--samples", "nowhere.csv"], "--samples nowhere.csv: no such file"),
        (["--locations", "XXX"], "--locations XXX: not a location"),
    ],
)
def test_bad_options_end_with_2_and_say_what_is_expected(cli: Cli, arguments: list[str], expected: str) -> None:
    refused = cli("run", *arguments)
    assert refused.returncode == 2
    assert expected in refused.stderr
    assert os.listdir(cli.folder) == []


OUTPUTS = [
    ("folder", "is a folder"),
    ("no/where/r.h5", "does not exist"),
]


@pytest.mark.parametrize(("output", "expected"), OUTPUTS)
def test_an_output_that_cannot_be_is_refused(cli: Cli, config: str, output: str, expected: str) -> None:
    (cli.folder / "folder").mkdir()
    refused = cli("run", "--config", config, "--output", output)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert expected in refused.stderr


def test_two_runs_against_one_file(cli: Cli, config: str) -> None:
    arguments = ("run", "--config", config, "--n-simulations", "400", "--output", "r.h5")
    first = cli.start(*arguments, fake="seconds=0.05")
    path = cli.folder / "r.h5"
    wait_until(lambda: path.exists() and sum(status_of(path)) > 0, "a result")
    second = cli(*arguments, fake="seconds=0.05")
    assert second.returncode == 2
    assert f"process {first.pid} on " in second.stderr
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    assert cli.end(first).returncode == 75


@pytest.mark.parametrize("command", [["status"], ["export", "--samples", "x.parquet"]])
def test_status_and_export_of_nothing_end_with_2(cli: Cli, command: list[str]) -> None:
    refused = cli(command[0], "nowhere.h5", *command[1:])
    assert refused.returncode == 2
    assert "nowhere.h5: no such file" in refused.stderr


# ---- looking before ---------------------------------------------------------------------------------


@pytest.mark.parametrize("existing", ["new", "partly run", "finished"])
def test_a_dry_run_tells_its_figures_and_touches_nothing(cli: Cli, config: str, existing: str) -> None:
    arguments = ("run", "--config", config, "--n-simulations", "8", "--save", "fake", "--output", "r.h5")
    if existing != "new":
        fewer = [*arguments[:4], "5", *arguments[5:]]
        assert cli(*(arguments if existing == "finished" else fewer)).returncode == 0
    before = listing(cli.folder)
    done = cli(*arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert listing(cli.folder) == before
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    to_do = {"new": 8, "partly run": 3, "finished": 0}[existing]
    assert f"8 x 3 iterations; {to_do} to do" in done.stdout
    assert {"simulations", "slots", "file", "memory", "work"} <= lines.keys()
    assert "core-hours" in lines["work"]
    assert "MiB" in lines["file"]
    assert not cli.survivors()


def test_a_dry_run_plans_for_slots_that_are_not_here(cli: Cli, config: str) -> None:
    """And says how large the file will be, which can be looked at."""
    arguments = ("run", "--config", config, "--n-simulations", "300", "--save", "fake", "--output", "r.h5")
    done = cli(*arguments, "--slots", "8192", "--dry-run", fake="seconds=0.02")
    assert done.returncode == 0, done.stderr
    n_cores = len(os.sched_getaffinity(0))
    assert re.search(rf"8192 on 1 ranks; tried on [1-{n_cores}] at once", done.stdout)
    assert "then 1 simulations a slot" in done.stdout
    told = re.search(r"new; ([\d.]+) MiB when complete", done.stdout)
    assert told is not None
    assert cli(*arguments).returncode == 0
    assert float(told[1]) * 2**20 == pytest.approx(os.path.getsize(cli.folder / "r.h5"), rel=0.02)


def test_a_dry_run_finds_what_a_run_would_refuse(cli: Cli, config: str, tmp_path: Path) -> None:
    bad = write_config(tmp_path, small_config(rho=2), "bad.json")
    assert cli("run", "--config", config, "--n-simulations", "2", "--output", "r.h5").returncode == 0
    for arguments, expected in (
        (("--config", bad), "rho: found 2"),
        (("--config", config, "--n-iterations", "9", "--output", "r.h5"), "n_iterations: 3 in the file, 9 now"),
        (("--config", config, "--output", "no/r.h5"), "does not exist"),
    ):
        refused = cli("run", *arguments, "--dry-run")
        assert refused.returncode == 2
        assert expected in refused.stderr


# ---- failures ---------------------------------------------------------------------------------------


def test_exceptions_deaths_and_hangs_cost_attempts_and_not_the_run(cli: Cli, config: str) -> None:
    fake = "seconds=0,fail=2;9,kill=3,hang=5"
    arguments = ("run", "--config", config, "--n-simulations", "30", "--output", "r.h5", "--max-attempts", "2")
    done = cli(*arguments, "--simulation-timeout", "1", fake=fake)
    assert done.returncode == 3, done.stderr
    assert "26 completed, 4 failed" in done.stdout
    path = cli.folder / "r.h5"
    status = status_of(path)
    assert {row + 1 for row, value in enumerate(status) if value == FAILED} == {2, 3, 5, 9}
    assert status.count(COMPLETED) == 26
    table = mosaic_mpi.open(str(path)).simulations()
    assert table.loc[[2, 3, 5, 9], "attempts"].tolist() == [2, 2, 2, 2]
    assert "told to fail" in table.loc[2, "error"]
    assert "SIGKILL" in table.loc[3, "error"]
    assert "longer than 1 s" in table.loc[5, "error"]
    causes = {(entry.cause, entry.attempts) for entry in summarise(str(path)).failures}
    assert causes == {("exception", 2), ("killed", 2), ("timeout", 2)}
    found = json.loads(cli("status", "r.h5", "--json").stdout)
    assert (found["completed"], found["failed"], found["pending"], found["complete"]) == (26, 4, 0, True)
    again = cli(*arguments, "--simulation-timeout", "1", fake=fake)
    assert again.returncode == 0, "there was nothing left to do"
    assert "is complete: 30 simulations; nothing to do; --retry-failed runs the 4 that failed again" in again.stdout
    assert status_of(path) == status
    assert not cli.survivors()


def test_poison_among_fast_simulations_takes_no_neighbour_with_it(cli: Cli, config: str) -> None:
    """Slots hold a second row ahead: it must not be charged for the death of the first."""
    done = cli("run", "--config", config, "--n-simulations", "200", "--output", "r.h5", fake="kill=50;51;120")
    assert done.returncode == 3
    results = mosaic_mpi.open(str(cli.folder / "r.h5"))
    failed = np.flatnonzero(results.table("simulations/status") == FAILED) + 1
    assert failed.tolist() == [50, 51, 120]
    attempts = results.table("simulations/attempts")
    assert attempts[failed - 1].tolist() == [3, 3, 3]
    assert (np.delete(attempts, failed - 1) == 1).all()


def test_every_simulation_may_fail(cli: Cli, tmp_path: Path) -> None:
    config = write_config(tmp_path, few_parameters())
    done = cli("run", "--config", config, "--n-simulations", "4", "--output", "r.h5", fake="fail=1;2;3;4")
    assert done.returncode == 3
    assert "0 completed, 4 failed" in done.stdout
    assert "python -m mosaic_mpi status r.h5" in done.stdout
    assert "12 attempts: 12 by exception" in cli("status", "r.h5").stdout
    assert cli("export", "r.h5", "--samples", "s.parquet").returncode == 0


def test_the_problems_of_all_inputs_come_at_once(cli: Cli) -> None:
    (cli.folder / "table.csv").write_text("sim,rho,phi_3\n1,2,0.5\n")
    arguments = ("--samples", "table.csv", "--control", "none.json", "--save", "W,W", "--output", "no/where.h5")
    refused = cli("run", *arguments)
    assert refused.returncode == 2
    for expected in ("--output no/where.h5", "--control none.json", "rho: found 2", "phi_3", "--save W: named twice"):
        assert expected in refused.stderr


def test_an_abbreviated_option_is_no_option(cli: Cli) -> None:
    """Else --overw would stay in the command that resumes, and start anew."""
    assert cli("run", "--overw").returncode == 2
