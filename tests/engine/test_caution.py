"""An engine that the prepared model was not made for runs as it comes, with the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_prepared_model import BUNDLED, shortened

SCRIPT = """
import json, sys
from pathlib import Path
from mosaic_mpi import engine
from mosaic_mpi.config import load_config
from mosaic_mpi.control import LikelihoodSettings
from mosaic_mpi.parameters import DefaultPrior
from mosaic_mpi.plan import Channel, SlotPlan
from mosaic_mpi.simulation import LaserIterations

sources, agree = engine.sources, engine.single_draws_agree
changed = Path(sys.argv[2])
changed.write_bytes(sources()[-1].read_bytes() + b"\\n")
config = load_config(sys.argv[1], ["ETH", "KEN"])
channel = Channel("W", ("location", "time"), (2, config.n_ticks), "<f4")
prior = DefaultPrior(config.values)
plan = SlotPlan(config.values, prior, range(1, 9), 2, (channel,), "laser", LikelihoodSettings(), "stock")
found = {}
for how, files, agreeing in (
    ("as it is", sources, agree),
    ("changed", lambda: [*sources()[:-1], changed], agree),
    ("missing", lambda: [Path("/no/such/file.py")], agree),
    ("other draws", sources, lambda: False),
):
    engine.sources, engine.single_draws_agree = files, agreeing
    engine.caution = engine.find_caution()
    iterations = LaserIterations(plan)
    parameters = prior.draw(0, 1)
    numbers = [iterations.run(parameters, seed) for seed in (1, 2)]
    kind = type(iterations._prepared).__name__
    found[how] = engine.caution, kind, [[score, series[0].tobytes().hex()] for score, series in numbers]
print(json.dumps(found))
"""


@pytest.mark.timeout(300)
def test_an_unknown_engine_runs_stock_with_the_same_numbers(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(shortened(json.loads(BUNDLED.read_text()))))
    command = [sys.executable, "-c", SCRIPT, str(config), str(tmp_path / "random.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    caution, kind, numbers = found.pop("as it is")
    assert (caution, kind) == (None, "PreparedModel"), "the engine that is tested is the one that is known"
    assert numbers[0] != numbers[1]
    words = {"changed": "sources", "missing": "sources", "other draws": "NumPy"}
    assert {how: kind for how, (_, kind, _) in found.items()} == dict.fromkeys(words, "StockIterations")
    assert all(word in found[how][0] for how, word in words.items())
    assert all(entry[2] == numbers for entry in found.values())
