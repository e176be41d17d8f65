"""One simulation, or one iteration of it, as a slot runs it: draw, run, score, compress.

Runs in slots only. Knows no pipe and no MPI.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import engine_choice
from mosaic_mpi.config import engine_values
from mosaic_mpi.likelihood import Likelihood
from mosaic_mpi.parameters import ParameterSet
from mosaic_mpi.parcel import Outcome
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.records import compress, compress_iteration
from mosaic_mpi.units import WHOLE, Units

if TYPE_CHECKING:
    from mosaic_mpi import engine


class Iterations(Protocol):
    """Runs the iterations of one parameter set.

    Attributes
    ----------
    n_stock : int
        Iterations so far that the engine's own loop ran, where a compiled one is to be had or not.
    """

    n_stock: int

    def run(self, parameters: ParameterSet, seed: int) -> tuple[float, list[NDArray[Any]]]:
        """Return the log-likelihood of one iteration and its saved channels, in the plan's order."""
        ...


class LaserIterations:
    """Iterations by the engine.

    The engine is set up anew for each parameter set, and once for all its iterations.

    Parameters
    ----------
    plan : SlotPlan
        Its config values are prepared once; a simulation replaces what its parameters set.
    """

    def __init__(self, plan: SlotPlan) -> None:
        from mosaic_mpi import engine

        self._engine, self._advance = engine, engine_choice.loop_for(plan.engine)
        self.n_stock = 0
        self._base = engine_values(plan.values)
        self._names = [channel.name for channel in plan.channels]
        self._likelihood = Likelihood(plan.values, plan.likelihood, engine.score, engine.prepare_scorer)
        self._parameters: ParameterSet | None = None
        self._prepared: engine.Iterations | None = None
        if plan.values.get("epidemic_peaks"):
            import pandas as pd

            self._base["epidemic_peaks"] = pd.DataFrame(plan.values["epidemic_peaks"])
        else:  # the engine's code for peaks asks for their columns even where there is no peak
            self._base.pop("epidemic_peaks", None)

    def run(self, parameters: ParameterSet, seed: int) -> tuple[float, list[NDArray[Any]]]:
        """See `Iterations.run`."""
        prepared = self._prepare(parameters)
        results = prepared.run(seed)
        self.n_stock += not prepared.was_compiled
        channel = self._engine.channel
        likelihood = self._likelihood.score(channel(results, "reported_cases"), channel(results, "reported_deaths"))
        return likelihood, [np.array(channel(results, name), order="C") for name in self._names]

    def _prepare(self, parameters: ParameterSet) -> engine.Iterations:
        """Set the engine up, unless it is set up for this very object already."""
        if self._prepared is None or parameters is not self._parameters:
            if self._prepared is not None:
                self._prepared.close()
                self._prepared = None
            values = {**self._base, **engine_values(parameters.overrides)}
            self._prepared = self._engine.prepare(values, self._names, self._advance)
            self._parameters = parameters
        return self._prepared


def make_iterations(plan: SlotPlan) -> Iterations:
    """Return what runs the plan's iterations."""
    if plan.simulator == "laser":
        return LaserIterations(plan)
    from mosaic_mpi.fake import FakeIterations

    return FakeIterations(plan)


class Simulation:
    """Runs the units of a plan.

    Parameters
    ----------
    plan : SlotPlan
        What to run.
    """

    def __init__(self, plan: SlotPlan) -> None:
        self._plan, self._n_iterations = plan, plan.n_iterations
        self._iterations = make_iterations(plan)
        self._units = Units(plan.n_iterations)

    def run(self, unit: int) -> Outcome:
        """Run one simulation, or one of its iterations.

        Parameters
        ----------
        unit : int
            See `mosaic_mpi.units`.
        """
        began = time.perf_counter()
        row, only = self._units.split(unit)
        sim_id = int(self._plan.sim_ids[row])
        parameters = self._plan.source.draw(row, sim_id)
        first_seed = (sim_id - 1) * self._n_iterations + 1
        likelihoods = [math.nan] * self._n_iterations
        kept: list[list[NDArray[Any]]] = []
        n_stock_before = self._iterations.n_stock
        for iteration in range(self._n_iterations) if only == WHOLE else (only - 1,):
            likelihoods[iteration], channels = self._iterations.run(parameters, first_seed + iteration)
            kept.append(channels)
        if only == WHOLE:
            series = [compress(arrays) for arrays in zip(*kept, strict=True)]
        else:
            series = [compress_iteration(array) for array in kept[0]]
        n_stock = self._iterations.n_stock - n_stock_before
        return Outcome(row, only, parameters.values, likelihoods, series, time.perf_counter() - began, n_stock)
