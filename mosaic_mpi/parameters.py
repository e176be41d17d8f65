"""From sim_id to parameter set.

Owns what a source of parameters is, and the built-in default prior; the others are a table (`parameter_table.py`)
and MOSAIC's priors (`mosaic/source.py`). Every source is pure: the same plan and sim_id give the same values on any
rank, at any time. Knows no engine and no file.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.catalogue import PARAMETERS, Scale

PRIOR_VERSION = "default-prior 1"
SPREAD = 0.5
"""Standard deviation on the log scale (rates) and the logit scale (probabilities)."""
REAL_SPREAD = 0.25
"""Standard deviation of a real-valued parameter, as a share of its config value."""

_normal_quantile = NormalDist().inv_cdf


@dataclass(frozen=True)
class ParameterSet:
    """One simulation's parameters.

    Parameters
    ----------
    values : ndarray of float64, shape (n_parameters,)
        In the order of the source's `names`; what the results file stores.
    overrides : dict
        Config key to new value (a number, or a list of one number a location).
    """

    values: NDArray[np.float64]
    overrides: dict[str, Any]


class ParameterSource(Protocol):
    """What draws parameter sets."""

    @property
    def names(self) -> tuple[str, ...]:
        """Stored parameters, ``name`` or ``name_ISO``."""
        ...

    @property
    def identity(self) -> dict[str, str]:
        """What decides the draws, for the plan's fingerprint."""
        ...

    def draw(self, row: int, sim_id: int) -> ParameterSet:
        """Return the parameter set of a simulation.

        Parameters
        ----------
        row : int
            0-based row of the simulation in the plan.
        sim_id : int
            1-based id of the simulation.
        """
        ...


@dataclass(frozen=True)
class Place:
    """Where one stored value goes: a config key, and the index in its list (None for a number)."""

    key: str
    index: int | None


def place_names(places: Sequence[Place], locations: Sequence[str]) -> tuple[str, ...]:
    """Return the stored names of places: ``name``, or ``name_ISO`` for one location's value."""
    return tuple(place.key if place.index is None else f"{place.key}_{locations[place.index]}" for place in places)


def collect(places: Sequence[Place], values: Sequence[float], base: Mapping[str, Any]) -> dict[str, Any]:
    """Turn values into config overrides; what no place names keeps its value in `base`."""
    overrides: dict[str, Any] = {}
    n_locations = len(base["location_name"])
    for place, value in zip(places, values, strict=True):
        number: float = int(value) if PARAMETERS[place.key].integer else value
        if place.index is None:
            overrides[place.key] = number
            continue
        if place.key not in overrides:
            given = base.get(place.key)
            overrides[place.key] = list(given) if isinstance(given, list) else [given] * n_locations
        overrides[place.key][place.index] = number
    return overrides


class DefaultPrior:
    """The built-in prior: the config's own values, each varied independently.

    Rule, for a config value v of a parameter that the engine reads:

    - rate (v > 0): log-normal with median v and standard deviation 0.5 of the logarithm, so that 95 % of
      the draws lie between 0.38 v and 2.7 v;
    - probability (0 < v < 1): logit-normal with median v and standard deviation 0.5 of the logit;
    - real number: normal with mean v and standard deviation 0.25 abs(v);
    - a rate of 0, a probability of 0 or 1 and a real number of 0 stay as they are: they switch a process off;
    - initial counts, whole-day delays and matrices stay as they are;
    - ``decay_days_long`` is ``decay_days_short`` plus a spread that is varied like a rate, since the engine
      asks for long >= short.

    The numbers come from Python's Mersenne Twister seeded with sim_id, whose `random()` is the same on every
    platform and in every version of Python, through the normal quantile function (Wichura's AS 241).

    Parameters
    ----------
    base : mapping
        `Config.values`.
    """

    def __init__(self, base: Mapping[str, Any]) -> None:
        self._base = {key: base[key] for key in PARAMETERS if key in base}
        self._base["location_name"] = base["location_name"]
        self._long = float(base["decay_days_long"])
        self._spread = self._long - float(base["decay_days_short"])
        self._places = _engine_places(base)
        self._medians = [float(_at(base, place)) for place in self._places]
        self._vary = [_VARY[PARAMETERS[place.key].scale] if _varies(place, base) else _keep for place in self._places]
        self.names = place_names(self._places, base["location_name"])

    @property
    def identity(self) -> dict[str, str]:
        """The rule's version: the rest follows from the config."""
        return {"parameters": PRIOR_VERSION}

    def draw(self, row: int, sim_id: int) -> ParameterSet:
        """See `ParameterSource.draw`; `row` is not used."""
        uniform = random.Random(sim_id).random
        values = [
            vary(median, _normal_quantile(uniform() or 0.5**54))
            for vary, median in zip(self._vary, self._medians, strict=True)
        ]
        self._keep_decay_ordered(values)
        return ParameterSet(np.array(values), collect(self._places, values, self._base))

    def _keep_decay_ordered(self, values: list[float]) -> None:
        keys = [place.key for place in self._places]
        if "decay_days_short" in keys and "decay_days_long" in keys:
            long = keys.index("decay_days_long")
            factor = values[long] / self._long
            values[long] = values[keys.index("decay_days_short")] + max(self._spread, 0.0) * factor


def _vary_rate(median: float, z: float) -> float:
    return median * math.exp(SPREAD * z)


def _vary_probability(median: float, z: float) -> float:
    return 1.0 / (1.0 + math.exp(-(math.log(median / (1.0 - median)) + SPREAD * z)))


def _vary_real(mean: float, z: float) -> float:
    return mean + REAL_SPREAD * abs(mean) * z


def _keep(value: float, z: float) -> float:
    return value


_VARY: dict[Scale | None, Callable[[float, float], float]] = {
    "rate": _vary_rate,
    "probability": _vary_probability,
    "real": _vary_real,
}


def _engine_places(base: Mapping[str, Any]) -> list[Place]:
    places: list[Place] = []
    for name, parameter in PARAMETERS.items():
        if not parameter.engine or parameter.scale is None or name not in base:
            continue
        value = base[name]
        indices: list[int | None] = list(range(len(value))) if isinstance(value, list) else [None]
        places.extend(Place(name, index) for index in indices)
    return places


def _at(base: Mapping[str, Any], place: Place) -> Any:
    return base[place.key] if place.index is None else base[place.key][place.index]


def _varies(place: Place, base: Mapping[str, Any]) -> bool:
    value = float(_at(base, place))
    if PARAMETERS[place.key].scale == "probability":
        return 0.0 < value < 1.0
    return value != 0.0
