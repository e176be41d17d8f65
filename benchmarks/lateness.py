"""How late many answers came, in a histogram of fixed size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EDGES_S = np.geomspace(1e-4, 100.0, 241)
"""Upper ends of its bins, 6 % apart."""


class Lateness:
    """The delays of answers behind the moment that the play has for them."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_EDGES_S) + 1, np.int64)
        self.most_s = 0.0

    def add(self, late_s: NDArray[np.float64]) -> None:
        """Note delays, seconds."""
        bins = np.searchsorted(_EDGES_S, late_s)
        self._counts += np.bincount(bins, minlength=len(self._counts))
        self.most_s = max(self.most_s, float(late_s.max(initial=0.0)))

    def quantile_s(self, share: float) -> float:
        """The delay that such a share of answers did not exceed, to 6 % above; 0 if there was no answer."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), share * total))
        return min(float(_EDGES_S[min(place, len(_EDGES_S) - 1)]), self.most_s)
