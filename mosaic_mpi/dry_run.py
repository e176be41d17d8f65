"""`run --dry-run`: check every input, run a few simulations for their figures, and touch nothing.

Owns what is told. Works on one rank; other ranks of a launcher leave at once.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace

from mosaic_mpi import environment, fork_server, h5file, layout, trial
from mosaic_mpi.allocation import allocate, hidden_cores
from mosaic_mpi.blueprint import blueprint_of
from mosaic_mpi.console import show
from mosaic_mpi.earlier_file import preview
from mosaic_mpi.errors import EXIT_COMPLETE, MosaicError
from mosaic_mpi.forecast import Forecast, Measured, file_bytes, forecast
from mosaic_mpi.messages import Hello
from mosaic_mpi.place import refuse_unwritable
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.prepare import describe_channels, load_inputs, preload_module
from mosaic_mpi.progress import duration
from mosaic_mpi.run import report
from mosaic_mpi.run_options import RunOptions


def dry_run(options: RunOptions) -> int:
    """Say what `run` with these options would do.

    Returns
    -------
    int
        The exit code: 0, or 2 with every problem of the inputs.
    """
    launcher = environment.find_launcher()
    if launcher.rank != 0:
        return EXIT_COMPLETE
    hello = Hello(
        environment.host(),
        environment.allowed_cores(),
        environment.node_cores(),
        environment.quota_cores(),
        "",
    )
    # Without MPI nothing is known of the other ranks: they are taken to be like this one, on one node.
    slots = allocate([hello] * launcher.n_ranks, options.slots)
    fork_server.start_fork_server(preload_module(options))
    try:
        plan = load_inputs(options)
        refuse_unwritable(options.output)
        plan = describe_channels(plan)
        state, n_to_do = preview(options.output, plan, options.overwrite, options.retry_failed)
        # A layout for other machines is tried on what there is here.
        found = trial.measure(plan, min(sum(slots), *allocate([hello], None)), options.began)
    except MosaicError as error:
        report(error)
        return error.exit_code
    told = forecast(found, n_to_do, plan.n_iterations, len(slots), sum(slots))
    show(_text(plan, f"{options.output}: {state}", n_to_do, slots, found, told))
    hidden = hidden_cores([hello], options.slots)
    if hidden:
        show(f"note         {hidden}")
    return EXIT_COMPLETE


def _text(plan: RunPlan, output: str, n_to_do: int, slots: list[int], found: Measured, told: Forecast) -> str:
    size = _complete_bytes(plan, found.series_bytes)
    folding = " (twice the time series while it completes)" if plan.channels else ""
    tried = f"tried on {found.n_slots} at once"
    rounds = f"{duration(found.start_s)} to start, then {told.n_rounds:.3g} simulations a slot"
    if told.waits_for_master:
        rounds = "the slots wait for rank 0, which can take no more results a second"
    rows = [
        ("dry run", "nothing was written"),
        ("simulations", f"{plan.n_simulations} x {plan.n_iterations} iterations; {n_to_do} to do"),
        ("locations", f"{len(plan.config.locations)}, {plan.config.n_ticks} days, {plan.config.source}"),
        ("parameters", f"{len(plan.source.names)} a simulation, {plan.identity['parameters'].split(':')[0]}"),
        *([("engine", str(plan.verdict))] if plan.verdict else []),
        ("slots", f"{sum(slots)} on {len(slots)} ranks; {tried}"),
        ("file", f"{output}; {_size(size)} when complete{folding}"),
        ("memory", f"{_size(told.memory_bytes)}: {_size(found.slot_bytes)} a slot, {_size(found.rank_bytes)} a rank"),
        ("work", f"{told.work_s / 3600:.3g} core-hours at {found.pace_s:.3g} s a simulation"),
        ("wall time", f"about {duration(told.wall_s)}, {told.held_s / 3600:.3g} core-hours held; {rounds}"),
    ]
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


def _complete_bytes(plan: RunPlan, series_bytes: float) -> int:
    """Size of the complete file: what one of a single simulation has beyond its tables, and the tables of all."""
    single = replace(blueprint_of(plan), sim_ids=plan.sim_ids[:1], given=None)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "single.h5")
        h5file.create(path, single, folded=True)
        fixed = os.path.getsize(path) - _tables_bytes(1, plan)
    tables = _tables_bytes(plan.n_simulations, plan)
    return file_bytes(fixed, tables, plan.n_simulations, len(plan.channels), series_bytes)


def _tables_bytes(n_simulations: int, plan: RunPlan) -> int:
    """Bytes of the tables of a complete file, which does without those of the spool."""
    return layout.table_bytes(layout.lengths(n_simulations, plan.n_iterations, len(plan.source.names), 0))


def _size(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} TiB"
