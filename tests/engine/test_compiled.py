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
    """Most have an epidemic, and every kind is there: else the strategies have gone astray."""
    found = search("--iterations", "300", "--seed", "20261126")
    kinds, n = found["kinds"], found["compiled"]
    assert found["iterations"] >= 290
    assert n >= 210
    assert kinds["epidemic, cases and deaths"] >= n / 2
    assert kinds["first doses"] >= n / 2
    assert kinds["second doses"] >= n / 2
    assert set(EVERY_KIND) <= kinds.keys()
    assert sum(found["raised"].values()) >= 10
    assert {"AssertionError", "ValueError"} <= {text.split(":")[0] for text in found["raised"]}


EVERY_KIND = (
    *("1-1 locations", "2-5 locations", "6-40 locations"),
    *("1-12 days", "13-60 days", "61-365 days", "366-4000 days"),
    *("matrices as lists", "matrices row by row", "matrices column by column"),
    *(f"{alpha} {form}" for alpha in ("alpha_1", "alpha_2") for form in ("list", "number", "special number")),
    *("first doses beyond supply", "second doses beyond supply", "other dose sources"),
    *("infections by the water", "infections by people", "empty places", "extreme rates", "delays beyond the window"),
    "negative rates of transmission",
)


def test_long_windows() -> None:
    found = search("--iterations", "2", "--seed", "3", "--longest")
    assert found["iterations"] == 2


@needs_mosaic
@pytest.mark.parametrize(("locations", "n"), [("ETH", "2"), ("all", "1")])
def test_draws_of_mosaic_with_calibrated_suitability(locations: str, n: str) -> None:
    words = ("--iterations", "0", "--seed", "11", "--mosaic", n, "--shared", str(SHARED))
    found = search(*words, "--locations", locations)
    assert found["compiled"] == found["iterations"] == 3 * int(n)
    assert found["kinds"]["epidemic, cases and deaths"] > 0
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
