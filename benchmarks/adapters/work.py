"""The work that every peer is given, and what an adapter is.

An adapter is a script: it reads an `Order`, has its peer do the work on `n_slots` processes, and writes an answer.
What differs between most is one context manager that turns a function and items into results, in the order in which
they come. Workers prepare themselves once each: engine, config, parameters, one thread.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

VARIABLE = "MOSAIC_BENCHMARK_ORDER"
"""Names the order's file, for workers too."""

Mapper = Callable[[Callable[[int], Any], Iterable[int]], Iterator[Any]]
"""Applies a function to each item somewhere, and yields what it returns as it comes."""


@dataclass(frozen=True)
class Order:
    """What an adapter is asked to do.

    Parameters
    ----------
    n_slots : int
        Worker processes.
    n_simulations, n_iterations : int
        Simulations 1 to n, of so many iterations each.
    locations : list of str or None
        Of the engine's own config; None for all.
    engine : str
        "prepared", as mosaic_mpi's slots run laser-cholera's own loop; "compiled", as they run the compiled one; or
        "stock", laser-cholera as it comes.
    n_empty : int
        Do so many empty units of work instead; 0 for simulations.
    chunk : int
        Simulations a process, for peers that start a process for each unit of work.
    mpirun : list of str
        Launcher and its options, for adapters that launch by themselves; empty for none.
    python : str
        Interpreter for what is launched.
    """

    n_slots: int
    n_simulations: int
    n_iterations: int
    locations: list[str] | None
    engine: str
    n_empty: int
    chunk: int
    mpirun: list[str]
    python: str

    def write(self, folder: str) -> str:
        """Write it into a folder, where the answer is to be too; return its path."""
        path = Path(folder) / "order.json"
        path.write_text(json.dumps(asdict(self)))
        return str(path)


@functools.cache
def order() -> Order:
    """The order of this process."""
    return Order(**json.loads(Path(os.environ[VARIABLE]).read_text()))


def folder() -> Path:
    """Where an adapter may leave files."""
    return Path(os.environ[VARIABLE]).parent


def slot_plan(**options: Any) -> Any:
    """The plan that `mosaic_mpi run` makes of the same options, as a slot gets it."""
    from mosaic_mpi import environment
    from mosaic_mpi.plan_inputs import PlanOptions, load_plan

    return load_plan(PlanOptions(**options), environment.engine_versions()).slot_plan()


def smallest_samples(n: int) -> str:
    """Write a table of parameters that gives one value to each of n simulations; return its path."""
    path = folder() / "samples.csv"
    path.write_text("sim,rho\n" + "".join(f"{sim_id},0.2\n" for sim_id in range(1, n + 1)))
    return str(path)


class _StockIterations:
    """laser-cholera as it comes; only the config is prepared once, and scored is what mosaic_mpi scores."""

    def __init__(self, plan: Any) -> None:
        from laser.cholera import calc_model_likelihood as scoring
        from laser.cholera.metapop.model import run_model

        from mosaic_mpi.config import engine_values
        from mosaic_mpi.likelihood import Likelihood, dispersion

        self._run_model, self._engine_values = run_model, engine_values
        self._base = {**engine_values(plan.values), "calc_likelihood": False, "quiet": True}
        self._base.pop("epidemic_peaks", None)
        scoring.nb_size_from_obs_weighted = dispersion
        self._likelihood = Likelihood(plan.values, plan.likelihood, scoring.calc_model_likelihood)

    def run(self, parameters: Any, seed: int) -> tuple[float, list[Any]]:
        results = self._run_model({**self._base, **self._engine_values(parameters.overrides), "seed": seed}).results
        return self._likelihood.score(results.reported_cases, results.reported_deaths), []


@functools.cache
def prepare() -> tuple[Any, Any]:
    """Prepare this worker, once: the plan, and what runs its iterations."""
    locations = tuple(order().locations) if order().locations else None
    plan = slot_plan(locations=locations, n_simulations=order().n_simulations, n_iterations=order().n_iterations)
    if order().engine == "stock":
        return plan, _StockIterations(plan)
    from mosaic_mpi.simulation import make_iterations

    iterations = make_iterations(replace(plan, engine=engine_option()))
    gc.collect()  # as in a slot: what is alive now stays, and garbage is collected between simulations
    gc.freeze()
    gc.disable()
    return plan, iterations


def engine_option() -> str:
    """What `mosaic_mpi run --engine` is to be for the order."""
    return "compiled" if order().engine == "compiled" else "stock"


def simulate(sim_id: int) -> dict[str, Any]:
    """Run one simulation and score it."""
    plan, iterations = prepare()
    if order().engine != "stock":
        gc.collect()
    began = time.time()
    parameters = plan.source.draw(sim_id - 1, sim_id)
    seeds = range((sim_id - 1) * plan.n_iterations + 1, sim_id * plan.n_iterations + 1)
    likelihoods = [float(iterations.run(parameters, seed)[0]) for seed in seeds]
    return {
        "sim_id": sim_id,
        "likelihoods": likelihoods,
        "process": str(os.getpid()),
        "began": began,
        "finished": time.time(),
    }


def empty(item: int) -> int:
    """An empty unit of work."""
    return item


def sim_ids() -> range:
    """The simulations of the order."""
    return range(1, order().n_simulations + 1)


def chunks() -> list[list[int]]:
    """The simulations, in pieces for one process each."""
    ids, size = list(sim_ids()), order().chunk
    return [ids[first : first + size] for first in range(0, len(ids), size)]


def answer(**found: Any) -> None:
    """Write what was found: ``results`` of simulations, or ``empty_s`` for all empty units."""
    (folder() / "answer.json").write_text(json.dumps(found))


def serve(peer: Callable[[], AbstractContextManager[Mapper]]) -> None:
    """Carry out the order through a peer."""
    with peer() as mapper:
        if not order().n_empty:
            answer(results=list(mapper(simulate, sim_ids())))
            return
        for _ in mapper(empty, range(10 * order().n_slots)):  # all workers have started
            pass
        began = time.perf_counter()
        for _ in mapper(empty, range(order().n_empty)):
            pass
        answer(empty_s=time.perf_counter() - began)
