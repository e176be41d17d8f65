"""MOSAIC's priors file: reading and checking.

Owns the layout of ``priors.json`` and the parameters each distribution needs. Draws nothing; a ``Prior``
names the ``RRandom`` method that does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mosaic_mpi.errors import InputError
from mosaic_mpi.jsontext import parse_json

__all__ = ["InputProblems", "Prior", "Priors", "number"]

Form: TypeAlias = tuple[str, ...]

_INFINITIES = {"Inf": math.inf, "-Inf": -math.inf}

# Per distribution the sets of parameters it may come with, in the order of the arguments of ``RRandom``.
_FORMS: dict[str, tuple[Form, ...]] = {
    "beta": (("shape1", "shape2"),),
    "gamma": (("shape", "rate"),),
    "lognormal": (("meanlog", "sdlog"), ("mean", "sd")),
    "normal": (("mean", "sd"),),
    "truncnorm": (("mean", "sd", "a", "b"),),
    "uniform": (("min", "max"),),
    "gompertz": (("b", "eta"),),
    "fixed": (("value",),),
    "frozen": (("value",),),
    "failed": ((),),
}
_METHODS = {"truncnorm": "truncated_normal", "frozen": "fixed"}
_UNBOUNDED = {("truncnorm", "a"), ("truncnorm", "b")}
_AT_LEAST_ZERO = {("lognormal", "sdlog"), ("lognormal", "sd"), ("normal", "sd")}
_ABOVE_ZERO = {
    *(("beta", name) for name in ("shape1", "shape2")),
    *(("gamma", name) for name in ("shape", "rate")),
    *(("gompertz", name) for name in ("b", "eta")),
    ("truncnorm", "sd"),
    ("lognormal", "mean"),
}


class InputProblems(InputError):
    """Everything found wrong with an input, so that one run shows all of it.

    Attributes
    ----------
    problems : list of str
        Each with the key, what was found and what was expected.
    """

    def __init__(self, what: str, problems: Iterable[str]) -> None:
        found = list(problems)
        super().__init__([f"{what}: {problem}" for problem in found])
        self.what, self.problems = what, found

    def __reduce__(self) -> tuple[type[InputProblems], tuple[str, list[str]]]:
        # Travels between processes as a value.
        return InputProblems, (self.what, self.problems)


def number(value: object) -> float | None:
    """Number of a JSON value, ``"Inf"`` and ``"-Inf"`` included; None where it is not one."""
    if isinstance(value, str):
        return _INFINITIES.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


@dataclass(frozen=True, slots=True)
class Prior:
    """One prior distribution.

    Attributes
    ----------
    method : str
        ``RRandom`` method that draws from it, or ``"fixed"`` (a constant) or ``"failed"`` (no value).
    arguments : tuple of float
        Of that method, in its order.
    """

    method: str
    arguments: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Priors:
    """MOSAIC's priors.

    Attributes
    ----------
    version : str
        ``metadata.version``, or ``""``.
    parameters_global : dict of str to Prior
        In the order of the file, which fixes the order of the draws.
    parameters_location : dict of str to dict of str to Prior
        Parameter, then ISO code; parameters in the order of the file.
    """

    version: str
    parameters_global: dict[str, Prior]
    parameters_location: dict[str, dict[str, Prior]]

    @classmethod
    def read(cls, path: str | Path) -> Priors:
        """Read a priors file.

        Raises
        ------
        InputProblems
            If anything in it is wrong; its message lists every problem.
        OSError
            If the file cannot be read.
        """
        try:
            document = parse_json(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputProblems(f"priors {path}", [f"found no valid JSON: {error}"]) from error
        return cls.from_json(document, what=f"priors {path}")

    @classmethod
    def from_json(cls, document: Mapping[str, Any], what: str = "priors") -> Priors:
        """Check a parsed priors file; see `read`."""
        problems: list[str] = []
        found = {key: _mapping(document, key, "", problems) for key in ("parameters_global", "parameters_location")}
        priors_global = {
            name: _prior(value, f"parameters_global.{name}", problems)
            for name, value in found["parameters_global"].items()
        }
        priors_location = {
            name: _by_location(value, f"parameters_location.{name}", problems)
            for name, value in found["parameters_location"].items()
        }
        if problems:
            raise InputProblems(what, problems)
        metadata = document.get("metadata")
        version = str(metadata.get("version", "")) if isinstance(metadata, Mapping) else ""
        return cls(version, priors_global, priors_location)


def _mapping(parent: object, key: str, path: str, problems: list[str]) -> Mapping[str, Any]:
    value = parent.get(key) if isinstance(parent, Mapping) else None
    if isinstance(value, Mapping):
        return value
    problems.append(f"{path}{key}: found {_shown(value)}, expected an object")
    return {}


def _by_location(value: object, path: str, problems: list[str]) -> dict[str, Prior]:
    locations = _mapping(value, "location", f"{path}.", problems)
    return {iso: _prior(entry, f"{path}.location.{iso}", problems) for iso, entry in locations.items()}


def _prior(value: object, path: str, problems: list[str]) -> Prior:
    distribution = value.get("distribution") if isinstance(value, Mapping) else None
    if not isinstance(distribution, str) or distribution not in _FORMS:
        known = ", ".join(_FORMS)
        problems.append(f"{path}.distribution: found {_shown(distribution)}, expected one of {known}")
        return Prior("failed", ())
    if distribution == "failed":
        return Prior("failed", ())
    parameters = _mapping(value, "parameters", f"{path}.", problems)
    before = len(problems)
    form = _form(distribution, parameters)
    numbers = [_parameter(distribution, name, parameters.get(name), f"{path}.parameters", problems) for name in form]
    if len(problems) == before:
        _check_order(distribution, numbers, f"{path}.parameters", problems)
    if len(problems) != before:
        return Prior("failed", ())
    return Prior(_METHODS.get(distribution, distribution), _arguments(distribution, form, numbers))


def _form(distribution: str, parameters: Mapping[str, Any]) -> Form:
    forms = _FORMS[distribution]
    return next((form for form in forms if all(name in parameters for name in form)), forms[0])


def _parameter(distribution: str, name: str, value: object, path: str, problems: list[str]) -> float:
    expected, holds = _condition((distribution, name))
    found = number(value)
    if found is None or not holds(found):
        problems.append(f"{path}.{name}: found {_shown(value)}, expected {expected} ({distribution})")
        return math.nan
    return found


def _condition(parameter: tuple[str, str]) -> tuple[str, Callable[[float], bool]]:
    if parameter in _UNBOUNDED:
        return "a number", lambda x: not math.isnan(x)
    if parameter in _AT_LEAST_ZERO:
        return "a finite number of at least 0", lambda x: 0.0 <= x < math.inf
    if parameter in _ABOVE_ZERO:
        return "a finite number above 0", lambda x: 0.0 < x < math.inf
    return "a finite number", math.isfinite


def _check_order(distribution: str, numbers: list[float], path: str, problems: list[str]) -> None:
    match distribution, numbers:
        case "truncnorm", [_, _, a, b] if not a < b:
            problems.append(f"{path}.b: found {b}, expected a number above a = {a} (truncnorm)")
        case "uniform", [low, high] if not low <= high:
            problems.append(f"{path}.max: found {high}, expected a number of at least min = {low} (uniform)")


def _arguments(distribution: str, form: Form, numbers: list[float]) -> tuple[float, ...]:
    if distribution == "lognormal" and form == ("mean", "sd"):
        return _lognormal_of_moments(*numbers)
    return tuple(numbers)


def _lognormal_of_moments(mean: float, sd: float) -> tuple[float, float]:
    """Parameters on the log scale of a lognormal distribution with this mean and standard deviation."""
    ratio = sd / mean
    sdlog = math.sqrt(math.log(1.0 + ratio * ratio))
    return math.log(mean) - sdlog * sdlog / 2.0, sdlog


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return f"an object with {len(value)} keys" if isinstance(value, Mapping) else repr(value)
