"""What the environment tells: the launcher, and what children must not see of it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mosaic_mpi import environment
from mosaic_mpi.environment import Launcher, find_launcher, without_launcher

BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_NUM_NODES": "2"}
STEP = BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}
OPEN_MPI_4 = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMIX_RANK": "3"}
OPEN_MPI_5 = OPEN_MPI_4 | {"PRTE_LAUNCHED": "1"}
HYDRA = {"PMI_SIZE": "4", "PMI_RANK": "2", "HYDRA_LAUNCHER": "ssh"}

LAUNCHERS: dict[str, tuple[dict[str, str], Launcher]] = {
    "none": ({"PATH": "/bin", "HOME": "/root"}, Launcher("none", 1, 0)),
    "Open MPI 5": (OPEN_MPI_5, Launcher("Open MPI mpirun", 4, 3)),
    "Open MPI 4": (OPEN_MPI_4, Launcher("Open MPI mpirun", 4, 3)),
    "Open MPI 5 in a batch script": (BATCH | OPEN_MPI_5, Launcher("Open MPI mpirun", 4, 3)),
    "Open MPI 4 in a batch script": (BATCH | OPEN_MPI_4, Launcher("Open MPI mpirun", 4, 3)),
    "Open MPI 5 that reached its nodes by srun": (
        STEP | OPEN_MPI_5 | {"SLURM_STEP_NUM_TASKS": "2"},
        Launcher("Open MPI mpirun", 4, 3),
    ),
    "srun without PMI": (STEP, Launcher("srun", 8, 5)),
    "srun --mpi=pmi2": (STEP | {"PMI_SIZE": "8", "PMI_RANK": "5", "PMI_FD": "9"}, Launcher("srun", 8, 5)),
    "srun --mpi=pmix": (STEP | {"PMIX_RANK": "5", "PMIX_NAMESPACE": "slurm.pmix.7.0"}, Launcher("srun", 8, 5)),
    "srun of one": (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, Launcher("srun", 1, 0)),
    "hydra": (HYDRA, Launcher("mpiexec", 4, 2)),
    "hydra in a batch script": (BATCH | HYDRA, Launcher("mpiexec", 4, 2)),
    "hydra that reached its nodes by srun": (
        STEP | HYDRA | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"},
        Launcher("mpiexec", 4, 2),
    ),
    "a batch script without srun": (BATCH, Launcher("none", 1, 0)),
    "PALS": ({"PALS_SIZE": "6", "PALS_RANKID": "1"}, Launcher("mpiexec", 6, 1)),
    "rubbish": ({"PMI_SIZE": "many", "PMI_RANK": "0"}, Launcher("none", 1, 0)),
}


@pytest.mark.parametrize("case", LAUNCHERS)
def test_the_launcher_is_found_by_its_variables(case: str) -> None:
    variables, expected = LAUNCHERS[case]
    assert find_launcher(variables) == expected


def test_open_mpi_4_is_found_where_it_reached_its_nodes_by_srun() -> None:
    """Its daemons are tasks of a step; their children inherit the step's variables."""
    variables = STEP | OPEN_MPI_4 | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
    assert find_launcher(variables) == Launcher("Open MPI mpirun", 4, 3)


@pytest.mark.parametrize("case", LAUNCHERS)
def test_children_see_nothing_of_a_launcher(case: str) -> None:
    cleaned = without_launcher(LAUNCHERS[case][0])
    assert find_launcher(cleaned) == Launcher("none", 1, 0)
    assert not any(name.startswith(("PMI", "OMPI", "PRTE", "HYD", "SLURM", "PALS")) for name in cleaned)


def test_children_do_not_see_hydras_control_channel_either() -> None:
    assert without_launcher({"HYDI_CONTROL_FD": "7"}) == {}


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "MOSAIC_MPI_FAKE", "LD_LIBRARY_PATH", "PYTHONPATH", "OMP_NUM_THREADS"]
)
def test_children_keep_everything_else(name: str) -> None:
    assert without_launcher({name: "x", "PMI_RANK": "0"}) == {name: "x"}


def test_one_thread_is_asked_for_before_numpy_is_there() -> None:
    script = (
        "import os, sys; from mosaic_mpi import environment; environment.use_one_thread();"
        "assert 'numpy' not in sys.modules;"
        "print(os.environ['OPENBLAS_NUM_THREADS'], os.environ['NUMBA_THREADING_LAYER'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["1", "workqueue"]


def test_compiled_code_is_kept_on_the_node_unless_a_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOSAIC_MPI_CACHE_DIR", raising=False)
    on_the_node = Path(tempfile.gettempdir()) / f"mosaic_mpi-{os.getuid()}"
    assert environment.cache_directories() == [on_the_node]
    monkeypatch.setenv("MOSAIC_MPI_CACHE_DIR", "replaced")
    monkeypatch.chdir(tmp_path)
    environment.use_cache_directory("here")
    assert environment.cache_directories() == [tmp_path / "here", on_the_node], "where the named one cannot be used"
    environment.use_cache_directory(str(on_the_node))
    assert environment.cache_directories() == [on_the_node]


def test_matplotlib_is_given_a_place_where_there_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", "the user's")
    monkeypatch.setenv("HOME", "/nonexistent/home")
    environment.do_without_a_home()
    assert os.environ["MPLCONFIGDIR"] == "the user's"
    monkeypatch.delenv("MPLCONFIGDIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    environment.do_without_a_home()
    assert "MPLCONFIGDIR" not in os.environ, "there is a home"
    monkeypatch.setenv("HOME", "/nonexistent/home")
    environment.do_without_a_home()
    folder = tmp_path / f"mosaic_mpi-{os.getuid()}"
    assert os.environ["MPLCONFIGDIR"] == str(folder / "matplotlib")
    assert folder.stat().st_mode & 0o777 == 0o700, "compiled code is kept there too"


BASELINE = """
from mosaic_mpi import environment
environment.use_baseline_processor()
import os, subprocess, sys
print(subprocess.run([sys.executable, "-c", {ask!r}], capture_output=True, text=True, check=True).stdout)
"""
ASK = """
import hashlib, math, struct
from mosaic_mpi.processor import processor
functions = (math.exp, math.log, math.log1p, math.expm1)
values = [function(0.000731 * k + 1e-3) for k in range(20_000) for function in functions]
print(processor(), hashlib.sha256(struct.pack(f"{len(values)}d", *values)).hexdigest(), sep="; ")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the features are those of x86-64")
def test_baseline_takes_features_from_numpy_and_the_c_library() -> None:
    def told(code: str) -> list[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(
            "; "
        )

    native, baseline = told(ASK), told(BASELINE.format(ask=ASK))
    assert baseline[0].split()[:2] in (["x86_64", "glibc"], ["x86_64"])
    if "fma" in Path("/proc/cpuinfo").read_text() and native[0] != baseline[0]:
        assert native[1] != baseline[1], "the C library has other functions for processors with FMA"
