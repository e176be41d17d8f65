"""Writing scattered rows: what is given arrives, what lies between stays, and close rows share a call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import few_parameters, make_plan

from mosaic_mpi.store import Store
from mosaic_mpi.tablefile import TableFile

N_ROWS = 3000
NAMES = ("simulations/status", "simulations/likelihood", "iterations/likelihood", "parameters/values")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    Store(str(path), make_plan(tmp_path, N_ROWS, config=few_parameters())).close()
    return path


@pytest.fixture
def tables(path: Path) -> Iterator[TableFile]:
    tables = TableFile(str(path))
    yield tables
    tables.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every write."""
    sizes: list[int] = []
    pwrite = os.pwrite

    def counted(descriptor: int, data: Any, offset: int) -> int:
        sizes.append(len(data))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    return sizes


def numbers(path: Path, name: str) -> np.ndarray[Any, Any]:
    with h5py.File(path) as file:
        return np.asarray(file[name][...])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_what_lies_between_rows_stays_as_it_is(path: Path, tables: TableFile, name: str, seed: int) -> None:
    dice = np.random.default_rng(seed)
    expected = numbers(path, name)
    for share in (0.001, 0.02, 0.3, 0.9, 1.0):
        rows = np.flatnonzero(dice.random(N_ROWS) < share)
        values = dice.integers(0, 100, (len(rows), *expected.shape[1:])).astype(expected.dtype)
        expected[rows] = values
        tables.write_rows(name, rows, values)
        assert numbers(path, name).tobytes() == expected.tobytes()
    assert (expected != 0).any()


def test_rows_that_lie_close_together_are_one_write(tables: TableFile, calls: list[int]) -> None:
    rows = np.arange(0, 2000, 7)
    tables.write_rows("simulations/likelihood", rows, np.ones(len(rows)))
    assert calls == [8 * (int(rows[-1]) + 1)]


def test_rows_far_apart_are_not(tables: TableFile, calls: list[int]) -> None:
    tables.write_rows("simulations/likelihood", np.array([0, 1, 2500, 2502]), np.ones(4))
    assert calls == [16, 24]


def test_adjacent_rows_are_not_read_before(
    tables: TableFile, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "preadv")
    tables.write_rows("iterations/likelihood", np.arange(10, 20), np.ones((10, 2)))
    assert calls == [10 * 2 * 8]


def test_a_file_cut_short_is_an_error_and_not_extended(path: Path, tables: TableFile) -> None:
    os.truncate(path, 5000)
    with pytest.raises(OSError, match="shorter"):
        tables.write_rows("simulations/likelihood", np.array([0, 2]), np.ones(2))
    assert path.stat().st_size == 5000
