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
_WORD = 2**64 - 1
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
            int(sim_id): kind
            for kind in ("stuck", "hang", "exit", "oom", "segfault", "kill", "fail")
            for sim_id in settings.get(kind, "").split(";")
            if sim_id
        }
        self._fail_text = _FAIL_TEXTS[settings.get("fail_text", "")]
        self._leak_bytes = int(float(settings.get("leak", 0)) * 2**20)
        self._leaked: list[bytes] = []

    def run(self, parameters: ParameterSet, seed: int) -> tuple[float, list[NDArray[Any]]]:
        """See `simulation.Iterations.run`."""
        if self._log is not None:
            with open(self._log, "a") as log:
                log.write(f"{seed} {os.getpid()}\n")
        sim_id = (seed - 1) // self._n_iterations + 1
        if sim_id in self._troubled:
            self._misbehave(sim_id)
        if self._leak_bytes and (seed - 1) % self._n_iterations == 0:
            self._leaked.append(b"\1" * self._leak_bytes)
        if self._seconds:  # to sleep for no time takes 60 us
            time.sleep(self._seconds)
        return -float(abs(parameters.values.sum())) - 100 * _uniform(seed), self._series(seed)

    def _series(self, seed: int) -> list[NDArray[Any]]:
        if not self._shapes:
            return []
        generator = np.random.Generator(np.random.PCG64(seed))
        return [generator.poisson(3, shape).astype(np.int32) for shape in self._shapes]

    def _misbehave(self, sim_id: int) -> None:
        if self._trouble_file is not None and not os.path.exists(self._trouble_file):
            return
        match self._troubled[sim_id]:
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
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # which would end the sleep
                ctypes.PyDLL(None).sleep(1_000_000)  # a PyDLL keeps the interpreter's lock


def _uniform(seed: int) -> float:
    """A number in [0, 1) by splitmix64: a generator of NumPy's takes longer to make than everything else here."""
    x = seed * 0x9E3779B97F4A7C15 & _WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _WORD
    return ((x ^ x >> 31) >> 11) / 2**53


def _take_all_memory() -> None:
    taken = []
    while True:
        taken.append(b"\1" * 2**23)
