"""The first lines of a run: what was found, what will be done, what a fault costs, how to resume.

Rank 0 prints them. Decides nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np

from mosaic_mpi import environment
from mosaic_mpi.allocation import hidden_cores
from mosaic_mpi.comm import Comm
from mosaic_mpi.deadline import Deadline
from mosaic_mpi.environment import Launcher
from mosaic_mpi.messages import Hello
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.processor import differing_hosts

_ONCE = ("--overwrite", "--retry-failed")
"""Options that mean one start, and not those that resume it."""
_MAX_NAMED = 4


def header(
    plan: RunPlan,
    comm: Comm,
    launcher: Launcher,
    hellos: list[Hello],
    slots: list[int],
    requested_slots: int | None,
    file: str,
    deadline: Deadline | None,
    resume: str,
) -> str:
    """Return the first lines of a run.

    Parameters
    ----------
    plan : RunPlan
        What is run.
    comm, launcher
        How the ranks were started.
    hellos : list of Hello
        What each rank runs on.
    slots : list of int
        Slots of each rank.
    requested_slots : int or None
        Those that the user asked for.
    file : str
        The results file and what state it is in.
    deadline : Deadline or None
        When the run stops by itself.
    resume : str
        The command that resumes it.
    """
    hosts = list(dict.fromkeys(hello.host for hello in hellos))
    cores = len({(hello.host, core) for hello in hellos for core in hello.cores})
    versions = environment.versions()
    lines = [
        f"mosaic_mpi {versions['mosaic_mpi']}, laser-cholera {versions['laser-cholera']}, "
        f"{comm.library} ({launcher.name})",
        f"hosts  {len(hosts)}: {shortened(hosts)}; {cores} cores seen; {_layout(slots)}",
        f"plan   {plan.extent} x {_count(plan.n_iterations, 'iteration')}, "
        f"{_count(len(plan.config.locations), 'location')}, {_count(plan.config.n_ticks, 'day')}; parameters: "
        f"{plan.identity['parameters'].split(':')[0]}, {len(plan.source.names)} values a simulation; "
        f"saved: {', '.join(plan.save) or 'no time series'}",
        f"config {plan.config.source}",
        *([f"engine {plan.verdict}"] if plan.verdict and comm.size == 1 else []),  # of several, see `loops`
        f"file   {file}",
        f"faults {_fault_sentence(comm)}",
        *([f"limit  stops in time for {deadline.clock()}, {deadline.why}"] if deadline else []),
        f"resume {resume}",
        *([f"note   {note}"] if (note := hidden_cores(hellos, requested_slots)) else []),
        *([f"note   {differing}"] if (differing := differing_hosts(hellos)) else []),
    ]
    if plan.simulator != "laser":
        lines.append(f"note   NOT LASER: made-up numbers from {plan.simulator}")
    return "\n".join(lines)


def _fault_sentence(comm: Comm) -> str:
    slot = "a simulation that crashes, hangs or runs out of memory costs one attempt"
    if comm.size == 1:
        return f"{slot}; if this process dies, the same command resumes"
    if comm.survives_ranks:
        rank = "if a worker rank dies or its node falls silent, the run goes on without it"
        node = "if mpirun loses its connection to a node, it ends the job, and the same command resumes"
        return f"{slot}; {rank}; {node}"
    return f"{slot}; if a rank or node dies, the launcher ends the job, and the same command resumes"


def resume_command(comm: Comm, launcher: Launcher, words: Sequence[str]) -> str:
    """Return the command that goes on where the results file stands.

    Parameters
    ----------
    comm, launcher
        How the ranks were started.
    words : sequence of str
        The command as it was given.
    """
    size = comm.size
    launchers = {"Open MPI mpirun": f"mpirun -n {size} ", "srun": f"srun -n {size} "}
    prefix = launchers.get(launcher.name, f"mpirun -n {size} ") if size > 1 else ""
    return f"{prefix}{shlex.join([word for word in words if word not in _ONCE])}"


def shortened(names: list[str]) -> str:
    """Return the first few of some names and how many there are beyond them."""
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _layout(slots: list[int]) -> str:
    working = np.array([n for n in slots if n])
    each = f"{working.min()}" if working.min() == working.max() else f"{working.min()} to {working.max()}"
    directs = "" if slots[0] else ", rank 0 only directs"
    return f"{_count(len(slots), 'rank')} x {each} slots = {working.sum()} slots{directs}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
