"""`run --engine`: which loop ran is told, and no number depends on it."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_bit_identity import short_config

import mosaic_mpi
from mosaic_mpi.config import engine_values, load_config
from mosaic_mpi.summary import summarise

pytestmark = [pytest.mark.xdist_group("engine option"), pytest.mark.timeout(300)]
COMMON = ("--locations", "ETH,KEN,SOM", "--n-iterations", "2", "--save", "reported_cases,W,coupling", "--slots", "2")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended, well or not."""
    return subprocess.run(
        [sys.executable, "-m", "mosaic_mpi", *words], capture_output=True, text=True, timeout=280, env={**os.environ}
    )


def run(config: Path, output: Path, *words: str) -> list[str]:
    """First lines and all the others of a run that completed."""
    done = command("run", "--config", str(config), "--output", str(output), *COMMON, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_both_loops_give_the_same_file_and_resume_each_other(tmp_path: Path) -> None:
    config = short_config(tmp_path, n_days=90)
    mixed, compiled = tmp_path / "mixed.h5", tmp_path / "compiled.h5"
    first = run(config, mixed, "--n-simulations", "4", "--engine", "stock")
    assert "engine stock: asked for by --engine stock" in first
    again = run(config, mixed, "--n-simulations", "9", "--engine", "compiled")
    assert "engine compiled" in again
    assert not [line for line in again if "could not" in line]  # the other start's iterations are no failing of it
    assert "engine compiled" in run(config, compiled, "--n-simulations", "9")
    told = command("compare", str(mixed), str(compiled), "--json")
    assert told.returncode == 0, told.stdout
    assert json.loads(told.stdout)["n_common"] == 9
    results = mosaic_mpi.open(str(mixed))
    assert results.table("simulations/n_stock").tolist() == [2] * 4 + [0] * 5
    assert not mosaic_mpi.open(str(compiled)).table("simulations/n_stock").any()
    starts = [start["engine"] for start in summarise(str(mixed)).starts]
    assert starts == ["stock: asked for by --engine stock", "compiled"]
    status = command("status", str(mixed)).stdout
    assert "engine       compiled; 8 iterations by the engine's own loop" in status


def test_what_the_loop_was_not_made_for_runs_by_the_engines_own(tmp_path: Path) -> None:
    """A source of doses that is no compartment but means something to the engine."""
    config = short_config(tmp_path, n_days=20, nu_jt_sources=["S", "_R"])
    lines = run(config, tmp_path / "run.h5", "--n-simulations", "3")
    assert "engine compiled" in lines
    told = [line for line in lines if "by the engine's own loop, where the compiled one could not" in line]
    assert told == [
        "6 of this start's iterations were run by the engine's own loop, where the compiled one could not"
    ]


RAISING = {
    "zeta_1": 1e30,  # more shed than NumPy can draw
    "kappa": 0.0,  # clean water infects at a rate of 0/0
    "mu_j_slope_ETH": -1e9,  # a mortality below 0
    "S_j_initial_ETH": 4e9,  # beyond int32: fewer than nobody
    "R_j_initial_ETH": 2.1e9,  # everybody together are beyond int32
    "alpha_1": 0.5,  # nothing wrong with it
}


def test_either_loop_raises_what_the_engine_raises(tmp_path: Path) -> None:
    """One parameter of each simulation is beyond what the engine can run; the texts are those of the engine's own."""
    config = short_config(tmp_path, n_days=20)
    values = engine_values(load_config(str(config), ["ETH"]).values)
    values.pop("epidemic_peaks", None)
    usual = {name: values[name.removesuffix("_ETH")] for name in RAISING}
    usual = {name: value[0] if isinstance(value, list) else value for name, value in usual.items()}
    rows = [{"sim": sim, **usual, name: number} for sim, (name, number) in enumerate(RAISING.items(), 1)]
    samples = tmp_path / "samples.csv"
    samples.write_text("\n".join(",".join(map(str, row)) for row in (rows[0], *(row.values() for row in rows))))
    keys = [name.removesuffix("_ETH") for name in RAISING]
    numbers = [[n] if isinstance(values[key], list) else n for key, n in zip(keys, RAISING.values(), strict=True)]
    configs = [
        {**values, key: number, "seed": sim} for sim, (key, number) in enumerate(zip(keys, numbers, strict=True), 1)
    ]
    expected = collections.Counter(raised(tmp_path, configs))
    assert expected.pop(None) == 1
    assert len(expected) == 3
    for engine in ("stock", "compiled"):
        output = tmp_path / f"{engine}.h5"
        words = ("--locations", "ETH", "--samples", str(samples), "--max-attempts", "1", "--engine", engine)
        done = command("run", "--config", str(config), "--output", str(output), "--n-iterations", "1", *words)
        assert done.returncode != 0
        found: collections.Counter[str | None] = collections.Counter()
        for failure in summarise(str(output)).failures:
            (text,) = [text for text in expected if str(text) in failure.text]
            found[text] += failure.attempts
        assert found == expected


RAISED = """
import json, sys
import numpy as np
def short(array):
    return f"array of {array.dtype}, shape {array.shape}"
def raised(values):
    matrices = {name: np.array(value) for name, value in values.items()
                if isinstance(value, list) and value and isinstance(value[0], list)}
    try:
        run_model({**values, **matrices, "calc_likelihood": False})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
from laser.cholera.metapop.model import run_model
np.set_printoptions(threshold=0, edgeitems=1, override_repr=short)
print(json.dumps([raised(values) for values in json.load(sys.stdin)]))
"""


def raised(folder: Path, configs: list[dict[str, Any]]) -> list[str | None]:
    """What `run_model` alone raises over each config, in a process of its own."""
    plain = [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
        for values in configs
    ]
    command = [sys.executable, "-W", "ignore", "-c", RAISED]
    done = subprocess.run(command, input=json.dumps(plain), capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    texts: list[str | None] = json.loads(done.stdout.splitlines()[-1])
    return texts


def test_baseline_numbers_are_those_of_any_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that lacks all that NumPy could use here; with AVX512, bits of a power differ."""
    from numpy._core import _multiarray_umath as core

    features = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    config = short_config(tmp_path, n_days=60)
    outputs = {name: tmp_path / f"{name}.h5" for name in ("native", "baseline", "pinned by hand")}
    words = ("--n-simulations", "4", "--save", "Lambda")
    run(config, outputs["native"], *words)
    run(config, outputs["baseline"], *words, "--cpu-features", "baseline")
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", " ".join(features))
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable")
    run(config, outputs["pinned by hand"], *words)
    arrays = {name: mosaic_mpi.open(str(path)).channel("Lambda").values for name, path in outputs.items()}
    assert np.array_equal(arrays["baseline"], arrays["pinned by hand"])
    if "avx512f" in Path("/proc/cpuinfo").read_text():
        assert not np.array_equal(arrays["baseline"], arrays["native"])
