"""What the compiled loop was not made for is left to the engine, with the engine's numbers and exceptions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(400)
TESTS = Path(__file__).parents[1]
COMPARE = """
import json, sys
from mosaic_mpi import environment
environment.use_one_thread()
from helpers import small_config
from mosaic_mpi import compiled_engine, engine

people = {f"{what}_j_initial": [1000] for what in ("N", "S", "E", "I", "R")}
if compiled_engine.advance is None:
    sys.exit(compiled_engine.reason)
for changes in json.load(sys.stdin):
    values = small_config(["ETH"], 8, **people, **changes)
    for iterations in (engine.StockIterations(values), engine.prepare(values, (), compiled_engine.advance)):
        try:
            print(int(iterations.run(1).reported_cases.sum()), iterations.was_compiled)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
"""


def compared(changes: str, *flags: str) -> list[str]:
    """What came of a config with each of some changes, run by `run_model` and as slots do; both said the same."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent)))}
    command = [sys.executable, *flags, "-W", "ignore", "-c", COMPARE]
    done = subprocess.run(command, input=changes, capture_output=True, text=True, timeout=380, env=variables)
    assert done.returncode == 0, done.stderr
    stock, prepared = done.stdout.splitlines()[::2], done.stdout.splitlines()[1::2]
    assert prepared == stock
    return prepared


@pytest.mark.parametrize("which", ["cases", "deaths"])
def test_no_day_is_looked_at_that_is_not_there(which: str) -> None:
    """Slots inherit ``PYTHONOPTIMIZE``, and with it the engine takes delays that it asserts not to be."""
    told = compared(f'[{{"delta_reporting_{which}": -1}}, {{"delta_reporting_{which}": -30}}]', "-O")
    assert told[0].endswith(" False")
    assert told[1] == "IndexError: index 30 is out of bounds for axis 0 with size 9"


def test_sources_of_doses_are_nobodys_business_where_there_are_no_doses() -> None:
    none = [[0.0] * 8]
    changes = '{"nu_jt_sources": null, "nu_1_jt": %s, "nu_2_jt": %s}'
    told = compared(f"[{changes % (none, none)}, {changes % ([[5.0] * 8], none)}]")
    assert told[0].endswith(" False")
    assert told[1] == "TypeError: 'NoneType' object is not iterable"


GIVEN_BACK = """
import sys
from mosaic_mpi import environment
environment.use_one_thread()
from helpers import small_config
from mosaic_mpi import compiled_engine, engine
from mosaic_mpi.compiled.self_check import differing

people = {f"{what}_j_initial": [1000] for what in ("N", "S", "E", "I", "R")}
advance = compiled_engine.advance
if advance is None:
    sys.exit(compiled_engine.reason)


def watched(values, advance):
    model, ticks = engine.prepare(values, ("spatial_hazard",), advance), set()
    model._phases = [lambda m, tick, phase=phase: ticks.add(tick) or phase(m, tick) for phase in model._phases]
    return model, ticks


def raised(model):
    try:
        model.run(1)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


values = small_config(["ETH"], 8, **people, b_jt=[[0.01] * 5 + [1e20] + [0.01] * 2])
model, ticks = watched(values, advance)
expected = raised(engine.StockIterations(values))
assert expected is not None and raised(model) == expected, expected
assert ticks == {5}, ticks

values = small_config(["ETH"], 8, **people)
model, ticks = watched(values, lambda draws, n_ticks, *state: advance(draws, min(n_ticks, 3), *state))
assert not differing(engine.StockIterations(values).run(1), model.run(1))
assert ticks == set(range(8)) and not model.was_compiled
"""


def test_the_engine_does_the_tick_over_which_it_raises_and_all_where_it_does_not() -> None:
    """Found by the loop, a simulation that fails costs no iteration of the engine's own loop."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent)))}
    command = [sys.executable, "-W", "ignore", "-c", GIVEN_BACK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, env=variables)
    assert done.returncode == 0, done.stderr
