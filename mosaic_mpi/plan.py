"""The plan of a run: everything that decides its numbers.

Owns its fingerprint and the part that slots need, in bytes. Knows no MPI, no engine and no results file;
`plan_inputs.py` makes it from what a user gives.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.config import Config
from mosaic_mpi.control import LikelihoodSettings
from mosaic_mpi.engine_choice import AUTO, Verdict
from mosaic_mpi.errors import InputError
from mosaic_mpi.nearest import suggestion
from mosaic_mpi.parameters import ParameterSource
from mosaic_mpi.records import record_dtype

MAX_SEED = 2**31 - 1
"""Seeds stay below 2^31, so that R reads them as integers."""
_MAX_CHUNK_BYTES = 2**32 - 1
_BUFFER_ALIGNMENT = 64

SimIds = range | NDArray[np.int64]
"""Ascending; a range takes no space."""
_MAX_SPANS = 8


def rows_of(sim_ids: SimIds, wanted: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return the row of each wanted id.

    Parameters
    ----------
    sim_ids : range or ndarray of int64
        Id of each row, ascending.
    wanted : ndarray of int, shape (n,)
        Ids.

    Returns
    -------
    ndarray of int64, shape (n,)
        -1 for an id that has no row.
    """
    wanted = np.asarray(wanted, dtype=np.int64)
    if isinstance(sim_ids, range):
        inside = (wanted >= sim_ids.start) & (wanted < sim_ids.stop)
        return np.where(inside, wanted - sim_ids.start, -1)
    rows = np.minimum(np.searchsorted(sim_ids, wanted), len(sim_ids) - 1)
    return np.where(sim_ids[rows] == wanted, rows, -1)


def spans(sim_ids: NDArray[np.integer[Any]]) -> str:
    """Name ascending ids for a person: ``1-5, 8, 10-12``."""
    breaks = np.flatnonzero(np.diff(sim_ids) != 1) + 1
    parts = [
        f"{sim_ids[first]}" if last - first == 1 else f"{sim_ids[first]}-{sim_ids[last - 1]}"
        for first, last in zip((0, *breaks), (*breaks, len(sim_ids)), strict=True)
    ]
    more = f" and {len(parts) - _MAX_SPANS} more" if len(parts) > _MAX_SPANS else ""
    return ", ".join(parts[:_MAX_SPANS]) + more


def seeds_of(sim_ids: SimIds, n_iterations: int) -> NDArray[np.int32]:
    """Seeds of simulations, ``ndarray of int32, shape (n_simulations, n_iterations)``.

    Iteration j = 1..n_iterations of a simulation runs with ``(sim_id - 1) * n_iterations + j``.
    """
    first = (np.asarray(sim_ids, dtype=np.int64) - 1) * n_iterations
    return (first[:, None] + np.arange(1, n_iterations + 1)).astype(np.int32)


@dataclass(frozen=True)
class Channel:
    """One saved output channel: its axes, its shape in one iteration and its NumPy dtype."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    def chunk_bytes(self, n_iterations: int) -> int:
        """Uncompressed bytes of one simulation."""
        return n_iterations * math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class SlotPlan:
    """The part of a plan that a slot needs.

    Parameters
    ----------
    values : mapping
        `Config.values`.
    source : ParameterSource
        Draws parameter sets.
    sim_ids : range or ndarray of int64, shape (n_simulations,)
        Id of each row.
    n_iterations : int
        Stochastic realisations of a simulation.
    channels : tuple of Channel
        Saved ones, in order.
    simulator : str
        "laser", or a stand-in of `mosaic_mpi.fake`.
    likelihood : LikelihoodSettings
        How iterations are scored.
    engine : str
        Of `engine_choice.CHOICES`; decides no number.
    """

    values: Mapping[str, Any]
    source: ParameterSource
    sim_ids: SimIds
    n_iterations: int
    channels: tuple[Channel, ...]
    simulator: str
    likelihood: LikelihoodSettings = field(default_factory=LikelihoodSettings)
    engine: str = AUTO

    @property
    def record_dtype(self) -> np.dtype[np.void]:
        """See `mosaic_mpi.records`."""
        return record_dtype(self.n_iterations, len(self.source.names), len(self.channels))

    def to_bytes(self) -> bytes:
        """Pack into one block whose arrays can be used where they lie (see `from_buffer`)."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(self, protocol=5, buffer_callback=buffers.append)
        parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
        lengths = np.array([len(part) for part in parts], dtype="<i8")
        block = bytearray(np.int64(len(parts)).tobytes() + lengths.tobytes())
        for part in parts:
            block += b"\0" * (-len(block) % _BUFFER_ALIGNMENT)
            block += part
        return bytes(block)

    @staticmethod
    def from_buffer(block: memoryview) -> SlotPlan:
        """Unpack; the arrays are views of the block, so that slots share one copy."""
        n_parts = int(np.frombuffer(block, "<i8", 1)[0])
        lengths = np.frombuffer(block, "<i8", n_parts, 8)
        position, parts = 8 * (1 + n_parts), []
        for length in map(int, lengths):
            position += -position % _BUFFER_ALIGNMENT
            parts.append(block[position : position + length])
            position += length
        plan: SlotPlan = pickle.loads(parts[0], buffers=parts[1:])
        return plan


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides the numbers of a run.

    Parameters
    ----------
    config : Config
        Cut to the run's locations.
    source : ParameterSource
        Where parameters come from.
    sim_ids : range or ndarray of int64, shape (n_simulations,)
        Id of each row.
    n_iterations : int
        Stochastic realisations of a simulation.
    save : tuple of str
        Names of the channels to store.
    versions : mapping
        The packages whose version decides the numbers.
    simulator : str
        "laser", or a stand-in of `mosaic_mpi.fake`.
    channels : tuple of Channel
        Empty until the engine has described them.
    likelihood : LikelihoodSettings
        How iterations are scored.
    engine : str
        Of `engine_choice.CHOICES`; decides no number.
    verdict : Verdict or None
        What the engine runs by on rank 0's host, once it is known; decides no number.
    """

    config: Config
    source: ParameterSource
    sim_ids: SimIds
    n_iterations: int
    save: tuple[str, ...]
    versions: Mapping[str, str]
    simulator: str = "laser"
    channels: tuple[Channel, ...] = ()
    likelihood: LikelihoodSettings = field(default_factory=LikelihoodSettings)
    engine: str = AUTO
    verdict: Verdict | None = None

    @property
    def n_simulations(self) -> int:
        """Rows of the results file."""
        return len(self.sim_ids)

    @property
    def extent(self) -> str:
        """How many simulations, for a person; of a piece, which."""
        ids = self.sim_ids
        piece = isinstance(ids, range) and ids.start > 1
        return f"{len(ids)} simulation{'' if len(ids) == 1 else 's'}" + (f" ({ids[0]} to {ids[-1]})" if piece else "")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What two starts must agree on; JSON types. The number of simulations may grow, so it is not here."""
        return {
            "config": config_digest(self.config),
            "locations": list(self.config.locations),
            **self.source.identity,
            "n_iterations": self.n_iterations,
            "save": list(self.save),
            **{f"version of {name}": version for name, version in self.versions.items()},
            "simulator": self.simulator,
            "likelihood": json.loads(json.dumps(asdict(self.likelihood))),
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def slot_plan(self) -> SlotPlan:
        """The part that slots need."""
        return SlotPlan(
            self.config.values,
            self.source,
            self.sim_ids,
            self.n_iterations,
            self.channels,
            self.simulator,
            self.likelihood,
            self.engine,
        )

    def seeds(self, rows: slice) -> NDArray[np.int32]:
        """Seeds of some rows; see `seeds_of`."""
        return seeds_of(self.sim_ids[rows], self.n_iterations)

    def with_channels(self, kinds: Mapping[str, Channel]) -> RunPlan:
        """Return the plan with its saved channels described by the engine.

        Parameters
        ----------
        kinds : mapping
            What the engine has, by name.

        Raises
        ------
        InputError
            For names that are no channel, and for channels too large to store.
        """
        problems = [
            f"--save {name}: not an output channel of the engine"
            + (suggestion(name, kinds) or f"; it has {', '.join(kinds)}")
            for name in self.save
            if name not in kinds
        ]
        channels = tuple(kinds[name] for name in self.save if name in kinds)
        problems += [
            f"--save {channel.name}: one simulation takes {size / 2**30:.1f} GiB, at most 4 GiB can be stored"
            for channel in channels
            if (size := channel.chunk_bytes(self.n_iterations)) > _MAX_CHUNK_BYTES
        ]
        if problems:
            raise InputError(problems)
        return replace(self, channels=channels)


def config_digest(config: Config) -> str:
    """Return the SHA-256 of a config's values, whatever the formatting and order of its file."""
    digest = hashlib.sha256()
    for key in sorted(config.values):
        value = config.values[key]
        if isinstance(value, np.ndarray):
            digest.update(f"{key} {value.shape}".encode() + value.tobytes(order="F"))
        else:
            digest.update(f"{key} {json.dumps(value, sort_keys=True)}".encode())
    return digest.hexdigest()
