"""What slots share: one import of the engine and one copy of the plan a rank, whatever their number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
START = Path(__file__).parents[2] / "benchmarks" / "start.py"
N_SLOTS = 3


def test_slots_of_forty_countries_share_engine_and_plan(tmp_path: Path) -> None:
    command = [sys.executable, str(START), "--slots", str(N_SLOTS), "--independent", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    found = row["mosaic_mpi"]
    assert found["largest_private_mib_a_slot"] * 2**20 < 60e6  # before the fork server froze what it had: 101 MiB
    assert found["private_mib_a_slot"] > 1  # something was measured
    assert found["slots_of_one_server"] == N_SLOTS
    assert found["slots_that_imported"] == 0
    assert found["slots_that_share_the_plan"] == N_SLOTS
    assert found["plan_kib"] > 1000
    assert not list(tmp_path.iterdir())
