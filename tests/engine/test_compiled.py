"""The compiled loop gives the engine's numbers, to the last bit, over configs of every kind, and its exceptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("MOSAIC_MPI_SHARED") or HERE.parents[1].parent / "shared") / "mosaic"
needs_mosaic = pytest.mark.skipif(not SHARED.is_dir(), reason=f"MOSAIC's config and priors are not in {SHARED}")
pytestmark = pytest.mark.timeout(400)


def search(*words: str, **variables: str) -> dict[str, Any]:
    """What a search found, having found no difference."""
    command = [sys.executable, "-W", "ignore", str(HERE / "search.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=390, env={**os.environ, **variables})
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_hundreds_of_random_configs() -> None:
    found = search("--iterations", "400", "--seed", "20261126")
    assert found["iterations"] == 400
    assert found["compiled"] > 100
    assert found["with reported cases"] > 20
    assert sum(count for what, count in found.items() if what.startswith("raised")) > 20


def test_long_windows() -> None:
    found = search("--iterations", "2", "--seed", "3", "--longest")
    assert found["iterations"] == 2


@needs_mosaic
@pytest.mark.parametrize(("locations", "n"), [("ETH", "2"), ("all", "1")])
def test_draws_of_mosaic_with_calibrated_suitability(locations: str, n: str) -> None:
    words = ("--iterations", "0", "--seed", "11", "--mosaic", n, "--shared", str(SHARED))
    found = search(*words, "--locations", locations)
    assert found["compiled"] == found["iterations"] == 3 * int(n)
    assert found["with reported cases"] > 0
    assert found["likelihoods"] == int(n)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_other_processors(share: float) -> None:
    """NumPy without its newest features, as on an older processor, and without all that it can do without."""
    from numpy._core import _multiarray_umath as core

    features = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    off = features[len(features) - round(share * len(features)) :]
    if not off:
        pytest.skip("NumPy could do without nothing that this processor has")
    found = search("--iterations", "40", "--seed", "4", NPY_DISABLE_CPU_FEATURES=" ".join(off))
    assert found["compiled"] > 10
