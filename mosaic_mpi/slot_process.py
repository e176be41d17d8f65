"""What runs inside a slot: prepare, then serve; and what the engine says of itself.

Runs in processes forked from the fork server only.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from mosaic_mpi.fork_server import OpenFile
from mosaic_mpi.lifeline import be_first_out_of_memory, ignore_signals, tie_to_parent
from mosaic_mpi.slot_messages import READY, UNFIT, last_words, loop_message

if TYPE_CHECKING:
    from mosaic_mpi.engine_choice import Verdict


def main(connection: Connection, plan_file: OpenFile, plan_size: int, logbook_file: OpenFile, slot: int) -> None:
    """Run simulations until the pipe closes.

    Parameters
    ----------
    connection : Connection
        Carries units one way, results the other.
    plan_file : fork_server.OpenFile
        Holds the plan; all slots of a rank map the same pages.
    plan_size : int
        Its bytes.
    logbook_file : fork_server.OpenFile
        The memory of a `logbook.Logbook`.
    slot : int
        Index of this slot in its rank.
    """
    tie_to_parent()
    ignore_signals()
    be_first_out_of_memory()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the rank is gone: there is nobody to tell
        try:
            server = _prepare(connection, plan_file.descriptor, plan_size, logbook_file.descriptor, slot)
        except BaseException:
            connection.send_bytes(UNFIT + last_words())
            return
        connection.send_bytes(READY)
        server.serve()


def _prepare(connection: Connection, plan_file: int, plan_size: int, logbook_file: int, slot: int) -> Any:
    from mosaic_mpi import engine_choice
    from mosaic_mpi.logbook import Logbook
    from mosaic_mpi.parcel import Parcel
    from mosaic_mpi.plan import SlotPlan
    from mosaic_mpi.serving import Server
    from mosaic_mpi.simulation import Simulation

    block = memoryview(mmap.mmap(plan_file, plan_size, access=mmap.ACCESS_READ))
    logbook = Logbook(logbook_file)
    os.close(plan_file)
    os.close(logbook_file)
    plan = SlotPlan.from_buffer(block)
    if plan.simulator == "laser":
        connection.send_bytes(loop_message(engine_choice.verdict(plan.engine)))
    server = Server(connection, Simulation(plan), Parcel(plan.record_dtype, slot), logbook, slot)
    # What is alive now stays alive: frozen, it is neither scanned at each collection nor copied by it.
    gc.collect()
    gc.freeze()
    gc.disable()
    return server


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
