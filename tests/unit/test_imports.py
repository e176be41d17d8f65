"""Who may import what, and what a login node pays for it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import finished_run, make_plan

import mosaic_mpi

PACKAGE = Path(mosaic_mpi.__file__).parent
OWNERS = {"h5py": {"h5file.py"}, "mpi4py": {"comm.py"}, "laser": {"engine.py"}}
HEAVY = {"laser", "mpi4py", "numba", "scipy"}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", OWNERS)
def test_one_module_alone_imports(package: str) -> None:
    users = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if package in imports_of(path)}
    assert users == OWNERS[package]


def loaded_after(code: str, folder: Path, **variables: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after running some code."""
    script = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, **variables},
        check=True,
    )
    return set(done.stderr.split())


def command(*arguments: str) -> str:
    return f"from mosaic_mpi.cli import main; main({list(arguments)!r})"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    finished_run(folder / "run.h5", make_plan(folder))
    return folder / "run.h5"


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["run", "--help"], ["status", "--help"], ["report", "--help"]]
)
def test_help_loads_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    loaded = loaded_after(command(*words), tmp_path)
    assert "mosaic_mpi" in loaded
    assert not loaded & {*HEAVY, "numpy", "h5py", "pandas", "pyarrow", "matplotlib", "jinja2"}


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    assert not loaded_after("import mosaic_mpi", tmp_path) & {*HEAVY, "numpy", "h5py"}


def test_status_loads_neither_mpi_nor_the_engine(results: Path) -> None:
    loaded = loaded_after(command("status", str(results)), results.parent)
    assert "h5py" in loaded
    assert not loaded & {*HEAVY, "pandas", "pyarrow", "matplotlib", "jinja2"}


def test_reading_and_exporting_load_neither_mpi_nor_the_engine(results: Path) -> None:
    code = f"import mosaic_mpi; mosaic_mpi.open({str(results)!r}).channel('fake')"
    assert not loaded_after(code, results.parent) & {"laser", "mpi4py", "numba"}
    export = command("export", str(results), "--samples", "out.parquet")
    assert not loaded_after(export, results.parent) & {"laser", "mpi4py", "numba"}


def test_the_report_loads_neither_mpi_nor_the_engine(results: Path) -> None:
    loaded = loaded_after(
        command("report", str(results), "--output", str(results.with_suffix(".html"))), results.parent
    )
    assert "matplotlib" in loaded
    assert not loaded & {*HEAVY, "pandas"}


def test_a_rank_never_loads_the_engine_and_without_a_launcher_no_mpi(tmp_path: Path) -> None:
    code = f"import mosaic_mpi.run; {command('run', '--n-simulations', '2', '--locations', 'ETH')}"
    loaded = loaded_after(code, tmp_path, MOSAIC_MPI_FAKE="seconds=0")
    assert "h5py" in loaded
    assert not loaded & {"laser", "mpi4py", "numba"}


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["status", "run.h5"], ["status", "run.h5", "--json"]]
)
def test_the_login_node_pays_less_than_half_a_second_of_cpu(results: Path, words: list[str]) -> None:
    def cpu_seconds() -> float:
        process = subprocess.Popen(
            [sys.executable, "-m", "mosaic_mpi", *words], cwd=results.parent, stdout=subprocess.DEVNULL
        )
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    assert min(cpu_seconds() for _ in range(3)) < 0.5


def test_no_two_modules_of_tests_have_the_same_name() -> None:
    """pytest imports them by name: the second one would not be collected, and only a run of all tests would tell."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert len(names) == len(set(names))
