"""What failed, how often and why, with examples. Knows no figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mosaic_mpi import layout
from mosaic_mpi.error_kinds import by_kind
from mosaic_mpi.report.snapshot import Snapshot

_N_KINDS = 12
_N_EXAMPLES = 5


@dataclass(frozen=True)
class Kind:
    """Failed attempts whose texts differ in numbers at most.

    Parameters
    ----------
    cause : str
        exception, killed, timeout or other.
    n_attempts : int
        Failed attempts with it.
    last_line : str
        The end of the text, which names the error.
    text : str
        The commonest of them, as the results file keeps it.
    n_texts : int
        Different texts.
    examples : list of int
        Ids of simulations that met it last.
    n_examples : int
        How many such simulations there are.
    """

    cause: str
    n_attempts: int
    last_line: str
    text: str
    n_texts: int
    examples: list[int]
    n_examples: int


@dataclass(frozen=True)
class FailureReport:
    """Attempts and errors of a run.

    Parameters
    ----------
    by_cause : dict
        Failed attempts by cause, the commonest first.
    kinds : list of Kind
        The commonest ones.
    n_kinds : int
        All of them.
    by_attempts : list of (int, int, int)
        Attempts, and how many simulations were completed and failed after so many.
    n_attempts, n_failed_attempts : int
        Of all simulations.
    """

    by_cause: dict[str, int]
    kinds: list[Kind]
    n_kinds: int
    by_attempts: list[tuple[int, int, int]]
    n_attempts: int
    n_failed_attempts: int


def gather(snapshot: Snapshot) -> FailureReport:
    """Count attempts and errors."""
    texts = snapshot.results.table("errors/text")
    causes, counts = (snapshot.results.table(f"errors/{name}") for name in ("cause", "attempts"))
    used = np.flatnonzero(counts > 0)
    used = used[np.argsort(-counts[used], kind="stable")]
    by_cause: dict[str, int] = {}
    for row in used:
        cause = _text(causes[row])
        by_cause[cause] = by_cause.get(cause, 0) + int(counts[row])
    groups = by_kind((_text(causes[row]), _text(texts[row]), int(row)) for row in used)
    groups.sort(key=lambda rows: -int(counts[rows].sum()))
    kinds = [
        _kind(snapshot, rows, _text(causes[rows[0]]), int(counts[rows].sum()), _text(texts[rows[0]]))
        for rows in groups[:_N_KINDS]
    ]
    return FailureReport(
        by_cause=dict(sorted(by_cause.items(), key=lambda entry: -entry[1])),
        kinds=kinds,
        n_kinds=len(groups),
        by_attempts=_by_attempts(snapshot),
        n_attempts=int(snapshot.attempts.sum(dtype=np.int64)),
        n_failed_attempts=int(snapshot.failed_attempts.sum(dtype=np.int64)),
    )


def _kind(snapshot: Snapshot, rows: list[int], cause: str, n_attempts: int, text: str) -> Kind:
    met = np.flatnonzero(np.isin(snapshot.error, np.array(rows) + 1))
    lines = [line for line in text.strip().splitlines() if line.strip()]
    examples = snapshot.sim_id[met[:_N_EXAMPLES]].tolist()
    last_line = lines[-1].strip() if lines else "no text"
    return Kind(cause, n_attempts, last_line, text.strip(), len(rows), examples, len(met))


def _by_attempts(snapshot: Snapshot) -> list[tuple[int, int, int]]:
    most = int(snapshot.attempts.max(initial=0))
    ended = [
        np.bincount(snapshot.attempts[snapshot.status == state], minlength=most + 1)
        for state in (layout.COMPLETED, layout.FAILED)
    ]
    pairs = zip(*(counts.tolist() for counts in ended), strict=True)
    return [(n, done, failed) for n, (done, failed) in enumerate(pairs) if n and (done or failed)]


def _text(value: bytes) -> str:
    return bytes(value).decode("utf-8", "replace")
