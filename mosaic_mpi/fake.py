"""A stand-in for the engine, for tests and benchmarks of dispatch and storage.

Chosen with the environment variable MOSAIC_MPI_FAKE, never by default; the results file says so in its plan, so
that fake numbers cannot be taken for real ones. Its value is a list like ``seconds=0.01,fail=7;9,kill=3``:

- seconds: how long an iteration takes (default 0);
- size: length of the time axis of its only channel, "fake" (default 10);
- fail, kill, hang: sim_ids whose simulation raises, kills its slot, or never ends;
- while: a file; the trouble lasts as long as it exists.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.parameters import ParameterSet
from mosaic_mpi.plan import Channel, SlotPlan

VARIABLE = "MOSAIC_MPI_FAKE"
PREFIX = "fake:"


def simulator_name() -> str:
    """The simulator that the environment asks for: "laser", or "fake:" and its settings."""
    return PREFIX + os.environ[VARIABLE] if VARIABLE in os.environ else "laser"


def _settings(simulator: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in simulator.removeprefix(PREFIX).split(",") if pair)
    return {key: value for key, _, value in pairs}


def describe(simulator: str, n_locations: int) -> dict[str, Channel]:
    """The stand-in's channels, like `engine.describe`."""
    size = int(_settings(simulator).get("size", 10))
    return {"fake": Channel("fake", ("location", "time"), (n_locations, size), "<i4")}


class FakeIterations:
    """Iterations whose numbers follow from the parameters and the seed alone."""

    def __init__(self, plan: SlotPlan) -> None:
        settings = _settings(plan.simulator)
        self._seconds = float(settings.get("seconds", 0))
        self._shapes = [channel.shape for channel in plan.channels]
        self._n_iterations = plan.n_iterations
        self._trouble_file = settings.get("while")
        self._troubled = {
            kind: {int(sim_id) for sim_id in settings.get(kind, "").split(";") if sim_id}
            for kind in ("fail", "kill", "hang")
        }

    def run(self, parameters: ParameterSet, seed: int) -> tuple[float, list[NDArray[Any]]]:
        """See `simulation.Iterations.run`."""
        self._misbehave((seed - 1) // self._n_iterations + 1)
        time.sleep(self._seconds)
        generator = np.random.Generator(np.random.PCG64(seed))
        likelihood = -float(abs(parameters.values.sum())) - generator.random() * 100
        series = [generator.poisson(3, shape).astype(np.int32) for shape in self._shapes]
        return likelihood, list(series)

    def _misbehave(self, sim_id: int) -> None:
        if self._trouble_file is not None and not os.path.exists(self._trouble_file):
            return
        if sim_id in self._troubled["fail"]:
            raise ValueError(f"simulation {sim_id} was told to fail")
        if sim_id in self._troubled["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if sim_id in self._troubled["hang"]:
            time.sleep(1e6)
