"""Where the R code of the tests is, and what runs it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
JOBS = HERE.parents[1] / "jobs"
Rscript = Callable[..., subprocess.CompletedProcess[str]]
"""Arguments of Rscript, and environment variables as keywords."""


def install(library: Path, *sources: Path) -> None:
    """Install R packages from their sources into a library of the test's own, and nowhere else."""
    options = ["--no-docs", "--no-byte-compile", "--no-test-load"]
    # One word: as two, R ignores the option and installs for the whole machine. So the default is this library too.
    command = ["R", "CMD", "INSTALL", *options, f"--library={library}", *map(str, sources)]
    variables = {**os.environ, "R_LIBS": str(library)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables)
    assert done.returncode == 0, done.stderr
    assert all((library / source.name / "DESCRIPTION").exists() for source in sources), done.stderr
