"""Which loop over ticks runs where, when not every host can have the compiled one: told for the cluster, by host."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hosts import Hosts
from launchers import Launcher, by_rank
from runs import REAL, Ended, Workplace, assert_same_numbers

from mosaic_mpi import environment

pytestmark = pytest.mark.timeout(300)
each_launcher = pytest.mark.parametrize("launcher", ["openmpi", "mpich"], indirect=True)
NO_COMPILER = "export NUMBA_DISABLE_JIT=1"
"""Numba hands functions back as they are: there is nothing to compile with."""
WHY = "NUMBA_DISABLE_JIT is set: nothing is compiled"


@pytest.fixture
def aside(tmp_path: Path) -> Path:
    """A folder beside the one that runs are started in."""
    path = tmp_path / "log-aside"
    path.mkdir()
    return path


@pytest.fixture
def cache() -> str:
    """Shell that has all hosts share what is compiled, with other tests too, so that it is compiled once."""
    return f"export MOSAIC_MPI_CACHE_DIR={environment.cache_directories()[0]}"


def status(launcher: Launcher, place: Workplace) -> str:
    words = [launcher.python, "-m", "mosaic_mpi", "status", str(place.file)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def started(launcher: Launcher, place: Workplace, *options: str, n_simulations: int = 4) -> Ended:
    return place.start(launcher, 3, *REAL, *options, n_simulations=n_simulations, fake=None).wait(240.0)


@each_launcher
def test_a_host_without_it_is_named_in_the_output_the_file_and_status(
    launcher: Launcher,
    place: Workplace,
    aside: Path,
    three_hosts: Hosts,
    cache: str,
    real_reference: dict[str, np.ndarray],
) -> None:
    first, second, third = three_hosts.names
    ended = started(by_rank(three_hosts.launcher(launcher), aside, {1: NO_COMPILER}, otherwise=cache), place)
    assert ended.code == 0, ended.output
    # Whoever starts late may find everything done, and is not waited for.
    line = rf"stock on {second} \({WHY}\); compiled on ({first}, {third}|{first}|{third})"
    assert re.search(rf"^engine {line}$", ended.output, re.MULTILINE), ended.output
    assert ended.output.count("engine ") == 1 + ended.output.count("the engine "), "and nothing else before"
    assert re.search(rf"^  engine       {line}", status(launcher, place), re.MULTILINE)
    ranks, n_stock = place.table("simulations/rank"), place.table("simulations/n_stock")
    assert n_stock.tolist() == (ranks == 1).tolist()
    assert_same_numbers(place.numbers(), real_reference)


@each_launcher
def test_compiled_or_nothing_names_the_host_that_has_not_and_hands_out_nothing(
    launcher: Launcher, place: Workplace, aside: Path, cache: str, three_hosts: Hosts
) -> None:
    third, options = three_hosts.names[2], ("--engine", "compiled")
    on_hosts = three_hosts.launcher(launcher)
    ended = started(by_rank(on_hosts, aside, {2: NO_COMPILER}, otherwise=cache), place, *options)
    assert ended.code == 2, ended.output
    assert re.search(rf"--engine compiled is not to be had everywhere: stock on {third} \({WHY}\)", ended.output)
    assert "Traceback" not in ended.output
    assert place.table("starts/first_assignment_at")[0] == 0
    place.runs[-1].assert_no_orphans()
    again = started(by_rank(on_hosts, aside, {}, otherwise=cache), place, *options)
    assert again.code == 0, again.output
    assert re.search("^engine compiled$", again.output, re.MULTILINE), again.output


@pytest.mark.parametrize("launcher", ["mpich"], indirect=True)
def test_rank_0_that_only_directs_is_not_asked(launcher: Launcher, place: Workplace, aside: Path, cache: str) -> None:
    """Three ranks on the two cores of one host: two of them have slots."""
    words = ["run", "--output", place.file.name, "--n-simulations", "4", *REAL, "--engine", "compiled"]
    command = [
        "taskset",
        "-c",
        "0,1",
        *by_rank(launcher, aside, {0: NO_COMPILER}, otherwise=cache).command(3, *words),
    ]
    ended = place.start_command(command, launcher.variables).wait()
    assert ended.code == 0, ended.output
    assert "rank 0 only directs" in ended.output
    assert re.search("^engine compiled$", ended.output, re.MULTILINE), ended.output
    assert not place.table("simulations/n_stock").any()


@pytest.mark.parametrize("launcher", ["openmpi"], indirect=True)
def test_a_rank_with_another_engine_is_refused(launcher: Launcher, place: Workplace, aside: Path, cache: str) -> None:
    """Its numbers would be other ones, whatever its version says."""
    find = "import importlib.util as u; print(*u.find_spec('laser').submodule_search_locations)"
    found = subprocess.run([launcher.python, "-c", find], capture_output=True, text=True, check=True).stdout.split()
    shutil.copytree(found[0], aside / "laser", ignore=shutil.ignore_patterns("__pycache__"))
    copied = by_rank(launcher, aside, {1: f"{cache}; export PYTHONPATH={aside}:$PYTHONPATH"}, otherwise=cache)
    ended = place.complete(copied, 2, *REAL, n_simulations=1, fake=None)
    assert ended.code == 0, "a copy is as good: " + ended.output
    place.file.unlink()
    with (aside / "laser" / "cholera" / "metapop" / "exposed.py").open("a") as file:
        file.write("\n# another line\n")
    odd = replace(copied, words=tuple(word for word in copied.words if word != "--kill-on-bad-exit=1"))
    ended = place.complete(odd, 2, *REAL, n_simulations=1, fake=None)
    assert ended.code == 2, ended.output
    assert "1 ranks run other code or package versions than rank 0" in ended.output
    assert not place.file.exists()
