"""What kind an iteration that the loop ran is of: what its config has, and what came of it. A search counts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_LOCATIONS = ((1, 1), (2, 5), (6, 40))
_DAYS = ((1, 12), (13, 60), (61, 365), (366, 4000))
_RATES = (
    "omega_1",
    "omega_2",
    "epsilon",
    "gamma_1",
    "gamma_2",
    "iota",
    "beta_j0_hum",
    "beta_j0_env",
    "mu_j_baseline",
)


def kinds(values: dict[str, Any], results: Any) -> Iterator[str]:
    """Names of what is found.

    Parameters
    ----------
    values : dict
        As they were handed to the engine.
    results : laser.cholera.metapop.model.RInterface
        Of one iteration, channels ``[location, time]``.
    """
    yield from _sizes(results)
    yield from _came_of_it(results)
    yield from _vaccination(values, results)
    yield f"matrices {_layout(values['psi_jt'])}"
    for name in ("alpha_1", "alpha_2"):
        yield f"{name} {_exponent(values[name])}"
    if (results.N == 0).any():
        yield "empty places"
    if max(values["delta_reporting_cases"], values["delta_reporting_deaths"]) >= results.births.shape[1]:
        yield "delays beyond the window"
    if any(np.max(values[name]) >= 1e3 for name in _RATES):
        yield "extreme rates"


def _sizes(results: Any) -> Iterator[str]:
    n, t = results.beta_jt_human.shape
    yield from (f"{low}-{high} locations" for low, high in _LOCATIONS if low <= n <= high)
    yield from (f"{low}-{high} days" for low, high in _DAYS if low <= t <= high)


def _came_of_it(results: Any) -> Iterator[str]:
    cases, deaths = bool(results.reported_cases.any()), bool(results.reported_deaths.any())
    found = {
        "reported cases": cases,
        "reported deaths": deaths,
        "epidemic, cases and deaths": cases and deaths and bool(results.incidence.any()),
        "infections by the water": bool(results.incidence_env.any()),
        "infections by people": bool(results.incidence_human.any()),
        "negative rates of transmission": bool((results.beta_jt_human < 0).any() and results.Isym.any()),
        "infinite rates of transmission": bool(np.isinf(results.Lambda).any()),
    }
    yield from (name for name, is_so in found.items() if is_so)


def _vaccination(values: dict[str, Any], results: Any) -> Iterator[str]:
    for name, given, channel in (
        ("first doses", "nu_1_jt", results.dose_one_doses),
        ("second doses", "nu_2_jt", results.dose_two_doses),
    ):
        planned = np.round(np.array(values[given], np.float32))
        planned = planned if planned.shape == channel.shape else planned.T
        if channel.any():
            yield name
        if planned.shape == channel.shape and (planned > channel).any():
            yield f"{name} beyond supply"
    if "nu_jt_sources" in values:
        yield "other dose sources"


def _layout(matrix: Any) -> str:
    """The order in memory."""
    if isinstance(matrix, list):
        return "as lists"
    return "row by row" if matrix.flags.c_contiguous else "column by column"


def _exponent(given: Any) -> str:
    """Its form."""
    if isinstance(given, list):
        return "list"
    return "special number" if given in (0.0, 0.5, 1.0) else "number"
