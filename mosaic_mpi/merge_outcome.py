"""How a merge ended: counts, what is missing, and the command that completes it. Knows no file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import layout
from mosaic_mpi.errors import EXIT_COMPLETE, EXIT_SOME_FAILED, EXIT_STOPPED
from mosaic_mpi.pieces import Selection
from mosaic_mpi.plan import spans

_WITHOUT = {"--simulations": 1, "--output": 1, "--overwrite": 0, "--retry-failed": 0}
"""Options of a piece's command that are not those of the whole run, and the words that follow them."""
_SAYS_HOW_MANY = ("--n-simulations", "--samples", "--control")


@dataclass(frozen=True)
class Merged:
    """How a merge ended: what to tell a person, and the exit code."""

    text: str
    exit_code: int


def conclude(selection: Selection, output: str, command: str) -> Merged:
    """Say how a merge ended.

    Parameters
    ----------
    selection : Selection
        What was written.
    output : str
        Where.
    command : str
        The command line of a piece's latest start; empty if none was ever started.
    """
    counts = np.bincount(selection.status, minlength=3)
    pending, completed, failed = (int(counts[state]) for state in (layout.PENDING, layout.COMPLETED, layout.FAILED))
    n_files = len(selection.pieces)
    lines = [
        f"{output}: {len(selection.status)} simulations of {n_files} file{'s' if n_files > 1 else ''}: "
        f"{completed} completed, {failed} failed, {pending} pending"
    ]
    gaps = _gaps(selection)
    if len(gaps):
        lines.append(f"simulations in none of the files: {spans(gaps)}")
    if pending or len(gaps):
        lines.append(f"to complete: {completing(command, output, int(selection.blueprint.sim_ids[-1]))}")
    if failed:
        lines.append(f"why: python -m mosaic_mpi status {shlex.quote(output)}")
    code = EXIT_STOPPED if pending or len(gaps) else EXIT_SOME_FAILED if failed else EXIT_COMPLETE
    return Merged("\n".join(lines), code)


def _gaps(selection: Selection) -> NDArray[np.int64]:
    """Ids from 1 that no piece has, unless they come from a table, which may number its rows as it likes."""
    ids = np.asarray(selection.blueprint.sim_ids)
    if str(selection.blueprint.identity["parameters"]).startswith("table "):
        return ids[:0]
    return np.setdiff1d(np.arange(1, ids[-1] + 1), ids, assume_unique=True)


def completing(command: str, output: str, last_id: int) -> str:
    """The command of the whole run, from the one of a piece."""
    advice = f"the run command of the whole plan, without --simulations, with --output {shlex.quote(output)}"
    try:
        words = iter(shlex.split(command))
    except ValueError:  # it was too long for its place
        return advice
    kept: list[str] = []
    for word in words:
        name, has_value, _ = word.partition("=")
        if name not in _WITHOUT:
            kept.append(word)
        elif not has_value:
            for _ in range(_WITHOUT[name]):
                next(words, None)
    if "run" not in kept or len(command.encode()) >= layout.COMMAND_BYTES:
        return advice
    if not any(word.partition("=")[0] in _SAYS_HOW_MANY for word in kept):
        kept += ["--n-simulations", str(last_id)]
    return shlex.join([*kept, "--output", output])
