"""Rank 0's words to the user, which must never end a run.

A log on a full disk, a closed terminal or `| head` make writing fail; from then on nothing more is said.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


def show_any_text() -> None:
    """Have characters that a terminal does not know shown as their codes, instead of ending what was to be said."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print lines to standard output, if there is one."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Print lines to standard error, if there is one."""
    _write(sys.stderr, text)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches a stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        return
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError):
        _silence(stream)


def _silence(stream: TextIO) -> None:
    """Send what is still buffered, and all that follows, nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
