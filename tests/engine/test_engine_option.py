"""`run --engine`: which loop ran is told, and no number depends on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_bit_identity import short_config

import mosaic_mpi
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


def test_the_engines_exceptions_are_told_as_they_are(tmp_path: Path) -> None:
    """An empty place has no rate of transmission, and NumPy refuses to draw."""
    people = {f"{what}_j_initial": [0] * 40 for what in ("N", "S", "E", "I", "R", "V1", "V2")}
    output = tmp_path / "run.h5"
    config = short_config(tmp_path, n_days=5, **people)
    words = ("--n-simulations", "1", "--max-attempts", "1", "--engine", "compiled")
    done = command("run", "--config", str(config), "--output", str(output), *COMMON, *words)
    assert done.returncode != 0
    texts = [failure.text.splitlines()[-1] for failure in summarise(str(output)).failures]
    assert texts == ["ValueError: p < 0, p > 1 or p contains NaNs"]


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
