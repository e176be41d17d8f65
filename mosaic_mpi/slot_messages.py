"""What a rank and its slots say to one another through a pipe.

To a slot: units, as many as it may have, or nothing but `RECALL`. From it: messages that begin with their kind.
Answers come in the order of units, so that no message names one. Knows no process.
"""

from __future__ import annotations

import struct
import traceback

import numpy as np

from mosaic_mpi.engine_choice import Verdict

READY, RESULTS, FAILURE, RETURNED, UNFIT, LOOP = b"I", b"R", b"F", b"B", b"X", b"L"
"""First byte of what a slot sends: ready, results, an exception, units that it has not begun, unable to start, and
before either of the first and the last, which loop over ticks it runs."""
WORK = struct.Struct("<qd")
"""After `RESULTS`: how many records follow, and then their series; seconds that they took together, by the slot's
clock: messages that wait for a rank that stood still come all at once, which says nothing of how long they took."""
REST = struct.Struct("<qq")
"""After `RETURNED`: how many units, and how many, 0 or 1, it is at, which came before them."""
RECALL = b""
"""To a slot: return what has not been begun."""
GATHER_SECONDS = 0.05
"""So long results of a slot wait for one another."""
_MAX_TRACEBACK = 4000


def order(units: list[int]) -> bytes:
    """Return the message that gives a slot units."""
    return np.array(units, "<i8").tobytes()


def units_of(message: bytes) -> list[int]:
    """Return the units that a message gives; none if it is `RECALL`."""
    units: list[int] = np.frombuffer(message, "<i8").tolist()
    return units


def loop_message(verdict: Verdict) -> bytes:
    """Return the message that tells which loop a slot runs."""
    return LOOP + f"{verdict.kind}\n{verdict.reason}".encode("utf-8", "replace")


def verdict_of(body: memoryview) -> Verdict:
    """Return what such a message tells, from what follows its first byte."""
    kind, _, reason = bytes(body).decode("utf-8", "replace").partition("\n")
    return Verdict(kind, reason)


def last_words() -> bytes:
    """The end of the current traceback, which names the place and the reason."""
    return traceback.format_exc().strip()[-_MAX_TRACEBACK:].encode("utf-8", "replace")
