"""What a start finds where its results are to be: nothing, the file of its plan, or one that it must refuse.

Reads only; `store` is what writes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout, rebuild
from mosaic_mpi.errors import PlanMismatch
from mosaic_mpi.h5file import Header
from mosaic_mpi.plan import RunPlan, rows_of, spans
from mosaic_mpi.plan_differences import differences


def is_finished(path: str, plan: RunPlan, retry_failed: bool = False) -> bool:
    """Whether a results file holds all of this very plan, with nothing left to do.

    Parameters
    ----------
    path : str
        The results file.
    plan : RunPlan
        What it should hold.
    retry_failed : bool
        Whether failed simulations are to be run again.

    Raises
    ------
    InputError
        The file is damaged, foreign, or of another plan.
    """
    if not os.path.lexists(path) or rebuild.leftovers(path):  # of a killed --overwrite, say: to be removed first
        return False
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
        refuse_other_plan(path, file, header, plan)
        done = not is_to_do(file, retry_failed).any()
        folded = (header.folded and not Path(layout.spool_path(path)).exists()) or not header.channels
        return bool(done and folded and header.n_simulations == plan.n_simulations)


def is_to_do(file: Any, retry_failed: bool) -> NDArray[np.bool_]:
    """Which rows of an open results file are to be run."""
    status: NDArray[np.int8] = file["simulations/status"][...]
    to_do: NDArray[np.bool_] = status != layout.COMPLETED  # one that is damaged counts for nothing
    return to_do if retry_failed else to_do & (status != layout.FAILED)


def preview(path: str, plan: RunPlan, overwrite: bool, retry_failed: bool = False) -> tuple[str, int]:
    """Say what a start would do with a results file, without touching it.

    Returns
    -------
    state : str
        For a person.
    nis_to_do : int
        Simulations still to run.

    Raises
    ------
    InputError
        A start would refuse the file.
    """
    if not os.path.lexists(path):
        return "new", plan.n_simulations
    with h5file.reading(path) as file:
        header = h5file.read_header(file)
        if overwrite:
            return "would be overwritten", plan.n_simulations
        refuse_other_plan(path, file, header, plan)
        n_done = int((~is_to_do(file, retry_failed)).sum())
    extended = f", extended from {header.n_simulations}" if plan.n_simulations > header.n_simulations else ""
    return f"resumed, {n_done} done{extended}", plan.n_simulations - n_done


def refuse_other_plan(path: str, file: Any, header: Header, plan: RunPlan) -> None:
    """Refuse a results file of another plan.

    Raises
    ------
    PlanMismatch
        It says in what they differ.
    """
    found = []
    if header.fingerprint != plan.fingerprint:
        found = differences(header.identity, h5file.read_config(file), plan)
    ids = file["simulations/sim_id"][...]
    lacking = ids[rows_of(plan.sim_ids, ids) < 0]
    if len(lacking):
        fewer = " (fewer)" if plan.n_simulations < header.n_simulations else ""
        counts = f"n_simulations: {header.n_simulations} in the file, {plan.n_simulations} now{fewer}"
        found.append(f"{counts}; the plan lacks simulations {spans(lacking)}")
    if found:
        advice = "use the same inputs to resume it, another --output, or --overwrite to start anew"
        raise PlanMismatch([f"{path} belongs to another plan; {advice}:", *(f"  {line}" for line in found)])
