"""What a run will take, from what a trial of it has measured. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mosaic_mpi.tail import WORTH_SECONDS

MASTER_S_PER_RESULT = 1 / 430_000
"""What rank 0 takes in a second (`benchmarks/virtual_cluster.py`, group fast): beyond, slots wait for it."""
CHUNK_INDEX_BYTES = 24
"""What HDF5 keeps of each stored time series, besides the series."""


@dataclass(frozen=True)
class Measured:
    """What a trial has found.

    Parameters
    ----------
    n_slots : int
        Slots that ran at once.
    start_s : float
        From the start of the program to the first simulation.
    warm_up_s : float
        By how much a slot's first simulation takes longer than others.
    pace_s : float
        From one result of a slot to its next, while all are busy.
    series_bytes : float
        Stored time series of a simulation.
    slot_bytes : int
        Private memory of a slot.
    rank_bytes : int
        Memory of a rank without its slots' own: rank, fork server, what slots share.
    """

    n_slots: int
    start_s: float
    warm_up_s: float
    pace_s: float
    series_bytes: float
    slot_bytes: int
    rank_bytes: int


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Parameters
    ----------
    wall_s : float
        From the start of the program to its end.
    work_s : float
        Seconds of slots at work.
    held_s : float
        Seconds of slots, idle or not: what a site charges for.
    memory_bytes : int
        Of all ranks together.
    n_rounds : float
        Simulations of the slot that has most of them; near the end it has iterations.
    waits_for_master : bool
        Whether results come faster than rank 0 can take them.
    """

    wall_s: float
    work_s: float
    held_s: float
    memory_bytes: int
    n_rounds: float
    waits_for_master: bool


def forecast(found: Measured, n_to_do: int, n_iterations: int, n_ranks: int, n_slots: int) -> Forecast:
    """Predict a run of so many simulations, of so many iterations each, on so many slots."""
    n_rounds = _rounds(n_to_do, n_iterations if found.pace_s >= WORTH_SECONDS else 1, n_slots)
    by_slots_s, by_master_s = n_rounds * found.pace_s, n_to_do * MASTER_S_PER_RESULT
    warm_up_s = found.warm_up_s if n_to_do else 0.0
    wall_s = found.start_s + warm_up_s + max(by_slots_s, by_master_s)
    return Forecast(
        wall_s=wall_s,
        work_s=n_to_do * found.pace_s + min(n_to_do, n_slots) * warm_up_s,
        held_s=wall_s * n_slots,
        memory_bytes=n_ranks * found.rank_bytes + n_slots * found.slot_bytes,
        n_rounds=n_rounds,
        waits_for_master=by_master_s > by_slots_s,
    )


def _rounds(n_to_do: int, n_pieces: int, n_slots: int) -> float:
    """Simulations of the slot that has most, all being equally long.

    The last round counts as a whole one, since a slot that has none left waits for those that have; unless it has so
    few that they are shared out by iterations (see `mosaic_mpi.tail`).
    """
    whole, rest = divmod(n_to_do, n_slots)
    if rest <= n_slots * (1 - 1 / n_pieces):
        return whole + math.ceil(rest * n_pieces / n_slots) / n_pieces
    return whole + 1.0


def file_bytes(fixed: int, tables: int, n_simulations: int, n_channels: int, series_bytes: float) -> int:
    """Predict the size of a complete results file.

    Parameters
    ----------
    fixed : int
        What does not grow with simulations: config, names, HDF5's own.
    tables : int
        All tables.
    n_simulations, n_channels : int
        Of the plan.
    series_bytes : float
        Stored time series of a simulation.
    """
    return fixed + tables + round(n_simulations * (series_bytes + n_channels * CHUNK_INDEX_BYTES))
