"""The only importer of h5py: creates results files, tells where their tables lie, opens them for reading.

Owns everything that touches HDF5 metadata. A file is made under a temporary name and renamed, and its metadata
never changes after that; what a run adds goes into bytes that already exist (see `store.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray

from mosaic_mpi import layout
from mosaic_mpi._version import __version__
from mosaic_mpi.errors import InputError
from mosaic_mpi.mosaic.source import TableOverPrior
from mosaic_mpi.parameter_table import ParameterTable
from mosaic_mpi.parameters import ParameterSource
from mosaic_mpi.plan import Channel, RunPlan

_LIBVER = ("earliest", "v110")  # R's HDF5 1.10 cannot read what 'latest' writes under HDF5 2.0
_BLOCK_ROWS = 65536


@dataclass(frozen=True)
class Placement:
    """Where a table's bytes lie in the file."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """What a results file says of itself, whatever its state."""

    path: str
    n_simulations: int
    n_iterations: int
    n_parameters: int
    channels: tuple[Channel, ...]
    identity: dict[str, Any]
    fingerprint: str
    locations: tuple[str, ...]
    dates: tuple[str, ...]
    folded: bool
    spool_id: str


def is_hdf5(path: str | Path) -> bool:
    """Whether a file starts like an HDF5 file."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"
    return False


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[Any]:
    """Open a results file for reading, without a lock: a run may be writing it.

    Raises
    ------
    InputError
        It is missing, no HDF5 file, damaged, or not a results file of this format version.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not is_hdf5(path):
        raise InputError(f"{path}: not an HDF5 file; nothing was changed")
    with _open_for_reading(path) as file:
        if _text(file.attrs.get("format", "")) != layout.FORMAT:
            raise InputError(f"{path}: an HDF5 file, but not a results file of mosaic_mpi; nothing was changed")
        found = int(file.attrs["format_version"])
        if found != layout.FORMAT_VERSION:
            raise InputError(
                f"{path}: format version {found}, this mosaic_mpi {__version__} reads {layout.FORMAT_VERSION}"
            )
        try:
            yield file
        except KeyError as error:
            if "Unable to" not in str(error):  # not h5py's
                raise
            raise InputError(f"{path}: damaged: it lacks a part: {error}; nothing was changed") from None


def _open_for_reading(path: Path) -> Any:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        # HDF5 wants one locking flag a process: a notebook may have the file open with the other.
        with contextlib.suppress(OSError):
            return h5py.File(path, "r")
        raise InputError(f"{path}: damaged HDF5 file: {error}; nothing was changed") from None


def read_header(file: Any) -> Header:
    """Read what an open results file says of itself."""
    channels = tuple(
        Channel(entry["name"], tuple(entry["axes"]), tuple(entry["shape"]), entry["dtype"])
        for entry in json.loads(_text(file["plan/channels"][()]))
    )
    return Header(
        path=file.filename,
        n_simulations=int(file.attrs["n_simulations"]),
        n_iterations=int(file.attrs["n_iterations"]),
        n_parameters=int(file.attrs["n_parameters"]),
        channels=channels,
        identity=json.loads(_text(file["plan/identity"][()])),
        fingerprint=_text(file.attrs["plan_fingerprint"]),
        locations=tuple(_text(name) for name in file["plan/location"][()]),
        dates=tuple(_text(day) for day in file["plan/date"][()]),
        folded=bool(file.attrs["folded"]),
        spool_id=_text(file.attrs["spool_id"]),
    )


def read_config(file: Any) -> str:
    """Return the config as it was given, JSON."""
    return _text(file["plan/config"][0])


def origin(file: Any) -> str:
    """Say by what and when an open results file was made."""
    return f"{_text(file.attrs['created_by'])}, {_text(file.attrs['created_at'])}"


def stored_bytes(file: Any) -> int:
    """Bytes of an open results file and of its spool."""
    path = Path(file.filename)
    spool = Path(layout.spool_path(file.filename))
    return path.stat().st_size + (spool.stat().st_size if spool.exists() else 0)


def placements(path: str | Path) -> dict[str, Placement]:
    """Return where every table of a results file lies."""
    found = {}
    with reading(path) as file:
        for table in layout.TABLES:
            if table.name in file:
                dataset = file[table.name]
                found[table.name] = Placement(dataset.id.get_offset(), dataset.dtype, dataset.shape)
    return found


def create(path: str, plan: RunPlan, folded: bool = False, spool_id: str | None = None) -> None:
    """Create a results file, complete but for the results, under the given (temporary) name.

    Parameters
    ----------
    path : str
        Must not exist.
    plan : RunPlan
        With its channels.
    folded : bool
        Make room for the channels in the file itself; only a finished run has that.
    spool_id : str, optional
        Which spool belongs to it; a new one by default.
    """
    sizes = layout.lengths(plan.n_simulations, plan.n_iterations, len(plan.source.names), len(plan.channels))
    with h5py.File(path, "x", libver=_LIBVER) as file:
        _write_attributes(file, plan, sizes, folded, spool_id or uuid.uuid4().hex)
        _write_plan(file, plan)
        for table in layout.TABLES:
            if not (folded and table.name.startswith(layout.SERIES_PREFIX)):
                _allocate(file, table, sizes)
        _prefill(file, plan)
        for channel in plan.channels if folded else ():
            _make_channel(file, channel, plan)
    reserve(path)


def reserve(path: str) -> None:
    """Reserve a file's space on the disk, and push its bytes there."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(descriptor, 0, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_attributes(file: Any, plan: RunPlan, sizes: dict[str, int], folded: bool, spool_id: str) -> None:
    file.attrs["format"] = layout.FORMAT
    file.attrs["format_version"] = layout.FORMAT_VERSION
    file.attrs["created_by"] = f"mosaic_mpi {__version__}"
    file.attrs["created_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    file.attrs["plan_fingerprint"] = plan.fingerprint
    file.attrs["folded"] = np.int32(folded)
    file.attrs["spool_id"] = spool_id
    for name, length in sizes.items():
        file.attrs[name] = np.int32(length)


def _write_plan(file: Any, plan: RunPlan) -> None:
    config = np.array([plan.config.text.encode()])
    file.create_dataset("plan/config", data=config, compression="gzip", shuffle=False)
    file["plan/identity"] = json.dumps(plan.identity, indent=1).encode()
    channels = [
        {"name": entry.name, "axes": entry.axes, "shape": entry.shape, "dtype": entry.dtype}
        for entry in plan.channels
    ]
    file["plan/channels"] = json.dumps(channels).encode()
    file["plan/location"] = np.array([name.encode() for name in plan.config.locations])
    file["plan/date"] = np.array([day.encode() for day in plan.config.dates])
    if plan.source.names:
        file["parameters/name"] = np.array([name.encode() for name in plan.source.names])


def _allocate(file: Any, table: layout.Table, sizes: dict[str, int]) -> None:
    """Make a contiguous dataset whose bytes exist at once and are never filled."""
    shape = layout.shape_of(table, sizes)
    if 0 in shape:
        return
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_layout(h5d.CONTIGUOUS)
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    kind = h5t.py_create(np.dtype(table.dtype), logical=True)
    h5d.create(file.id, table.name.encode(), kind, h5s.create_simple(shape), properties, links)
    file[table.name].attrs["unit"] = table.unit


def _prefill(file: Any, plan: RunPlan) -> None:
    """Write what is known before the run: ids, seeds, and the parameters of a given table."""
    for first in range(0, plan.n_simulations, _BLOCK_ROWS):
        rows = slice(first, min(first + _BLOCK_ROWS, plan.n_simulations))
        file["simulations/sim_id"][rows] = np.asarray(plan.sim_ids[rows], dtype=np.int32)
        file["iterations/seed"][rows] = plan.seeds(rows)
        given = _given_values(plan.source)
        if given is not None and plan.source.names:
            file["parameters/values"][rows] = given[rows]


def _given_values(source: ParameterSource) -> NDArray[np.float64] | None:
    """The values of a source that is a table."""
    table = source.table if isinstance(source, TableOverPrior) else source
    return table.values if isinstance(table, ParameterTable) else None


def _make_channel(file: Any, channel: Channel, plan: RunPlan) -> None:
    kind = np.dtype(channel.dtype)
    per_simulation = (plan.n_iterations, *channel.shape)
    dataset = file.create_dataset(
        f"channels/{channel.name}",
        shape=(plan.n_simulations, *per_simulation),
        dtype=kind,
        chunks=(1, *per_simulation),
        shuffle=True,
        compression="gzip",
        compression_opts=1,
        fillvalue=np.nan if kind.kind == "f" else 0,
    )
    dataset.attrs["axes"] = ", ".join(("simulation", "iteration", *channel.axes))


Series = Callable[[int], list[bytes] | None]
"""Row to its stored channels, None where there are none."""


def copy_results(source: Any, path: str, n_rows: int) -> None:
    """Copy what a run has found so far from an open results file into a new one.

    Parameters
    ----------
    source : h5py.File
        Open for reading.
    path : str
        A file made by `create`, with at least as many simulations.
    n_rows : int
        Simulations of the source.
    """
    with h5py.File(path, "r+", libver=_LIBVER, locking=False) as target:
        for table in layout.TABLES:
            if table.name not in source or table.name not in target:
                continue
            if table.shape[0] != "n_simulations":
                target[table.name][...] = source[table.name][...]
                continue
            for first in range(0, n_rows, _BLOCK_ROWS):
                rows = slice(first, min(first + _BLOCK_ROWS, n_rows))
                target[table.name][rows] = source[table.name][rows]


def write_chunks(
    path: str,
    channels: tuple[Channel, ...],
    rows: NDArray[np.int64],
    series: Series,
    tick: Callable[[], None],
) -> None:
    """Put compressed channels into a file made with ``folded=True``, one chunk a simulation and channel."""
    with h5py.File(path, "r+", libver=_LIBVER, locking=False) as file:
        datasets = [file[f"channels/{channel.name}"] for channel in channels]
        for row in map(int, rows):
            for dataset, data in zip(datasets, series(row) or [], strict=False):
                dataset.id.write_direct_chunk((row,) + (0,) * (dataset.ndim - 1), data)
            tick()


def read_chunk(file: Any, channel: Channel, row: int) -> bytes:
    """Return one simulation's compressed channel from a folded file."""
    dataset = file[f"channels/{channel.name}"]
    _, data = dataset.id.read_direct_chunk((row,) + (0,) * (dataset.ndim - 1))
    return bytes(data)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
