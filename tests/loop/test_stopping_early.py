"""When a run ends by itself before it is complete, what it says then, and how it goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import Cli, same_numbers, small_config, wait_until, write_config

import mosaic_mpi
from mosaic_mpi.layout import COMPLETED, FAILED, PENDING
from mosaic_mpi.summary import summarise


@pytest.fixture
def run(tmp_path: Path) -> tuple[str, ...]:
    config = write_config(tmp_path, small_config(("ETH", "KEN")))
    return ("run", "--config", config, "--n-iterations", "1", "--output", "r.h5", "--slots", "2")


def table(cli: Cli, name: str) -> np.ndarray:
    return mosaic_mpi.open(str(cli.folder / "r.h5")).table(f"simulations/{name}")


def ids(first: int, last: int) -> str:
    return ";".join(map(str, range(first, last + 1)))


# ---- too many failures ------------------------------------------------------------------------------


def test_a_run_in_which_everything_fails_stops_early_and_can_be_mended(cli: Cli, run: tuple[str, ...]) -> None:
    (cli.folder / "trouble").touch()
    fake = f"fail={ids(1, 1000)},while={cli.folder}/trouble"
    stopped = cli(*run, "--n-simulations", "1000", "--save", "fake", fake=fake)
    assert stopped.returncode == 75
    assert "stopped by --max-failures 100%: 0 completed, 1" in stopped.stderr
    (commonest,) = re.findall(r"(\d+) x exception: ValueError: simulation \d+ was told to fail", stopped.stderr)
    assert int(commonest) >= 100, "errors that differ in numbers only are one kind"
    status = table(cli, "status")
    assert 100 <= (status == FAILED).sum() <= 110
    assert status[300:].tolist() == [PENDING] * 700, "it took half of the run to find out"
    assert summarise(str(cli.folder / "r.h5")).state == "too many failures"
    assert cli("status", "r.h5", "--check").returncode == 1

    (cli.folder / "trouble").unlink()
    mended = cli(*run, "--n-simulations", "1000", "--save", "fake", "--retry-failed", fake=fake)
    assert mended.returncode == 0, mended.stderr
    assert "that failed are tried again" in mended.stdout
    assert "1000 completed, 0 failed" in mended.stdout
    assert table(cli, "attempts").max() <= 3
    assert cli("status", "r.h5", "--check").returncode == 0


@pytest.mark.parametrize(("limit", "n_failed"), [("5", 5), ("10%", 12)])
def test_a_limit_in_numbers_or_in_percent(cli: Cli, run: tuple[str, ...], limit: str, n_failed: int) -> None:
    """Every eighth simulation fails: the fifth failure, or 100 that have ended with a tenth of them failed."""
    fake = "fail=" + ";".join(map(str, range(8, 2000, 8)))
    arguments = (*run, "--n-simulations", "2000", "--max-attempts", "1", "--max-failures", limit)
    stopped = cli(*arguments, fake=fake)
    assert stopped.returncode == 75, stopped.stderr
    assert f"stopped by --max-failures {limit}" in stopped.stderr
    assert n_failed <= (table(cli, "status") == FAILED).sum() <= n_failed + 40  # others were under way


def test_failures_within_the_limit_do_not_stop_a_run(cli: Cli, run: tuple[str, ...]) -> None:
    arguments = (*run, "--n-simulations", "300", "--max-failures", "50%")
    assert cli(*arguments, fake="fail=" + ";".join(map(str, range(3, 300, 3)))).returncode == 3


def test_a_small_run_that_fails_whole_is_finished_not_stopped(cli: Cli, run: tuple[str, ...]) -> None:
    done = cli(*run, "--n-simulations", "4", fake="fail=1;2;3;4")
    assert done.returncode == 3
    assert "--retry-failed" in done.stdout


# ---- trying again -----------------------------------------------------------------------------------


def test_failed_simulations_of_a_finished_run_are_run_again(cli: Cli, run: tuple[str, ...]) -> None:
    """Also where their time series must get into a file that had been closed."""
    (cli.folder / "trouble").touch()
    fake = f"fail=3;7,kill=9,while={cli.folder}/trouble"
    arguments = (*run, "--n-simulations", "20", "--save", "fake")
    assert cli(*arguments, fake=fake).returncode == 3
    commits = table(cli, "commit")
    assert cli(*arguments, fake=fake).returncode == 0, "without the option, a finished run is left alone"

    (cli.folder / "trouble").unlink()
    again = cli(*arguments, "--retry-failed", fake=fake)
    assert again.returncode == 0, again.stderr
    assert "3 that failed are tried again" in again.stdout
    assert (table(cli, "status") == COMPLETED).all()
    kept = commits > 0
    assert (table(cli, "commit")[kept] == commits[kept]).all(), "what was completed is not run again"
    assert "nothing to do" in cli(*arguments, "--retry-failed", fake=fake).stdout

    (cli.folder / "r.h5").rename(cli.folder / "first.h5")
    assert cli(*arguments, fake=fake).returncode == 0
    same_numbers(cli.folder / "first.h5", cli.folder / "r.h5", ignore=("simulations/attempts",))


def test_what_fails_again_fails_again(cli: Cli, run: tuple[str, ...]) -> None:
    arguments = (*run, "--n-simulations", "10", "--save", "fake", "--max-attempts", "2")
    assert cli(*arguments, fake="fail=3").returncode == 3
    assert cli(*arguments, "--retry-failed", fake="fail=3").returncode == 3
    assert table(cli, "attempts")[2] == 2
    assert summarise(str(cli.folder / "r.h5")).failures[0].attempts == 4


def test_starting_anew_and_going_on_exclude_each_other(cli: Cli, run: tuple[str, ...]) -> None:
    refused = cli(*run, "--overwrite", "--retry-failed")
    assert refused.returncode == 2
    assert "pass one of them" in refused.stderr


# ---- time -------------------------------------------------------------------------------------------


def test_a_time_limit_stops_a_run_in_time(cli: Cli, run: tuple[str, ...]) -> None:
    arguments = (*run, "--n-simulations", "400", "--save", "fake")
    limited = cli(*arguments, "--time-limit", "00:00:05", fake="seconds=0.1")
    assert limited.returncode == 75, limited.stderr
    assert "limit  stops in time for" in limited.stdout
    assert "--time-limit of 5 s is near" in limited.stdout
    found = json.loads(cli("status", "r.h5", "--json").stdout)
    assert found["state"] == "stopped"
    assert found["pending"] > 0
    assert cli("status", "r.h5", "--check").returncode == 75
    assert not cli.survivors()


def test_a_simulation_longer_than_the_time_left_is_abandoned(cli: Cli, run: tuple[str, ...]) -> None:
    limited = cli(*run, "--n-simulations", "4", "--time-limit", "0:00:04", fake="seconds=60")
    assert limited.returncode == 75
    assert "0 completed, 0 failed, 4 to do" in limited.stdout
    assert (table(cli, "attempts") == 0).all()


def test_a_time_limit_that_is_far_changes_nothing(cli: Cli, run: tuple[str, ...]) -> None:
    assert cli(*run, "--n-simulations", "4", "--time-limit", "1-00:00:00").returncode == 0


@pytest.mark.parametrize("text", ["90", "2h", "00:00:00", "1:75:00", "soon", "-1:00:00"])
def test_another_form_of_time_limit_is_refused(cli: Cli, run: tuple[str, ...], text: str) -> None:
    refused = cli(*run, f"--time-limit={text}")
    assert refused.returncode == 2
    assert "expected HH:MM:SS" in refused.stderr


# ---- slots ------------------------------------------------------------------------------------------


def test_slots_are_replaced_after_so_many_simulations(cli: Cli, run: tuple[str, ...]) -> None:
    """Every process runs three simulations at most, and nothing else changes."""
    arguments = (*run, "--n-simulations", "30", "--save", "fake")
    process = cli.start(*arguments, "--max-simulations-per-slot", "3", fake="seconds=0.05")
    seen: set[int] = set()
    wait_until(lambda: seen.update(slots(cli)) or process.poll() is not None, "the end")
    done = cli.end(process)
    assert done.returncode == 0, done.stderr
    assert len(seen) >= 8
    assert (table(cli, "attempts") == 1).all()
    (cli.folder / "r.h5").rename(cli.folder / "recycled.h5")
    assert cli(*arguments, fake="seconds=0.05").returncode == 0
    same_numbers(cli.folder / "recycled.h5", cli.folder / "r.h5")


def slots(cli: Cli) -> list[int]:
    """Slots of the run: those forked from the fork server, the grandchildren."""
    parents = {pid: parent_of(pid) for pid in cli.survivors()}
    return [pid for pid, parent in parents.items() if parents.get(parents.get(parent, 0), 0)]


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


# ---- asking -----------------------------------------------------------------------------------------


def test_status_tells_scripts_whether_to_start_again(cli: Cli, run: tuple[str, ...]) -> None:
    assert cli("status", "r.h5", "--check").returncode == 2
    assert cli(*run, "--n-simulations", "4", fake="fail=2").returncode == 3
    done = cli("status", "r.h5", "--check")
    assert done.returncode == 0, "complete, although one has failed"
    assert "1 failed" in done.stdout
