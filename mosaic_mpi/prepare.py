"""From options to a plan that the engine has agreed to: what `run` and its dry run begin with."""

from __future__ import annotations

from dataclasses import replace

from mosaic_mpi import engine_choice, environment, fork_server, slot_process
from mosaic_mpi.engine_choice import COMPILED
from mosaic_mpi.errors import InputError
from mosaic_mpi.place import refuse_misplaced
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.plan_inputs import load_plan
from mosaic_mpi.run_options import RunOptions


def preload_module(options: RunOptions) -> str | None:
    """The module that a fork server imports for its slots."""
    return engine_choice.preload_module(options.engine) if options.plan.simulator == "laser" else None


def load_inputs(options: RunOptions) -> RunPlan:
    """Load the plan; what is wrong with the place for the results is told together with its problems.

    Raises
    ------
    InputError
        With every problem found.
    """
    problems: list[str] = []
    plan: RunPlan | None = None
    try:
        refuse_misplaced(options.output)
    except InputError as error:
        problems += error.problems
    try:
        plan = load_plan(options.plan, environment.engine_versions())
    except InputError as error:
        problems += error.problems
    if problems or plan is None:
        raise InputError(problems)
    return replace(plan, engine=options.engine)


def describe_channels(plan: RunPlan, has_slots: bool = True) -> RunPlan:
    """Have the engine check the config and describe its channels, in a process of its own.

    Parameters
    ----------
    plan : RunPlan
        Without channels.
    has_slots : bool
        Whether this rank runs simulations, so that it matters which loop it has.

    Raises
    ------
    InputError
        The engine refuses the config, has no such channel, or cannot run as it was asked to.
    """
    found = fork_server.ask(slot_process.describe, dict(plan.config.values), plan.simulator, plan.engine)
    if isinstance(found, str):
        raise InputError(f"{plan.config.source}: the engine refuses it: {found.replace('AssertionError: ', '')}")
    channels, verdict = found
    if has_slots and verdict is not None and plan.engine == COMPILED != verdict.kind:
        raise InputError(
            f"--engine compiled: not on {environment.host()}: {verdict.reason}; --engine auto takes the engine's own "
            "loop instead"
        )
    return replace(plan.with_channels(channels), verdict=verdict)
