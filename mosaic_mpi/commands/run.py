"""`run`: simulate, or resume."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from mosaic_mpi import environment, option_types
from mosaic_mpi.commands.parser import Commands, add_inputs
from mosaic_mpi.engine_choice import AUTO, CHOICES
from mosaic_mpi.errors import EXIT_CODES, InputError
from mosaic_mpi.failure_limit import DEFAULT as DEFAULT_FAILURE_LIMIT

_BEGAN = time.time()
"""When the program started: a time limit counts from there."""


def add(commands: Commands) -> None:
    """Declare the command."""
    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        help="run simulations, or resume",
        description="Run simulations on this machine, or under mpirun or srun on many. Given again, the same "
        "command resumes where the file stands; with a larger --n-simulations it extends the run.",
        epilog=EXIT_CODES,
    )
    what = run.add_argument_group("what to run")
    add_inputs(what, with_samples=True)
    what.add_argument(
        "--n-simulations", type=option_types.positive, metavar="N", help="default 100, or all of --samples"
    )
    what.add_argument(
        "--simulations",
        type=option_types.span,
        metavar="A-B",
        help="only these of them, into a file of their own that `merge` joins with the others",
    )
    what.add_argument("--n-iterations", type=option_types.positive, metavar="N", help="of each simulation (3)")
    what.add_argument(
        "--save",
        type=option_types.names,
        default=(),
        metavar="CHANNEL,…",
        help="output channels to store, e.g. reported_cases",
    )
    where = run.add_argument_group("where the results go")
    where.add_argument("--output", default="mosaic_run.h5", metavar="FILE", help="results file (mosaic_run.h5)")
    where.add_argument("--overwrite", action="store_true", help="start anew if the file exists")
    where.add_argument(
        "--checkpoint-interval",
        type=option_types.seconds,
        default=30.0,
        metavar="S",
        help="seconds between syncs to disk (30)",
    )
    how = run.add_argument_group("how to run it")
    how.add_argument(
        "--slots",
        type=option_types.slots,
        default=None,
        metavar="K|auto",
        help="slots of every rank (auto: by cores)",
    )
    how.add_argument(
        "--max-attempts", type=option_types.positive, default=3, metavar="N", help="tries at a simulation (3)"
    )
    how.add_argument(
        "--simulation-timeout",
        type=option_types.seconds,
        metavar="S",
        help="limit of one attempt in seconds (20 times the slowest seen, at least 600)",
    )
    how.add_argument(
        "--rank-timeout",
        type=option_types.rank_timeout,
        default=300.0,
        metavar="S",
        help="a rank that is silent for so many seconds is given up (300)",
    )
    ending = run.add_argument_group("when to stop")
    ending.add_argument(
        "--time-limit",
        type=option_types.time_span,
        metavar="HH:MM:SS",
        help="stop in time for this, counted from the start, D-HH:MM:SS too (a Slurm job's end is known without it)",
    )
    ending.add_argument(
        "--max-failures",
        type=option_types.failure_limit,
        default=DEFAULT_FAILURE_LIMIT,
        metavar="N|P%",
        help="stop when so many simulations of this start have failed, or so many of a hundred of those that have "
        "ended, judged from the first 100 on (100%%)",
    )
    ending.add_argument(
        "--retry-failed", action="store_true", help="run again what has failed, with all its attempts"
    )
    how.add_argument(
        "--max-simulations-per-slot",
        type=option_types.positive,
        metavar="N",
        help="a fresh process for a slot after so many, against leaks (never)",
    )
    how.add_argument(
        "--engine",
        choices=CHOICES,
        default=AUTO,
        help="loop over the engine's ticks: compiled where that is known to give the same numbers to the last bit, "
        "else the engine's own (auto); the engine's own (stock); compiled, or not at all",
    )
    how.add_argument(
        "--cpu-features",
        choices=("native", "baseline"),
        default="native",
        help="baseline: numbers that all processors of one architecture agree on, for a cluster of several kinds",
    )
    how.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where each host keeps compiled code (in the temporary folder; or MOSAIC_MPI_CACHE_DIR)",
    )
    how.add_argument("--dry-run", action="store_true", help="check every input, say what would happen, touch nothing")
    run.set_defaults(function=_do)


def _do(options: argparse.Namespace, words: Sequence[str]) -> int:
    environment.use_one_thread()  # before anything imports NumPy
    environment.do_without_a_home()
    if options.cpu_features == "baseline":
        environment.use_baseline_processor()
    if options.cache_dir is not None:
        environment.use_cache_directory(options.cache_dir)
    from mosaic_mpi import fake, run
    from mosaic_mpi.dry_run import dry_run
    from mosaic_mpi.plan_inputs import PlanOptions
    from mosaic_mpi.run_options import RunOptions

    if options.overwrite and options.retry_failed:
        raise InputError("run: --overwrite starts anew, --retry-failed goes on: pass one of them")
    plan = PlanOptions(
        config=options.config,
        locations=options.locations,
        samples=options.samples,
        priors=options.priors,
        control=options.control,
        n_simulations=options.n_simulations,
        n_iterations=options.n_iterations,
        simulations=options.simulations,
        save=tuple(options.save),
        simulator=fake.simulator_name(),
    )
    run_options = RunOptions(
        plan=plan,
        output=options.output,
        slots=options.slots,
        max_attempts=options.max_attempts,
        max_failures=options.max_failures,
        max_simulations_per_slot=options.max_simulations_per_slot,
        simulation_timeout_s=options.simulation_timeout,
        rank_timeout_s=options.rank_timeout,
        time_limit_s=options.time_limit,
        checkpoint_interval_s=options.checkpoint_interval,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
        engine=options.engine,
        command=("python", "-m", "mosaic_mpi", *words),
        began=_BEGAN,
    )
    return dry_run(run_options) if options.dry_run else run.start(run_options)
