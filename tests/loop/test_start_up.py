"""Surroundings in which a run has to start, or has to say within seconds why it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import CI, Cli, few_parameters, listing, without_override, write_config

import mosaic_mpi

pytestmark = pytest.mark.timeout(300)

PROMPTLY_S = 90.0  # with the engine, whose functions are compiled anew where nothing is cached


@pytest.fixture
def arguments(cli: Cli) -> tuple[str, ...]:
    config = write_config(cli.folder, few_parameters())
    output = str(cli.folder / "results.h5")
    return ("run", "--config", config, "--n-simulations", "4", "--n-iterations", "1", "--output", output)


@pytest.fixture
def closed(cli: Cli) -> Path:
    """A folder that may not be written."""
    path = cli.folder / "closed"
    path.mkdir()
    path.chmod(0o555)
    return path


@pytest.fixture
def full(cli: Cli) -> Iterator[Path]:
    """A disk without any space."""
    path = cli.folder / "full"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        if CI:
            pytest.fail("no tmpfs may be mounted here (CI=true: nothing may be missing)")
        pytest.skip("no tmpfs may be mounted here")
    (path / "filler").write_bytes(b"x" * 65536)
    yield path
    subprocess.run(["umount", str(path)], check=True)


def run_in(
    cli: Cli, where: Path, arguments: tuple[str, ...], fake: str | None = "seconds=0", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run with this working directory, bound by permissions."""
    words = without_override(sys.executable, "-m", "mosaic_mpi", *arguments)
    command = ["sh", "-c", 'cd "$0" && exec "$@"', str(where), *words]
    return cli.end(cli.launch(command, fake=fake, **variables), PROMPTLY_S)


def assert_complete(ended: subprocess.CompletedProcess[str], cli: Cli) -> None:
    assert ended.returncode == 0, ended.stderr
    assert mosaic_mpi.open(str(cli.folder / "results.h5")).completed().tolist() == [0, 1, 2, 3]


def test_the_working_directory_need_not_be_writable(cli: Cli, arguments: tuple[str, ...], closed: Path) -> None:
    assert_complete(run_in(cli, closed, arguments), cli)
    assert listing(closed) == {}


def test_nor_with_the_engine_whose_logs_would_go_there(cli: Cli, closed: Path) -> None:
    """And without a home or a place for Numba's cache."""
    output = str(cli.folder / "results.h5")
    words = ("run", "--locations", "ETH", "--n-simulations", "4", "--n-iterations", "1", "--output", output)
    nowhere = str(closed / "gone")
    variables = {"HOME": nowhere, "NUMBA_CACHE_DIR": nowhere, "XDG_CACHE_HOME": nowhere, "MPLCONFIGDIR": nowhere}
    ended = run_in(cli, closed, words, fake=None, **variables)
    assert_complete(ended, cli)
    assert "Traceback" not in ended.stderr
    assert "cannot open" not in ended.stderr
    assert listing(closed) == {}


@pytest.mark.parametrize("home", ["/nonexistent/home", ""])
def test_a_home_is_not_needed(cli: Cli, arguments: tuple[str, ...], home: str) -> None:
    assert_complete(cli(*arguments, HOME=home), cli)


@pytest.mark.parametrize("kind", ["missing", "unwritable", "full", "long", "a file"])
def test_where_temporary_files_cannot_go_they_go_elsewhere(
    cli: Cli, arguments: tuple[str, ...], closed: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    match kind:
        case "missing":
            folder = "/nonexistent/tmp"
        case "unwritable":
            folder = str(closed)
        case "full":
            folder = str(request.getfixturevalue("full"))
        case "long":
            long = cli.folder / ("x" * 120)
            long.mkdir()
            folder = str(long)
        case _:
            folder = sys.executable
    assert_complete(run_in(cli, cli.folder, arguments, TMPDIR=folder), cli)


def test_without_any_place_for_temporary_files_it_says_so(cli: Cli, arguments: tuple[str, ...], closed: Path) -> None:
    """All of Python's candidates are closed, in a mount namespace of their own."""
    hide = " && ".join(
        f"mount --bind {closed} {folder}" for folder in ("/var/tmp", "/usr/tmp") if Path(folder).is_dir()
    )
    # The test's own folder may lie below /tmp: it is kept in sight.
    keep = cli.folder / "results"
    keep.mkdir()
    words = without_override(sys.executable, "-m", "mosaic_mpi", *arguments)
    script = (
        f'{hide or "true"} && mount -o bind,ro /tmp /tmp && mount -o remount,bind,ro /tmp && cd {closed} && exec "$@"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", *words]
    ended = cli.end(cli.launch(command, TMPDIR=str(closed)), PROMPTLY_S)
    if ended.returncode and "mount" in ended.stderr and "mosaic_mpi:" not in ended.stderr:
        if CI:
            pytest.fail(f"no mount namespace here (CI=true: nothing may be missing): {ended.stderr}")
        pytest.skip("no mount namespace here")
    assert ended.returncode == 2, ended.stderr
    assert "temporary folder" in ended.stderr
    assert "set TMPDIR" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_results_that_may_not_go_where_they_are_told(cli: Cli, arguments: tuple[str, ...], closed: Path) -> None:
    ended = run_in(cli, cli.folder, (*arguments[:-1], str(closed / "run.h5")))
    assert ended.returncode == 2
    assert f"no permission to write into {closed}" in ended.stderr
    assert listing(closed) == {}
