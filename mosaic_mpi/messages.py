"""Everything that ranks say to one another, one frozen dataclass a kind.

Worker to master: Hello, Ready, Loop, Results, Failure, Returned, Mishap, Broken, Beat. Master to worker: Assign,
Drain, Stop, Beat. The kind travels as the MPI tag, everything else as bytes; ids never go into tags, which MPI
guarantees to 32767 only. Knows no MPI.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import astuple, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hello:
    """What a rank runs on, sent once before there is a plan.

    Parameters
    ----------
    host : str
        Its name.
    cores : tuple of int
        Cores that the rank may use.
    n_node_cores : int
        Cores of its node.
    quota_cores : float
        Cores that its control group allows.
    code : str
        Digest of the code and versions that it runs.
    processor : str
        What of its host decides last bits; see `mosaic_mpi.processor`.
    """

    kind: ClassVar[int] = 8
    host: str
    cores: tuple[int, ...]
    n_node_cores: int
    quota_cores: float
    code: str
    processor: str = ""


@dataclass(frozen=True)
class Ready:
    """A worker has started its slots."""

    kind: ClassVar[int] = 1
    n_slots: int


@dataclass(frozen=True)
class Loop:
    """Which loop over ticks a worker's slots run, "compiled" or "stock", and why; see `engine_choice.Verdict`."""

    kind: ClassVar[int] = 11
    name: str
    reason: str


@dataclass(frozen=True)
class Assign:
    """Units to simulate (see `mosaic_mpi.units`), ``ndarray of int64, shape (n,)``."""

    kind: ClassVar[int] = 2
    units: NDArray[np.int64]


@dataclass(frozen=True)
class Results:
    """Finished units: records (see `mosaic_mpi.records`), then the series of each, in the same order."""

    kind: ClassVar[int] = 3
    n_records: int
    payload: bytes | memoryview


@dataclass(frozen=True)
class Failure:
    """A unit that failed: which, its cause ("exception", "killed", "timeout") and text."""

    kind: ClassVar[int] = 4
    unit: int
    cause: str
    text: str


@dataclass(frozen=True)
class Returned:
    """Units that were assigned and will not be begun, ``ndarray of int64, shape (n,)``."""

    kind: ClassVar[int] = 9
    units: NDArray[np.int64]


@dataclass(frozen=True)
class Mishap:
    """Something went wrong at a worker that costs no attempt, for a person."""

    kind: ClassVar[int] = 12
    text: str


@dataclass(frozen=True)
class Broken:
    """A worker cannot go on, and why."""

    kind: ClassVar[int] = 10
    text: str


@dataclass(frozen=True)
class Beat:
    """A sign of life, either way."""

    kind: ClassVar[int] = 5


@dataclass(frozen=True)
class Stop:
    """End now; what is not finished is abandoned."""

    kind: ClassVar[int] = 6


@dataclass(frozen=True)
class Drain:
    """Return what no slot has begun; what runs may finish."""

    kind: ClassVar[int] = 7


Message = Hello | Ready | Loop | Assign | Results | Failure | Returned | Mishap | Broken | Beat | Stop | Drain
_KINDS: dict[int, type[Message]] = {
    kind.kind: kind
    for kind in (Hello, Ready, Loop, Assign, Results, Failure, Returned, Mishap, Broken, Beat, Stop, Drain)
}
FOR_MASTER = (Hello, Ready, Loop, Results, Failure, Returned, Mishap, Broken)
_COUNT = struct.Struct("<q")
_NO_FIELDS = pickle.dumps(())


def encode(message: Message) -> bytes:
    """Return a message's bytes, without its kind."""
    match message:
        case Assign(units) | Returned(units):
            return units.astype("<i8").tobytes()
        case Results(n_records, payload):
            return b"".join((_COUNT.pack(n_records), payload))
        case Beat() | Drain() | Stop():
            return _NO_FIELDS
        case _:
            return pickle.dumps(astuple(message))


def decode(kind: int, data: bytes | bytearray) -> Message:
    """Return the message of some bytes."""
    if kind in (Assign.kind, Returned.kind):
        units = np.frombuffer(data, "<i8")
        return Assign(units) if kind == Assign.kind else Returned(units)
    if kind == Results.kind:
        return Results(_COUNT.unpack_from(data)[0], memoryview(data)[_COUNT.size :])
    message: Message = _KINDS[kind](*pickle.loads(data))
    return message
