"""What one rank 0 can direct: the real one, with its results file and its messages, and a cluster that is played.

    python benchmarks/virtual_cluster.py --mpirun .venv/bin/mpirun                  # everything, one round
    python benchmarks/virtual_cluster.py --mpirun .venv/bin/mpirun --group fast --rounds 3
    python benchmarks/virtual_cluster.py --mpirun .venv/bin/mpirun --mpirun .venv-mpich/bin/mpirun
    python benchmarks/virtual_cluster.py --table                                    # print what there is
    python benchmarks/virtual_cluster.py --mpirun .venv/bin/mpirun --slots 5760 --seconds 0.01 --per-slot 300

One or more processes play all other ranks (see `played_ranks.py`): every message that so many ranks would send is
sent through MPI, with records of 60 parameters and 3 iterations where nothing else is said, and only the simulations
take no CPU. Rank 0 has a core for itself, the players share the others. Not in the figures: a network, and more than
a few peers of MPI. Every file is compared with what was played; a run whose file differs is no measurement.

Writes `results/virtual_cluster.json` beside itself, with every single measurement, and a plot (`--plot`); cases that
are not run again are kept. What the figures are: `virtual_figures.py`. With several launchers, those after the first
run the groups in which the MPI library is the question.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import virtual_report
from numpy.typing import NDArray
from processes import proportional_bytes
from virtual_cases import OF_EVERY_LIBRARY, Case, groups
from virtual_figures import N_ITERATIONS, figures

HERE = Path(__file__).parent
_CORES = sorted(os.sched_getaffinity(0))
"""The first is for rank 0."""
_LIMIT_S = 110.0
_SAMPLE_S = 0.1


@dataclass(frozen=True)
class Launcher:
    """How processes are started.

    Parameters
    ----------
    mpirun : str
        Its path; a python beside it is the one that is started.
    n_players : int
        Processes that play ranks.
    profile : str
        A file for rank 0's cProfile, or empty.
    """

    mpirun: str
    n_players: int
    profile: str = ""

    @property
    def library(self) -> str:
        """Name and version."""
        said = subprocess.run([self.mpirun, "--version"], capture_output=True, text=True, check=True).stdout
        first = said.splitlines()[0].replace("mpirun", "").replace("(", "").replace(")", "").strip()
        version = next((line.split(":")[1].strip() for line in said.splitlines() if "Version:" in line), "")
        return f"MPICH {version}" if version else first

    def command(self, program: list[str]) -> list[str]:
        """Words that start rank 0 and the players."""
        beside = Path(self.mpirun).with_name("python")
        python = str(beside) if beside.exists() else sys.executable
        binding = [] if self.library.startswith("MPICH") else ["--bind-to", "none", "--oversubscribe"]
        return [self.mpirun, "-n", str(1 + self.n_players), *binding, python, *program]


class _Watch:
    """Looks at rank 0 from beside, ten times a second: what it waits for its core, and its memory."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._found = folder, list[tuple[float, float, float]]()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> NDArray[np.float64]:
        """Stop, and return the samples: seconds since 1970, seconds it was ready but not running, bytes (PSS)."""
        self._done.set()
        self._thread.join()
        return np.array(self._found, float).reshape(-1, 3)

    def _look(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            try:
                pid = int((self._folder / "pid0").read_text())
                waited_ns = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
            except (OSError, ValueError):
                continue
            self._found.append((time.time(), waited_ns / 1e9, proportional_bytes(pid)))


def measure(case: Case, launcher: Launcher) -> dict[str, float]:
    """Run one case and return its figures."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("VIRTUAL_CLUSTER_FOLDER")) as name:
        folder, output = Path(name), Path(name, "run.h5")
        watch, began = _Watch(folder), time.time()
        _run(case, launcher, folder, output)
        ended, samples = time.time(), watch.end()
        notes = [json.loads((folder / f"process{k}.json").read_text()) for k in range(1 + launcher.n_players)]
        return figures(case, output, notes, samples, ended) | {"wall_s": ended - began}


def _run(case: Case, launcher: Launcher, folder: Path, output: Path) -> None:
    program = [
        *(str(HERE / "played_ranks.py"), "run", "--output", str(output)),
        *(("--locations", case.locations) if case.locations else ()),
        *("--n-iterations", str(N_ITERATIONS), "--n-simulations", str(case.n_simulations)),
        *(("--save", "fake") if case.has_series else ()),
    ]
    settings = asdict(case) | {
        "n_ranks": case.n_ranks,
        "n_days": case.n_days,
        "cores": _CORES,
        "folder": str(folder),
        "profile": launcher.profile,
    }
    variables = {
        "MOSAIC_MPI_FAKE": f"size={case.n_days}",
        "VIRTUAL_CLUSTER": json.dumps(settings),
        "OMPI_MCA_mpi_yield_when_idle": "0",  # as where every rank has its core
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    command = launcher.command(program)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{case} has not ended within {_LIMIT_S:.0f} s: is the machine busy?") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _stay_off_rank_0s_core() -> None:
    """What watches and launches is on the players' side; the ranks choose their cores themselves."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), _CORES[1:] or _CORES)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mpirun", action="append", help="a launcher, with a python beside it; may be repeated")
    parser.add_argument("--rounds", type=int, default=1, help="how often each case is measured, in turns")
    parser.add_argument("--group", action="append", choices=list(groups()), help="may be repeated; default: all")
    parser.add_argument("--case", type=int, help="only this case of each group, from 0")
    parser.add_argument("--players", type=int, default=1, help="processes that play ranks")
    parser.add_argument("--profile", default="", help="a file for rank 0's cProfile")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "virtual_cluster.json")
    parser.add_argument("--table", action="store_true", help="print the table of what there is, and measure nothing")
    parser.add_argument(
        "--plot", action="store_true", help="draw what there is beside it (SVG); alone: measure nothing"
    )
    one = parser.add_argument_group("one case, printed and not kept")
    one.add_argument("--slots", type=int)
    one.add_argument("--slots-per-rank", type=int, default=120)
    one.add_argument("--seconds", type=float, default=1.0)
    one.add_argument("--spread", type=float, default=0.0)
    one.add_argument("--per-slot", type=float, default=12)
    one.add_argument("--countries", type=int, default=3, choices=(1, 3, 40))
    one.add_argument("--series", action="store_true")
    one.add_argument("--unbatched", action="store_true")
    one.add_argument("--whole", action="store_true", help="share out no iterations at the end")
    return parser.parse_args()


def _one_case(options: argparse.Namespace) -> Case:
    return Case(
        options.slots,
        options.slots_per_rank,
        options.seconds,
        options.spread,
        options.per_slot,
        options.countries,
        options.series,
        not options.unbatched,
        not options.whole,
    )


def _measure_groups(options: argparse.Namespace, mpirun: list[str]) -> None:
    for place, path in enumerate(mpirun):
        launcher = Launcher(path, options.players, options.profile)
        library = launcher.library
        for group, cases in groups().items():
            if group not in (options.group or (OF_EVERY_LIBRARY if place else groups())):
                continue
            chosen = cases if options.case is None else cases[options.case : options.case + 1]
            rounds: list[list[dict[str, float]]] = [[] for _ in chosen]
            for _ in range(options.rounds):
                for case, found in zip(chosen, rounds, strict=True):
                    found.append(measure(case, launcher))
                    print(group, library, case, _shown(found[-1]), file=sys.stderr, flush=True)
                    virtual_report.keep(options.output, group, library, case, found)


def _shown(found: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in found.items())


def main() -> None:
    """Measure what the options ask for, and show it."""
    options = _options()
    given = bool(options.mpirun or options.group or options.slots)
    mpirun = options.mpirun or [shutil.which("mpirun") or "mpirun"]
    if options.slots:
        _stay_off_rank_0s_core()
        launcher = Launcher(mpirun[0], options.players, options.profile)
        print(json.dumps([measure(_one_case(options), launcher) for _ in range(options.rounds)], indent=1))
        return
    if given or not (options.table or options.plot):
        _stay_off_rank_0s_core()
        _measure_groups(options, mpirun)
    report = json.loads(options.output.read_text())
    if options.plot or given:
        virtual_report.plot(report, options.output.with_suffix(".svg"))
    if options.table:
        print(virtual_report.table(report))


if __name__ == "__main__":
    main()
