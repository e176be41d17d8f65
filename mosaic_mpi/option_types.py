"""What the texts of options mean: each function takes one and refuses it in words."""

from __future__ import annotations

import argparse

from mosaic_mpi.deadline import parse_duration
from mosaic_mpi.failure_limit import FailureLimit


def names(text: str) -> tuple[str, ...]:
    """Names, separated by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected names separated by commas")
    return names


def positive(text: str) -> int:
    """A whole number from 1."""
    try:
        number = int(text.replace("_", ""))
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return number


def span(text: str) -> tuple[int, int]:
    """A first and a last id, "A-B", or one for both."""
    first, _, last = text.partition("-")
    try:
        span = positive(first), positive(last or first)
    except argparse.ArgumentTypeError:
        span = 1, 0
    if span[0] > span[1] or text.endswith("-"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected A-B with 1 <= A <= B, or one number")
    return span


def seconds(text: str) -> float:
    """Seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected seconds above 0")
    return number


def rank_timeout(text: str) -> float:
    """Seconds from 1."""
    found = seconds(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected at least 1 second")
    return found


def time_span(text: str) -> float:
    """A time span, HH:MM:SS or D-HH:MM:SS, in seconds."""
    try:
        return parse_duration(text)
    except ValueError:
        expected = "expected HH:MM:SS or D-HH:MM:SS, for example 02:00:00"
        raise argparse.ArgumentTypeError(f"found {text!r}, {expected}") from None


def failure_limit(text: str) -> FailureLimit:
    """A number of simulations, or a percentage."""
    try:
        return FailureLimit.parse(text)
    except ValueError:
        expected = "expected a number of simulations from 1, or a percentage up to 100%"
        raise argparse.ArgumentTypeError(f"found {text!r}, {expected}") from None


def slots(text: str) -> int | None:
    """A number of slots; None: as many as there are cores."""
    return None if text == "auto" else positive(text)
