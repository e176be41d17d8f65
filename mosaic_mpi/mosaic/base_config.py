"""What the sampler needs of the base config: locations, populations, suitability, values to fall back on.

Owns the reading of engine configs in their plain JSON form, in which vectors of length one may be scalars and
missing numbers are null or ``"NA"``. Changes nothing in them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.mosaic.priors import number

__all__ = ["BaseConfig"]


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """A base config, checked where the sampler reads it.

    Attributes
    ----------
    document : mapping of str to any
        The config as it was given.
    locations : tuple of str
        ISO codes, in the config's order.
    """

    document: Mapping[str, Any]
    locations: tuple[str, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any], problems: list[str]) -> BaseConfig:
        """Read the locations; what is wrong with them is added to ``problems``."""
        names = _as_list(document.get("location_name"))
        if not names or not all(isinstance(name, str) for name in names):
            problems.append(f"config.location_name: found {names!r}, expected ISO codes")
            names = []
        if len(set(names)) != len(names):
            problems.append("config.location_name: found a location twice, expected each once")
        return cls(document, tuple(names))

    def has(self, name: str) -> bool:
        """Whether the config has this key at all."""
        return name in self.document

    def values(self, name: str) -> list[float]:
        """Numbers of a parameter, NaN for what is none; empty where the parameter is absent."""
        found = (number(value) for value in _as_list(self.document.get(name)))
        return [math.nan if value is None else value for value in found]

    def at(self, name: str, index: int) -> float:
        """One number of a parameter; NaN outside its length, as in R."""
        values = self.values(name)
        return values[index] if index < len(values) else math.nan

    def per_location(self, name: str) -> list[float]:
        """A parameter's number for each location; NaN beyond its length."""
        values = self.values(name)[: len(self.locations)]
        return values + [math.nan] * (len(self.locations) - len(values))

    def population(self, problems: list[str]) -> NDArray[np.float64]:
        """``N_j_initial``: ndarray of float64, shape (n_locations,)."""
        population = self.values("N_j_initial")
        if len(population) != len(self.locations):
            problems.append(f"config.N_j_initial: found {len(population)} values, expected {len(self.locations)}")
        problems.extend(
            f"config.N_j_initial[{index}]: found {value}, expected a whole number of at least 0"
            for index, value in enumerate(population)
            if not (value >= 0.0 and value.is_integer())
        )
        return np.array(population, dtype=np.float64)

    def suitability(self, problems: list[str]) -> NDArray[np.float64]:
        """``psi_jt``: ndarray of float64, shape (n_locations, n_ticks), NaN where unknown."""
        rows = self.document.get("psi_jt")
        rows = rows.tolist() if isinstance(rows, np.ndarray) else rows
        if isinstance(rows, list) and rows and not isinstance(rows[0], list):
            rows = [rows]
        if not isinstance(rows, list) or len(rows) != len(self.locations):
            found = len(rows) if isinstance(rows, list) else type(rows).__name__
            problems.append(f"config.psi_jt: found {found}, expected {len(self.locations)} rows")
            return np.empty((0, 0))
        if len({len(row) for row in rows}) != 1 or not rows[0]:
            problems.append("config.psi_jt: found rows of several lengths or empty, expected equal lengths")
            return np.empty((0, 0))
        return np.array([[_or_nan(value) for value in row] for row in rows], dtype=np.float64)


def _or_nan(value: object) -> float:
    found = number(value)
    return math.nan if found is None else found


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        return list(value.tolist())
    return list(value) if isinstance(value, list | tuple) else [value]
