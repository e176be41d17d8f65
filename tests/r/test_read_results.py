"""R opens a results file, finished or still growing, and finds the numbers and names that Python finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import add_rows, begin, finished_run, make_plan, small_config
from rtools import HERE, Rscript

from mosaic_mpi.results import Results
from mosaic_mpi.store import Store


@pytest.fixture(params=["rhdf5", "hdf5r"])
def library(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    require(request.param)
    name: str = request.param
    return name


def read_in_r(rscript: Rscript, library: str, path: Path, *channel: str) -> dict[str, list[str]]:
    done = rscript(HERE / "read_results.R", library, path, *channel)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {words[0]: words[2:] for words in lines}


def doubles(words: list[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if word == "NaN" else float.fromhex(word) for word in words])


def same_as_python(found: dict[str, list[str]], results: Results) -> None:
    rows = results.completed()
    assert [int(word) - 1 for word in found["completed"]] == rows.tolist()
    assert tuple(found["names"]) == results.parameter_names
    likelihood = results.table("simulations/likelihood")[rows]
    assert doubles(found["likelihood"]).tobytes() == likelihood.tobytes()
    values = results.table("parameters/values")[rows]
    assert doubles(found["values"]).tobytes() == values.tobytes()


def test_r_reads_a_finished_run_with_its_channel(tmp_path: Path, rscript: Rscript, library: str) -> None:
    plan = make_plan(tmp_path, config=small_config(("ETH", "KEN")))
    finished_run(tmp_path / "run.h5", plan)
    found = read_in_r(rscript, library, tmp_path / "run.h5", "fake")
    results = Results(tmp_path / "run.h5")
    same_as_python(found, results)
    channel = results.channel("fake").to_numpy()
    assert [int(word) for word in found["channel"]] == channel.ravel().tolist()


def test_r_reads_a_run_while_it_grows(tmp_path: Path, rscript: Rscript, library: str) -> None:
    plan = make_plan(tmp_path, n_simulations=8)
    store = Store(str(tmp_path / "run.h5"), plan)
    begin(store)
    add_rows(store, plan, [5, 1, 2])
    store.commit()
    found = read_in_r(rscript, library, tmp_path / "run.h5")
    assert found["completed"] == ["2", "3", "6"]
    same_as_python(found, Results(tmp_path / "run.h5"))
    add_rows(store, plan, [0])
    store.commit()
    assert read_in_r(rscript, library, tmp_path / "run.h5")["completed"] == ["1", "2", "3", "6"]
    store.close()
