"""The settings of a calibration: what is sampled, how it is scored, how often.

Owns MOSAIC's control JSON, of which mosaic_mpi reads the sections sampling, likelihood and calibration; the
defaults are MOSAIC's. Knows no config and no engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from mosaic_mpi.errors import InputError
from mosaic_mpi.jsontext import parse_json
from mosaic_mpi.mosaic.priors import InputProblems
from mosaic_mpi.mosaic.sampling_flags import SamplingFlags
from mosaic_mpi.nearest import suggestion


@dataclass(frozen=True)
class LikelihoodSettings:
    """How iterations are scored; the fields are MOSAIC's ``control$likelihood``.

    Parameters
    ----------
    weight_cases, weight_deaths : float
        Weights of the two outcomes.
    weight_peak_timing, weight_peak_magnitude, weight_cumulative_total, weight_wis : float
        Weights of the shape terms, 0 to leave them out.
    sigma_peak_time, sigma_peak_log : float
        Standard deviations of the peak terms: weeks, and log of the size.
    weights_time : tuple of float or None
        One weight a day of the scored window; None for 1 each.
    weights_location : tuple of float or None
        One weight a location; None derives them from the confidence weights, or takes 1 each.
    nb_k_min_cases, nb_k_min_deaths : float
        Smallest dispersion of the negative binomial.
    burn_in_days : int
        Days at the beginning that are not scored.
    deaths_score_start, score_start_cases : str or None
        First day, ISO 8601, from which deaths and cases are scored.
    """

    weight_cases: float = 1.0
    weight_deaths: float = 1.0
    weight_peak_timing: float = 0.0
    weight_peak_magnitude: float = 0.0
    weight_cumulative_total: float = 0.0
    weight_wis: float = 0.0
    sigma_peak_time: float = 1.0
    sigma_peak_log: float = 0.5
    weights_time: tuple[float, ...] | None = None
    weights_location: tuple[float, ...] | None = None
    nb_k_min_cases: float = 3.0
    nb_k_min_deaths: float = 3.0
    burn_in_days: int = 30
    deaths_score_start: str | None = None
    score_start_cases: str | None = None


@dataclass(frozen=True)
class Control:
    """Settings of a calibration.

    Parameters
    ----------
    flags : SamplingFlags
        Which parameters the priors draw.
    likelihood : LikelihoodSettings
        How iterations are scored.
    n_iterations : int
        Iterations of a simulation.
    n_simulations : int or None
        None where MOSAIC would run until it converges.
    """

    flags: SamplingFlags = field(default_factory=SamplingFlags)
    likelihood: LikelihoodSettings = field(default_factory=LikelihoodSettings)
    n_iterations: int = 3
    n_simulations: int | None = None


def load_control(path: str | None) -> Control:
    """Read MOSAIC's control settings; what the file does not say keeps MOSAIC's default.

    Parameters
    ----------
    path : str or None
        JSON as ``jsonlite::write_json(control, auto_unbox = TRUE, null = "null")`` writes it; None for defaults.

    Raises
    ------
    InputError
        With every problem found: key, what was found, what is expected.
    """
    if path is None:
        return Control()
    document = _read(path)
    problems: list[str] = []
    try:
        flags = SamplingFlags.from_control(document)
    except InputProblems as error:
        flags, problems = SamplingFlags(), list(error.problems)
    likelihood = _likelihood(_section(document, "likelihood", problems), problems)
    calibration = _section(document, "calibration", problems)
    n_iterations = _count(calibration, "n_iterations", problems) or Control.n_iterations
    n_simulations = _count(calibration, "n_simulations", problems)
    if problems:
        raise InputError([f"--control {path}: {problem}" for problem in problems])
    return Control(flags, likelihood, n_iterations, n_simulations)


def _read(path: str) -> Mapping[str, Any]:
    try:
        document = parse_json(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"--control {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"--control {path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"--control {path}: found no object, expected MOSAIC's control settings")
    inner = document.get("control")  # so MOSAIC itself writes them to 1_inputs/control.json
    return inner if isinstance(inner, dict) else document


def _section(document: Mapping[str, Any], name: str, problems: list[str]) -> Mapping[str, Any]:
    section = document.get(name, {})
    if isinstance(section, dict):
        return section
    problems.append(f"{name}: found {section!r}, expected an object")
    return {}


def _count(section: Mapping[str, Any], name: str, problems: list[str]) -> int | None:
    """A positive whole number; null, and MOSAIC's text "auto", mean none."""
    found = section.get(name)
    for key in section:
        if key != name and suggestion(key, [name], cutoff=0.9):
            problems.append(f"calibration.{key}: not a setting of MOSAIC; did you mean {name}?")
    if found in (None, {}, [], "auto"):
        return None
    if not isinstance(found, bool) and isinstance(found, (int, float)) and found >= 1 and float(found).is_integer():
        return int(found)
    problems.append(f"calibration.{name}: found {found!r}, expected a whole number from 1")
    return None


def _likelihood(section: Mapping[str, Any], problems: list[str]) -> LikelihoodSettings:
    known = {entry.name for entry in fields(LikelihoodSettings)}
    values: dict[str, Any] = {}
    for key, found in section.items():
        if key not in known:
            problems.append(f"likelihood.{key}: not a setting of the likelihood{suggestion(key, known)}")
        elif found not in (None, {}, []):  # jsonlite writes NULL as null, or as an empty object
            values[key] = _setting(key, found, problems)
    return LikelihoodSettings(**values)


def _setting(key: str, found: Any, problems: list[str]) -> Any:
    match key:
        case "weights_time" | "weights_location":
            return _weights(key, found, problems)
        case "deaths_score_start" | "score_start_cases":
            return _day(key, found, problems)
        case _:
            return _number(key, found, problems)


def _weights(key: str, found: Any, problems: list[str]) -> tuple[float, ...] | None:
    entries = found if isinstance(found, list) else [found]
    numbers = [entry for entry in entries if _is_number(entry) and entry >= 0]
    if len(numbers) == len(entries) and any(numbers):
        return tuple(float(number) for number in numbers)
    problems.append(f"likelihood.{key}: expected numbers of at least 0, not all of them 0")
    return None


def _day(key: str, found: Any, problems: list[str]) -> str | None:
    try:
        return date.fromisoformat(found).isoformat()
    except (TypeError, ValueError):
        problems.append(f"likelihood.{key}: found {found!r}, expected a date like 2023-09-15, or null")
        return None


def _number(key: str, found: Any, problems: list[str]) -> float:
    whole = key == "burn_in_days"
    if _is_number(found) and found >= 0 and (not whole or float(found).is_integer()):
        return int(found) if whole else float(found)
    kind = "a whole number" if whole else "a number"
    problems.append(f"likelihood.{key}: found {found!r}, expected {kind} of at least 0")
    return 0.0


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
