"""Changes to a config that lead the engine to where its arithmetic or its checks end: most of them make it raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

COMPARTMENTS = ["S", "E", "Isym", "Iasym", "R", "V1", "V2"]
_PEOPLE = [f"{what}_j_initial" for what in ("N", "S", "E", "I", "R", "V1", "V2")]

Oddity = Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]
"""Values and a generator to the values that take their place."""


def _nobody(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {name: [0] * len(values[name]) for name in _PEOPLE}


def _nobody_and_no_denominator(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Nobody to the power of 0 is one: the engine runs."""
    return {**_nobody(values, rng), "alpha_2": 0.0}


def _empty_places(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Illness comes by travel: for as long as there is some, their rate is infinite rather than NaN."""
    n = len(values["N_j_initial"])
    kept = rng.uniform(size=n) < 0.7
    kept[0] = True
    people = {name: (np.array(values[name]) * kept).tolist() for name in _PEOPLE}
    return {
        **people,
        "tau_i": [0.3] * n,
        "I_j_initial": [10 + count for count in people["I_j_initial"][:1]] + people["I_j_initial"][1:],
    }


def _empty_places_and_no_denominator(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {**_empty_places(values, rng), "alpha_2": 0.0}


def _huge(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Beyond int32, for some."""
    return {name: [int(count * 2e9 / max(*values["N_j_initial"], 1)) for count in values[name]] for name in _PEOPLE}


def _explosive_rates(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """A million times what they are: more born and shed than NumPy can draw."""
    names = ("zeta_1", "zeta_2", "b_jt", "beta_j0_env", "mu_j_baseline")
    return {name: (np.array(values[name]) * 1e6).tolist() for name in rng.choice(names, 2, replace=False)}


def _no_half_saturation(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Clean water infects at a rate of 0/0."""
    return {"kappa": 0.0}


def _unsuitable(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """No suitability on any day in some places: a mean of 0 is divided by."""
    psi = np.array(values["psi_jt"])
    return {"psi_jt": (psi * (rng.uniform(size=(len(psi), 1)) < 0.5)).tolist()}


def _raising_the_dead(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """A mortality that falls below 0."""
    return {"mu_j_slope": [-float(rng.choice([1.5, 1e5]))] * len(values["mu_j_slope"])}


def _negative_doses(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    shape = np.array(values["nu_1_jt"]).shape
    return {name: np.floor(rng.uniform(-50, 50, shape)).tolist() for name in ("nu_1_jt", "nu_2_jt")}


def _doses_beyond_int32(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    shape = np.array(values["nu_1_jt"]).shape
    return {"nu_1_jt": rng.choice([0.0, 5.0, 3e9], shape).tolist()}


def _doses_unknown(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    shape = np.array(values["nu_2_jt"]).shape
    return {"nu_2_jt": rng.choice([0.0, 5.0, np.nan], shape).tolist()}


def _repeated_sources(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"nu_jt_sources": rng.choice(COMPARTMENTS, rng.integers(2, 9)).tolist()}


def _strange_sources(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Of no compartment, of what is none but means something to the engine, or no list."""
    choices: tuple[Any, ...] = (["S", "nobody"], ["nobody"], [], ["count"], "S", ["S", "_R"])
    return {"nu_jt_sources": choices[rng.integers(len(choices))]}


def _unknown_season(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"a_1_j": [float("nan"), *values["a_1_j"][1:]]}


def _refused(values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """What the engine's checks do not let pass."""
    n = len(values["tau_i"])
    choices: tuple[dict[str, Any], ...] = (
        {"phi_1": 1.5},
        {"rho": -0.1},
        {"sigma": 2.0},
        {"alpha_1": [0.5] * (n + 1)},
        {"alpha_2": "half"},
        {"tau_i": [1.2] * n},
        {"epidemic_threshold": [0.1] * (n + 2)},
        {"decay_days_short": 1e4},
        {"E_j_initial": [1] * (n + 1)},
        {"nu_1_jt": [[0.0]] * (n + 1)},
        {"date_stop": "2020-01-01"},
        {"gamma_1": None},
        {"delta_reporting_cases": -1},
    )
    return choices[rng.integers(len(choices))]


ODDITIES: dict[str, Oddity] = {
    function.__name__.strip("_").replace("_", " "): function
    for function in (
        *(_nobody, _nobody_and_no_denominator, _empty_places, _empty_places_and_no_denominator, _huge),
        *(_explosive_rates, _no_half_saturation, _unsuitable, _raising_the_dead, _unknown_season),
        *(_negative_doses, _doses_beyond_int32, _doses_unknown, _repeated_sources, _strange_sources),
        _refused,
    )
}
"""By what they are."""
