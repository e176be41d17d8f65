"""The comparison that other tests lean on must be able to fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import finished_run, make_plan, same_numbers

from mosaic_mpi import layout
from mosaic_mpi.tablefile import TableFile


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    plan = make_plan(tmp_path, n_simulations=3)
    finished_run(a, plan)
    shutil.copy(a, b)
    return a, b


def test_copies_are_the_same(pair: tuple[Path, Path]) -> None:
    same_numbers(*pair)


@pytest.mark.parametrize("name", ["simulations/finished_at", "simulations/slot", "starts/pid", "simulations/commit"])
def test_times_and_places_may_differ(pair: tuple[Path, Path], name: str) -> None:
    tables = TableFile(str(pair[1]))
    tables.write(name, 1, [77])
    tables.close()
    same_numbers(*pair)


@pytest.mark.parametrize(
    "name",
    [
        "simulations/likelihood",
        "iterations/likelihood",
        "parameters/values",
        "simulations/attempts",
        "iterations/seed",
    ],
)
def test_a_bit_elsewhere_may_not(pair: tuple[Path, Path], name: str) -> None:
    tables = TableFile(str(pair[1]))
    width = {"iterations": 2, "parameters": 0}.get(name.split("/")[0], 1)
    tables.write(name, 1, np.full(width or 30, 5.5 if "seed" not in name else 9))
    tables.close()
    with pytest.raises(AssertionError, match=name):
        same_numbers(*pair)


def test_a_missing_result_may_not(pair: tuple[Path, Path]) -> None:
    tables = TableFile(str(pair[1]))
    tables.write("simulations/status", 2, [layout.PENDING])
    tables.close()
    with pytest.raises(AssertionError, match="status"):
        same_numbers(*pair)
