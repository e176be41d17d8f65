"""What a user gives to decide a plan: options, config, priors, control settings, parameter tables.

Owns reading all of it, and telling all of its problems at once. Knows no MPI, no engine and no results file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.config import Config, load_config
from mosaic_mpi.control import Control, LikelihoodSettings, load_control
from mosaic_mpi.errors import InputError
from mosaic_mpi.likelihood import scored_window
from mosaic_mpi.mosaic.parameter_names import PSI_STAR
from mosaic_mpi.mosaic.priors import Priors
from mosaic_mpi.mosaic.source import MosaicPrior, TableOverPrior
from mosaic_mpi.parameters import DefaultPrior, ParameterSource
from mosaic_mpi.plan import MAX_SEED, RunPlan, SimIds
from mosaic_mpi.tables import load_table

DEFAULT_N_SIMULATIONS = 100


@dataclass(frozen=True)
class PlanOptions:
    """The options that decide a plan, as the user gave them (None: not given)."""

    config: str | None = None
    locations: tuple[str, ...] | None = None
    samples: str | None = None
    priors: str | None = None
    control: str | None = None
    n_simulations: int | None = None
    n_iterations: int | None = None
    simulations: tuple[int, int] | None = None
    """First and last sim_id of the piece to run; the counts name the whole plan all the same."""
    save: tuple[str, ...] = ()
    simulator: str = "laser"


def load_plan(options: PlanOptions, versions: Mapping[str, str]) -> RunPlan:
    """Read and check every input of a plan.

    Parameters
    ----------
    options : PlanOptions
        What the user asked for.
    versions : mapping
        See `RunPlan.versions`.

    Returns
    -------
    RunPlan
        Without its channels, which only the engine can describe.

    Raises
    ------
    InputError
        With every problem found.
    """
    problems = [f"--save {name}: named twice" for name in sorted(_repeated(options.save))]
    try:
        config, control, priors = _read_inputs(options)
        sim_ids, source = _parameters(options, config, control, priors)
    except InputError as error:
        raise InputError([*str(error).splitlines(), *problems]) from None
    n_iterations = options.n_iterations or control.n_iterations
    last_seed = int(sim_ids[-1]) * n_iterations
    if last_seed > MAX_SEED:
        problems.append(
            f"--n-iterations {n_iterations} with sim_id up to {sim_ids[-1]}: seeds reach {last_seed}, "
            f"at most {MAX_SEED} is possible"
        )
    problems += _weight_problems(control.likelihood, config)
    if problems:
        raise InputError(problems)
    simulator, likelihood = options.simulator, control.likelihood
    return RunPlan(config, source, sim_ids, n_iterations, options.save, versions, simulator, likelihood=likelihood)


def _read_inputs(options: PlanOptions) -> tuple[Config, Control, Priors | None]:
    """Read config, control and priors; the problems of all three come together."""
    problems: list[str] = []
    found: list[Any] = []
    for read in (
        lambda: load_config(options.config, options.locations),
        lambda: load_control(options.control),
        lambda: load_priors(options.priors),
    ):
        try:
            found.append(read())
        except InputError as error:
            problems += str(error).splitlines()
    if problems:
        raise InputError([*problems, *_table_problems(options)])
    config, control, priors = found
    return config, control, priors


def _table_problems(options: PlanOptions) -> list[str]:
    """What is wrong with the table, when other inputs are refused already; it takes a good config to tell."""
    if options.samples is None:
        return []
    try:
        load_table(options.samples, load_config(options.config, options.locations).values)
    except InputError as error:
        return [line for line in str(error).splitlines() if line.startswith("--samples")]
    return []


def load_priors(path: str | None) -> Priors | None:
    """Read MOSAIC's priors, if a file is given.

    Raises
    ------
    InputError
        With every problem found.
    """
    if path is None:
        return None
    try:
        return Priors.read(path)
    except OSError as error:
        raise InputError(f"--priors {path}: cannot be read: {error.strerror}") from None


def load_prior(options: PlanOptions) -> tuple[MosaicPrior, int]:
    """Read what MOSAIC's draws need, and how many are asked for.

    Raises
    ------
    InputError
        With every problem found, or without priors.
    """
    if options.priors is None:
        raise InputError("--priors FILE: MOSAIC's priors are needed; the built-in default prior is not MOSAIC's")
    config, control, priors = _read_inputs(options)
    assert priors is not None
    n_simulations = options.n_simulations or control.n_simulations or DEFAULT_N_SIMULATIONS
    return MosaicPrior(priors, control.flags, config.values), n_simulations


def _weight_problems(settings: LikelihoodSettings, config: Config) -> list[str]:
    """Weights whose number does not fit the config."""
    n_days = min(config.values[key].shape[1] for key in ("reported_cases", "reported_deaths", "psi_jt"))
    first_day, _ = scored_window(settings, config.date_start, n_days)
    expected = {"location": len(config.locations), "time": n_days - first_day}
    given = {"location": settings.weights_location, "time": settings.weights_time}
    return [
        f"--control: likelihood.weights_{what}: found {len(weights)} numbers, expected {expected[what]}"
        for what, weights in given.items()
        if weights is not None and len(weights) != expected[what]
    ]


def _parameters(
    options: PlanOptions, config: Config, control: Control, priors: Priors | None
) -> tuple[SimIds, ParameterSource]:
    prior = None if priors is None else MosaicPrior(priors, control.flags, config.values)
    if options.samples is None:
        n_simulations = options.n_simulations or control.n_simulations
        return _piece_of_range(options.simulations, n_simulations), prior or DefaultPrior(config.values)
    calibrates = any(control.flags.draws(name) for name in PSI_STAR)
    sims, table = load_table(options.samples, config.values, calibrates)
    if (options.n_simulations or 0) > len(sims):
        message = f"--n-simulations {options.n_simulations}: --samples {options.samples} has only {len(sims)} rows"
        raise InputError(message)
    rows = _piece_of_table(options, sims[: options.n_simulations or len(sims)])
    table = table.cut(rows)
    return sims[rows], table if prior is None else TableOverPrior(prior, table)


def _piece_of_range(piece: tuple[int, int] | None, n_simulations: int | None) -> range:
    """The ids to run of 1..n_simulations; a piece may leave the total open."""
    if piece is None:
        return range(1, (n_simulations or DEFAULT_N_SIMULATIONS) + 1)
    first, last = piece
    if n_simulations is not None and last > n_simulations:
        raise InputError(f"--simulations {_named(piece)}: the plan has simulations 1 to {n_simulations}")
    return range(first, last + 1)


def _piece_of_table(options: PlanOptions, sims: NDArray[np.int64]) -> slice:
    """The rows of a table, ascending by id, whose ids lie within the piece."""
    if options.simulations is None:
        return slice(0, len(sims))
    first, last = options.simulations
    rows = slice(int(np.searchsorted(sims, first)), int(np.searchsorted(sims, last, side="right")))
    if rows.start == rows.stop:
        found = f"--samples {options.samples} has none of them; its simulations lie between {sims[0]} and {sims[-1]}"
        raise InputError(f"--simulations {_named(options.simulations)}: {found}")
    return rows


def _named(piece: tuple[int, int]) -> str:
    first, last = piece
    return f"{first}-{last}" if last > first else f"{first}"


def _repeated(names: Sequence[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}
