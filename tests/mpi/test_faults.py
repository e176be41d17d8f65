"""What a run loses when something is taken from it: nothing; and what it leaves behind: nothing but its file.

"Nothing lost" is checked in every bit: what was completed before is there after, and was not run again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

import numpy as np
import pytest
import runs
from launchers import NAMES, Launcher
from runs import QUICK, SLOWLY, Ended, Run, Workplace, assert_kept, wait_until

pytestmark = pytest.mark.timeout(400)

N_SIMULATIONS = 96
EXIT_STOPPED = 75
LAUNCHERS = ("none", *NAMES)
PROMPTLY_S = 40.0
"""Within seconds, on a machine that has other things to do."""


def ranks_for(launcher: Launcher) -> int:
    return 1 if launcher.name == "none" else 3


def start(launcher: Launcher, place: Workplace, variables: Mapping[str, str] | None = None) -> Run:
    """Start a run of three slots, or start it again."""
    n_ranks = ranks_for(launcher)
    settings = {"n_simulations": N_SIMULATIONS, "slots": 3 // n_ranks, "fake": QUICK, "variables": variables}
    return place.start(launcher, n_ranks, **settings)  # type: ignore[arg-type]


def start_slowly(launcher: Launcher, place: Workplace) -> Run:
    """Start such a run so that a busy machine can catch it half-way."""
    return start(launcher, place, SLOWLY)


def started(launcher: Launcher, place: Workplace) -> tuple[Run, dict[str, np.ndarray]]:
    """Start a run slowly, wait until it is in full swing, and return what it has completed by then."""
    run = start_slowly(launcher, place)
    place.wait_for(4, run)
    return run, place.numbers()


def ends(run: Run) -> Ended:
    """Wait for the end, which must come promptly and leave no process."""
    ended = run.wait(PROMPTLY_S)
    run.assert_no_orphans()
    return ended


def assert_resumes(launcher: Launcher, place: Workplace, before: dict[str, np.ndarray]) -> None:
    """Give the same command again: it must do the rest, and only that."""
    runs.assert_resumes(place, before, lambda: start(launcher, place))


def stop(launcher: Launcher, run: Run, number: signal.Signals) -> None:
    """Signal the launcher the way it must be; srun takes a single SIGINT for a question."""
    run.signal_launcher(number)
    if launcher.is_srun and number == signal.SIGINT:
        time.sleep(0.3)
        run.signal_launcher(number)


def code_after(launcher: Launcher, number: signal.Signals) -> set[int]:
    """Exit codes by which a launcher may tell that its ranks ended with 75."""
    if number == signal.SIGUSR1:
        return {EXIT_STOPPED}
    if launcher.name in ("none", "mpich"):
        return {EXIT_STOPPED}
    return {137} if launcher.is_srun else {1}  # srun kills at once; Open MPI's mpirun speaks for itself


@pytest.mark.fault("{number.name} to the launcher")
@pytest.mark.parametrize(
    ("launcher", "number"),
    [
        *((name, number) for name in LAUNCHERS for number in (signal.SIGTERM, signal.SIGUSR1)),
        *((name, signal.SIGINT) for name in ("none", "openmpi", "mpich", "srun-mpich")),
    ],
    indirect=["launcher"],
)
def test_asked_to_stop(launcher: Launcher, place: Workplace, number: signal.Signals) -> None:
    run, before = started(launcher, place)
    stop(launcher, run, number)
    ended = ends(run)
    assert ended.code in code_after(launcher, number), ended.output
    summary = place.summary()
    assert summary is not None
    assert 0 < summary.pending < N_SIMULATIONS
    if not launcher.is_srun or number == signal.SIGUSR1:
        assert summary.state == "stopped", ended.output
    if EXIT_STOPPED in code_after(launcher, number):
        assert f"{number.name}: stopping" in ended.output
        assert "to resume: " in ended.output
    assert_resumes(launcher, place, before)


@pytest.mark.fault("SIGTERM twice")
@pytest.mark.parametrize("launcher", ["none", "openmpi", "mpich", "debian-openmpi"], indirect=True)
def test_asked_twice_to_stop(launcher: Launcher, place: Workplace) -> None:
    """Who asks twice does not wait for what runs (srun kills at once, see above)."""
    run = place.start(launcher, ranks_for(launcher), "--n-iterations", "1", fake="seconds=60")
    wait_until(lambda: len(run.slots()) == ranks_for(launcher), "all slots")
    wait_until(lambda: "NOT LASER" in run.output, "the run's first lines")
    time.sleep(1.0)
    run.signal_launcher(signal.SIGTERM)
    time.sleep(0.3)
    run.signal_launcher(signal.SIGTERM)
    ends(run)
    assert place.summary() is not None
    assert place.n_completed == 0


@pytest.mark.fault("launcher killed")
@pytest.mark.parametrize("launcher", LAUNCHERS, indirect=True)
def test_launcher_killed(launcher: Launcher, place: Workplace) -> None:
    run, before = started(launcher, place)
    run.signal_launcher(signal.SIGKILL)
    ends(run)
    assert_resumes(launcher, place, before)


@pytest.mark.fault("launcher of a single rank killed")
@pytest.mark.parametrize("launcher", NAMES, indirect=True)
def test_launcher_of_a_single_rank_killed(launcher: Launcher, place: Workplace) -> None:
    run = place.start(launcher, 1, n_simulations=N_SIMULATIONS, slots=1, fake=QUICK, variables=SLOWLY)
    place.wait_for(4, run)
    run.signal_launcher(signal.SIGKILL)
    ends(run)
    assert_resumes(launcher, place, place.numbers())


@pytest.mark.fault("launcher killed while its ranks start")
@pytest.mark.parametrize("launcher", NAMES, indirect=True)
def test_launcher_killed_while_its_ranks_start(launcher: Launcher, place: Workplace) -> None:
    run = start_slowly(launcher, place)
    wait_until(lambda: len(run.ranks()) == ranks_for(launcher), "all ranks")
    run.signal_launcher(signal.SIGKILL)
    ended = run.wait(PROMPTLY_S)
    run.assert_no_orphans()
    assert ended.code != 0
    assert start(launcher, place).wait().code == 0


@pytest.mark.fault("rank 0 killed")
@pytest.mark.parametrize("launcher", LAUNCHERS, indirect=True)
def test_rank_0_killed(launcher: Launcher, place: Workplace) -> None:
    run, before = started(launcher, place)
    run.ranks()[0].kill()
    ends(run)  # its exit code says nothing: mpirun has returned 0 after this
    assert_resumes(launcher, place, before)


@pytest.mark.fault("worker rank killed")
@pytest.mark.parametrize("launcher", NAMES, indirect=True)
def test_worker_rank_killed(launcher: Launcher, place: Workplace) -> None:
    run, before = started(launcher, place)
    run.ranks()[1].kill()
    ended = ends(run)
    assert ended.code != 0
    assert place.n_completed < N_SIMULATIONS
    assert_resumes(launcher, place, before)


@pytest.mark.fault("slot killed")
@pytest.mark.parametrize("launcher", LAUNCHERS, indirect=True)
def test_slot_killed(launcher: Launcher, place: Workplace) -> None:
    """One attempt is lost at most, and nothing else: no rank notices."""
    run, before = started(launcher, place)
    run.slots()[0].kill()
    ended = run.wait()
    assert ended.code == 0, ended.output
    assert "killed by SIGKILL" in ended.output
    run.assert_no_orphans()
    assert place.n_completed == N_SIMULATIONS
    was_idle = "was killed by SIGKILL between simulations" in ended.output
    assert place.table("simulations/attempts").sum() == N_SIMULATIONS + (not was_idle)
    assert_kept(before, place.numbers())


@pytest.mark.fault("fork server killed")
@pytest.mark.parametrize("launcher", ["none", "mpich", "srun-mpich"], indirect=True)
def test_fork_server_killed(launcher: Launcher, place: Workplace) -> None:
    """The run goes on with another, or ends so that it can be resumed; it does not hang."""
    run, before = started(launcher, place)
    run.fork_servers()[0].kill()
    ended = run.wait()
    run.assert_no_orphans()
    if place.n_completed < N_SIMULATIONS:
        assert ended.code != 0
        assert_resumes(launcher, place, before)
    assert_kept(before, place.numbers())


@pytest.mark.fault("rank 0 killed three times in a row")
@pytest.mark.parametrize("launcher", ["none", "openmpi", "srun-mpich"], indirect=True)
def test_killed_again_and_again(launcher: Launcher, place: Workplace) -> None:
    """Three starts in a row that each lose rank 0: the next one finishes, none starts from nothing."""
    before: dict[str, np.ndarray] = {}
    for n_completed in (4, 10, 16):
        run = start_slowly(launcher, place)
        place.wait_for(n_completed, run)
        run.ranks()[0].kill()
        ends(run)
        now = place.numbers()
        if before:
            assert_kept(before, now)
        before = now
    assert_resumes(launcher, place, before)


@pytest.mark.fault("simulations that raise, crash and hang")
@pytest.mark.parametrize("launcher", [*LAUNCHERS, "openmpi-ulfm"], indirect=True)
def test_bad_simulations_do_not_end_a_run(launcher: Launcher, place: Workplace) -> None:
    """One raises, one kills its slot, one hangs: three failures with their causes, the rest completed."""
    trouble = "seconds=0.001,size=12,fail=7,kill=9,hang=11"
    options = ("--simulation-timeout", "1", "--max-attempts", "2")
    ended = place.complete(launcher, ranks_for(launcher), *options, fake=trouble)
    assert ended.code == 3, ended.output
    summary = place.summary()
    assert summary is not None
    assert (summary.completed, summary.failed, summary.pending) == (37, 3, 0)
    causes = {failure.cause: failure.attempts for failure in summary.failures}
    assert causes == {"exception": 2, "killed": 2, "timeout": 2}


class TestFaultTolerantMPI:
    """Open MPI 5 with ULFM: a worker rank's death does not end the run."""

    pytestmark = pytest.mark.parametrize("launcher", ["openmpi-ulfm"], indirect=True)

    @pytest.mark.fault("worker rank killed")
    def test_worker_rank_killed(self, launcher: Launcher, place: Workplace) -> None:
        run, before = started(launcher, place)
        assert "the run goes on without it" in run.output
        run.ranks()[1].kill()
        ended = run.wait()
        assert ended.code == 0, ended.output
        assert "rank 1" in ended.output
        assert place.n_completed == N_SIMULATIONS
        assert_kept(before, place.numbers())
        run.assert_no_orphans()

    @pytest.mark.fault("all worker ranks killed")
    def test_all_workers_killed(self, launcher: Launcher, place: Workplace) -> None:
        """Rank 0 works too, and finishes alone."""
        run, before = started(launcher, place)
        for worker in run.workers():
            worker.kill()
        ended = run.wait()
        assert ended.code == 0, ended.output
        assert place.n_completed == N_SIMULATIONS
        assert_kept(before, place.numbers())
        run.assert_no_orphans()

    @pytest.mark.fault("rank 0 killed")
    def test_rank_0_killed(self, launcher: Launcher, place: Workplace) -> None:
        """Nobody is left to direct: the workers end, and with them the job."""
        run, before = started(launcher, place)
        run.ranks()[0].kill()
        ends(run)
        assert_resumes(launcher, place, before)

    @pytest.mark.fault("rank killed while the ranks start")
    @pytest.mark.parametrize("victim", [0, 1])
    @pytest.mark.parametrize("delay_s", [0.0, 1.0])
    def test_rank_killed_while_they_start(
        self, launcher: Launcher, place: Workplace, victim: int, delay_s: float
    ) -> None:
        """The others do not wait for it for ever, be it in MPI_Init or for rank 0's word; or it was late for that."""
        run = start(launcher, place, {**SLOWLY, "MOSAIC_MPI_INIT_TIMEOUT": "5"})
        wait_until(lambda: len(run.ranks()) == 3, "all ranks")
        time.sleep(delay_s)
        run.ranks()[victim].kill()
        run.wait()
        run.assert_no_orphans()
        assert start(launcher, place).wait().code == 0

    @pytest.mark.fault("SIGUSR1 after a worker rank was killed")
    def test_asked_to_stop_after_a_death(self, launcher: Launcher, place: Workplace) -> None:
        run, before = started(launcher, place)
        run.ranks()[2].kill()
        wait_until(lambda: "rank 2" in run.output, "a word about rank 2")
        run.signal_launcher(signal.SIGUSR1)
        assert ends(run).code == EXIT_STOPPED, run.output
        assert_resumes(launcher, place, before)
