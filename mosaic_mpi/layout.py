"""The layout of a results file: every dataset, its shape, dtype and meaning.

Owns the format; `store.py` writes by it, `results.py` reads by it, the README's table is made from it. Opens no
file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

FORMAT = "mosaic_mpi results"
FORMAT_VERSION = 1

PENDING, COMPLETED, FAILED = 0, 1, 2
"""Values of simulations/status. Running is never written, so that resuming needs no repair."""

RUNNING, COMPLETE, STOPPED, BROKEN, TOO_MANY_FAILURES = 0, 1, 2, 3, 4
"""Values of starts/state. A start that was killed stays at RUNNING."""
STATE_NAMES = {
    RUNNING: "running",
    COMPLETE: "complete",
    STOPPED: "stopped",
    BROKEN: "ended by an error",
    TOO_MANY_FAILURES: "too many failures",
}

N_ERRORS = 512
"""Different error texts kept; simulations beyond point to the last one."""
N_STARTS = 256
"""Starts kept; further ones take the last row."""
N_HOSTS = 16384
ERROR_BYTES = 2000
COMMAND_BYTES = 2000


@dataclass(frozen=True)
class Table:
    """One pre-allocated dataset.

    Parameters
    ----------
    name : str
        Path in the file.
    dtype : str
        NumPy dtype.
    shape : tuple of (int or str)
        Lengths; "n_simulations", "n_iterations", "n_parameters" and "n_channels" stand for the plan's.
    unit : str
        Unit, or what the values mean.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    unit: str


_N = "n_simulations"

TABLES: tuple[Table, ...] = (
    Table("simulations/sim_id", "<i4", (_N,), "id, from 1"),
    Table("simulations/status", "|i1", (_N,), "0 pending, 1 completed, 2 failed"),
    Table("simulations/attempts", "<i4", (_N,), "attempts so far"),
    Table("simulations/failed_attempts", "<i4", (_N,), "those of them that failed"),
    Table("simulations/likelihood", "<f8", (_N,), "log-likelihood, log-mean-exp over finite iterations"),
    Table(
        "simulations/elapsed_s",
        "<f8",
        (_N,),
        "seconds in its slot; in all of them together, if its iterations ran apart",
    ),
    Table("simulations/finished_at", "<f8", (_N,), "seconds since 1970-01-01 UTC"),
    Table("simulations/rank", "<i4", (_N,), "MPI rank that ran it, or the iteration that finished last"),
    Table("simulations/slot", "<i4", (_N,), "slot of that rank, from 0"),
    Table(
        "simulations/n_stock", "<i4", (_N,), "its iterations that the engine's own loop ran, and not the compiled one"
    ),
    Table("simulations/host", "<i4", (_N,), "row of hosts/name, from 0"),
    Table("simulations/start", "<i4", (_N,), "row of starts/*, from 0"),
    Table("simulations/error", "<i4", (_N,), "row of errors/* of the last failed attempt, from 1; 0 none"),
    Table("simulations/commit", "<i4", (_N,), "order in which results were stored, from 1"),
    Table("simulations/checksum", "<i4", (_N,), "CRC-32 of likelihoods, parameters and stored series"),
    Table("iterations/seed", "<i4", (_N, "n_iterations"), "engine seed, (sim_id-1) n_iterations + j"),
    Table("iterations/likelihood", "<f8", (_N, "n_iterations"), "log-likelihood of an iteration"),
    Table("parameters/values", "<f8", (_N, "n_parameters"), "columns as parameters/name; engine's units"),
    Table("series/offset", "<i8", (_N, "n_channels"), "first byte in the spool"),
    Table("series/bytes", "<i8", (_N, "n_channels"), "stored bytes"),
    Table("errors/text", f"|S{ERROR_BYTES}", (N_ERRORS,), "end of the traceback, or how the slot ended"),
    Table("errors/cause", "|S16", (N_ERRORS,), "exception, killed or timeout"),
    Table("errors/attempts", "<i4", (N_ERRORS,), "failed attempts with this text"),
    Table("hosts/name", "|S64", (N_HOSTS,), "host name"),
    Table("hosts/heard_at", "<f8", (N_HOSTS,), "last sign of life of its ranks; 0: not in the latest start"),
    Table(
        "starts/state",
        "|i1",
        (N_STARTS,),
        "0 running or killed, 1 complete, 2 stopped, 3 ended by an error, 4 stopped by --max-failures",
    ),
    Table("starts/started_at", "<f8", (N_STARTS,), "seconds since 1970-01-01 UTC, as all times here"),
    Table("starts/first_assignment_at", "<f8", (N_STARTS,), "first id handed out"),
    Table("starts/last_commit_at", "<f8", (N_STARTS,), "last sign of life of rank 0"),
    Table("starts/ended_at", "<f8", (N_STARTS,), "0 while it runs or if it was killed"),
    Table("starts/loop_cpu_s", "<f8", (N_STARTS,), "CPU seconds of rank 0 since its first assignment"),
    Table("starts/n_ranks", "<i4", (N_STARTS,), "MPI ranks"),
    Table("starts/n_slots", "<i4", (N_STARTS,), "slots"),
    Table("starts/n_slots_live", "<i4", (N_STARTS,), "slots of ranks that answer"),
    Table("starts/n_ranks_lost", "<i4", (N_STARTS,), "ranks given up: dead, silent, or unable to start slots"),
    Table("starts/n_hosts", "<i4", (N_STARTS,), "hosts"),
    Table("starts/pid", "<i4", (N_STARTS,), "process id of rank 0"),
    Table("starts/host", "|S64", (N_STARTS,), "host of rank 0"),
    Table("starts/job", "|S64", (N_STARTS,), "batch job"),
    Table("starts/mpi", "|S128", (N_STARTS,), "MPI library and launcher"),
    Table("starts/command", f"|S{COMMAND_BYTES}", (N_STARTS,), "command line"),
    Table("starts/engine", "|S512", (N_STARTS,), "loop over ticks (compiled, stock) and why, by host if they differ"),
    Table("starts/versions", "|S1000", (N_STARTS,), "versions, JSON"),
    Table("progress/n_starts", "<i4", (1,), "starts so far"),
    Table("progress/n_errors", "<i4", (1,), "rows of errors/* in use"),
    Table("progress/n_hosts", "<i4", (1,), "rows of hosts/name in use"),
    Table("progress/durable_commit", "<i4", (1,), "results up to this order have reached the disk"),
)
"""Contiguous datasets that exist at their final size before the first simulation."""

SERIES_PREFIX = "series/"


def lengths(n_simulations: int, n_iterations: int, n_parameters: int, n_channels: int) -> dict[str, int]:
    """The plan's lengths by the names that `Table.shape` uses."""
    return {
        "n_simulations": n_simulations,
        "n_iterations": n_iterations,
        "n_parameters": n_parameters,
        "n_channels": n_channels,
    }


def shape_of(table: Table, sizes: dict[str, int]) -> tuple[int, ...]:
    """A table's shape as numbers."""
    return tuple(sizes[length] if isinstance(length, str) else length for length in table.shape)


def table_bytes(sizes: dict[str, int]) -> int:
    """Bytes of all tables together."""
    return sum(
        int(np.prod(shape_of(table, sizes), dtype=np.int64)) * np.dtype(table.dtype).itemsize for table in TABLES
    )


def real_path(results: str) -> str:
    """The results file that a symbolic link leads to; its companions lie beside it, and not beside the link."""
    return os.path.realpath(results) if os.path.islink(results) else results


def spool_path(results: str) -> str:
    """The file beside the results that holds time series until the run completes."""
    return f"{real_path(results)}.spool"


def lock_path(results: str) -> str:
    """The file beside the results that names their writer."""
    return f"{real_path(results)}.lock"
