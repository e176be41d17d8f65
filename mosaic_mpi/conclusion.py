"""How a start ended: its state in the results file, what is said of it, and the exit code."""

from __future__ import annotations

import shlex

from mosaic_mpi.console import complain, say
from mosaic_mpi.engine_choice import is_stock_alone
from mosaic_mpi.errors import EXIT_COMPLETE, EXIT_SOME_FAILED, EXIT_STOPPED
from mosaic_mpi.layout import COMPLETE, STOPPED, TOO_MANY_FAILURES
from mosaic_mpi.progress import Progress, duration
from mosaic_mpi.run_options import RunOptions
from mosaic_mpi.workqueue import WorkQueue


def state(queue: WorkQueue, has_failed_too_often: bool) -> int:
    """Return the state of a start whose loop has ended, as `mosaic_mpi.layout` numbers them."""
    if queue.is_done:
        return COMPLETE
    return TOO_MANY_FAILURES if has_failed_too_often else STOPPED


def tell(
    ending: int,
    queue: WorkQueue,
    progress: Progress,
    elapsed_s: float,
    options: RunOptions,
    resume_command: str,
    loops: str,
) -> int:
    """Say how a start ended.

    Parameters
    ----------
    ending : int
        Its state.
    queue : WorkQueue
        State of every simulation.
    progress : Progress
        What came in.
    elapsed_s : float
        Seconds that the loop took.
    options : RunOptions
        Of the start.
    resume_command : str
        What resumes it.
    loops : str
        Which loops over ticks ran, as it was told; empty where the engine did not run.

    Returns
    -------
    int
        The exit code.
    """
    counts = f"{queue.n_completed} completed, {queue.n_failed} failed"
    left = f"{counts}, {queue.n_pending + queue.n_running} to do"
    if ending == TOO_MANY_FAILURES:
        _tell_of_failures(f"stopped by --max-failures {options.max_failures}: {left}", progress, resume_command)
        return EXIT_STOPPED
    if progress.n_nonfinite:
        say(f"{progress.n_nonfinite} of this start's likelihoods are not finite")
    if progress.n_stock and loops and not is_stock_alone(loops):
        loop = "the engine's own loop, where the compiled one could not"
        say(f"{progress.n_stock} of this start's iterations were run by {loop}")
    if ending != COMPLETE:
        say(f"stopped after {duration(elapsed_s)}: {left}")
        say(f"to resume: {resume_command}")
        return EXIT_STOPPED
    say(f"complete after {duration(elapsed_s)}: {counts}; {options.output}")
    if not queue.n_failed:
        return EXIT_COMPLETE
    say(f"why: python -m mosaic_mpi status {shlex.quote(options.output)}; --retry-failed runs them again")
    return EXIT_SOME_FAILED


def _tell_of_failures(what: str, progress: Progress, resume_command: str) -> None:
    complain(f"mosaic_mpi: {what}; the commonest errors of this start:")
    for line in progress.commonest_failures():
        complain(f"  {line}")
    complain(
        "what was finished is kept; mend the cause and give the same command with --retry-failed, or go on in "
        f"spite of it with a larger --max-failures: {resume_command}"
    )
