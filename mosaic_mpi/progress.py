"""What rank 0 shows while a run goes on: a bar on a terminal, a line every so often in a batch log.

Owns every line between the header and the summary. Knows no MPI and no file.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.console import is_terminal, say

_FIRST_LINE_SECONDS = 10.0
_LINE_SECONDS = 30.0
_BAR_SECONDS = 0.2
_WINDOW_SECONDS = 60.0
_MAX_KINDS = 1000
_MAX_EXAMPLES = 3
"""Lines printed for one kind of failure; the results file keeps them all."""


def duration(seconds: float) -> str:
    """Return a time span the way people say it: "42 s", "3 min 20 s", "2 h 05 min", "3 d 04 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


class Progress:
    """The progress of one start.

    Parameters
    ----------
    n_simulations : int
        Of the run.
    n_done : int
        Completed or failed before this start.
    """

    def __init__(self, n_simulations: int, n_done: int) -> None:
        self._n_simulations = n_simulations
        self._done = n_done
        self._best = -np.inf
        self.n_nonfinite = 0
        self._began = self._shown = time.monotonic()
        self._next_line = self._began + _FIRST_LINE_SECONDS
        self._history: deque[tuple[float, int]] = deque([(self._began, n_done)])
        self._causes: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._bar = self._make_bar() if is_terminal(sys.stderr) else None

    def _make_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=self._n_simulations,
            initial=self._done,
            unit="sim",
            smoothing=0.05,
            dynamic_ncols=True,
            file=sys.stderr,
        )

    # ---- what happened ------------------------------------------------------------------------------

    def results(self, n_results: int, likelihoods: NDArray[np.float64]) -> None:
        """Take note of finished simulations and their log-likelihoods."""
        finite = likelihoods[np.isfinite(likelihoods)]
        self.n_nonfinite += len(likelihoods) - len(finite)
        if len(finite):
            self._best = max(self._best, float(finite.max()))

    def failure(self, sim_id: int, attempts: int, final: bool, cause: str, text: str, where: str) -> None:
        """Show the first failed attempts of each kind."""
        self._causes[cause] += 1
        last_line = text.strip().splitlines()[-1] if text.strip() else "no text"
        kind = f"{cause}: {last_line}"
        if kind in self._kinds or len(self._kinds) < _MAX_KINDS:
            self._kinds[kind] += 1
        if self._causes[cause] > _MAX_EXAMPLES:
            return
        outcome = "given up" if final else "to be tried again"
        more = "; further ones go to the results file only" if self._causes[cause] == _MAX_EXAMPLES else ""
        self.say(f"simulation {sim_id}, attempt {attempts} on {where}: {cause}: {last_line} ({outcome}){more}")

    def commonest_failures(self, n_kinds: int = 3) -> list[str]:
        """Kinds of failed attempts of this start, the commonest first, with their counts."""
        return [f"{count} x {kind}" for kind, count in self._kinds.most_common(n_kinds)]

    def lost_rank(self, rank: int, host: str, why: str, n_rows: int) -> None:
        """Tell that a rank is gone."""
        self.say(f"rank {rank} on {host} {why}; its {n_rows} simulations go back to the queue")

    # ---- showing it ---------------------------------------------------------------------------------

    def tick(self, n_completed: int, n_failed: int, n_slots: int) -> None:
        """Show where the run stands, when it is time to."""
        now = time.monotonic()
        self._done = n_completed + n_failed
        if now - self._history[-1][0] > 1.0:
            self._history.append((now, self._done))
            while now - self._history[0][0] > _WINDOW_SECONDS:
                self._history.popleft()
        if self._bar is not None:
            self._tick_bar(self._bar, now, n_failed, n_slots)
        elif now > self._next_line:
            self._next_line = now + _LINE_SECONDS
            self.say(self._line(now, n_failed, n_slots))

    def _tick_bar(self, bar: Any, now: float, n_failed: int, n_slots: int) -> None:
        if now - self._shown > _BAR_SECONDS or self._done == self._n_simulations:
            self._shown = now
            best = "" if np.isinf(self._best) else f", best logL {self._best:.1f}"
            bar.set_postfix_str(f"{n_failed} failed, {n_slots} slots{best}", refresh=False)
            bar.update(self._done - bar.n)

    def _line(self, now: float, n_failed: int, n_slots: int) -> str:
        then, done = self._history[0]
        rate = (self._done - done) / max(now - then, 1e-9)
        left = duration((self._n_simulations - self._done) / rate) if rate > 0 else "unknown"
        share = 100 * self._done / self._n_simulations
        best = "" if np.isinf(self._best) else f", best logL {self._best:.1f}"
        return (
            f"{time.strftime('%H:%M:%S')} {self._done}/{self._n_simulations} ({share:.1f} %), "
            f"{rate:.2f} simulations/s, {left} left, {n_failed} failed, {n_slots} slots{best}"
        )

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        if self._bar is not None:
            self._bar.clear()
        say(line)

    def close(self) -> None:
        """Take the bar off."""
        if self._bar is not None:
            self._bar.close()
