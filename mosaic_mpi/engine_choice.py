"""Which loop advances the engine's models: compiled, or the engine's own.

Owns what `run --engine` means. Imports the engine in slots and their fork server alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mosaic_mpi.errors import EngineError

if TYPE_CHECKING:
    from mosaic_mpi.compiled.model import Advance

AUTO, STOCK, COMPILED = "auto", "stock", "compiled"
CHOICES = (AUTO, STOCK, COMPILED)


@dataclass(frozen=True)
class Verdict:
    """Which loop runs, and why.

    Parameters
    ----------
    kind : str
        "compiled" or "stock".
    reason : str
        Why not the compiled one, or what is to be known of it, on one line; may be empty.
    """

    kind: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}" if self.reason else self.kind


def is_stock_alone(told: str) -> bool:
    """Whether what is told of a run's loops (by `mosaic_mpi.loops`, or one verdict) means the engine's own alone."""
    return told == STOCK or told.startswith(f"{STOCK}: ")


def preload_module(choice: str) -> str:
    """The module that a fork server imports once for its slots."""
    return "mosaic_mpi.engine" if choice == STOCK else "mosaic_mpi.compiled_engine"


def verdict(choice: str) -> Verdict:
    """Which loop runs on this host."""
    if choice == STOCK:
        from mosaic_mpi import engine

        return Verdict(STOCK, "; ".join(filter(None, ("asked for by --engine stock", engine.caution))))
    from mosaic_mpi import compiled_engine

    kind = STOCK if compiled_engine.advance is None else COMPILED
    return Verdict(kind, " ".join(compiled_engine.reason.split()))  # a compiler's message has many lines


def loop_for(choice: str) -> Advance | None:
    """Return the compiled loop, or None for the engine's own.

    Raises
    ------
    EngineError
        The compiled one was asked for and is not to be had here.
    """
    if choice == STOCK:
        return None
    from mosaic_mpi import compiled_engine

    if choice == COMPILED and compiled_engine.advance is None:
        raise EngineError(f"--engine compiled: {compiled_engine.reason}")
    return compiled_engine.advance
