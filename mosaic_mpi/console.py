"""Rank 0's words to the user, which must never end a run.

A log on a full disk, a closed terminal or `| head` make writing fail; from then on nothing more is said.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Protocol, TextIO

from mosaic_mpi.errors import MosaicError


class Screen(Protocol):
    """What keeps lines on a terminal that must not be torn."""

    def say(self, text: str) -> None:
        """Print a message above them."""
        ...


_screen: Screen | None = None


def lift(screen: Screen | None) -> None:
    """From now on have what goes to a terminal said above some lines there; None: as usual."""
    global _screen
    _screen = screen


def show_any_text() -> None:
    """Have characters that a terminal does not know shown as their codes, instead of ending what was to be said."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def visible(line: str) -> str:
    """Show what would steer a terminal as its code."""
    return "".join(letter if letter.isprintable() or letter == "\t" else ascii(letter)[1:-1] for letter in line)


def show(text: str) -> None:
    """Print what a command was asked for to standard output.

    Where nobody reads it to its end (`| head`), that changes no exit code.

    Raises
    ------
    MosaicError
        It cannot be written, as on a full disk.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        raise MosaicError(f"standard output: cannot be written: {error.strerror}") from None


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
        if _screen is not None and is_terminal(stream):
            _screen.say(text)
        else:
            print(text, file=stream, flush=True)
    except (OSError, ValueError):
        _silence(stream)


def _silence(stream: TextIO) -> None:
    """Send what is still buffered, and all that follows, nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
