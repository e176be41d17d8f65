"""Lives of a results file, cut short again and again: made, extended, overwritten, with rank 0 killed on the way.

Kills come after a random time from the start of the process on, or at a system call (see `die_at_call.c`).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers import CI, Cli, same_numbers, wait_until
from witness import Witness

from mosaic_mpi import layout
from mosaic_mpi.results import Results

SEED = int(os.environ.get("MOSAIC_MPI_TEST_SEED", time.time_ns() % 10**6))
N_KILLS = int(os.environ.get("MOSAIC_MPI_KILLS", "12"))
"""Of each kind of life; of the slower ones, with LASER, a quarter."""
_SOURCE = Path(__file__).with_name("die_at_call.c")
TROUBLE_FILE = "trouble"
"""While it exists in the folder of the runs, the simulations that are to fail do."""


@dataclass(frozen=True)
class Kind:
    """What is run: options, settings of the stand-in for LASER (None for LASER), simulations before and after.

    Its stages: the run is new; what failed is tried again; the run is extended; the file is overwritten.
    """

    options: tuple[str, ...]
    fake: str | None
    n_simulations: tuple[int, int]
    stages: tuple[str, ...] = ("new", "retry-failed", "extension", "overwrite")


def compile_dying(folder: Path) -> Path:
    """Make the library that ends a process at a system call."""
    library = folder / "die_at_call.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        if CI:
            pytest.fail("no C compiler (CI=true: nothing may be missing)")
        pytest.skip("no C compiler, to make a library that kills at a system call")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True, timeout=60)
    return library


def kill(cli: Cli, process: subprocess.Popen[str]) -> None:
    """SIGKILL rank 0 alone: its children have to notice by themselves."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert_no_orphans(cli)


def assert_no_orphans(cli: Cli) -> None:
    """Fail unless everything ends by itself that has lost its rank."""
    wait_until(lambda: not cli.survivors(), "all of its processes to end", seconds=60)


@dataclass
class Killer:
    """Starts commands of one kind and kills them.

    Parameters
    ----------
    cli : Cli
        Starts them.
    kind : Kind
        What they run.
    dying : Path
        The library that kills at a system call.
    dice : random.Random
        Decides when.
    witness_of : callable
        Gives a witness of a results file.
    """

    cli: Cli
    kind: Kind
    dying: Path
    dice: random.Random
    witness_of: Callable[[Path], Witness]
    counts: Counter[str] = field(default_factory=Counter)
    calls: dict[str, str] = field(default_factory=dict)
    whole: dict[str, Path] = field(default_factory=dict)
    seconds: float = 1.0

    @property
    def n_kills(self) -> int:
        """Kills so far."""
        return sum(self.counts.values())

    def arguments(self, stage: str, folder: str) -> list[str]:
        """The command line of a stage."""
        n_simulations = self.kind.n_simulations[stage in ("extension", "overwrite")]
        words = ["run", *self.kind.options, "--n-simulations", str(n_simulations), "--output", f"{folder}/run.h5"]
        return [*words, f"--{stage}"] if stage in ("retry-failed", "overwrite") else words

    def learn(self) -> None:
        """Go through all stages undisturbed; keep the file that each leaves, and its system calls."""
        folder = self.cli.folder / "whole"
        folder.mkdir()
        for stage in self.kind.stages:
            log = folder / f"{stage}.log"
            began = time.monotonic()
            self.finish(stage, "whole", MOSAIC_MPI_TEST_DIE_LOG=str(log), LD_PRELOAD=str(self.dying))
            self.seconds = max(self.seconds, time.monotonic() - began)
            self.calls[stage] = log.read_text()
            self.whole[stage] = shutil.copy(folder / "run.h5", folder / f"{stage}.h5")

    def finish(self, stage: str, folder: str, **variables: str) -> None:
        """Go through a stage to its end."""
        self.trouble(stage)
        arguments = self.arguments(stage, folder)
        self._check_end(self.cli(*arguments, fake=self.kind.fake, timeout=240, **variables))

    def trouble(self, stage: str) -> None:
        """Have simulations fail in a new run, and no more when they are tried again."""
        file = self.cli.folder / TROUBLE_FILE
        if stage == "new":
            file.touch()
        else:
            file.unlink(missing_ok=True)

    @staticmethod
    def _check_end(ended: subprocess.CompletedProcess[str]) -> None:
        assert ended.returncode in (0, 3), f"{ended.returncode}\n{ended.stdout}\n{ended.stderr}"

    def hit(self, stage: str, folder: str, witness: Witness) -> bool:
        """Start a stage and kill it at a random moment; return whether it had not ended before."""
        if self.dice.random() < 0.5:
            return self._hit_in_time(stage, folder, witness)
        kinds = sorted(set(self.calls[stage]))
        wanted = self.dice.choice(kinds)  # renames are few and writes are many
        places = [index + 1 for index, kind in enumerate(self.calls[stage]) if kind == wanted]
        return self.hit_at_call(stage, folder, self.dice.choice(places))

    def hit_at_call(self, stage: str, folder: str, call: int) -> bool:
        """Have a stage die at its nth call that changes a file, that one half done if it is a write."""
        variables = {"LD_PRELOAD": str(self.dying), "MOSAIC_MPI_TEST_DIE_AT": str(call)}
        if self.dice.random() < 0.5:
            variables["MOSAIC_MPI_TEST_DIE_TORN"] = "1"
        self.trouble(stage)
        ended = self.cli(*self.arguments(stage, folder), fake=self.kind.fake, timeout=240, **variables)
        if ended.returncode != -signal.SIGKILL:
            self._check_end(ended)
            return False
        assert_no_orphans(self.cli)
        self.counts[f"{stage}, at call"] += 1
        return True

    def _hit_in_time(self, stage: str, folder: str, witness: Witness) -> bool:
        self.trouble(stage)
        process = self.cli.start(*self.arguments(stage, folder), fake=self.kind.fake)
        began = time.monotonic()
        moment = began + self.dice.uniform(0, self.seconds)
        while time.monotonic() < moment - 0.05 and process.poll() is None:
            time.sleep(0.02)
        ended = time.monotonic()  # if it has
        if stage != "overwrite" and witness.path.exists():
            witness.glance()
        time.sleep(max(moment - time.monotonic(), 0))
        if process.poll() is not None:
            # On a machine that was busier when the stages were gone through, nearly every kill would come too late.
            self.seconds = (self.seconds + ended - began) / 2
            self._check_end(self.cli.end(process))
            return False
        kill(self.cli, process)
        self.counts[f"{stage}, in time"] += 1
        return True

    def live(self, folder: str, n_a_stage: int, n_wanted: int) -> None:
        """One life with some kills in each stage, up to so many in all."""
        (self.cli.folder / folder).mkdir()
        witness = self.witness_of(self.cli.folder / folder / "run.h5")
        for stage in self.kind.stages:
            witness.may_forget_failed = stage == "retry-failed"
            command = stage
            for _ in range(n_a_stage):
                if self.n_kills >= n_wanted:
                    break
                was_killed = self.hit(command, folder, witness)
                witness.look(may_be_overwritten=stage == "overwrite")
                if not was_killed:
                    break
                if stage == "overwrite" and self.dice.random() < 0.7:
                    command = "extension"  # as the run says how to resume
            self.finish("extension" if stage == "overwrite" else stage, folder)
            witness.look(may_be_overwritten=stage == "overwrite")
            self.assert_undisturbed(stage, folder)
            if self.n_kills >= n_wanted:
                break
        shutil.rmtree(witness.path.parent)

    def assert_undisturbed(self, stage: str, folder: str) -> None:
        """Fail unless a stage has left what it leaves undisturbed, with nothing beside it."""
        path = self.cli.folder / folder / "run.h5"
        same_numbers(path, self.whole[stage])
        ours, theirs = Results(path), Results(self.whole[stage])
        failed = ours.table("simulations/status") == layout.FAILED
        for name in ("attempts", "failed_attempts"):
            table = f"simulations/{name}"
            assert ours.table(table)[failed].tolist() == theirs.table(table)[failed].tolist(), name
        # Killed just before it let go of its lock, a finished run leaves the lock file, which nobody holds.
        assert {entry.name for entry in path.parent.iterdir()} - {"run.h5.lock"} == {"run.h5"}
