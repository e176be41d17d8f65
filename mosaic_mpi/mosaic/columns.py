"""The columns in which MOSAIC records a parameter set.

Owns their names and order, which follow the base config and not the draw: a parameter the base config lacks
is drawn but not recorded, and one that is a scalar there has a single column, for the first location.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.mosaic.base_config import BaseConfig
from mosaic_mpi.mosaic.parameter_names import BY_LOCATION, COUNTS, GLOBALS

__all__ = ["ParameterColumns"]

# In a run of one location these two have no suffix, although they are given by location.
_BARE_ALONE = frozenset(["N_j_initial", "alpha_1"])
_RECORDED = GLOBALS | BY_LOCATION | frozenset(COUNTS) | _BARE_ALONE


class ParameterColumns:
    """Names of the parameter columns of a base config, and rows in their order.

    Attributes
    ----------
    names : tuple of str
        ``name_ISO`` for a parameter by location, else ``name``.
    """

    def __init__(self, base: BaseConfig) -> None:
        recorded = {name: base.values(name) for name in base.document if name in _RECORDED}
        self._base = {name: values for name, values in recorded.items() if values}
        self._locations = base.locations
        self._labels = {name: self._label(name, len(values)) for name, values in self._base.items()}
        self.names = tuple(label for labels in self._labels.values() for label in labels)

    def _label(self, name: str, length: int) -> list[str]:
        count = len(self._locations)
        if length == count and (count > 1 or name not in _BARE_ALONE | GLOBALS):
            return [f"{name}_{iso}" for iso in self._locations]
        return [name] if length == 1 else [f"{name}_{index}" for index in range(1, length + 1)]

    def row(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """One row of a drawn parameter set, the base config's values standing in for what was not drawn.

        Parameters
        ----------
        values : mapping of str to float, int or list

        Returns
        -------
        ndarray of float64, shape (n_columns,)
        """
        cells: list[float] = []
        for name, labels in self._labels.items():
            value = values.get(name, self._base[name])
            elements = value if isinstance(value, list) else [value]
            cells.extend(self._cells(elements, len(labels)))
        return np.array(cells, dtype=np.float64)

    def _cells(self, elements: list[float], count: int) -> list[float]:
        if count == len(self._locations):
            return elements[:count] + [math.nan] * (count - len(elements))
        # Without an ISO code in its name MOSAIC fills a column with the first element.
        return [elements[0]] * count
