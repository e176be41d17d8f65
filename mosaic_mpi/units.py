"""Units: what is handed out, a whole simulation or one iteration of it, as one whole number.

Owns that number. Knows nothing of who runs what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHOLE = 0
"""In place of an iteration's number: all of them."""


@dataclass(frozen=True)
class Units:
    """The units of a run.

    Parameters
    ----------
    n_iterations : int
        Of a simulation.
    """

    n_iterations: int

    def whole(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the units of whole simulations, by their rows."""
        return np.asarray(rows, np.int64) * (self.n_iterations + 1)

    def of(self, rows: NDArray[np.integer[Any]], iterations: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return units by rows, and numbers of iterations, which may be `WHOLE`."""
        return self.whole(rows) + iterations

    def parts(self, row: int) -> list[int]:
        """Return the units of a simulation's iterations."""
        first = row * (self.n_iterations + 1) + 1
        return list(range(first, first + self.n_iterations))

    def split(self, unit: int) -> tuple[int, int]:
        """Return a unit's row, and the number of its iteration, from 1, or `WHOLE`."""
        return divmod(unit, self.n_iterations + 1)

    def rows(self, units: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the rows of units."""
        return np.asarray(units, np.int64) // (self.n_iterations + 1)
