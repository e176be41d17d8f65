"""Where the time of the slots went: simulating, starting up, waiting, the tail; and a timeline of it.

Owns the clock of a run, which leaves out the pauses between starts, and the accounting of slot seconds. A slot is
busy while it simulates what was completed; the file does not record when and for how long failed attempts ran, nor
those that a kill cut short, so they are part of the rest. Of a simulation whose iterations ran in several slots it
records the time of all of them and the place of the last: what does not fit in there was spent in others, which seem
to wait for the end meanwhile. Pure NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.report.snapshot import Completed

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_CLOCKS_DIFFER_S = 60.0
"""Between hosts."""
_GAP_SHARE = 0.006
"""Width of the gap between two starts, as a share of the run …"""
_GAPS_SHARE = 0.12
"""… and of all gaps together."""


@dataclass(frozen=True)
class Span:
    """One start.

    Parameters
    ----------
    began, first, ended : float
        Started, first id handed out (NaN: never), ended or last seen alive; seconds since 1970.
    n_slots : int
        Slots it had.
    """

    began: float
    first: float
    ended: float
    n_slots: int

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended - self.began


def spans_of(starts: Sequence[Mapping[str, Any]], completed: Completed) -> list[Span]:
    """Return when each start began and ended.

    Parameters
    ----------
    starts : sequence of mapping
        `Summary.starts`.
    completed : Completed
        Their results, for starts that were killed before they could say so.
    """
    last = np.zeros(len(starts))
    np.maximum.at(last, completed.start, completed.finished_at)
    spans = []
    for index, start in enumerate(starts):
        began = float(start["started_at"])
        ended = float(start["ended_at"] or max(start["last_commit_at"], last[index]))
        first = float(start["first_assignment_at"] or np.nan)
        spans.append(Span(began, first, max(ended, began), int(start["n_slots"])))
    return spans


def within_their_starts(completed: Completed, spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Tell which results fall into the start they name; of the starts beyond those kept, only the last one's do."""
    began = np.array([span.began for span in spans])
    within: NDArray[np.bool_] = completed.finished_at >= began[completed.start] - _CLOCKS_DIFFER_S
    return within


class Clock:
    """Seconds of running, with a small gap where there was a pause.

    Starts of one file follow each other; those of merged pieces may have run at the same time, and then do so here.

    Parameters
    ----------
    spans : sequence of Span
        In any order.

    Attributes
    ----------
    offsets, ends : ndarray of float64, shape (n_starts,)
        When each start began and ended on this clock.
    breaks : ndarray of float64, shape (n_breaks,)
        Where pauses were.
    running_s, total_s : float
        Without the gaps, and with them.
    n_slots : int
        Most slots at any one time.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._began = np.array([span.began for span in spans])
        lengths = np.array([span.seconds for span in spans])
        order = np.argsort(self._began, kind="stable")
        until = np.maximum.accumulate((self._began + lengths)[order])
        is_new = np.ones(len(spans), bool)
        is_new[1:] = self._began[order][1:] >= until[:-1]
        stretch = np.empty(len(spans), np.int64)
        stretch[order] = np.cumsum(is_new) - 1
        began = self._began[order][is_new]
        seconds = until[np.append(np.flatnonzero(is_new)[1:], len(spans)) - 1] - began if len(spans) else began
        self.running_s = float(seconds.sum())
        self.gap_s = self.running_s * min(_GAP_SHARE, _GAPS_SHARE / max(len(began) - 1, 1))
        offsets = np.cumsum(seconds + self.gap_s) - seconds - self.gap_s
        self.offsets: Floats = offsets[stretch] + self._began - began[stretch]
        self.ends: Floats = self.offsets + lengths
        self.breaks: Floats = offsets[1:] - self.gap_s / 2
        self.total_s = float(offsets[-1] + seconds[-1]) if len(spans) else 0.0
        self.n_slots = _most_at_once(spans)

    def of(self, start: Integers, when: Floats) -> Floats:
        """Return moments on this clock, kept within their starts.

        Parameters
        ----------
        start : ndarray of int64, shape (n,)
            Of which start each is.
        when : ndarray of float64, shape (n,)
            Seconds since 1970.
        """
        if not len(start):
            return np.empty(0)
        moments: Floats = np.clip(
            when - self._began[start] + self.offsets[start], self.offsets[start], self.ends[start]
        )
        return moments


def _most_at_once(spans: Sequence[Span]) -> int:
    changes = [
        (moment, sign * span.n_slots) for span in spans for moment, sign in ((span.began, 1), (span.ended, -1))
    ]
    changes.sort()  # what ends makes room before the next begins
    return int(np.cumsum([0, *(change for _, change in changes)]).max())


@dataclass(frozen=True)
class Ledger:
    """Slot seconds of a run, by what they were used for; they add up to the total.

    Parameters
    ----------
    simulating : float
        Simulations that were completed, in whichever slots.
    starting : float
        Until each slot began the first simulation that it completed.
    waiting : float
        Between two completed simulations of a slot.
    tail : float
        From a slot's last result to the end of its start; while that runs, this is mostly work without a result yet.
    unused : float
        Slots that brought no result in their start at all.
    """

    simulating: float = 0.0
    starting: float = 0.0
    waiting: float = 0.0
    tail: float = 0.0
    unused: float = 0.0

    @property
    def total(self) -> float:
        """Slots x time."""
        return self.simulating + self.starting + self.waiting + self.tail + self.unused

    @property
    def efficiency(self) -> float:
        """Busy slot seconds by slots x time; NaN without any."""
        return self.simulating / self.total if self.total > 0 else float("nan")


class SlotTime:
    """The slots of a run and what they did when.

    Parameters
    ----------
    completed : Completed
        What they brought.
    spans : sequence of Span
        The starts.
    """

    def __init__(self, completed: Completed, spans: Sequence[Span]) -> None:
        self.spans = list(spans)
        self.clock = Clock(spans)
        self._start = completed.start
        self._end = self.clock.of(completed.start, completed.finished_at)
        elapsed = np.where(np.isfinite(completed.elapsed_s), completed.elapsed_s, 0.0)
        self._busy = np.clip(elapsed, 0.0, None)
        floor = self.clock.offsets[completed.start] if len(completed) else np.empty(0)
        keys = np.stack([completed.start, completed.host, completed.rank, completed.slot], axis=1)
        # One slot of one start a group; one slot of any start a place.
        self._groups, self._group = np.unique(keys, axis=0, return_inverse=True)
        self._group = self._group.reshape(-1)
        self._begin = np.maximum(self._end - self._busy, np.maximum(floor, _end_before(self._group, self._end)))
        at_once = len(self.clock.breaks) + 1 < len(self.spans)  # pieces: their ranks have the same numbers
        which = self._groups[:, :1] + 1 if at_once else np.zeros_like(self._groups[:, :1])
        self.places, self._place = np.unique(np.hstack([self._groups[:, 1:], which]), axis=0, return_inverse=True)
        self._place = self._place.reshape(-1)

    @property
    def n_places(self) -> int:
        """Different slots that brought a result."""
        return len(self.places)

    @property
    def elsewhere_s(self) -> float:
        """Slot seconds of iterations that ran in other slots than the last one of their simulation, unknown which."""
        return float((self._busy - (self._end - self._begin)).sum())

    @cached_property
    def ledger(self) -> Ledger:
        """Where the slot seconds went."""
        n_groups = len(self._groups)
        first, last = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
        np.minimum.at(first, self._group, self._begin)
        np.maximum.at(last, self._group, self._end)
        busy = np.bincount(self._group, self._end - self._begin, n_groups)
        start = self._groups[:, 0]
        offsets, ends = self.clock.offsets[start], self.clock.ends[start]
        seconds = np.array([span.seconds for span in self.spans])
        slots = np.array([span.n_slots for span in self.spans])
        silent = np.clip(slots - np.bincount(start, minlength=len(self.spans)), 0, None)
        idle = [
            float((ends - last).sum()),
            float((silent * seconds).sum()),
            float(np.clip(last - first - busy, 0.0, None).sum()),
        ]
        (tail, unused, waiting), moved = _take(idle, self.elsewhere_s)
        starting = float((first - offsets).sum())
        return Ledger(float(busy.sum()) + moved, starting, waiting, tail, unused)

    def timeline(self, n_bins: int, max_rows: int, hosts: Sequence[str]) -> Timeline:
        """Return how busy slots were, aggregated until they fit.

        Parameters
        ----------
        n_bins : int
            Columns.
        max_rows : int
            Rows at most: one a slot if they fit, else one a host, else one for several of either.
        hosts : sequence of str
            Names.
        """
        row_of_place, labels, unit = _rows(self.places, max_rows, hosts)
        rows = row_of_place[self._place]
        scale = n_bins / self.clock.total_s if self.clock.total_s > 0 else 0.0
        shape = (len(labels), n_bins)
        busy = _coverage(rows[self._group], self._begin * scale, self._end * scale, shape)
        start = self._groups[:, 0]
        there = _coverage(rows, self.clock.offsets[start] * scale, self.clock.ends[start] * scale, shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(there > 1e-6, np.clip(busy / there, 0.0, 1.0), np.nan)
        return Timeline(labels, unit, share, busy.sum(axis=0), there.sum(axis=0))

    def finished(self, n_bins: int) -> Integers:
        """Completed simulations in each of so many equal parts of the running time."""
        return self.count(self._end, n_bins)

    def count(self, moments: Floats, n_bins: int) -> Integers:
        """Moments of the clock in each of so many equal parts of the running time."""
        limits = (0.0, max(self.clock.total_s, 1e-9))
        return np.histogram(moments, n_bins, limits)[0].astype(np.int64)


def _end_before(group: Integers, end: Floats) -> Floats:
    """When the result before each, of the same slot, ended; -inf before the first."""
    order = np.lexsort((end, group))
    before = np.full(len(end), -np.inf)
    is_same = group[order[1:]] == group[order[:-1]]
    before[order[1:][is_same]] = end[order[:-1][is_same]]
    return before


def _take(amounts: list[float], wanted: float) -> tuple[list[float], float]:
    """Take so much from some amounts, from the first one as far as it goes; return what is left, and how much."""
    left, missing = [], wanted
    for amount in amounts:
        taken = min(amount, missing)
        left.append(amount - taken)
        missing -= taken
    return left, wanted - missing


@dataclass(frozen=True)
class Timeline:
    """How busy slots were over the running time.

    Parameters
    ----------
    labels : list of str
        One a row.
    unit : str
        What a row is.
    share : ndarray of float64, shape (n_rows, n_bins)
        Busy share, 0 to 1; NaN where no slot of the row took part.
    busy, there : ndarray of float64, shape (n_bins,)
        Busy slots and slots with results, of all rows together, in units of a bin.
    """

    labels: list[str]
    unit: str
    share: Floats
    busy: Floats
    there: Floats


def _rows(places: Integers, max_rows: int, hosts: Sequence[str]) -> tuple[Integers, list[str], str]:
    """Give each slot (host, rank, slot, start or 0; sorted) a row, and each row a name."""
    n = len(places)
    numbers, host_of = np.unique(places[:, 0], return_inverse=True)
    names = [hosts[number] for number in numbers]
    if n <= max_rows:
        return np.arange(n), [_place_name(place, hosts) for place in places], "slot (host · rank.slot)"
    if 1 < len(names) <= max_rows:
        return host_of.reshape(-1).astype(np.int64), names, "host"
    items = names if len(names) > max_rows else [_place_name(place, hosts) for place in places]
    size = -(-len(items) // max_rows)
    index = host_of.reshape(-1) if len(names) > max_rows else np.arange(n)
    labels = [f"{items[first]} …" for first in range(0, len(items), size)]
    what = "hosts" if len(names) > max_rows else "slots"
    return (index // size).astype(np.int64), labels, f"{size} {what}"


def _place_name(place: Integers, hosts: Sequence[str]) -> str:
    host, rank, slot, start = place.tolist()
    return f"{hosts[host]} · {rank}.{slot}" + (f", start {start}" if start else "")


def _coverage(row: Integers, begin: Floats, end: Floats, shape: tuple[int, int]) -> Floats:
    """Sum, bin by bin, how much of it intervals cover.

    Where an interval begins, a bin gets what is left of it and every later bin the whole; where it ends, the same is
    taken away. Both are differences of which one running sum makes the coverage, however many bins an interval spans.
    """
    n_rows, n_bins = shape
    flat = np.zeros(n_rows * (n_bins + 2))
    for moment, sign in ((begin, 1.0), (end, -1.0)):
        cell = np.clip(np.floor(moment), 0, n_bins - 1).astype(np.int64)
        inside = np.clip(moment - cell, 0.0, 1.0)
        place = row * (n_bins + 2) + cell
        flat += np.bincount(place, sign * (1.0 - inside), len(flat))
        flat += np.bincount(place + 1, sign * inside, len(flat))
    covered: Floats = np.cumsum(flat.reshape(n_rows, n_bins + 2), axis=1)[:, :n_bins]
    return np.clip(covered, 0.0, None)
