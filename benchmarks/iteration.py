"""What an iteration and a simulation cost: the stock engine and mosaic_mpi's slots, side by side.

    python benchmarks/iteration.py --rounds 8 > iteration.json
    python benchmarks/iteration.py --config config_default.json.gz --priors priors_default.json    # MOSAIC's own

Four ways to run the same simulations (three iterations each, drawn and scored), for Ethiopia and forty countries:
`run_model` on the config as JSON gives it (lists), `run_model` on arrays made once in the order in which MOSAIC hands
them over, and a slot's own code with the engine's own loop (prepared) and with the compiled one. The first two share
a process that has nothing of mosaic_mpi's settings, the others have one each; one works while the others wait.
Likelihoods are compared bit for bit. Needs one idle core; on a busy machine, CPU seconds say more than the clock.
"""

from __future__ import annotations

import argparse
import json
import math
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
N_ITERATIONS = 3
Inputs = tuple[str | None, str | None, list[str]]
"""Files of config and priors, and the channels that slots save."""


def config_and_prior(locations: list[str] | None, inputs: Inputs) -> tuple[Any, Any]:
    from mosaic_mpi.config import load_config
    from mosaic_mpi.mosaic.sampling_flags import SamplingFlags
    from mosaic_mpi.mosaic.source import MosaicPrior
    from mosaic_mpi.parameters import DefaultPrior
    from mosaic_mpi.plan_inputs import load_priors

    config, priors = load_config(inputs[0], locations), load_priors(inputs[1])
    if priors is None:
        return config, DefaultPrior(config.values)
    return config, MosaicPrior(priors, SamplingFlags(), config.values)


def as_json_gives_it(config: Any) -> dict[str, Any]:
    """The config's own lists, cut to its locations; what is not known is NaN, as the engine's lists have it."""
    raw = json.loads(config.text)
    keep = [raw["location_name"].index(iso) for iso in config.locations]
    matrices = {key for key, value in raw.items() if isinstance(value, list) and isinstance(value[0], list)}
    lists = {
        key: [[math.nan if cell is None else cell for cell in raw[key][index]] for index in keep] for key in matrices
    }
    return {**{key: lists.get(key, value) for key, value in config.values.items() if key != "epidemic_peaks"}}


class Stock:
    """`run_model`, as a script of a user of laser-cholera calls it."""

    def __init__(self, locations: list[str] | None, inputs: Inputs, engine: str) -> None:
        from laser.cholera import calc_model_likelihood as scoring
        from laser.cholera.metapop.model import run_model

        from mosaic_mpi.config import engine_values
        from mosaic_mpi.control import LikelihoodSettings
        from mosaic_mpi.likelihood import Likelihood, dispersion

        config, self._prior = config_and_prior(locations, inputs)
        scoring.nb_size_from_obs_weighted = dispersion  # so that likelihoods can be equal to the last bit
        self._likelihood = Likelihood(config.values, LikelihoodSettings(), scoring.calc_model_likelihood)
        arrays = engine_values({key: value for key, value in config.values.items() if key != "epidemic_peaks"})
        self._bases = {"lists": as_json_gives_it(config), "arrays": arrays}
        self._typed: dict[str, Callable[..., Any]] = {"lists": dict, "arrays": engine_values}
        self._run_model = run_model

    def run(self, how: str, sim_id: int) -> dict[str, Any]:
        begun, begun_cpu = time.perf_counter(), time.process_time()
        drawn = self._typed[how](self._prior.draw(sim_id - 1, sim_id).overrides)
        values = {**self._bases[how], **drawn, "calc_likelihood": False, "quiet": True}
        began, cpu = time.perf_counter(), time.process_time()
        likelihoods = []
        for seed in range((sim_id - 1) * N_ITERATIONS + 1, sim_id * N_ITERATIONS + 1):
            results = self._run_model({**values, "seed": seed}).results
            likelihoods.append(self._likelihood.score(results.reported_cases, results.reported_deaths))
        seconds = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        return {
            **{key: value / N_ITERATIONS for key, value in seconds.items()},
            "simulation_s": time.perf_counter() - begun,
            "simulation_cpu_s": time.process_time() - begun_cpu,
            "likelihoods": likelihoods,
        }


class Slot:
    """A slot's own code, without its pipe."""

    def __init__(self, locations: list[str] | None, inputs: Inputs, engine_choice: str) -> None:
        import gc

        import numpy as np

        from mosaic_mpi import engine, simulation
        from mosaic_mpi.compiled.model import CompiledModel
        from mosaic_mpi.control import LikelihoodSettings
        from mosaic_mpi.parcel import Parcel
        from mosaic_mpi.plan import Channel, SlotPlan

        config, prior = config_and_prior(locations, inputs)
        shape = (len(config.locations), config.n_ticks)
        channels = tuple(Channel(name, ("location", "time"), shape, "<i4") for name in inputs[2])
        settings = LikelihoodSettings()
        made = SlotPlan(
            config.values, prior, range(1, 10_000), N_ITERATIONS, channels, "laser", settings, engine_choice
        )
        plan = SlotPlan.from_buffer(memoryview(made.to_bytes()))
        self._simulation, self._parcel = simulation.Simulation(plan), Parcel(plan.record_dtype, 0)
        self._dtype, self._frombuffer = plan.record_dtype, np.frombuffer
        self.spent: dict[str, float] = {}
        object.__setattr__(plan, "source", _Timed(plan.source, "draw", self._timed("drawing")))
        iterations: Any = self._simulation._iterations
        iterations._prepare = self._timed("setting up")(iterations._prepare)
        iterations._likelihood = _Timed(iterations._likelihood, "score", self._timed("scoring"))
        kind: Any = engine.PreparedModel if engine_choice == "stock" else CompiledModel
        kind.run = self._timed("running the engine")(kind.run)
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
        self._parcel.add(self._simulation.run((N_ITERATIONS + 1) * (sim_id - 1)))
        record = self._frombuffer(self._parcel.payload(), self._dtype, 1)[0]
        self._parcel.clear()
        self._collect()
        whole, cpu = time.perf_counter() - began, time.process_time() - cpu
        apart = self.spent["drawing"] + self.spent.get("compressing what is saved", 0.0)
        parts = {**self.spent, "the rest": cpu - sum(self.spent.values())}
        return {
            "wall_s": (whole - apart) / N_ITERATIONS,  # as of stock: set-up, engine, scoring
            "cpu_s": (cpu - apart) / N_ITERATIONS,
            "likelihoods": record["iteration_likelihood"].tolist(),
            "simulation_s": whole,
            "simulation_cpu_s": cpu,
            "parts_ms": {name: 1000 * seconds for name, seconds in parts.items()},
        }


class _Timed:
    """An object of which one method is timed."""

    def __init__(self, inner: Any, name: str, timed: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._inner = inner
        setattr(self, name, timed(getattr(inner, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def serve(kind: str, case: str, inputs: Inputs) -> None:
    """Child: answer orders until there are no more."""
    runner = (Stock if kind == "stock" else Slot)(CASES[case], inputs, kind.removeprefix("slot "))
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

    def __init__(self, kind: str, case: str, words: list[str]) -> None:
        command = [sys.executable, __file__, *words, "--serve", kind, "--case", case]
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


WAYS = {
    "stock, lists": ("stock", "lists"),
    "stock, arrays": ("stock", "arrays"),
    "prepared": ("slot stock", ""),
    "compiled": ("slot compiled", ""),
}
STOCK, OURS = list(WAYS)[:2], list(WAYS)[2:]


def measure(case: str, rounds: int, words: list[str]) -> dict[str, Any]:
    """Alternate the ways, one simulation a round."""
    children = {kind: Child(kind, case, words) for kind, _ in WAYS.values()}
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

    def ratios(ours: str, stock: str, what: str) -> Any:
        return spread([b[what] / a[what] for a, b in zip(taken[ours], taken[stock], strict=True)])

    def median(way: str, what: str) -> float:
        return round(statistics.median(entry[what] for entry in taken[way]), 5)

    return {
        **{what: {way: median(way, what) for way in WAYS} for what in ("wall_s", "cpu_s")},
        **{what: {way: median(way, what) for way in WAYS} for what in ("simulation_s", "simulation_cpu_s")},
        **{
            f"{name}_times_faster": {
                f"{ours} than {stock}": ratios(ours, stock, what) for ours in OURS for stock in STOCK
            }
            for name, what in (
                *(("iteration_wall", "wall_s"), ("iteration_cpu", "cpu_s")),
                *(("simulation_wall", "simulation_s"), ("simulation_cpu", "simulation_cpu_s")),
            )
        },
        "identical_likelihoods": {  # with lists only for one country: the order in memory is part of the numbers
            way: all(a["likelihoods"] == b["likelihoods"] for a, b in zip(entries, taken["compiled"], strict=True))
            for way, entries in taken.items()
        },
        "simulation_parts_cpu_ms": {
            way: {
                name: round(statistics.median(entry["parts_ms"].get(name, 0.0) for entry in taken[way]), 2)
                for name in taken[way][0]["parts_ms"]
            }
            for way in OURS
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="simulations of each way and case")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--config", help="laser-cholera's own, if none is given")
    parser.add_argument("--priors", help="of MOSAIC; the default prior, if none are given")
    parser.add_argument("--save", nargs="*", default=["reported_cases", "reported_deaths"], help="what slots save")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.case, (options.config, options.priors, options.save))
        return
    given = {"--config": options.config, "--priors": options.priors}
    words = [word for name, value in given.items() if value for word in (name, value)]
    words += ["--save", *options.save]
    found = {case: measure(case, options.rounds, words) for case in options.cases}
    print(json.dumps({"machine": machine(), "n_iterations": N_ITERATIONS, **found}, indent=1))


if __name__ == "__main__":
    main()
