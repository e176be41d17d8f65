"""A stand-in for the engine, for tests and benchmarks of dispatch and storage.

Chosen with the environment variable MOSAIC_MPI_FAKE, never by default; the results file says so in its plan, so
that fake numbers cannot be taken for real ones. Its value is a list like ``seconds=0.01,fail=7;9,kill=3``:

- seconds: how long an iteration takes (default 0);
- size: length of the time axis of its only channel, "fake" (default 10);
- fail: sim_ids whose simulation raises; ``fail_text`` chooses the text: "long", "lines" or "bytes" (not UTF-8);
- kill, segfault, oom, exit: sim_ids whose simulation ends its slot, by SIGKILL, by reading address 0, by taking
  memory until a limit or the kernel says no, or by leaving with exit code 3;
- hang, stuck: sim_ids whose simulation never ends, asleep, or in C without letting any other thread run;
- leak: MiB that a slot keeps of each simulation;
- while: a file; the trouble lasts as long as it exists.

Two more variables are no part of the plan and may differ between ranks: MOSAIC_MPI_FAKE_SLOWNESS, by which
``seconds`` is multiplied, and MOSAIC_MPI_FAKE_LOG, a file that gets a line with seed and process id for each
iteration begun.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.parameters import ParameterSet
from mosaic_mpi.plan import Channel, SlotPlan

VARIABLE = "MOSAIC_MPI_FAKE"
_SLOWNESS, _LOG = "MOSAIC_MPI_FAKE_SLOWNESS", "MOSAIC_MPI_FAKE_LOG"
PREFIX = "fake:"
_FAIL_TEXTS = {
    "": "simulation {} was told to fail",
    "long": "simulation {} was told to fail: " + "x" * 20_000 + " and this is the end",
    "lines": "simulation {} was told to fail\nfor a first reason\n\n\tand a second, {{braces}}\r\nthe end",
    "bytes": "simulation {} was told to fail at \udcff\udc80 \x00 \x1b[31m \N{GREEK SMALL LETTER BETA}",
}


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
        self.n_stock = 0
        settings = _settings(plan.simulator)
        self._seconds = float(settings.get("seconds", 0)) * float(os.environ.get(_SLOWNESS, "1"))
        self._log = os.environ.get(_LOG)
        self._shapes = [channel.shape for channel in plan.channels]
        self._n_iterations = plan.n_iterations
        self._trouble_file = settings.get("while")
        self._troubled = {
            kind: {int(sim_id) for sim_id in settings.get(kind, "").split(";") if sim_id}
            for kind in ("fail", "kill", "segfault", "oom", "exit", "hang", "stuck")
        }
        self._fail_text = _FAIL_TEXTS[settings.get("fail_text", "")]
        self._leak_bytes = int(float(settings.get("leak", 0)) * 2**20)
        self._leaked: list[bytes] = []

    def run(self, parameters: ParameterSet, seed: int) -> tuple[float, list[NDArray[Any]]]:
        """See `simulation.Iterations.run`."""
        if self._log is not None:
            with open(self._log, "a") as log:
                log.write(f"{seed} {os.getpid()}\n")
        self._misbehave((seed - 1) // self._n_iterations + 1)
        if self._leak_bytes and (seed - 1) % self._n_iterations == 0:
            self._leaked.append(b"\1" * self._leak_bytes)
        if self._seconds:  # to sleep for no time takes 60 us
            time.sleep(self._seconds)
        generator = np.random.Generator(np.random.PCG64(seed))
        likelihood = -float(abs(parameters.values.sum())) - generator.random() * 100
        series = [generator.poisson(3, shape).astype(np.int32) for shape in self._shapes]
        return likelihood, list(series)

    def _misbehave(self, sim_id: int) -> None:
        if self._trouble_file is not None and not os.path.exists(self._trouble_file):
            return
        match next((kind for kind, sim_ids in self._troubled.items() if sim_id in sim_ids), None):
            case "fail":
                raise ValueError(self._fail_text.format(sim_id))
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segfault":
                faulthandler.disable()
                ctypes.string_at(0)
            case "oom":
                _take_all_memory()
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(1e6)
            case "stuck":
                ctypes.PyDLL(None).sleep(1_000_000)  # a PyDLL keeps the interpreter's lock


def _take_all_memory() -> None:
    taken = []
    while True:
        taken.append(b"\1" * 2**23)
