"""The nearest valid name to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, valid: Iterable[str], cutoff: float = 0.5) -> str:
    """Return `"; did you mean X?"`, or an empty string when nothing comes close.

    Parameters
    ----------
    name : str
        What was found.
    valid : iterable of str
        What would have been right.
    cutoff : float
        How alike they must be, 0 to 1.
    """
    valid = list(valid)
    folded = {candidate.lower(): candidate for candidate in valid}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=cutoff)
    return f"; did you mean {folded[close[0]]}?" if close else ""
