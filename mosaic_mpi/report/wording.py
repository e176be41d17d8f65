"""Numbers, spans and moments the way the report writes them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

SPACE = "\u202f"
"""Between thousands, and between a number and its unit: narrow, and never a line's end."""
MINUS, DASH, TIMES = "\u2212", "\u2013", "\u00d7"


def whole(value: float) -> str:
    """Return a count with its thousands apart."""
    return f"{round(value):,}".replace(",", SPACE).replace("-", MINUS)


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, "none" for NaN."""
    if math.isnan(value):
        return "none"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value and not 1e-4 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
        return text.replace("-", MINUS)
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0) if value else 0
    text = f"{value:,.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace(",", SPACE).replace("-", MINUS)


def likelihood(value: float) -> str:
    """Return a log-likelihood: two decimals, whatever its size."""
    return number(value) if not math.isfinite(value) else f"{value:,.2f}".replace(",", SPACE).replace("-", MINUS)


def percent(share: float) -> str:
    """Return a share as a percentage."""
    if math.isnan(share):
        return "none"
    value = 100 * share
    if 0 < value < 0.1:
        return f"below 0.1{SPACE}%"
    if 99.9 < value < 100:
        return f"above 99.9{SPACE}%"
    return f"{value:.0f}{SPACE}%" if value >= 10 or value == 0 else f"{value:.1f}{SPACE}%"


def count(n: int, noun: str, plural: str = "") -> str:
    """Return "1 slot", "2 slots"."""
    return f"{whole(n)} {noun if n == 1 else plural or noun + 's'}"


def span(seconds: float) -> str:
    """Return a time span: "0.43 s", "42 s", "3 min 20 s", "2 h 05 min", "3 d 04 h"."""
    if math.isnan(seconds):
        return "none"
    if 0 < seconds < 10:
        return f"{number(seconds, 2)}{SPACE}s"
    rest = round(seconds)
    if rest < 60:
        return f"{rest}{SPACE}s"
    for upper, lower, size, part in (("min", "s", 60, 1), ("h", "min", 3600, 60), ("d", "h", 86400, 3600)):
        if rest < {"min": 3600, "h": 86400}.get(upper, math.inf):
            return f"{rest // size}{SPACE}{upper} {rest % size // part:02d}{SPACE}{lower}"
    raise AssertionError(seconds)


def hours(core_seconds: float) -> str:
    """Return core-hours."""
    return f"{number(core_seconds / 3600, 3)} core-hours"


def moment(when: float) -> str:
    """Return a date and a time of this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(when))


def size(n_bytes: int) -> str:
    """Return a size in binary units."""
    value, unit = float(n_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{number(value)}{SPACE}{unit}"


def some(names: Sequence[str], most: int = 6) -> str:
    """Return names, and how many more there are."""
    if len(names) <= most + 1:
        return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
    return f"{', '.join(names[:most])} and {whole(len(names) - most)} more"


def ranges(numbers: Sequence[int], most: int = 12) -> str:
    """Return ascending numbers with neighbours joined by a dash."""
    parts: list[list[int]] = []
    for value in numbers:
        if parts and value == parts[-1][1] + 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    shown = [str(a) if a == b else f"{a}{DASH}{b}" for a, b in parts[:most]]
    return ", ".join(shown) + (" …" if len(parts) > most else "")
