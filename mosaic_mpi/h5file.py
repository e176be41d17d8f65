"""The only importer of h5py: creates results files, tells where their tables lie, opens them for reading.

Owns everything that touches HDF5 metadata. A file is made under a temporary name and renamed, and its metadata
never changes after that; what a run adds goes into bytes that already exist (see `store.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray

from mosaic_mpi import layout, seal
from mosaic_mpi._version import __version__
from mosaic_mpi.blueprint import Blueprint
from mosaic_mpi.errors import InputError
from mosaic_mpi.plan import Channel, SimIds, seeds_of

_LIBVER = ("earliest", "v110")  # R's HDF5 1.10 cannot read what 'latest' writes under HDF5 2.0
_BLOCK_ROWS = 65536
_HDF5 = b"\x89HDF\r\n\x1a\n"
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device"}
_OF_READING = re.compile(r"^(?!.*(write|flush)).*\(.*\)$", re.DOTALL)
"""How h5py words an error that is not one of writing: what it could not do, and why in brackets."""


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
        return file.read(len(_HDF5)) == _HDF5
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
    _refuse_foreign(path)
    with _open_for_reading(path) as file, _telling_damage(path):
        if _text(file.attrs.get("format", "")) != layout.FORMAT:
            raise InputError(f"{path}: an HDF5 file, but not a results file of mosaic_mpi; nothing was changed")
        found = int(file.attrs["format_version"])
        if found != layout.FORMAT_VERSION:
            raise InputError(
                f"{path}: format version {found}, this mosaic_mpi {__version__} reads {layout.FORMAT_VERSION}"
            )
        yield file


def _refuse_foreign(path: Path) -> None:
    """Refuse what HDF5 had better not see: it waits for pipes, and damaged metadata can end the process."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise InputError(f"{path}: is {_KINDS.get(stat.S_IFMT(mode), 'no file')}; nothing was changed")
        with open(path, "rb") as file:
            start = file.read(len(_HDF5))
        if start == _HDF5:
            seal.check(path)
    except FileNotFoundError:
        target = f"; it is a symbolic link to {os.readlink(path)}" if path.is_symlink() else ""
        raise InputError(f"{path}: no such file{target}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except seal.Broken as error:
        raise InputError(f"{path}: damaged: {error}; nothing was changed") from None
    if start != _HDF5:
        what = f"starts with {start!r}" if start else "is empty"
        raise InputError(f"{path}: not an HDF5 file: it {what}; nothing was changed")


@contextlib.contextmanager
def _telling_damage(path: Path) -> Iterator[None]:
    """Turn what h5py says of damage into one sentence; errors of writing, to another file, pass."""
    try:
        yield
    except KeyError as error:
        if "Unable to" not in str(error):  # not h5py's
            raise
        raise InputError(f"{path}: damaged: it lacks a part: {error}; nothing was changed") from None
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) or not _OF_READING.search(str(error)):
            raise
        raise InputError(f"{path}: damaged HDF5 file: {error}; nothing was changed") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: damaged: text that cannot be read: {error}; nothing was changed") from None


def _open_for_reading(path: Path) -> Any:
    try:
        return h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError) as error:
        # HDF5 wants one locking flag a process: a notebook may have the file open with the other.
        with contextlib.suppress(OSError, RuntimeError):
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


def read_status(file: Any) -> NDArray[np.int8]:
    """Read the state of every simulation.

    Raises
    ------
    InputError
        One is none of the known ones.
    """
    status: NDArray[np.int8] = file["simulations/status"][...]
    wrong = np.flatnonzero(~is_known(status))
    if len(wrong):
        raise InputError(
            f"{file.filename}: damaged: simulations/status is {status[wrong[0]]} in row {wrong[0]}, expected 0, 1 or "
            f"2 ({len(wrong)} such rows); `run`, with the run's own command, runs them again"
        )
    return status


def is_known(status: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which of them are states, ``ndarray of bool``."""
    return (status >= layout.PENDING) & (status <= layout.FAILED)


def read_count(file: Any, what: str, limit: int) -> int:
    """Read how many rows of ``starts``, ``errors`` or ``hosts`` are in use."""
    return min(max(int(file[f"progress/n_{what}"][0]), 0), limit)


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


def read_blueprint(file: Any, sim_ids: SimIds) -> Blueprint:
    """Read what an open results file was made from, for a file of its plan with other simulations."""
    header = read_header(file)
    return Blueprint(
        sim_ids=sim_ids,
        n_iterations=header.n_iterations,
        parameter_names=_names(file),
        channels=header.channels,
        identity=header.identity,
        fingerprint=header.fingerprint,
        config=read_config(file),
        locations=header.locations,
        dates=header.dates,
    )


def _names(file: Any) -> tuple[str, ...]:
    return tuple(map(_text, file["parameters/name"][()])) if "parameters/name" in file else ()


def placements(path: str | Path) -> dict[str, Placement]:
    """Return where every table of a results file lies."""
    found = {}
    with reading(path) as file:
        for table in layout.TABLES:
            if table.name in file:
                dataset = file[table.name]
                found[table.name] = Placement(dataset.id.get_offset(), dataset.dtype, dataset.shape)
    return found


def create(path: str, blueprint: Blueprint, folded: bool = False, spool_id: str | None = None) -> None:
    """Create a results file, complete but for the results, under the given (temporary) name.

    Parameters
    ----------
    path : str
        Must not exist.
    blueprint : Blueprint
        What it is for.
    folded : bool
        Make room for the channels in the file itself; only a finished run has that.
    spool_id : str, optional
        Which spool belongs to it; a new one by default.
    """
    sizes = blueprint.sizes
    with h5py.File(path, "x", libver=_LIBVER, locking=False) as file:  # where flock is refused, HDF5 would be
        _write_attributes(file, blueprint, sizes, folded, spool_id or uuid.uuid4().hex)
        _write_plan(file, blueprint)
        for table in layout.TABLES:
            if not (folded and table.name.startswith(layout.SERIES_PREFIX)):
                _allocate(file, table, sizes)
        _prefill(file, blueprint)
        for channel in blueprint.channels if folded else ():
            _make_channel(file, channel, blueprint)
    reserve(path)


def reserve(path: str) -> None:
    """Seal a file (see `seal.py`), reserve its space on the disk, and push its bytes there."""
    seal.attach(path, _data_ranges(path))
    descriptor = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(descriptor, 0, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _data_ranges(path: str) -> list[tuple[int, int]]:
    """Where a file holds results and not what describes them."""
    with h5py.File(path, "r", locking=False) as file:
        tables = [file[table.name] for table in layout.TABLES if table.name in file]
        ranges = [(table.id.get_offset(), table.nbytes) for table in tables]
        for dataset in file.get("channels", {}).values():
            dataset.id.chunk_iter(lambda chunk: ranges.append((chunk.byte_offset, chunk.size)))
    return ranges


def _write_attributes(file: Any, blueprint: Blueprint, sizes: dict[str, int], folded: bool, spool_id: str) -> None:
    file.attrs["format"] = layout.FORMAT
    file.attrs["format_version"] = layout.FORMAT_VERSION
    file.attrs["created_by"] = f"mosaic_mpi {__version__}"
    file.attrs["created_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    file.attrs["plan_fingerprint"] = blueprint.fingerprint
    file.attrs["folded"] = np.int32(folded)
    file.attrs["spool_id"] = spool_id
    for name, length in sizes.items():
        file.attrs[name] = np.int32(length)


def _write_plan(file: Any, blueprint: Blueprint) -> None:
    config = np.array([blueprint.config.encode()])
    file.create_dataset("plan/config", data=config, compression="gzip", shuffle=False)
    file["plan/identity"] = json.dumps(blueprint.identity, indent=1).encode()
    channels = [
        {"name": entry.name, "axes": entry.axes, "shape": entry.shape, "dtype": entry.dtype}
        for entry in blueprint.channels
    ]
    file["plan/channels"] = json.dumps(channels).encode()
    file["plan/location"] = np.array([name.encode() for name in blueprint.locations])
    file["plan/date"] = np.array([day.encode() for day in blueprint.dates])
    if blueprint.parameter_names:
        file["parameters/name"] = np.array([name.encode() for name in blueprint.parameter_names])


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


def _prefill(file: Any, blueprint: Blueprint) -> None:
    """Write what is known before the run: ids, seeds, and the parameters of a given table."""
    n_simulations, given = len(blueprint.sim_ids), blueprint.given
    for first in range(0, n_simulations, _BLOCK_ROWS):
        rows = slice(first, min(first + _BLOCK_ROWS, n_simulations))
        sim_ids = blueprint.sim_ids[rows]
        file["simulations/sim_id"][rows] = np.asarray(sim_ids, dtype=np.int32)
        file["iterations/seed"][rows] = seeds_of(sim_ids, blueprint.n_iterations)
        if given is not None and blueprint.parameter_names:
            file["parameters/values"][rows] = given[rows]


def _make_channel(file: Any, channel: Channel, blueprint: Blueprint) -> None:
    kind = np.dtype(channel.dtype)
    per_simulation = (blueprint.n_iterations, *channel.shape)
    dataset = file.create_dataset(
        f"channels/{channel.name}",
        shape=(len(blueprint.sim_ids), *per_simulation),
        dtype=kind,
        chunks=(1, *per_simulation),
        shuffle=True,
        compression="gzip",
        compression_opts=1,
        fillvalue=np.nan if kind.kind == "f" else 0,
    )
    dataset.attrs["axes"] = ", ".join(("simulation", "iteration", *channel.axes))


WriteChunks = Callable[[int, Sequence[bytes]], None]
"""Takes a row and its stored channels."""


@contextlib.contextmanager
def chunk_writer(path: str, channels: tuple[Channel, ...]) -> Iterator[WriteChunks]:
    """Give what puts stored channels into a file made with ``folded=True``, one chunk each."""
    with h5py.File(path, "r+", libver=_LIBVER, locking=False) as file:
        datasets = [file[f"channels/{channel.name}"] for channel in channels]

        def write(row: int, parts: Sequence[bytes]) -> None:
            for dataset, data in zip(datasets, parts, strict=True):
                dataset.id.write_direct_chunk((row,) + (0,) * (dataset.ndim - 1), data)

        yield write


def read_chunk(file: Any, channel: Channel, row: int) -> bytes:
    """Return one simulation's compressed channel from a folded file."""
    dataset = file[f"channels/{channel.name}"]
    _, data = dataset.id.read_direct_chunk((row,) + (0,) * (dataset.ndim - 1))
    return bytes(data)


def chunks_bytes(file: Any, channels: tuple[Channel, ...]) -> int:
    """Stored bytes of all channels of a folded file."""
    return sum(int(file[f"channels/{channel.name}"].id.get_storage_size()) for channel in channels)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
