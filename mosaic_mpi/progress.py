"""What rank 0 shows while a run goes on: a few lines on a terminal, one line every so often in a batch log.

Owns every line between the header and the summary. Knows no MPI and no file.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import console
from mosaic_mpi.console import say, visible
from mosaic_mpi.display import Display, can_rewrite
from mosaic_mpi.error_kinds import kind_of
from mosaic_mpi.layout import BROKEN, STATE_NAMES
from mosaic_mpi.standing import Row, Standing, as_line, as_rows, duration

__all__ = ["Progress", "duration"]

_FIRST_LINE_SECONDS = 10.0
_LINE_SECONDS = 30.0
_DISPLAY_SECONDS = 0.2
_LOOK_SECONDS = 1.0
_WINDOW_SECONDS = 60.0
_WINDOW_RESULTS = 20
_MAX_KINDS = 1000
_MAX_EXAMPLES = 3
"""Lines printed for one kind of failure; the results file keeps them all."""


class Progress:
    """The progress of one start.

    Parameters
    ----------
    n_simulations : int
        Of the run.
    n_done : int
        Completed or failed before this start.
    n_ranks, n_slots : int
        That this start was given.
    best_likelihood : float or None
        Highest log-likelihood before this start.

    Attributes
    ----------
    n_nonfinite : int
        Results of this start whose log-likelihood is not finite.
    n_stock : int
        Their iterations that the engine's own loop ran.
    end_state : str
        How the start ended, for the last line.
    """

    def __init__(
        self,
        n_simulations: int,
        n_done: int,
        n_ranks: int = 1,
        n_slots: int = 0,
        best_likelihood: float | None = None,
    ) -> None:
        self._n_simulations, self._n_ranks, self._n_slots = n_simulations, n_ranks, n_slots
        self._best = -np.inf if best_likelihood is None else best_likelihood
        self.n_nonfinite = self.n_stock = 0
        self.end_state = STATE_NAMES[BROKEN]
        self._began = self._looked = time.monotonic()
        self._last_result: float | None = None
        self._next_line = self._began + _FIRST_LINE_SECONDS
        self._n_lines = 0
        self._rate = RecentRate(self._began, n_done, 2 * n_slots)
        self._standing: Standing | None = None
        self._n_mishaps = 0
        self._causes: Counter[str] = Counter()
        self._kinds: Counter[Hashable] = Counter()
        self._examples: dict[Hashable, str] = {}
        self._display = Display(sys.stderr) if can_rewrite(sys.stderr) else None
        console.lift(self._display)

    # ---- what happened ------------------------------------------------------------------------------

    def results(self, likelihoods: NDArray[np.float64], n_stock: int) -> None:
        """Take note of finished simulations: their log-likelihoods, and how many iterations the engine's loop ran."""
        self.n_stock += n_stock
        finite = likelihoods[np.isfinite(likelihoods)]
        self.n_nonfinite += len(likelihoods) - len(finite)
        self._last_result = time.monotonic()
        if len(finite):
            self._best = max(self._best, float(finite.max()))

    def failure(self, sim_id: int, attempts: int, final: bool, cause: str, text: str, where: str) -> None:
        """Show the first failed attempts of each kind."""
        self._causes[cause] += 1
        last_line = visible(text.strip().splitlines()[-1]) if text.strip() else "no text"
        kind = kind_of(cause, last_line)
        if kind in self._kinds or len(self._kinds) < _MAX_KINDS:
            self._kinds[kind] += 1
            self._examples.setdefault(kind, f"{cause}: {last_line}")
        if self._causes[cause] > _MAX_EXAMPLES:
            return
        outcome = "given up" if final else "to be tried again"
        more = "; further ones go to the results file only" if self._causes[cause] == _MAX_EXAMPLES else ""
        self.say(f"simulation {sim_id}, attempt {attempts} on {where}: {cause}: {last_line} ({outcome}){more}")

    def mishap(self, text: str) -> None:
        """Show the first few of what went wrong without costing an attempt."""
        self._n_mishaps += 1
        if self._n_mishaps <= _MAX_EXAMPLES:
            self.say(text + ("; no more of these are told" if self._n_mishaps == _MAX_EXAMPLES else ""))

    def commonest_failures(self, n_kinds: int = 3) -> list[str]:
        """Kinds of failed attempts of this start, the commonest first, with their counts and the first of each."""
        return [f"{count} x {self._examples[kind]}" for kind, count in self._kinds.most_common(n_kinds)]

    def lost_rank(self, rank: int, host: str, why: str, n_rows: int) -> None:
        """Tell that a rank is gone."""
        self.say(f"rank {rank} on {host} {why}; its {n_rows} simulations go back to the queue")

    # ---- showing it ---------------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Whether it is time for a `tick`, at a time of the monotonic clock."""
        return now - self._looked > (_LOOK_SECONDS if self._display is None else _DISPLAY_SECONDS)

    def tick(self, n_completed: int, n_failed: int, n_slots: int, n_ranks: int = 1) -> None:
        """Show where the run stands.

        Parameters
        ----------
        n_completed, n_failed : int
            Simulations, of all starts.
        n_slots, n_ranks : int
            Those that answer.
        """
        now = self._looked = time.monotonic()
        per_s = self._rate.after(now, n_completed + n_failed)
        n_left = self._n_simulations - n_completed - n_failed
        self._standing = Standing(
            state="running",
            n_simulations=self._n_simulations,
            completed=n_completed,
            failed=n_failed,
            per_s=per_s,
            left_s=n_left / per_s if per_s else None,
            elapsed_s=now - self._began,
            n_ranks_alive=n_ranks,
            n_ranks=self._n_ranks,
            n_slots_alive=n_slots,
            n_slots=max(self._n_slots, n_slots),
            best_likelihood=None if np.isinf(self._best) else self._best,
            last_result_s=None if self._last_result is None else now - self._last_result,
        )
        if self._display is not None:
            self._display.show([Row("", ""), *as_rows(self._standing)])  # apart from the messages above
        elif now > self._next_line:
            self._next_line = now + _LINE_SECONDS
            self._n_lines += 1
            say(as_line(self._standing))

    def say(self, line: str) -> None:
        """Print a line; see `console.lift`."""
        say(line)

    def close(self) -> None:
        """Leave the last state: what is said from here on comes below it."""
        if self._display is not None:
            console.lift(None)
            self._display.close()
            self._display = None
        elif self._n_lines and self._standing is not None:
            self._n_lines = 0
            say(as_line(replace(self._standing, state=self.end_state, left_s=None)))


class RecentRate:
    """Simulations a second, of the last minute or, where that holds only few, of as many as say something.

    Parameters
    ----------
    now : float
        When counting begins, seconds.
    n_done : int
        The count then.
    n_results : int
        Fewer than these say nothing: with many slots, results come in waves.
    """

    def __init__(self, now: float, n_done: int, n_results: int) -> None:
        self._n_results = max(n_results, _WINDOW_RESULTS)
        self._history: deque[tuple[float, int]] = deque([(now, n_done)])

    def after(self, now: float, n_done: int) -> float | None:
        """Return the rate now, None as long as there is no result."""
        if n_done > self._history[-1][1] and now - self._history[-1][0] >= _LOOK_SECONDS:
            self._history.append((now, n_done))
        while len(self._history) > 2 and self._is_enough(now, n_done, *self._history[1]):
            self._history.popleft()
        then, before = self._history[0]
        return (n_done - before) / max(now - then, 1e-9) if n_done > before else None

    def _is_enough(self, now: float, n_done: int, then: float, before: int) -> bool:
        return now - then >= _WINDOW_SECONDS and n_done - before >= self._n_results
