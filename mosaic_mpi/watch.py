"""`status --watch`: where a run stands, again and again, from any machine that sees its results file.

Owns the loop and what is shown. Knows no MPI and no engine; reads the file anew each time.
"""

from __future__ import annotations

import json
import sys
import time

from mosaic_mpi.console import say, visible
from mosaic_mpi.display import Display, can_rewrite
from mosaic_mpi.errors import InputError
from mosaic_mpi.standing import Row, as_line, as_rows, duration
from mosaic_mpi.summary import Failures, Summary, kinds_of_failures, standing, summarise
from mosaic_mpi.summary_text import silent_hosts_text

DEFAULT_SECONDS = 5.0
_LOOK_SECONDS = 0.2
_TRIES = 3
"""Times that a file may be unreadable in a row, as on a network file system while it is replaced."""
_N_ERRORS = 3


def watch(path: str, interval_s: float = DEFAULT_SECONDS) -> Summary:
    """Show where a run stands until it has ended or is dead: in place on a terminal, else a line an interval.

    Parameters
    ----------
    path : str
        The results file.
    interval_s : float
        Seconds between two looks at it.

    Returns
    -------
    Summary
        The last one.

    Raises
    ------
    InputError
        The file is missing, damaged or not a results file.
    """
    summary = summarise(path)
    if not can_rewrite(sys.stdout):
        return _print_lines(summary, interval_s)
    display = Display(sys.stdout, whole_screen=True)
    try:
        return _show_in_place(display, summary, interval_s)
    finally:
        display.close()


def _print_lines(summary: Summary, interval_s: float) -> Summary:
    say(watch_line(summary))
    while summary.state == "running":
        time.sleep(interval_s)
        summary = _look_again(summary)
        say(watch_line(summary))
    return summary


def _show_in_place(display: Display, summary: Summary, interval_s: float) -> Summary:
    while True:
        display.show(watch_rows(summary))
        if summary.state != "running":
            return summary
        looked = time.monotonic()
        while (passed_s := time.monotonic() - looked) < interval_s:
            time.sleep(min(_LOOK_SECONDS, interval_s - passed_s))
            display.fit()
        summary = _look_again(summary)


def _look_again(before: Summary) -> Summary:
    for _ in range(_TRIES - 1):
        try:
            return summarise(before.file)
        except InputError:
            time.sleep(_LOOK_SECONDS)
    return summarise(before.file)


def watch_line(summary: Summary) -> str:
    """Return the line of a log (see `standing.as_line`), with what only the file can tell after it."""
    silent = ",".join(entry.host for entry in summary.silent_hosts) or "none"
    n_attempts = sum(entry.attempts for entry in summary.failures)
    error = json.dumps(_error_text(kinds_of_failures(summary.failures)[0])) if summary.failures else "none"
    more = f"heard_s={max(summary.last_commit_s, 0.0):.0f} silent_hosts={silent} failed_attempts={n_attempts}"
    return f"{as_line(standing(summary))} {more} error={error}"


def watch_rows(summary: Summary) -> list[Row]:
    """Return the lines of the display."""
    rows = [Row("file", summary.file), _state_row(summary), *as_rows(standing(summary))]
    if summary.silent_hosts:
        rows.append(Row("silent", silent_hosts_text(summary.silent_hosts), is_worrying=True))
    labels = ["errors"] + [""] * _N_ERRORS
    rows += [
        Row(label, _error_text(entry))
        for label, entry in zip(labels, kinds_of_failures(summary.failures)[:_N_ERRORS], strict=False)
    ]
    rows.append(Row("", time.strftime("%H:%M:%S") + ", Ctrl-C ends this, not the run"))
    return rows


def _state_row(summary: Summary) -> Row:
    silent = duration(summary.last_commit_s) if summary.starts else "never"
    match summary.state:
        case "running":
            return Row("state", f"running, rank 0 heard of {silent} ago")
        case "dead":
            return Row("state", f"dead: rank 0 ended without a word, {silent} ago", is_worrying=True)
        case state:
            return Row("state", state, is_worrying=not summary.complete)


def _error_text(entry: Failures) -> str:
    """How often, the cause, and the last line of the text."""
    lines = entry.text.strip().splitlines() or ["no text"]
    return f"{entry.attempts} x {entry.cause}: {visible(lines[-1])}"
