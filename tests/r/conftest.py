"""R for tests: found or the test is skipped, unless CI=true says that it has to be there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import CI
from rtools import HERE, Rscript, install


def missing(what: str) -> None:
    """Skip, or fail where everything is meant to be installed."""
    (pytest.fail if CI else pytest.skip)(f"{what}: not installed")


def _run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["Rscript", "--vanilla", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LC_ALL": "C.UTF-8", **variables},
    )


@pytest.fixture(scope="session")
def rscript() -> Rscript:
    """Run Rscript with arguments and environment variables."""
    if shutil.which("Rscript") is None:
        missing("R (Debian: r-base-core)")
    return _run


@pytest.fixture(scope="session")
def require(rscript: Rscript) -> Callable[[str], None]:
    """Ask for an R package of Debian's."""

    def check(package: str) -> None:
        if rscript("-e", f"quit(status = !requireNamespace('{package}', quietly = TRUE))").returncode:
            missing(f"R package {package} (Debian: r-cran-{package} or r-bioc-{package})")

    return check


@pytest.fixture(scope="session")
def stand_ins(
    rscript: Rscript, require: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Environment variables with which R finds stand-ins of MOSAIC, and of arrow where there is none."""
    require("jsonlite")
    library = tmp_path_factory.mktemp("library")
    packages = ["MOSAIC"]
    if rscript("-e", "quit(status = !requireNamespace('arrow', quietly = TRUE))").returncode:
        packages.append("arrow")
    install(library, *(HERE / package for package in packages))
    return {"R_LIBS": str(library)}
