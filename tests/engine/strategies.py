"""Configs of every kind that the engine takes or refuses, for comparing two ways to run it.

Hypothesis chooses what kind of thing each part is; a generator that it seeds fills in the numbers. Most configs have
an epidemic that the engine runs to the end, at whatever extreme; `oddities.py` changes the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers import small_config
from hypothesis import strategies as st
from oddities import COMPARTMENTS, ODDITIES

from mosaic_mpi.config import engine_values

MATRICES = ("b_jt", "d_jt", "nu_1_jt", "nu_2_jt", "psi_jt")
OBSERVATIONS = ("reported_cases", "reported_deaths")
ISO = [f"L{number:02d}" for number in range(40)]
EXTREMES: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("omega_1", "omega_2", "epsilon", "gamma_1", "gamma_2", "iota"), (0.0, 1e6)),
    **dict.fromkeys(("phi_1", "phi_2", "sigma", "rho", "rho_deaths"), (0.0, 1.0)),
    **dict.fromkeys(("tau_i", "theta_j"), (0.0, 1.0)),
    **dict.fromkeys(("beta_j0_hum", "beta_j0_env", "mu_j_epidemic_factor"), (0.0, 1e6)),
    **dict.fromkeys(("chi_endemic", "chi_epidemic"), (0.0, 1e-9)),
    "mu_j_baseline": (0.0, 1e3),
    "mu_j_slope": (-0.999, 50.0),
    "kappa": (1e-30, 1e30),
    "zeta_1": (0.0, 1e9),
    "zeta_2": (0.0, 1e9),
    "b_jt": (0.0, 0.3),
    "d_jt": (0.0, 0.05),
    "epidemic_threshold": (0.0, 2.0),
}
"""Ends of what the engine runs; each may take the place of a milder number."""

days = st.one_of(st.integers(1, 12), *[st.integers(13, 60)] * 3)
sizes = (
    (0.30, st.tuples(st.just(1), days)),
    (0.30, st.tuples(st.integers(2, 5), days)),
    (0.26, st.tuples(st.integers(6, 40), days)),
    (0.11, st.tuples(st.integers(1, 5), st.integers(61, 365))),
    (0.03, st.tuples(st.integers(1, 2), st.integers(366, 4000))),
)
"""Locations and days, and their share of a search: hypothesis repeats what it has drawn, and would keep no share.
A window of years is rare, since it takes the engine seconds."""
long_sizes = (
    (1.0, st.tuples(st.one_of(st.just(1), st.integers(2, 5), st.integers(6, 40)), st.integers(1000, 4000))),
)
exponents = st.sampled_from(["one half", "one", "tiny", "any", "any", "list", "list", "list of special"])
populations = st.sampled_from(["few", *["towns", "countries", "mixed"] * 2])
doses = st.sampled_from(["none", "some", "some", "fractions", "beyond supply", "days", "days"])
sources = st.one_of(
    st.none(), st.just(["S"]), st.lists(st.sampled_from(COMPARTMENTS), min_size=1, max_size=7, unique=True)
)
orders = st.sampled_from(["as MOSAIC", "row by row", "lists", "days first", "days first, column by column"])
seasons = st.sampled_from(["mild", "mild", "negative", "wild"])
delays = st.sampled_from([0, 0, 1, 2, 4, 11, 70])
extremes = st.lists(st.sampled_from(sorted(EXTREMES)), min_size=1, max_size=3, unique=True)
oddities = st.lists(st.sampled_from(sorted(ODDITIES)), min_size=1, max_size=2, unique=True)
SHARE_EXTREME, SHARE_ODD = 0.35, 0.35
"""Of configs with some; left to the generator for the same reason."""


@st.composite
def configs(draw: st.DrawFn, size: st.SearchStrategy[tuple[int, int]]) -> dict[str, Any]:
    """A config as a user of laser-cholera hands it over: numbers, lists, matrices."""
    n, t = draw(size)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = small_config(ISO[:n], t)
    values |= _people(draw(populations), n, rng)
    values |= _rates(n, t, rng)
    values |= _vaccination(draw(doses), draw(sources), values["S_j_initial"], t, rng)
    values |= _reporting(draw(delays), draw(delays), draw(st.booleans()), n, t, rng)
    values |= _seasons(draw(seasons), n, rng)
    for name in ("alpha_1", "alpha_2"):
        values[name] = _exponent(draw(exponents), n, rng)
    for name in draw(extremes) if rng.uniform() < SHARE_EXTREME else ():
        values[name] = _extreme(values[name], EXTREMES[name], rng)
    for name in draw(oddities) if rng.uniform() < SHARE_ODD else ():
        values |= ODDITIES[name](values, rng)
    values["location_name"] = ISO[:n] if draw(st.booleans()) or n > 1 else ISO[0]
    values = _laid_out(values, draw(orders))
    return engine_values(values) if draw(st.booleans()) else values


def _people(kind: str, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Of each location: mostly susceptible, and some ill in most."""
    scale = {"few": [10, 40], "towns": [1e3, 1e5], "countries": [1e6, 1e8], "mixed": [12, 1e4, 1e7]}
    total = rng.choice(scale[kind], n) * rng.uniform(0.5, 1.0, n)
    ill = rng.choice([0.3, 1.0, 3.0])
    share = rng.dirichlet([10.0, ill, ill, 2.0, 1.0, 1.0], n)
    share[:, 1:3] *= rng.uniform(size=(n, 1)) < 0.9
    people = {
        f"{what}_j_initial": np.floor(total * part).astype(int).tolist()
        for what, part in zip(("S", "E", "I", "R", "V1", "V2"), share.T, strict=True)
    }
    return {**people, "N_j_initial": np.floor(total).astype(int).tolist()}


def _rates(n: int, t: int, rng: np.random.Generator) -> dict[str, Any]:
    def some(low: float, high: float, size: Any = None) -> Any:
        drawn = np.exp(rng.uniform(np.log(low), np.log(high), size))
        return float(drawn) if size is None else drawn.tolist()

    return {
        **{name: some(1e-4, 0.05) for name in ("omega_1", "omega_2", "epsilon")},
        **{name: some(0.02, 0.5) for name in ("gamma_1", "gamma_2")},
        "iota": some(0.05, 2.0),
        **{name: float(rng.choice([0.0, *rng.uniform(size=3), 1.0])) for name in ("phi_1", "phi_2")},
        "sigma": float(rng.uniform(0.1, 1.0)),
        "zeta_1": some(1e-2, 1e6),
        "zeta_2": some(1e-2, 1e4),
        "kappa": some(1.0, 1e7),
        "beta_j0_hum": some(1e-2, 3.0, n),
        "beta_j0_env": some(1e-3, 2.0, n),
        "mu_j_baseline": some(3e-3, 0.2, n),
        "mu_j_slope": rng.uniform(-0.9, 2.0, n).tolist(),
        "mu_j_epidemic_factor": some(0.1, 2.0, n),
        "tau_i": rng.choice([0.0, 1e-4, 0.3, 1.0], n, p=[0.1, 0.4, 0.4, 0.1]).tolist(),
        "theta_j": rng.choice([0.0, 0.4, 0.77, 1.0], n).tolist(),
        "b_jt": some(1e-6, 1e-3, (n, t)),
        "d_jt": some(1e-6, 1e-3, (n, t)),
        "psi_jt": rng.uniform(0.0, 1.0, (n, t)).tolist(),
        "p": int(rng.choice([7, 30, 365, 366])),
        "mobility_omega": float(rng.uniform(0.1, 2.0)),
        "mobility_gamma": float(rng.uniform(0.1, 2.0)),
        "decay_days_short": float(rng.uniform(0.2, 20.0)),
        "decay_shape_1": float(rng.uniform(0.2, 8.0)),
        "decay_shape_2": float(rng.uniform(0.2, 8.0)),
        "longitude": rng.uniform(-20, 40, n).tolist(),
        "latitude": rng.uniform(-30, 30, n).tolist(),
    }


def _vaccination(kind: str, drawn: Any, people: list[int], t: int, rng: np.random.Generator) -> dict[str, Any]:
    largest = np.array(people, float)[:, None]
    noise = rng.uniform(size=(2, len(people), t))
    given = {
        "none": noise * 0,
        "some": np.floor(noise * (largest + 100) * 1e-2),
        "fractions": noise * 3,
        "beyond supply": np.floor(noise * (largest + 10) * 5),
        "days": np.floor(noise * (largest + 10) * 0.1) * (rng.uniform(size=(2, 1, t)) < 0.3),
    }[kind]
    values: dict[str, Any] = {"nu_1_jt": given[0].tolist(), "nu_2_jt": given[1].tolist()}
    return values if drawn is None else {**values, "nu_jt_sources": drawn}


def _reporting(
    cases: int, deaths: int, by_location: bool, n: int, t: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Delays mostly end within the window."""
    thresholds = rng.choice([0.0, 1e-6, 1e-3, 0.02, 0.5], n)
    cases, deaths = (delay if rng.uniform() < 0.15 else min(delay, t // 3) for delay in (cases, deaths))
    return {
        "delta_reporting_cases": cases,
        "delta_reporting_deaths": deaths,
        "epidemic_threshold": thresholds.tolist() if by_location else float(thresholds[0]),
        **{name: float(rng.choice([0.37, 0.8, 1.0])) for name in ("rho", "rho_deaths")},
        **{name: float(rng.choice([0.3, 0.7, 1.0])) for name in ("chi_endemic", "chi_epidemic")},
    }


def _seasons(kind: str, n: int, rng: np.random.Generator) -> dict[str, Any]:
    scale = {"mild": 0.2, "negative": 2.0, "wild": 50.0}[kind]
    return {name: (scale * rng.normal(size=n)).tolist() for name in ("a_1_j", "a_2_j", "b_1_j", "b_2_j")}


def _exponent(kind: str, n: int, rng: np.random.Generator) -> Any:
    special = {"one half": 0.5, "one": 1.0, "tiny": 1e-6, "any": float(rng.uniform(0.3, 1.0))}
    if kind in special:
        return special[kind]
    return (rng.uniform(0.01, 1.0, n) if kind == "list" else rng.choice([0.5, 1.0], n)).tolist()


def _extreme(value: Any, ends: tuple[float, ...], rng: np.random.Generator) -> Any:
    """One of the ends, everywhere or, of several numbers, here and there."""
    end = float(rng.choice(ends))
    if not isinstance(value, list):
        return end
    numbers = np.array(value)
    return np.where(rng.uniform(size=numbers.shape) < rng.choice([0.3, 1.0]), end, numbers).tolist()


def _laid_out(values: dict[str, Any], order: str) -> dict[str, Any]:
    """Matrices as MOSAIC hands them over, as C does, as JSON gives them, or as the engine keeps them."""
    if order == "lists":
        return values
    layout = "F" if order in ("as MOSAIC", "days first, column by column") else "C"
    arrays = {key: np.array(values[key], np.float64) for key in (*MATRICES, *OBSERVATIONS)}
    if order.startswith("days first"):
        arrays |= {key: arrays[key].T for key in MATRICES}
    return {**values, **{key: np.array(array, order=layout) for key, array in arrays.items()}}
