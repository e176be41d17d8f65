"""What can be compared with a run: another run, a directory of MOSAIC's shards, a samples.parquet.

Owns the reading of each, a block of simulations at a time, in the same shape. Compares nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout
from mosaic_mpi.arrowfile import read_parquet
from mosaic_mpi.errors import InputError
from mosaic_mpi.results import Results
from mosaic_mpi.shards import LEADING_COLUMNS, SAMPLES, SHARD_NAME

_BATCH_ROWS = 8192
_BOOKKEEPING_PREFIXES = ("is_", "weight_", "cfr_")
"""What MOSAIC adds to its samples.parquet after the parameters."""


@dataclass(frozen=True)
class Block:
    """Some simulations.

    Parameters
    ----------
    likelihood : ndarray of float64, shape (n,)
        Log-likelihoods; a null is NaN.
    parameters : ndarray of float64, shape (n, n_parameters)
        As `Comparable.parameter_names`; a null is NaN.
    """

    likelihood: NDArray[np.float64]
    parameters: NDArray[np.float64]


class Comparable(Protocol):
    """Simulations with their likelihoods and parameters.

    Attributes
    ----------
    name : str
        What the user called it.
    ids : ndarray of int64, shape (n,)
        Ascending ids of the simulations that have numbers.
    parameter_names : tuple of str
        Columns of a block's parameters.
    """

    name: str
    ids: NDArray[np.int64]
    parameter_names: tuple[str, ...]

    def read(self, places: NDArray[np.int64]) -> Block:
        """Return the simulations at some ascending places of `ids`; no call goes back behind the one before."""
        ...


def open_comparable(path: str) -> Comparable:
    """Open a results file, a directory of shards or a table of samples, by what it is.

    Raises
    ------
    InputError
        It is none of these, or damaged.
    """
    if os.path.isdir(path):
        return _open_folder(Path(path))
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file or directory")
    if h5file.is_hdf5(path):
        return RunNumbers(path)
    with open(path, "rb") as file:
        if file.read(4) == b"PAR1":
            return TableNumbers(path)
    raise InputError(
        f"{path}: neither a results file nor a Parquet file; expected one of these, or a directory of MOSAIC's shards"
    )


def _open_folder(folder: Path) -> Comparable:
    for samples in (folder / SAMPLES, folder / SAMPLES.name, folder):
        if samples.is_dir() and (shards := _shards_in(samples)):
            return ShardNumbers(str(folder), samples, shards)
    for table in (folder / f"{SAMPLES}.parquet", folder / "samples.parquet"):
        if table.is_file():
            return TableNumbers(str(table))
    wanted = f"sim_0000001.parquet and so on, there or in {SAMPLES}, or {SAMPLES}.parquet"
    raise InputError(f"{folder}: holds no shards; expected {wanted}")


def _shards_in(samples: Path) -> dict[int, str]:
    with os.scandir(samples) as entries:
        matches = (SHARD_NAME.fullmatch(entry.name) for entry in entries)
        return {int(match[1]): match[0] for match in matches if match}


class RunNumbers:
    """The completed simulations of a results file; see `Comparable`."""

    def __init__(self, path: str) -> None:
        self.name, self.results = path, Results(path)
        self.parameter_names = self.results.parameter_names
        with h5file.reading(path) as file:
            self.status: NDArray[np.int8] = h5file.read_status(file)
        self.all_ids = self.results.table("simulations/sim_id").astype(np.int64)
        self.rows = np.flatnonzero(self.status == layout.COMPLETED)
        self.ids: NDArray[np.int64] = self.all_ids[self.rows]

    def read(self, places: NDArray[np.int64]) -> Block:
        """See `Comparable.read`."""
        rows = self.rows[places]
        likelihood = self.results.rows_of("simulations/likelihood", rows)
        if not self.parameter_names:
            return Block(likelihood, np.empty((len(rows), 0)))
        return Block(likelihood, self.results.rows_of("parameters/values", rows))


class TableNumbers:
    """A Parquet table with a row a simulation; see `Comparable`.

    Read in batches where its rows ascend by simulation, as `export --samples` and MOSAIC write them; held in memory
    where they do not.
    """

    def __init__(self, path: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.name = path
        try:
            self._file = parquet.ParquetFile(pa.OSFile(path), pre_buffer=False)
            columns = self._file.schema_arrow.names
            self.parameter_names = _parameters_among(path, columns)
            sims = _as_floats(path, "sim", self._file.read(["sim"], use_threads=False)["sim"])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: damaged, or not a Parquet file: {error}") from None
        order = np.argsort(sims, kind="stable")
        self.ids = _checked_ids(path, sims[order])
        ascending = bool((order[1:] > order[:-1]).all())
        self._blocks = self._batches() if ascending else iter([self._whole(order)])
        self._block, self._first = np.empty((0, 1 + len(self.parameter_names))), 0

    def read(self, places: NDArray[np.int64]) -> Block:
        """See `Comparable.read`."""
        found = np.empty((len(places), 1 + len(self.parameter_names)))
        n_found = 0
        while n_found < len(places):
            end = int(np.searchsorted(places, self._first + len(self._block)))
            found[n_found:end] = self._block[places[n_found:end] - self._first]
            n_found = max(end, n_found)
            if n_found < len(places):
                self._first += len(self._block)
                self._block = next(self._blocks)
        return Block(found[:, 0], found[:, 1:])

    def _batches(self) -> Iterator[NDArray[np.float64]]:
        import pyarrow as pa

        columns = ["likelihood", *self.parameter_names]
        try:
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                by_name = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield np.column_stack([_as_floats(self.name, name, by_name[name]) for name in columns])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.name}: damaged: {error}") from None

    def _whole(self, order: NDArray[np.int64]) -> NDArray[np.float64]:
        matrix = np.empty((len(order), 1 + len(self.parameter_names)))
        first = 0
        for block in self._batches():
            matrix[first : first + len(block)] = block
            first += len(block)
        return matrix[order]


class ShardNumbers:
    """A directory of MOSAIC's shards, one row in one file a simulation; see `Comparable`."""

    def __init__(self, name: str, samples: Path, shards: dict[int, str]) -> None:
        self.name, self._samples, self._shards = name, samples, shards
        self.ids = np.array(sorted(shards), dtype=np.int64)
        path, table = self._shard(int(self.ids[0]))
        self.parameter_names = _parameters_among(path, table.column_names)

    def read(self, places: NDArray[np.int64]) -> Block:
        """See `Comparable.read`."""
        names = ("sim", "likelihood", *self.parameter_names)
        found = np.empty((len(places), len(names)))
        for index, sim_id in enumerate(map(int, self.ids[places])):
            path, table = self._shard(sim_id)
            if _parameters_among(path, table.column_names) != self.parameter_names:
                raise InputError(f"{path}: has other columns than {self._shards[int(self.ids[0])]} there")
            found[index] = [_as_floats(path, name, table[name])[0] for name in names]
            if found[index, 0] != sim_id:
                raise InputError(f"{path}: says that it is simulation {found[index, 0]:g}")
        return Block(found[:, 1], found[:, 2:])

    def _shard(self, sim_id: int) -> tuple[str, Any]:
        import pyarrow as pa

        path = str(self._samples / self._shards[sim_id])
        try:
            table = read_parquet(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: damaged, or not a Parquet file: {error}") from None
        if table.num_rows != 1:
            raise InputError(f"{path}: found {table.num_rows} rows, expected one")
        return path, table


def _parameters_among(path: str, columns: Sequence[str]) -> tuple[str, ...]:
    missing = [name for name in ("sim", "likelihood") if name not in columns]
    if missing:
        raise InputError(f"{path}: no column {' and no column '.join(missing)}; expected a table of simulations")
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: has columns of the same name")
    return tuple(
        name for name in columns if name not in LEADING_COLUMNS and not name.startswith(_BOOKKEEPING_PREFIXES)
    )


def _as_floats(path: str, name: str, column: Any) -> NDArray[np.float64]:
    """A column as float64, null as NaN."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise InputError(f"{path}: {name}: found {kind}, expected numbers")
    numbers: NDArray[np.float64] = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    return numbers


def _checked_ids(path: str, sims: NDArray[np.float64]) -> NDArray[np.int64]:
    if len(sims) and not ((sims >= 1) & (sims < 2**31) & (sims == np.floor(sims))).all():
        raise InputError(f"{path}: sim: expected whole numbers from 1")
    ids = sims.astype(np.int64)
    if (ids[1:] == ids[:-1]).any():
        raise InputError(f"{path}: sim: {ids[1:][ids[1:] == ids[:-1]][0]} is there more than once")
    return ids
