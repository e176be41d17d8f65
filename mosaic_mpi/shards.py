"""Results as the files that MOSAIC's ``run_MOSAIC(resume = TRUE)`` picks up.

Owns MOSAIC's output folder as far as mosaic_mpi writes it: one Parquet file a simulation, and the two files of
1_inputs against which MOSAIC checks them. Writes only what is not there: a file that is there is the same, or nothing
is written at all. Knows no MPI and no engine.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mosaic_mpi import environment, layout
from mosaic_mpi.arrowfile import read_parquet
from mosaic_mpi.errors import InputError, MosaicError, StorageError
from mosaic_mpi.results import Results
from mosaic_mpi.shard_inputs import INPUTS, check_exportable, conflicts, input_files

SAMPLES = Path("2_calibration", "samples")
LEADING_COLUMNS = ("sim", "iter", "seed_sim", "seed_iter", "likelihood")
LIKELIHOOD_TOLERANCE = 1e-6
"""A shard by MOSAIC and ours of the same simulation differ by less, relative to values of at least 1."""
_TEMPORARY = ".mosaic_tmp_"  # MOSAIC clears away files of this name
SHARD_NAME = re.compile(r"sim_0*(\d+)\.parquet")
_BLOCK_ROWS = 500


def export_mosaic(path: str, folder: str, control: str | None = None) -> str:
    """Write what MOSAIC resumes from: a shard for each completed simulation, and what it checks them against.

    A simulation that failed gets no shard: MOSAIC runs it itself then, by its own rules for failures. (Its own
    workers write one with a null likelihood if only the engine failed; the parameters of a failed simulation are
    not in the results file.) A file that is there already stays as it is if it says the same, so that an
    interrupted export, one of a growing file and one into a folder in which MOSAIC has run some simulations
    continue. One that says something else ends the export before anything is written; one that is no Parquet file
    is moved to ``.quarantine``, as MOSAIC does.

    Parameters
    ----------
    path : str
        The results file, of a run with ``--priors`` and without ``--samples``.
    folder : str
        MOSAIC's output folder; made if need be.
    control : str, optional
        The run's control settings, JSON; with them 1_inputs/control.json is written.

    Returns
    -------
    str
        What was written, for a person.

    Raises
    ------
    InputError
        MOSAIC would draw other parameters, the control settings are not the run's, or the folder holds files of
        another run.
    StorageError
        A file cannot be written; what was written is whole, and the same command continues.
    """
    results = Results(path)
    check_exportable(results)
    samples = Path(folder) / SAMPLES
    inputs = input_files(results, control)
    problems = [problem for name, content in inputs.items() for problem in conflicts(Path(folder), name, content)]
    if problems:
        raise InputError(problems)
    try:
        samples.mkdir(parents=True, exist_ok=True)
        strangers = _check_folder(results, samples)
        for name, content in inputs.items():
            _write_new(Path(folder) / INPUTS / name, (json.dumps(content, indent=1) + "\n").encode())
        n_written, n_kept = np.sum(list(_in_parallel(_write_rows, results, samples)), axis=0)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return _said(results, folder, inputs, int(n_written), int(n_kept), strangers)


def _said(
    results: Results, folder: str, inputs: Mapping[str, Any], n_written: int, n_kept: int, strangers: int
) -> str:
    left = results.n_simulations - n_written - n_kept
    parts = [f"{folder}: {n_written} shards written"]
    parts += [f"{n_kept} were there already"] if n_kept else []
    parts += [f"{left} simulations are not completed and left out"] if left else []
    parts += [f"{strangers} shards there are of no simulation of this file; MOSAIC takes them too"] * bool(strangers)
    parts += [f"{INPUTS / name}" for name in inputs]
    return "; ".join(parts)


# ---- one shard --------------------------------------------------------------------------------------


class ShardTemplate:
    """Shard files of the same columns and the same nulls, which differ in the bytes of their numbers alone.

    A shard has one row: each column is a page that ends with one plain double. So the files need not be encoded
    one by one, which takes milliseconds (35 ms with forty locations), but are copies of one with the numbers put
    in place. Without dictionary, statistics and compression (a frame around eight bytes makes them more).

    Parameters
    ----------
    names : sequence of str
        The columns.
    nulls : ndarray of bool, shape (n_columns,)
        Which of them are null.

    Raises
    ------
    MosaicError
        pyarrow lays pages out in another way.
    """

    def __init__(self, names: Sequence[str], nulls: NDArray[np.bool_]) -> None:
        self._filled = np.flatnonzero(~nulls)
        probe = np.where(nulls, np.nan, np.arange(len(nulls)) + 0.5)
        data = _encode(names, probe)
        group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
        chunks = [group.column(int(index)) for index in self._filled]
        ends = np.array([chunk.data_page_offset + chunk.total_compressed_size for chunk in chunks], dtype=np.int64)
        self._positions = ends[:, None] + np.arange(-8, 0)
        self._bytes = np.frombuffer(data, np.uint8)
        self._check(-3.0 * probe)

    def fill(self, row: NDArray[np.float64]) -> bytes:
        """Return the file of some numbers.

        Parameters
        ----------
        row : ndarray of float64, shape (n_columns,)
            What is null is not read.
        """
        data = self._bytes.copy()
        data[self._positions] = row[self._filled].astype("<f8").view(np.uint8).reshape(-1, 8)
        return data.tobytes()

    def _check(self, row: NDArray[np.float64]) -> None:
        found = _row_of(read_parquet(self.fill(row)))
        if not np.array_equal(found, row, equal_nan=True):
            raise MosaicError(f"pyarrow {pa.__version__} writes Parquet pages that shards cannot be made of")


def _encode(names: Sequence[str], row: NDArray[np.float64]) -> bytes:
    arrays = [pa.array(row[index : index + 1], from_pandas=True) for index in range(len(row))]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(arrays, names=list(names)),
        sink,
        compression="NONE",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        data_page_version="1.0",
    )
    return bytes(sink.getvalue())


def _row_of(table: pa.Table) -> NDArray[np.float64]:
    """The first row, null as NaN."""
    return np.array([column[0].as_py() for column in table.columns], dtype=np.float64)


def shard_columns(results: Results) -> tuple[str, ...]:
    """The columns of a run's shards, in MOSAIC's order; all are float64."""
    return (*LEADING_COLUMNS, *results.parameter_names)


def shard_values(results: Results, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the shards of some completed simulations.

    Parameters
    ----------
    results : Results
    rows : ndarray of int64, shape (n,)
        Ascending.

    Returns
    -------
    ndarray of float64, shape (n, n_columns)
        Columns as `shard_columns`; NaN stands for null. ``seed_iter`` is the engine's seed where the likelihood
        is the first iteration's: with one iteration, or none that is finite.
    """
    sims = results.rows_of("simulations/sim_id", rows)
    seeds = results.rows_of("iterations/seed", rows)[:, 0]
    finite = np.isfinite(results.rows_of("iterations/likelihood", rows)).any(axis=1)
    collapsed = finite & (results.header.n_iterations > 1)
    leading = np.column_stack(
        [
            sims,
            np.ones(len(rows)),
            sims,
            np.where(collapsed, np.nan, seeds),
            results.rows_of("simulations/likelihood", rows),
        ]
    )
    values = [results.rows_of("parameters/values", rows)] if results.parameter_names else []
    return np.hstack([leading, *values])


# ---- all shards, in parallel ------------------------------------------------------------------------


class _Exporter:
    """What a process needs to write shards: the file, the folder, and the templates made so far."""

    def __init__(self, path: str, samples: Path) -> None:
        self.results, self.samples = Results(path), samples
        self.columns = shard_columns(self.results)
        self._templates: dict[bytes, ShardTemplate] = {}

    def completed(self, rows: range) -> NDArray[np.int64]:
        span = np.arange(rows.start, rows.stop)
        found: NDArray[np.int64] = span[self.results.rows_of("simulations/status", span) == layout.COMPLETED]
        return found

    def path(self, sim: float) -> Path:
        return self.samples / f"sim_{int(sim):07d}.parquet"

    def data(self, row: NDArray[np.float64]) -> bytes:
        nulls = np.isnan(row)
        template = self._templates.get(nulls.tobytes())
        if template is None:
            template = self._templates[nulls.tobytes()] = ShardTemplate(self.columns, nulls)
        return template.fill(row)


_exporter: _Exporter | None = None


def _adopt(path: str, samples: Path) -> None:
    global _exporter
    _exporter = _Exporter(path, samples)


def _in_parallel(work: Callable[[range], Any], results: Results, samples: Path) -> Iterator[Any]:
    """Hand blocks of rows to all cores that we may use; one after the other with one."""
    firsts = range(0, results.n_simulations, _BLOCK_ROWS)
    blocks = [range(first, min(first + _BLOCK_ROWS, results.n_simulations)) for first in firsts]
    n_processes = min(len(environment.allowed_cores()), len(blocks))
    if n_processes == 1:
        _adopt(results.path, samples)
        yield from map(work, blocks)
        return
    with ProcessPoolExecutor(n_processes, get_context("spawn"), _adopt, (results.path, samples)) as pool:
        yield from pool.map(work, blocks)


def _write_rows(rows: range) -> tuple[int, int]:
    """Write the shards of some rows; how many, and how many were there."""
    assert _exporter is not None
    n_written = n_kept = 0
    for row in shard_values(_exporter.results, _exporter.completed(rows)):
        path = _exporter.path(row[0])
        if path.exists():  # looked at by _check_rows
            n_kept += 1
        else:
            _write_new(path, _exporter.data(row))
            n_written += 1
    return n_written, n_kept


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that appears whole; one that is there is left alone."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(data)
        os.rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


# ---- shards that are there already ------------------------------------------------------------------


def _check_folder(results: Results, samples: Path) -> int:
    """Compare shards that are there with the run's; how many are of none of its simulations.

    Raises
    ------
    InputError
        One of them says something else.
    """
    there = _shards_in(samples)
    if not len(there):
        return 0
    differing = sorted(name for names in _in_parallel(_check_rows, results, samples) for name in names)
    if differing:
        some = ", ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise InputError(
            f"{samples}: holds shards of another run: {some}; nothing was written: choose another folder"
        )
    completed = results.table("simulations/sim_id")[results.completed()]
    return int(np.isin(there, completed, invert=True).sum())


def _shards_in(samples: Path) -> NDArray[np.int64]:
    with os.scandir(samples) as entries:
        matches = (SHARD_NAME.fullmatch(entry.name) for entry in entries)
        return np.fromiter((int(match[1]) for match in matches if match), dtype=np.int64)


def _check_rows(rows: range) -> list[str]:
    """Names of the shards of some rows that are there and are not the run's."""
    assert _exporter is not None
    completed = _exporter.completed(rows)
    sims = _exporter.results.rows_of("simulations/sim_id", completed)
    there = completed[[_exporter.path(sim).exists() for sim in sims]] if len(sims) else completed
    found = shard_values(_exporter.results, there)
    return [_exporter.path(row[0]).name for row in found if not _agrees(_exporter, row)]


def _agrees(exporter: _Exporter, row: NDArray[np.float64]) -> bool:
    path = exporter.path(row[0])
    if path.read_bytes() == exporter.data(row):
        return True
    try:
        table = read_parquet(path)
    except pa.ArrowException:
        _quarantine(path)
        return True
    return _says(table, exporter.columns, row)


def _says(table: pa.Table, columns: Sequence[str], row: NDArray[np.float64]) -> bool:
    """Whether a shard holds these numbers: parameters to the bit, the likelihood as near as R's comes."""
    if table.num_rows != 1 or table.column_names != list(columns):
        return False
    if any(kind != pa.float64() for kind in table.schema.types):
        return False
    found = _row_of(table)
    place = LEADING_COLUMNS.index("likelihood")
    others = np.arange(len(row)) != place
    same = np.array_equal(found[others], row[others], equal_nan=True)
    bound = LIKELIHOOD_TOLERANCE
    return bool(same and np.isclose(found[place], row[place], rtol=bound, atol=bound, equal_nan=True))


def _quarantine(path: Path) -> None:
    """Move a file that holds no shard out of the way, where MOSAIC puts such files too."""
    folder = path.parent / ".quarantine"
    folder.mkdir(exist_ok=True)
    os.rename(path, folder / f"{path.name}.{secrets.token_hex(4)}")
