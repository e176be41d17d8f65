"""Time to the first simulation, and memory, by slots a rank: against as many processes that each import the engine.

    python benchmarks/start.py --slots 1 8 32 120 > start.json

A rank here is what a rank of a run is: a fork server that has imported the engine, slots forked from it, the plan in
one block of memory. The independent processes are a script that reads the config and calls `run_model`, started at
the same moment. Both run one simulation of one iteration in every slot or process; then memory is read: the sum of
proportional set sizes (what shared pages cost, counted once), and private bytes. Of the independent processes as many
are run as fit into half of the free memory and `--independent` allows; beyond, the report extrapolates and says so.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine

INDEPENDENT_MIB = 450
"""What an independent process is expected to take, to decide how many fit."""
_FIELDS = ("Rss", "Pss", "Private_Clean", "Private_Dirty")
SCRIPT = """
import json, os, sys, time
import logging
from importlib.metadata import distribution
from laser.cholera.metapop.model import run_model
file = distribution("laser-cholera").locate_file("laser/cholera/metapop/data/default_parameters.json")
config = json.loads(open(str(file)).read())
keep = json.loads(sys.argv[1])
if keep:
    index = [config["location_name"].index(iso) for iso in keep]
    n = len(config["location_name"])
    cut = {k: [v[i] for i in index] for k, v in config.items() if isinstance(v, list) and len(v) == n}
    config.update(cut)
config.pop("epidemic_peaks", None)
results = run_model({**config, "seed": int(sys.argv[2]), "calc_likelihood": False, "quiet": True}).results
print(time.time(), flush=True)
sys.stdin.read()
"""


def memory(pids: list[int]) -> dict[str, float]:
    """Sums over processes, in MiB."""
    total = dict.fromkeys(_FIELDS, 0)
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in total:
                total[name] += int(value.split()[0])
    return {
        "pss_mib": total["Pss"] / 1024,
        "private_mib": (total["Private_Clean"] + total["Private_Dirty"]) / 1024,
        "rss_mib": total["Rss"] / 1024,
    }


def shares_plan(pid: int, n_bytes: int) -> bool:
    """Whether a slot has the plan mapped read-only and shared, so that no page of it can become its own."""
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "mosaic_mpi plan" in line]
    spans = [[int(end, 16) for end in words[0].split("-")] for words in lines]
    return [words[1] for words in lines] == ["r--s"] and spans[0][1] - spans[0][0] >= n_bytes


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def has_imported(pid: int) -> bool:
    """Whether a slot has loaded a compiled module that its fork server had not."""
    parent = {line.split()[-1] for line in Path(f"/proc/{parent_of(pid)}/maps").read_text().splitlines()}
    own = {line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()}
    return any(".so" in name for name in own - parent)


def rank(n_slots: int, locations: list[str] | None) -> dict[str, Any]:
    """Child: be a rank of a run with so many slots, and say what it took."""
    began = float(os.environ["BENCHMARK_BEGAN"])
    from mosaic_mpi import engine_choice, environment, fork_server

    environment.use_one_thread()
    fork_server.start_fork_server(engine_choice.preload_module(engine_choice.AUTO))
    import numpy as np

    from mosaic_mpi.plan_inputs import PlanOptions, load_plan
    from mosaic_mpi.prepare import describe_channels
    from mosaic_mpi.slot_events import Failed
    from mosaic_mpi.slots import SlotPool
    from mosaic_mpi.units import Units

    options = PlanOptions(locations=tuple(locations) if locations else None, n_simulations=n_slots, n_iterations=1)
    plan = describe_channels(load_plan(options, environment.engine_versions()))
    block = plan.slot_plan().to_bytes()
    pool = SlotPool(n_slots, block)
    pool.start()
    pool.submit(Units(plan.n_iterations).whole(np.arange(n_slots)).tolist())
    finished: list[float] = []
    while len(finished) < n_slots:
        for event in pool.poll(1.0):
            assert not isinstance(event, Failed), event
            finished.append(time.time() - began)
    slots = [slot.process.pid for slot in pool._slots]
    assert all(pid is not None for pid in slots)
    server = parent_of(slots[0])
    private = [memory([pid])["private_mib"] for pid in slots]
    report = {
        "first_simulation_s": finished[0],
        "all_simulated_s": finished[-1],
        **memory([os.getpid(), server, *slots]),
        "private_mib_a_slot": statistics.median(private),
        "largest_private_mib_a_slot": max(private),
        "plan_kib": len(block) / 1024,
        "slots_that_share_the_plan": sum(shares_plan(pid, len(block)) for pid in slots),
        "slots_of_one_server": sum(parent_of(pid) == server for pid in slots),
        "slots_that_imported": sum(has_imported(pid) for pid in slots),
    }
    pool.close()
    return report


def ours(n: int, locations: list[str] | None) -> dict[str, Any]:
    """Run a rank of its own and return what it says."""
    command = [sys.executable, __file__, "--rank", str(n), "--locations", ",".join(locations or [])]
    variables = {**os.environ, "BENCHMARK_BEGAN": repr(time.time())}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=variables, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def independent(n: int, locations: list[str] | None) -> dict[str, Any]:
    """Start n processes at once that each import the engine and run one iteration."""
    variables = {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}}
    began = time.time()
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(locations or []), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
        )
        for seed in range(1, n + 1)
    ]
    try:
        ends = [float(process.stdout.readline()) - began for process in processes if process.stdout]
        found = memory([process.pid for process in processes])
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return {"n": n, "first_simulation_s": min(ends), "all_simulated_s": max(ends), **found}


def n_that_fit(limit: int) -> int:
    """Independent processes that half of the free memory holds."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free_mib = int(lines["MemAvailable"].split()[0]) / 1024
    return max(1, min(limit, int(free_mib / 2 / INDEPENDENT_MIB)))


def extrapolated(measured: list[dict[str, Any]], n: int) -> dict[str, Any]:
    """A straight line through the smallest and the largest that were measured."""
    few, many = measured[0], measured[-1]
    share = (n - few["n"]) / (many["n"] - few["n"]) if many["n"] > few["n"] else 0.0
    names = ("all_simulated_s", "pss_mib", "private_mib", "rss_mib")
    line = {name: few[name] + share * (many[name] - few[name]) for name in names}
    return {"n": n, "extrapolated_from": [few["n"], many["n"]], **line}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", nargs="+", type=int, default=[1, 8, 32, 120])
    parser.add_argument("--independent", type=int, default=120, help="run so many independent processes at most")
    parser.add_argument("--locations", default="", help="ISO codes; default: all 40")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    locations = [iso for iso in options.locations.split(",") if iso] or None
    if options.rank:
        print(json.dumps(rank(options.rank, locations)))
        return
    fitting = n_that_fit(options.independent) if options.independent else 0
    alone = [independent(n, locations) for n in sorted({min(n, fitting) for n in options.slots}) if n]
    rows = []
    for n in options.slots:
        same = [found for found in alone if found["n"] == n]
        others = same[0] if same else (extrapolated(alone, n) if alone else None)
        rows.append({"slots": n, "mosaic_mpi": ours(n, locations), "independent": others})
    print(json.dumps({"machine": machine(), "locations": locations or "all 40", "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
