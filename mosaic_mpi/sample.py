"""`sample`: MOSAIC's draws alone, as a table, in parallel.

Owns how a range of simulations is shared out to processes. Needs neither MPI nor the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa

from mosaic_mpi import environment
from mosaic_mpi.export import write_parquet
from mosaic_mpi.mosaic.source import MosaicPrior
from mosaic_mpi.plan import MAX_SEED
from mosaic_mpi.plan_inputs import PlanOptions, load_prior

_BLOCK_ROWS = 1000
_prior: MosaicPrior | None = None


def sample(options: PlanOptions, output: str) -> str:
    """Draw parameter sets and write them as Parquet.

    Columns, float64: ``sim``, then MOSAIC's parameter columns. A simulation that has no parameter set (a draw
    without a finite value) is left out and counted.

    Parameters
    ----------
    options : PlanOptions
        Config, locations, priors, control and number of simulations.
    output : str
        The Parquet file; written under a temporary name and renamed.

    Returns
    -------
    str
        What was written, for a person.

    Raises
    ------
    InputError
        With every problem of the inputs.
    """
    prior, n_simulations = load_prior(options)
    firsts = range(1, min(n_simulations, MAX_SEED) + 1, _BLOCK_ROWS)
    n_drawn = 0

    def blocks() -> Iterator[pa.Table]:
        nonlocal n_drawn
        for rows in _drawn(prior, [range(first, min(first + _BLOCK_ROWS, n_simulations + 1)) for first in firsts]):
            n_drawn += len(rows)
            yield pa.table(dict(zip(("sim", *prior.names), rows.T.copy(), strict=True)))

    write_parquet(output, blocks())
    failed = n_simulations - n_drawn
    note = f"; {failed} have no parameter set and are left out" if failed else ""
    return f"{output}: {n_drawn} simulations, {len(prior.names)} parameters{note}"


def _drawn(prior: MosaicPrior, ranges: list[range]) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    n_processes = min(len(environment.allowed_cores()), len(ranges))
    if n_processes == 1:
        _adopt(prior)
        yield from map(_draw_range, ranges)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(n_processes, context, _adopt, (prior,)) as pool:
        yield from pool.map(_draw_range, ranges)


def _adopt(prior: MosaicPrior) -> None:
    global _prior
    _prior = prior


def _draw_range(sims: range) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    from mosaic_mpi.mosaic.sampler import DrawFailed

    assert _prior is not None
    rows = np.empty((len(sims), 1 + len(_prior.names)))
    n_rows = 0
    for sim_id in sims:
        try:
            rows[n_rows, 1:] = _prior.row(sim_id)
        except DrawFailed:
            continue
        rows[n_rows, 0] = sim_id
        n_rows += 1
    return rows[:n_rows]
