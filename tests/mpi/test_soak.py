"""A bad day: everything that can happen to a run happens to one, in random order, until it is complete.

MOSAIC_MPI_SOAK_SECONDS makes the day longer, MOSAIC_MPI_SOAK_SEED asks for an earlier one again, as far as timing
lets it be the same.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from helpers import CI, few_parameters, same_numbers, write_config
from launchers import NAMES, Launcher, alone
from runs import Run, Workplace

SECONDS = float(os.environ.get("MOSAIC_MPI_SOAK_SECONDS", "30"))
SEED = int(os.environ.get("MOSAIC_MPI_SOAK_SEED", time.time_ns() % 10**6))
FAKE = "seconds=0.03,size=2000,fail=7;19;305,kill=23"
N_FAILING = 4
FINISHED = (0, 3)
STOPPED = 75
REFUSED = 2
INIT_S = 45
"""Where ranks wait for one that was killed while MPI started, they give up after so long."""
ENDING_S = 60.0 + INIT_S
"""For a run that has been hurt to end, on a machine that has other things to do."""
IGNORED = ("simulations/attempts", "simulations/failed_attempts")
"""A slot that is killed costs an attempt."""


class Disk:
    """A small file system in memory, or an ordinary folder where none may be mounted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.is_small = self._call("mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(path))
        assert self.is_small or not CI, "no tmpfs may be mounted here (CI=true: nothing may be missing)"

    def leave(self, n_bytes: int | None) -> None:
        """Leave so much space; None for plenty."""
        found = os.statvfs(self.path)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        size = 1 << 30 if n_bytes is None else max(used + n_bytes, found.f_frsize)  # 0 would be without limit
        assert self._call("mount", "-o", f"remount,size={size}", str(self.path))

    def close(self) -> None:
        """Unmount it."""
        if self.is_small:
            self._call("umount", "-l", str(self.path))

    @staticmethod
    def _call(*command: str) -> bool:
        try:
            return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
        except FileNotFoundError:
            return False


class BadDay:
    """One results file, the runs that write it, and what is done to them.

    Parameters
    ----------
    place : Workplace
        Where runs are started, and their logs.
    disk : Disk
        Where the results file lies.
    launchers : list of Launcher
        To choose from.
    dice : random.Random
        Decides everything.
    """

    def __init__(self, place: Workplace, disk: Disk, launchers: list[Launcher], dice: random.Random) -> None:
        self.place, self.disk, self.launchers, self.dice = place, disk, launchers, dice
        place.file = disk.path / "run.h5"
        place.witness.path = place.file
        self.witness = place.witness
        self.config = write_config(place.folder, few_parameters())
        self.n_simulations = int(12 * SECONDS)
        self.counts: Counter[str] = Counter()
        self.run: Run | None = None
        self.launcher = alone()
        self.may_end = False
        self.mishaps: list[Callable[[Run], None]] = [
            self.slot_killed,
            self.fork_server_killed,
            self.worker_rank_killed,
            self.rank_0_killed,
            self.launcher_killed,
            self.asked_to_stop,
            self.frozen,
            self.second_run,
            self.left_alone,
            *([self.disk_full] if disk.is_small else []),
        ]

    @property
    def n_mishaps(self) -> int:
        """What has happened so far."""
        return sum(self.counts[mishap.__name__] for mishap in self.mishaps)

    # ---- the day ------------------------------------------------------------------------------------

    def play(self, seconds: float) -> None:
        """Let things happen for so long."""
        evening = time.monotonic() + seconds
        noon = time.monotonic() + seconds / 2
        while time.monotonic() < evening:
            if noon and time.monotonic() > noon:
                noon = 0.0
                self.end_of_run(kill=self.run is not None)
                self.n_simulations += int(4 * SECONDS)
            run = self.run or self.start()
            self.sleep(run, self.dice.choice((0.3, 1.0, 3.0)))
            if run.launcher.poll() is None:
                self.happen(run)
            if run.launcher.poll() is not None:
                self.end_of_run()
        self.end_of_run(kill=self.run is not None)

    def start(self, calm: bool = False) -> Run:
        """Start the run with any launcher and layout."""
        self.launcher = alone() if calm else self.dice.choice(self.launchers)
        n_ranks = 1 if self.launcher.name == "none" else self.dice.randint(1, 4)
        slots = 4 if calm else self.dice.randint(1, 3)
        self.counts[f"start under {self.launcher.name}"] += 1
        command = self.launcher.command(n_ranks, *self.words("disk/run.h5", self.n_simulations, slots))
        self.may_end = False
        variables = {"MOSAIC_MPI_FAKE": FAKE, "MOSAIC_MPI_INIT_TIMEOUT": str(INIT_S)}
        self.run = self.place.start_command(command, {**self.launcher.variables, **variables})
        return self.run

    def words(self, output: str, n_simulations: int, slots: int) -> list[str]:
        """The command line."""
        counts = ("--n-simulations", str(n_simulations), "--n-iterations", "1", "--slots", str(slots))
        often = ("--checkpoint-interval", "0.5", "--max-attempts", "6")
        return ["run", "--config", self.config, "--save", "fake", "--output", output, *counts, *often]

    def sleep(self, run: Run, longest: float) -> None:
        """Wait a random time, or until the run has ended, and see that nothing is lost meanwhile."""
        until = time.monotonic() + self.dice.uniform(0, longest)
        while time.monotonic() < until and run.launcher.poll() is None:
            time.sleep(0.02)
        if self.place.file.exists():
            self.witness.glance()

    def happen(self, run: Run) -> None:
        """Let something happen."""
        mishap = self.dice.choice(self.mishaps)
        with contextlib.suppress(psutil.NoSuchProcess):
            mishap(run)
        self.counts[mishap.__name__] += 1
        print(f"{self.launcher.name}: {mishap.__name__}", flush=True)  # what a failed test has to tell

    def end_of_run(self, kill: bool = False) -> None:
        """See to it that a run has ended as it should, with nothing left and nothing lost."""
        if self.run is None:
            return
        run, self.run = self.run, None
        if kill and run.launcher.poll() is None:
            run.signal_launcher(signal.SIGKILL)
            self.may_end = True
        ended = run.wait(ENDING_S)
        run.assert_no_orphans(30)
        if self.place.file.exists():
            n_done = self.witness.look()
            if not self.may_end:
                assert ended.code in FINISHED, ended.output
                assert n_done + N_FAILING == self.n_simulations, ended.output
            if n_done + N_FAILING == self.n_simulations:
                self.n_simulations += int(4 * SECONDS)
                self.counts["extended"] += 1
        else:
            assert self.may_end, ended.output

    # ---- what happens -------------------------------------------------------------------------------

    def slot_killed(self, run: Run) -> None:
        """The run goes on."""
        if slots := run.slots():
            self.dice.choice(slots).kill()

    def fork_server_killed(self, run: Run) -> None:
        """The run goes on with another, or ends."""
        if servers := run.fork_servers():
            self.may_end = True
            self.dice.choice(servers).kill()

    def worker_rank_killed(self, run: Run) -> None:
        """The run ends, except with fault-tolerant MPI."""
        if workers := run.workers():
            self.may_end = True
            self.dice.choice(workers).kill()

    def rank_0_killed(self, run: Run) -> None:
        """The run ends."""
        ranks = run.ranks()
        if 0 in ranks:
            self.may_end = True
            ranks[0].kill()
            run.wait(ENDING_S)

    def launcher_killed(self, run: Run) -> None:
        """The run ends."""
        self.may_end = True
        run.signal_launcher(signal.SIGKILL)

    def asked_to_stop(self, run: Run) -> None:
        """The run ends resumably."""
        self.may_end = True
        number = self.dice.choice((signal.SIGUSR1, signal.SIGTERM, signal.SIGINT))
        run.signal_launcher(number)
        if self.launcher.is_srun and number == signal.SIGINT:
            time.sleep(0.3)
            run.signal_launcher(number)
        run.wait(ENDING_S)

    def frozen(self, run: Run) -> None:
        """Any process stands still for a moment."""
        processes = [*run.ranks().values(), *run.slots(), *run.fork_servers()]
        if processes:
            chosen = self.dice.choice(processes)
            chosen.suspend()
            time.sleep(self.dice.uniform(0.1, 1.5))
            chosen.resume()

    def second_run(self, run: Run) -> None:
        """Another run is refused, and this one goes on."""
        if "NOT LASER" not in run.output:
            return
        command = alone().command(1, *self.words("disk/run.h5", self.n_simulations, 1))
        second = self.place.start_command(command, {"MOSAIC_MPI_FAKE": FAKE}).wait(ENDING_S)
        if run.launcher.poll() is None:
            assert second.code == REFUSED, second.output
            assert "another run writes it" in second.output

    def left_alone(self, run: Run) -> None:
        """Nothing happens for a while."""
        self.sleep(run, 4.0)

    def disk_full(self, run: Run) -> None:
        """The run stops, or has not come far enough to notice; then somebody makes space."""
        self.may_end = True
        self.disk.leave(self.dice.choice((0, 16384, 65536)))
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.launcher.wait(self.dice.uniform(2, 12))
        finally:
            self.disk.leave(None)


@pytest.fixture
def day(place: Workplace, launcher_called: Callable[[str], Launcher]) -> Iterator[BadDay]:
    found = []
    for name in ("none", "openmpi-ulfm", *NAMES):
        with contextlib.suppress(pytest.skip.Exception):
            found.append(launcher_called(name))
    disk = Disk(place.folder / "disk")
    yield BadDay(place, disk, found, random.Random(SEED))
    place.clean_up()
    disk.close()


@pytest.mark.fault("all of these and a full disk, at random, to one run", launcher="all")
@pytest.mark.timeout(4 * SECONDS + 300)
def test_a_bad_day(day: BadDay, record_property: Callable[[str, object], None]) -> None:
    print(f"MOSAIC_MPI_SOAK_SECONDS={SECONDS:.0f} MOSAIC_MPI_SOAK_SEED={SEED}")
    day.play(SECONDS)
    n_simulations = day.n_simulations
    day.start(calm=True)
    assert day.run is not None
    day.run.wait(SECONDS + 60)
    day.end_of_run()
    whole = day.place.start_command(
        alone().command(1, *day.words("whole.h5", n_simulations, 16)), {"MOSAIC_MPI_FAKE": FAKE}
    )
    assert whole.wait(SECONDS + 120).code in FINISHED
    same_numbers(day.place.file, day.place.folder / "whole.h5", ignore=IGNORED)
    record_property("kills", day.n_mishaps)
    print(f"{n_simulations} simulations; {day.witness.n_looks} looks; {dict(sorted(day.counts.items()))}")
