"""What an iteration costs: the stock engine and mosaic_mpi's slots, side by side, and where a simulation's time goes.

    python benchmarks/iteration.py --rounds 8 > iteration.json

Three ways to run the same simulations (three iterations each, parameters of the default prior), for Ethiopia and for
forty countries: `run_model` on the config as JSON gives it (lists), `run_model` on arrays made once in the order in
which MOSAIC hands them over, and a slot's own code. The first two share a process that has nothing of mosaic_mpi's
settings, the third has another; one works while the other waits. Every iteration is scored by the engine's scorer,
and likelihoods are compared bit for bit. Needs one idle core; on a busy machine, CPU seconds say more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})
os.environ["NUMBA_THREADING_LAYER"] = "workqueue"

from machine import machine, spread

CASES: dict[str, list[str] | None] = {"ETH": ["ETH"], "40 countries": None}
SAVED = ("reported_cases", "reported_deaths")
N_ITERATIONS = 3


def config_and_prior(locations: list[str] | None) -> tuple[Any, Any]:
    from mosaic_mpi.config import load_config
    from mosaic_mpi.parameters import DefaultPrior

    config = load_config(None, locations)
    return config, DefaultPrior(config.values)


def as_json_gives_it(config: Any) -> dict[str, Any]:
    """The config's own lists, cut to its locations."""
    raw = json.loads(config.text)
    keep = [raw["location_name"].index(iso) for iso in config.locations]
    matrices = {key for key, value in raw.items() if isinstance(value, list) and isinstance(value[0], list)}
    lists = {key: [raw[key][index] for index in keep] for key in matrices}
    return {**{key: lists.get(key, value) for key, value in config.values.items() if key != "epidemic_peaks"}}


class Stock:
    """`run_model`, as a script of a user of laser-cholera calls it."""

    def __init__(self, locations: list[str] | None) -> None:
        from laser.cholera import calc_model_likelihood as scoring
        from laser.cholera.metapop.model import run_model

        from mosaic_mpi.config import engine_values
        from mosaic_mpi.control import LikelihoodSettings
        from mosaic_mpi.likelihood import Likelihood, dispersion

        config, self._prior = config_and_prior(locations)
        scoring.nb_size_from_obs_weighted = dispersion  # so that likelihoods can be equal to the last bit
        self._likelihood = Likelihood(config.values, LikelihoodSettings(), scoring.calc_model_likelihood)
        arrays = engine_values({key: value for key, value in config.values.items() if key != "epidemic_peaks"})
        self._bases = {"lists": as_json_gives_it(config), "arrays": arrays}
        self._typed: dict[str, Callable[..., Any]] = {"lists": dict, "arrays": engine_values}
        self._run_model = run_model

    def run(self, how: str, sim_id: int) -> dict[str, Any]:
        drawn = self._typed[how](self._prior.draw(sim_id - 1, sim_id).overrides)
        values = {**self._bases[how], **drawn, "calc_likelihood": False, "quiet": True}
        began, cpu = time.perf_counter(), time.process_time()
        likelihoods = []
        for seed in range((sim_id - 1) * N_ITERATIONS + 1, sim_id * N_ITERATIONS + 1):
            results = self._run_model({**values, "seed": seed}).results
            likelihoods.append(self._likelihood.score(results.reported_cases, results.reported_deaths))
        seconds = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        return {**{key: value / N_ITERATIONS for key, value in seconds.items()}, "likelihoods": likelihoods}


class Slot:
    """A slot's own code, without its pipe."""

    def __init__(self, locations: list[str] | None) -> None:
        import gc

        import numpy as np

        from mosaic_mpi import engine, simulation
        from mosaic_mpi.batch import Batch
        from mosaic_mpi.control import LikelihoodSettings
        from mosaic_mpi.plan import Channel, SlotPlan

        config, prior = config_and_prior(locations)
        shape = (len(config.locations), config.n_ticks)
        channels = tuple(Channel(name, ("location", "time"), shape, "<i4") for name in SAVED)
        made = SlotPlan(config.values, prior, range(1, 10_000), N_ITERATIONS, channels, "laser", LikelihoodSettings())
        plan = SlotPlan.from_buffer(memoryview(made.to_bytes()))
        self._simulation, self._batch = simulation.Simulation(plan), Batch(plan.record_dtype, 0)
        self._dtype, self._frombuffer = plan.record_dtype, np.frombuffer
        self.spent: dict[str, float] = {}
        object.__setattr__(plan, "source", _Timed(plan.source, "draw", self._timed("drawing")))
        iterations: Any = self._simulation._iterations
        iterations._prepare = self._timed("setting up")(iterations._prepare)
        iterations._likelihood = _Timed(iterations._likelihood, "score", self._timed("scoring"))
        advance = engine.PreparedModel.run
        engine.PreparedModel.run = self._timed("running the engine")(advance)  # type: ignore[method-assign]
        simulation.compress = self._timed("compressing what is saved")(simulation.compress)
        self._collect = self._timed("collecting garbage")(gc.collect)
        gc.collect()
        gc.freeze()
        gc.disable()

    def _timed(self, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def timed(*arguments: Any) -> Any:
                began = time.process_time()
                try:
                    return function(*arguments)
                finally:
                    self.spent[what] = self.spent.get(what, 0.0) + time.process_time() - began

            return timed

        return wrap

    def run(self, how: str, sim_id: int) -> dict[str, Any]:
        self.spent.clear()
        began, cpu = time.perf_counter(), time.process_time()
        self._batch.add(self._simulation.run((N_ITERATIONS + 1) * (sim_id - 1)))
        record = self._frombuffer(self._batch.payload(), self._dtype, 1)[0]
        self._batch.clear()
        self._collect()
        whole, cpu = time.perf_counter() - began, time.process_time() - cpu
        apart = self.spent["drawing"] + self.spent["compressing what is saved"]
        parts = {**self.spent, "the rest": cpu - sum(self.spent.values())}
        return {
            "wall_s": (whole - apart) / N_ITERATIONS,  # as of stock: set-up, engine, scoring
            "cpu_s": (cpu - apart) / N_ITERATIONS,
            "likelihoods": record["iteration_likelihood"].tolist(),
            "simulation_s": whole,
            "parts_ms": {name: 1000 * seconds for name, seconds in parts.items()},
        }


class _Timed:
    """An object of which one method is timed."""

    def __init__(self, inner: Any, name: str, timed: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._inner = inner
        setattr(self, name, timed(getattr(inner, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def serve(kind: str, case: str) -> None:
    """Child: answer orders until there are no more."""
    runner = {"stock": Stock, "slot": Slot}[kind](CASES[case])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            how, sim_id = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(runner.run(how, sim_id), answers)
        answers.flush()


class Child:
    """A process that runs simulations when told to."""

    def __init__(self, kind: str, case: str) -> None:
        command = [sys.executable, __file__, "--serve", kind, "--case", case]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, how: str, sim_id: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((how, sim_id), self._process.stdin)
        self._process.stdin.flush()
        answer: dict[str, Any] = pickle.load(self._process.stdout)
        return answer

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


WAYS = {"stock, lists": ("stock", "lists"), "stock, arrays": ("stock", "arrays"), "mosaic_mpi": ("slot", "")}


def measure(case: str, rounds: int) -> dict[str, Any]:
    """Alternate the three ways, one simulation a round."""
    children = {kind: Child(kind, case) for kind in ("stock", "slot")}
    for kind, how in WAYS.values():
        children[kind].run(how, 1000)  # what is prepared once is not measured
    taken: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        order = list(WAYS) if number % 2 == 0 else list(WAYS)[::-1]
        for way in order:
            kind, how = WAYS[way]
            taken[way].append(children[kind].run(how, number + 1))
    for child in children.values():
        child.end()
    ours = taken["mosaic_mpi"]
    same = {
        way: all(a["likelihoods"] == b["likelihoods"] for a, b in zip(taken[way], ours, strict=True))
        for way in ("stock, lists", "stock, arrays")
    }
    return {
        "iteration_s": {way: spread([entry["wall_s"] for entry in entries]) for way, entries in taken.items()},
        "iteration_cpu_s": {way: spread([entry["cpu_s"] for entry in entries]) for way, entries in taken.items()},
        **{
            f"of_stock_{clock}": {
                way: spread([a[f"{clock}_s"] / b[f"{clock}_s"] for a, b in zip(ours, taken[way], strict=True)])
                for way in ("stock, lists", "stock, arrays")
            }
            for clock in ("wall", "cpu")
        },
        "identical_likelihoods": same,  # with lists only for one country: the order in memory is part of the numbers
        "simulation_s": spread([entry["simulation_s"] for entry in ours]),
        "simulation_parts_cpu_ms": {
            name: round(statistics.median(entry["parts_ms"].get(name, 0.0) for entry in ours), 2)
            for name in ours[0]["parts_ms"]
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="simulations of each way and case")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.case)
        return
    found = {case: measure(case, options.rounds) for case in options.cases}
    print(json.dumps({"machine": machine(), "n_iterations": N_ITERATIONS, **found}, indent=1))


if __name__ == "__main__":
    main()
