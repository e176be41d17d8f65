"""`run --dry-run`: check every input, run one simulation for its figures, and touch nothing.

Owns the forecast. Works on one rank; other ranks of a launcher leave at once.
"""

from __future__ import annotations

import numpy as np

from mosaic_mpi import environment, fork_server, layout
from mosaic_mpi.allocation import allocate, hidden_cores
from mosaic_mpi.errors import EXIT_COMPLETE, EngineError, MosaicError
from mosaic_mpi.messages import Hello
from mosaic_mpi.place import refuse_unwritable
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.prepare import describe_channels, load_inputs, preload_module
from mosaic_mpi.progress import duration
from mosaic_mpi.run import report
from mosaic_mpi.run_options import RunOptions
from mosaic_mpi.slots import Failed, Finished, SlotPool
from mosaic_mpi.store import preview
from mosaic_mpi.units import Units

_SHARED_BYTES = 300 * 2**20
"""Resident memory of the fork server, whose pages its slots share (measured with laser-cholera 0.16.1)."""


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
    fork_server.start_fork_server(preload_module(options.plan.simulator))
    try:
        plan = load_inputs(options)
        refuse_unwritable(options.output)
        plan = describe_channels(plan)
        state, n_to_do = preview(options.output, plan, options.overwrite, options.retry_failed)
        trial = _Trial(plan)
    except MosaicError as error:
        report(error)
        return error.exit_code
    hello = Hello(
        environment.host(),
        environment.allowed_cores(),
        environment.node_cores(),
        environment.quota_cores(),
        "",
    )
    # Without MPI nothing is known of the other ranks: they are taken to be like this one, on one node.
    slots = allocate([hello] * launcher.n_ranks, options.slots)
    hidden = hidden_cores([hello], options.slots)
    print(_text(plan, options, state, n_to_do, trial, slots))
    for note in (*([hidden] if hidden else []), *plan.notes):
        print(f"note         {note}")
    return EXIT_COMPLETE


class _Trial:
    """One simulation, run for its time, memory and stored bytes."""

    def __init__(self, plan: RunPlan) -> None:
        slot_plan = plan.slot_plan()
        pool = SlotPool(1, slot_plan.to_bytes())
        try:
            pool.start()
            # Twice: the first one also pays for what a slot prepares once.
            for unit in Units(plan.n_iterations).whole(np.array([0, min(1, plan.n_simulations - 1)])).tolist():
                self._run(pool, unit, slot_plan.record_dtype)
            self.slot_bytes = pool.private_bytes()
        finally:
            pool.close()

    def _run(self, pool: SlotPool, unit: int, dtype: np.dtype[np.void]) -> None:
        pool.submit([unit])
        while True:
            for event in pool.poll(1.0):
                match event:
                    case Finished(payload=payload):
                        record = np.frombuffer(payload, dtype, 1)[0]
                        self.elapsed_s = float(record["elapsed_s"])
                        self.series_bytes = len(payload) - dtype.itemsize
                        return
                    case Failed(text=text):
                        raise EngineError(f"the trial of a simulation failed:\n{text}")


def _text(plan: RunPlan, options: RunOptions, state: str, n_to_do: int, trial: _Trial, slots: list[int]) -> str:
    n_slots = sum(slots)
    core_hours = n_to_do * trial.elapsed_s / 3600
    tables = layout.table_bytes(
        layout.lengths(plan.n_simulations, plan.n_iterations, len(plan.source.names), len(plan.channels))
    )
    file_bytes = tables + len(plan.config.text) // 20 + plan.n_simulations * trial.series_bytes
    memory = _SHARED_BYTES * len(slots) + n_slots * trial.slot_bytes
    folding = " (twice the time series while it completes)" if plan.channels else ""
    rows = [
        ("dry run", "nothing was written"),
        ("simulations", f"{plan.n_simulations} x {plan.n_iterations} iterations; {n_to_do} to do"),
        ("locations", f"{len(plan.config.locations)}, {plan.config.n_ticks} days, {plan.config.source}"),
        ("parameters", f"{len(plan.source.names)} a simulation, {plan.identity['parameters'].split(':')[0]}"),
        ("slots", f"{n_slots} on {len(slots)} ranks as found here"),
        ("file", f"{options.output}: {state}; {_size(file_bytes)} when complete{folding}"),
        (
            "memory",
            f"{_size(memory)}: {_size(trial.slot_bytes)} a slot, {_size(_SHARED_BYTES)} shared a rank",
        ),
        ("work", f"{core_hours:.2f} core-hours at {trial.elapsed_s:.2f} s a simulation, as just measured"),
        ("wall time", f"about {duration(n_to_do * trial.elapsed_s / n_slots)} on these slots"),
    ]
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


def _size(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"
