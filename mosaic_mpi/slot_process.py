"""What runs inside a slot: a loop of receive, simulate, send.

Runs in processes forked from the fork server only.
"""

from __future__ import annotations

import gc
import mmap
import os
import struct
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from mosaic_mpi.lifeline import be_first_out_of_memory, ignore_signals, tie_to_parent

if TYPE_CHECKING:
    from mosaic_mpi.engine_choice import Verdict

ORDER = struct.Struct("<q")
"""A unit; a slot is sent as many of them at once as it may have."""
READY, RESULT, FAILURE, UNFIT = b"I", b"R", b"F", b"X"
"""First byte of what a slot sends: ready, a result, an exception, or unable to start."""
_MAX_TRACEBACK = 4000


def main(connection: Connection, plan_file: Any, plan_size: int, slot: int) -> None:
    """Run simulations until the pipe closes.

    Parameters
    ----------
    connection : Connection
        Carries units one way, results the other.
    plan_file : multiprocessing.reduction.DupFd
        Descriptor of a file that holds the plan; all slots of a rank map the same pages.
    plan_size : int
        Its bytes.
    slot : int
        Index of this slot in its rank.
    """
    tie_to_parent()
    ignore_signals()
    be_first_out_of_memory()
    try:
        simulation = _prepare(plan_file.detach(), plan_size, slot)
    except BaseException:
        connection.send_bytes(UNFIT + _traceback())
        return
    connection.send_bytes(READY)
    _serve(connection, simulation)


def _prepare(descriptor: int, size: int, slot: int) -> Any:
    from mosaic_mpi.plan import SlotPlan
    from mosaic_mpi.simulation import Simulation

    block = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    os.close(descriptor)
    simulation = Simulation(SlotPlan.from_buffer(block), slot)
    # What is alive now stays alive: frozen, it is neither scanned at each collection nor copied by it.
    gc.collect()
    gc.freeze()
    gc.disable()
    return simulation


def _serve(connection: Connection, simulation: Any) -> None:
    while True:
        try:
            order = connection.recv_bytes()
        except (EOFError, OSError):
            return
        for (unit,) in ORDER.iter_unpack(order):
            connection.send_bytes(_answer(simulation, unit))
            gc.collect()  # the engine's models are cycles; between simulations, no one waits for this


def _answer(simulation: Any, unit: int) -> bytes:
    try:
        answer: bytes = RESULT + simulation.run(unit)
        return answer
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # where memory ran out, what filled it goes first
        return FAILURE + _traceback()


def _traceback() -> bytes:
    """The end of the current traceback, which names the place and the reason."""
    return traceback.format_exc().strip()[-_MAX_TRACEBACK:].encode("utf-8", "replace")


def describe(connection: Connection, values: Any, simulator: str, choice: str) -> None:
    """Send the engine's channels for a config and what it runs by, or the text of what it objects to."""
    tie_to_parent()
    ignore_signals()
    try:
        connection.send(_describe(values, simulator, choice))
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")


def _describe(values: Any, simulator: str, choice: str) -> tuple[Any, Verdict | None]:
    if simulator != "laser":
        from mosaic_mpi import fake

        return fake.describe(simulator, len(values["location_name"])), None
    import pandas as pd

    from mosaic_mpi import engine, engine_choice
    from mosaic_mpi.config import engine_values

    typed = engine_values(values)
    peaks = typed.pop("epidemic_peaks", None)
    peaks_table = {"epidemic_peaks": pd.DataFrame(peaks)} if peaks else {}
    return engine.describe({**typed, **peaks_table}), engine_choice.verdict(choice)
