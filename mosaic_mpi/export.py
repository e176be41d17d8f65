"""Results as Parquet tables.

Owns the columns of the exported tables. Knows no MPI and no engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mosaic_mpi.errors import InputError, StorageError
from mosaic_mpi.h5file import is_hdf5
from mosaic_mpi.results import Results

_BLOCK_ROWS = 16384
_SERIES_SIMULATIONS = 8
"""Simulations in one block of the time series, 1.1 million rows of 40 locations, 3 years and 3 iterations."""


def export_samples(path: str, output: str) -> str:
    """Write one row a completed simulation: ids, seeds, likelihood and parameters.

    Columns, all float64, as in MOSAIC's shards: ``sim``, ``iter`` (1), ``seed_sim`` (the sim), ``seed_iter`` (the
    engine's seed where one iteration alone made the likelihood, else null), ``likelihood``, one a parameter.
    ``run --samples`` reads such a table.

    Parameters
    ----------
    path : str
        The results file.
    output : str
        The Parquet file; written under a temporary name and renamed.

    Returns
    -------
    str
        What was written, for a person.
    """
    results = Results(path)
    rows = results.completed()

    def blocks() -> Iterator[pa.Table]:
        for first in range(0, max(len(rows), 1), _BLOCK_ROWS):
            yield _samples_block(results, rows[first : first + _BLOCK_ROWS])

    write_parquet(output, blocks())
    left = results.n_simulations - len(rows)
    note = f"; {left} simulations are not completed and left out" if left else ""
    return f"{output}: {len(rows)} simulations, {len(results.parameter_names)} parameters{note}"


def _samples_block(results: Results, rows: Any) -> pa.Table:
    sims = results.rows_of("simulations/sim_id", rows).astype(np.float64)
    seeds = results.rows_of("iterations/seed", rows)[:, 0].astype(np.float64)
    finite = np.isfinite(results.rows_of("iterations/likelihood", rows)).any(axis=1)
    collapsed = finite & (results.header.n_iterations > 1)  # where none is finite, iteration 1 stands for all
    columns: dict[str, Any] = {
        "sim": sims,
        "iter": np.ones(len(rows)),
        "seed_sim": sims,
        "seed_iter": pa.array(seeds, mask=collapsed),
        "likelihood": results.rows_of("simulations/likelihood", rows),
    }
    if results.parameter_names:
        values = results.rows_of("parameters/values", rows)
        columns |= {
            name: pa.array(values[:, index], from_pandas=True)  # NaN, R's NA, as null
            for index, name in enumerate(results.parameter_names)
        }
    return pa.table(columns)


def export_timeseries(path: str, output: str) -> str:
    """Write one row a completed simulation, iteration, location and day, with one column a saved channel.

    Columns: ``sim``, ``iteration`` (int32), ``location`` (text), ``date`` (date32), then the channels in the
    engine's dtypes.

    Parameters
    ----------
    path : str
        The results file; the run must have been started with ``--save``.
    output : str
        The Parquet file; written under a temporary name and renamed.

    Returns
    -------
    str
        What was written, for a person.

    Raises
    ------
    InputError
        No time series were saved.
    """
    results = Results(path)
    names = [entry.name for entry in results.header.channels if entry.axes == ("location", "time")]
    if not names:
        raise InputError(f"{path}: no time series were saved; start the run with --save reported_cases,…")
    rows = results.completed()
    write_parquet(output, _series_blocks(results, rows, names))
    return f"{output}: {', '.join(names)} of {len(rows)} simulations"


def _series_blocks(results: Results, rows: Any, names: list[str]) -> Iterator[pa.Table]:
    yield _series_block(results, [], names)  # the columns, even where nothing is completed
    pending: list[tuple[int, list[Any]]] = []
    for row, arrays in results.series(rows, names):
        pending.append((row, arrays))
        if len(pending) == _SERIES_SIMULATIONS:
            yield _series_block(results, pending, names)
            pending = []
    if pending:
        yield _series_block(results, pending, names)


def _series_block(results: Results, entries: list[tuple[int, list[Any]]], names: list[str]) -> pa.Table:
    kinds = {entry.name: entry.dtype for entry in results.header.channels}
    header = results.header
    n_times = max((entry.shape[-1] for entry in header.channels if entry.name in names), default=0)
    shape = (len(entries), header.n_iterations, len(header.locations), n_times)
    sims = results.rows_of("simulations/sim_id", np.array([row for row, _ in entries], dtype=np.int64))
    places = np.broadcast_to(np.arange(shape[2], dtype=np.int32)[:, None], shape).ravel()
    dates = pa.array(np.array(header.dates[:n_times], dtype="datetime64[D]"))
    columns: dict[str, Any] = {
        "sim": np.repeat(sims.astype(np.int32), int(np.prod(shape[1:]))),
        "iteration": np.broadcast_to(np.arange(1, shape[1] + 1, dtype=np.int32)[:, None, None], shape).ravel(),
        "location": pa.DictionaryArray.from_arrays(pa.array(places), list(header.locations)).cast(pa.string()),
        "date": dates.take(pa.array(np.broadcast_to(np.arange(n_times), shape).ravel())),
    }
    for index, name in enumerate(names):
        columns[name] = _stacked([arrays[index] for _, arrays in entries], shape, kinds[name])
    return pa.table(columns)


def _stacked(arrays: list[Any], shape: tuple[int, ...], dtype: str) -> Any:
    return np.stack(arrays).ravel() if arrays else np.empty(0, dtype)


def write_parquet(output: str, blocks: Iterator[pa.Table]) -> None:
    """Write tables of one schema, at least one, into a Parquet file that appears only when it is whole.

    Raises
    ------
    InputError
        The name is a folder's, or a results file's.
    StorageError
        It cannot be written.
    """
    target = Path(output)
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise InputError(f"{output}: is a folder, or lies in none; expected the name of a Parquet file")
    if is_hdf5(target) or output.endswith(".spool"):
        raise InputError(f"{output}: is a results file or part of one; it was left alone, give another name")
    temporary = f"{output}.tmp-{os.getpid()}"
    try:
        first = next(blocks)
        with pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for block in blocks:
                writer.write_table(block)
        os.replace(temporary, output)
    except OSError as error:
        raise StorageError(f"{output}: cannot be written: {error.strerror or error}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
