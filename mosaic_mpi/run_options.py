"""The options of `run`."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_mpi.failure_limit import FailureLimit
from mosaic_mpi.plan_inputs import PlanOptions


@dataclass(frozen=True)
class RunOptions:
    """The options of `run`; see the command's help."""

    plan: PlanOptions
    output: str
    slots: int | None
    max_attempts: int
    max_failures: FailureLimit
    max_simulations_per_slot: int | None
    simulation_timeout_s: float | None
    rank_timeout_s: float
    time_limit_s: float | None
    checkpoint_interval_s: float
    overwrite: bool
    retry_failed: bool
    engine: str
    command: tuple[str, ...]
    began: float
    """When the program started, seconds since 1970-01-01 UTC: a time limit counts from there."""
