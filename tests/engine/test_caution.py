"""An engine that the prepared model was not made for runs as it comes, with the same numbers, and the user is told."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from mosaic_mpi import engine
from mosaic_mpi.config import engine_values, load_config
from mosaic_mpi.plan import Channel, SlotPlan
from mosaic_mpi.likelihood import LikelihoodSettings
from mosaic_mpi.parameters import DefaultPrior
from mosaic_mpi.simulation import LaserIterations

known = engine.caution
if sys.argv[1] == "changed":
    file = sys.argv[2]
    original = engine.sources
    engine.sources = lambda: [*original()[:-1], __import__("pathlib").Path(file)]
elif sys.argv[1] == "missing":
    engine.sources = lambda: [__import__("pathlib").Path("/no/such/file.py")]
elif sys.argv[1] == "draws":
    engine.single_draws_agree = lambda: False
engine.caution = engine.find_caution()
config = load_config(None, ["ETH", "KEN"])
channel = Channel("W", ("location", "time"), (2, config.n_ticks), "<f4")
prior = DefaultPrior(config.values)
plan = SlotPlan(config.values, prior, range(1, 9), 2, (channel,), "laser", LikelihoodSettings())
iterations = LaserIterations(plan)
parameters = prior.draw(0, 1)
found = [iterations.run(parameters, seed) for seed in (1, 2)]
kind = type(iterations._prepared).__name__
print(json.dumps([known, engine.caution, kind, [[score, series[0].tobytes().hex()] for score, series in found]]))
"""


def outcome(how: str, file: Path) -> tuple[str | None, str, str]:
    """The caution, the class of the iterations, and a digest of scores and series."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how, str(file)], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    known, caution, kind, numbers = json.loads(done.stdout)
    assert known is None, "the engine that is tested is the one that is known"
    return caution, kind, hashlib.sha256(json.dumps(numbers).encode()).hexdigest()


@pytest.mark.timeout(600)
def test_other_sources_run_stock_with_the_same_numbers(tmp_path: Path) -> None:
    from laser.core import random as engine_random

    changed = tmp_path / "random.py"
    changed.write_bytes(Path(str(engine_random.__file__)).read_bytes() + b"\n")
    caution, kind, numbers = outcome("as it is", changed)
    assert (caution, kind) == (None, "PreparedModel")
    for how, word in (("changed", "sources"), ("missing", "sources"), ("draws", "NumPy")):
        caution, kind, found = outcome(how, changed)
        assert kind == "StockIterations"
        assert word in str(caution)
        assert found == numbers
