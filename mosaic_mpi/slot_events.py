"""What a rank learns of its slots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finished:
    """Finished units: so many records, then the series of each, in the same order."""

    n_records: int
    payload: memoryview


@dataclass(frozen=True)
class Failed:
    """An attempt that failed, and why.

    Parameters
    ----------
    unit : int
        See `mosaic_mpi.units`.
    cause : str
        "exception", "killed" or "timeout".
    text : str
        For a person: the end of the traceback, the signal, or the limit.
    """

    unit: int
    cause: str
    text: str


@dataclass(frozen=True)
class Unbegun:
    """Units that a slot has given back."""

    units: list[int]


@dataclass(frozen=True)
class Replaced:
    """A slot that ended while it ran nothing, for a person: how. A new one has been started."""

    text: str


SlotEvent = Finished | Failed | Unbegun | Replaced
