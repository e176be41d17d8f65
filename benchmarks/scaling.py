"""Strong and weak scaling by the job scripts that users submit, tried where there is no cluster.

    python benchmarks/scaling.py                        slots of one machine, and a throw-away Slurm of two nodes
    python benchmarks/scaling.py --what here            slots of one machine alone

Simulations are stand-ins that sleep: many slots then share few cores as if each had its own, so that what is seen is
what handing out, collecting and storing costs, and that the scripts work. For real figures submit
`jobs/slurm/scaling.sh` to a real cluster; its table and plot are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

HERE = Path(__file__).parent
JOBS = HERE.parent / "jobs"
_STUDIES = ("strong", "weak")
_SECONDS = 0.2
"""Length of an iteration; a simulation has one."""
_SLOTS_PER_NODE = 8
_JOB_LIMIT_S = 150.0


def here(study: str, sizes: list[int], per_slot: int, folder: Path) -> list[Path]:
    """Run one size after the other on this machine without a launcher."""
    files = []
    for slots in sizes:
        n_simulations = per_slot * (slots if study == "weak" else sizes[-1])
        files.append(folder / f"here-{study}-{slots}.h5")
        words = ["run", "--slots", str(slots), "--n-simulations", str(n_simulations), "--output", str(files[-1])]
        command = [sys.executable, "-m", "mosaic_mpi", *words, "--n-iterations", "1", "--locations", "ETH"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=stand_in())
    return files


def stand_in() -> dict[str, str]:
    """The environment in which simulations sleep."""
    return {**os.environ, "MOSAIC_MPI_FAKE": f"seconds={_SECONDS}"}


def on_slurm(study: str, per_slot: int, folder: Path, python: str) -> list[Path]:
    """Submit the scaling study of one and two nodes to a throw-away Slurm, with stand-ins, and wait for its table."""
    sys.path.insert(0, str(HERE.parent / "tests" / "mpi"))
    from slurm_cluster import SlurmCluster

    place = folder / study
    shutil.copytree(JOBS, place / "jobs")
    script = place / "jobs" / "slurm" / "scaling.sbatch"
    options = f"OPTIONS=(--slots {_SLOTS_PER_NODE} --n-iterations 1 --locations ETH)"
    lines = [options if line.startswith("OPTIONS=") else line for line in script.read_text().splitlines()]
    script.write_text("\n".join(lines) + "\n")
    per_node = str(per_slot * _SLOTS_PER_NODE)
    sizes = {"N_SIMULATIONS": str(2 * int(per_node)), "N_PER_NODE": per_node}
    cluster = SlurmCluster()
    try:
        path = f"{Path(python).absolute().parent}:{os.environ['PATH']}"
        variables = {**stand_in(), **cluster.variables, **sizes, "PATH": path}
        subprocess.run(["jobs/slurm/scaling.sh", study, "1", "2"], cwd=place, env=variables, check=True)
        table = place / f"mosaic_mpi-scaling-{study}.log"
        deadline = time.monotonic() + _JOB_LIMIT_S
        while not (table.exists() and "%" in table.read_text()):
            if time.monotonic() > deadline:
                logs = "\n".join(log.read_text(errors="replace") for log in place.glob("*.log"))
                raise SystemExit(f"no table within {_JOB_LIMIT_S:.0f} s:\n{logs}")
            time.sleep(0.5)
        return sorted(place.glob("scaling-*.h5"))
    finally:
        cluster.stop()


def table(files: list[Path], plot: Path) -> list[dict[str, Any]]:
    """The table of jobs/scaling.py as records, and its plot."""
    scaling = runpy.run_path(str(JOBS / "scaling.py"))
    runs = [scaling["ask"](str(file)) for file in files]
    scaling["plot"](runs, str(plot))
    cells = scaling["rows"](runs)
    scaling["print_table"](cells)
    return [dict(zip(scaling["HEADER"][1:], row[1:], strict=True)) for row in cells]


def main() -> None:
    options = arguments()
    path = Path(options.output)
    found: dict[str, Any] = json.loads(path.read_text())["studies"] if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scaling-", dir="/tmp") as folder:
        for study in options.study:
            for what in options.what:
                if what == "here":
                    files = here(study, options.slots, options.per_slot, Path(folder))
                else:
                    files = on_slurm(study, options.per_slot, Path(folder), options.python)
                name = f"{what}-{study}"
                found[name] = table(files, path.with_name(f"{path.stem}-{name}.svg"))
                document = {"machine": machine(), "iteration_s": _SECONDS, "studies": found}
                path.write_text(json.dumps(document, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=("here", "slurm"), default=["here", "slurm"])
    parser.add_argument("--study", nargs="+", choices=_STUDIES, default=list(_STUDIES))
    parser.add_argument("--slots", nargs="+", type=int, default=[8, 16, 32, 64, 128], help="sizes on this machine")
    parser.add_argument("--per-slot", type=int, default=12, help="simulations for a slot of the largest size")
    parser.add_argument("--python", default=sys.executable, help="whose MPI the Slurm jobs use")
    parser.add_argument("--output", default=str(HERE / "results" / "scaling.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
