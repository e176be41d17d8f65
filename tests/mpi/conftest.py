"""Launchers, and places to run in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hosts
import launchers
import numpy as np
import pytest
import runs
import slurm_cluster
from launchers import Launcher
from witness import Witness

CLUSTERS = pytest.StashKey[list[slurm_cluster.SlurmCluster]]()
LaunchersByName = Callable[[str], Launcher]


def skip_or_fail(reason: str) -> None:
    """Skip for lack of a tool; where everything must be there (CI=true), fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: nothing may be missing)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[slurm_cluster.SlurmCluster]:
    """A Slurm of two nodes, for all tests that need one."""
    if reason := slurm_cluster.missing():
        skip_or_fail(reason)
    slurm = slurm_cluster.SlurmCluster()
    request.session.stash[CLUSTERS] = [slurm]
    yield slurm
    slurm.stop()


@pytest.fixture
def three_hosts() -> Iterator[hosts.Hosts]:
    """Three hosts for one test."""
    if reason := hosts.missing():
        skip_or_fail(reason)
    found = hosts.Hosts(3)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def launcher_called(request: pytest.FixtureRequest) -> LaunchersByName:
    """Give launchers by name, skipping the test if one is missing."""

    def find(name: str) -> Launcher:
        if name == "none":
            return launchers.alone()
        if name.startswith("srun"):
            found = launchers.on_slurm(name, request.getfixturevalue("cluster"))
        elif name == "debian-openmpi":
            found = launchers.debian_open_mpi()
        else:
            found = launchers.ulfm() if name == "openmpi-ulfm" else launchers.wheel(name)
        if isinstance(found, str):
            skip_or_fail(found)
        assert isinstance(found, Launcher)
        return found

    return find


@pytest.fixture
def launcher(request: pytest.FixtureRequest, launcher_called: LaunchersByName) -> Launcher:
    """The launcher that a test is parametrised with."""
    return launcher_called(request.param)


@pytest.fixture
def place(
    tmp_path: Path, request: pytest.FixtureRequest, witness_of: Callable[[Path], Witness]
) -> Iterator[runs.Workplace]:
    """A folder to run in, whose results file is watched; whatever was started there is ended afterwards."""
    workplace = runs.Workplace(tmp_path)
    workplace.witness = witness_of(workplace.file)
    yield workplace
    workplace.clean_up()
    for cluster in request.session.stash.get(CLUSTERS, []):
        cluster.cancel_all()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The numbers of 40 simulations from a single process with one slot."""
    workplace = runs.Workplace(tmp_path_factory.mktemp("reference"))
    ended = workplace.complete(launchers.alone(), 1, fake=runs.REFERENCE)
    assert ended.code == 0, ended.output
    return workplace.numbers()


@pytest.fixture(scope="session")
def real_reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The numbers of four LASER simulations, likewise."""
    workplace = runs.Workplace(tmp_path_factory.mktemp("real_reference"))
    ended = workplace.complete(launchers.alone(), 1, *runs.REAL, n_simulations=4, fake=None)
    assert ended.code == 0, ended.output
    return workplace.numbers()
