"""Configs of every kind that the engine takes or refuses, for comparing two ways to run it.

Hypothesis chooses what kind of thing each part is; a generator that it seeds fills in the numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers import small_config
from hypothesis import strategies as st

MATRICES = ("b_jt", "d_jt", "nu_1_jt", "nu_2_jt", "psi_jt", "reported_cases", "reported_deaths")
ISO = [f"L{number:02d}" for number in range(40)]
COMPARTMENTS = ["S", "E", "Isym", "Iasym", "R", "V1", "V2"]

n_locations = st.one_of(st.just(1), st.integers(1, 5), st.integers(6, 40))
n_days = st.one_of(st.integers(1, 12), st.integers(13, 60))
exponents = st.sampled_from(["one half", "one", "tiny", "any", "list", "list of special"])
populations = st.sampled_from([*("few", "towns", "countries", "mixed") * 3, "none", "one empty", "huge"])
rates = st.sampled_from([*("mild", "strong", "none") * 3, "extreme", "broken"])
"""What the engine cannot run (an empty place has no rate of transmission) is rarer than what it can."""
doses = st.sampled_from(["none", "some", "fractions", "beyond supply", "negative", "days"])
sources = st.one_of(
    st.none(),
    st.lists(st.sampled_from(COMPARTMENTS), min_size=1, max_size=7),
    st.sampled_from([["S", "nobody"], [], ["count"], "S", ["S", "S", "R"]]),
)
orders = st.sampled_from(["as MOSAIC", "row by row", "lists"])
seasons = st.sampled_from(["mild", "negative", "wild"])
delays = st.sampled_from([0, 0, 1, 2, 4, 11, 70])


@st.composite
def configs(draw: st.DrawFn, days: st.SearchStrategy[int] = n_days) -> dict[str, Any]:
    """A config as a user of laser-cholera hands it over: numbers, lists, matrices."""
    n, t = draw(n_locations), draw(days)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = small_config(ISO[:n], t)
    values |= _people(draw(populations), n, rng)
    values |= _rates(draw(rates), n, t, rng)
    values |= _vaccination(draw(doses), draw(sources), values["S_j_initial"], t, rng)
    values |= _reporting(draw(delays), draw(delays), draw(st.booleans()), n, rng)
    values |= _seasons(draw(seasons), n, rng)
    for name in ("alpha_1", "alpha_2"):
        values[name] = _exponent(draw(exponents), n, rng)
    values["location_name"] = ISO[:n] if draw(st.booleans()) or n > 1 else ISO[0]
    return _laid_out(values, draw(orders))


def _people(kind: str, n: int, rng: np.random.Generator) -> dict[str, Any]:
    scale = {"none": [0], "few": [10, 40], "towns": [1e3, 1e5], "countries": [1e6, 1e8], "huge": [2e9, 4e9]}
    scale |= {"mixed": [12, 1e4, 1e7], "one empty": [0, 1e4]}
    total = rng.choice(scale[kind], n) * rng.uniform(0.5, 1.0, n)
    share = rng.dirichlet(rng.choice([0.2, 1.0, 5.0], 6)) if kind != "few" else np.full(6, 0.2)
    people = {
        f"{what}_j_initial": np.floor(total * part).astype(int).tolist()
        for what, part in zip(("S", "E", "I", "R", "V1", "V2"), share, strict=True)
    }
    return {**people, "N_j_initial": np.floor(total).astype(int).tolist()}


def _rates(kind: str, n: int, t: int, rng: np.random.Generator) -> dict[str, Any]:
    factor = {"mild": 1.0, "none": 0.0, "strong": 30.0, "extreme": 1e6, "broken": 1.0}[kind]

    def some(low: float, high: float, size: Any = None) -> Any:
        drawn = factor * np.exp(rng.uniform(np.log(low), np.log(high), size))
        return float(drawn) if size is None else drawn.tolist()

    values = {
        **{name: some(1e-4, 0.5) for name in ("omega_1", "omega_2", "epsilon", "gamma_1", "gamma_2", "iota")},
        **{name: float(rng.choice([0.0, *rng.uniform(size=3), 1.0])) for name in ("phi_1", "phi_2", "sigma")},
        "zeta_1": some(1e-2, 1e6),
        "zeta_2": some(1e-2, 1e4),
        "kappa": some(1.0, 1e7) if kind != "none" else 1.0,
        "beta_j0_hum": some(1e-3, 2.0, n),
        "beta_j0_env": some(1e-3, 2.0, n),
        "mu_j_baseline": some(1e-4, 0.1, n),
        "mu_j_slope": (min(factor, 3.0) * rng.uniform(-0.3, 0.3, n)).tolist() if kind != "broken" else [-1e5] * n,
        "mu_j_epidemic_factor": some(0.1, 2.0, n),
        "tau_i": rng.choice([0.0, 1e-4, 0.3, 1.0], n).tolist(),
        "theta_j": rng.choice([0.0, 0.4, 1.0], n).tolist(),
        "b_jt": some(1e-6, 1e-3, (n, t)),
        "d_jt": some(1e-6, 1e-3, (n, t)),
        "psi_jt": rng.uniform(0.0, 1.0, (n, t)).tolist(),
        "mobility_omega": float(rng.uniform(0.1, 2.0)),
        "mobility_gamma": float(rng.uniform(0.1, 2.0)),
        "decay_shape_1": float(rng.uniform(0.2, 8.0)),
        "decay_shape_2": float(rng.uniform(0.2, 8.0)),
        "longitude": rng.uniform(-20, 40, n).tolist(),
        "latitude": rng.uniform(-30, 30, n).tolist(),
    }
    if kind == "broken":
        values |= {
            "kappa": 0.0,
            "psi_jt": (rng.uniform(0.0, 1.0, (n, t)) * (rng.uniform(size=(n, 1)) < 0.5)).tolist(),
        }
    return values


def _vaccination(kind: str, drawn: Any, people: list[int], t: int, rng: np.random.Generator) -> dict[str, Any]:
    largest = np.array(people, float)[:, None]
    noise = rng.uniform(size=(2, len(people), t))
    given = {
        "none": noise * 0,
        "some": np.floor(noise * largest * 1e-2),
        "fractions": noise * 3,
        "beyond supply": np.floor(noise * (largest + 10) * 5),
        "negative": np.floor((noise - 0.5) * 100),
        "days": np.floor(noise * largest * 0.1) * (rng.uniform(size=t) < 0.3),
    }[kind]
    values: dict[str, Any] = {"nu_1_jt": given[0].tolist(), "nu_2_jt": given[1].tolist()}
    return values if drawn is None else {**values, "nu_jt_sources": drawn}


def _reporting(cases: int, deaths: int, by_location: bool, n: int, rng: np.random.Generator) -> dict[str, Any]:
    thresholds = rng.choice([0.0, 1e-6, 1e-3, 0.5], n)
    return {
        "delta_reporting_cases": cases,
        "delta_reporting_deaths": deaths,
        "epidemic_threshold": thresholds.tolist() if by_location else float(thresholds[0]),
        **{name: float(rng.choice([0.0, 0.37, 0.8, 1.0])) for name in ("rho", "rho_deaths")},
        **{name: float(rng.choice([0.0, 1e-9, 0.7, 1.0], p=[0.1, 0.1, 0.4, 0.4])) for name in _CHI},
    }


_CHI = ("chi_endemic", "chi_epidemic")


def _seasons(kind: str, n: int, rng: np.random.Generator) -> dict[str, Any]:
    scale = {"mild": 0.2, "negative": 2.0, "wild": 50.0}[kind]
    return {name: (scale * rng.normal(size=n)).tolist() for name in ("a_1_j", "a_2_j", "b_1_j", "b_2_j")}


def _exponent(kind: str, n: int, rng: np.random.Generator) -> Any:
    special = {"one half": 0.5, "one": 1.0, "tiny": 1e-6, "any": float(rng.uniform(0.01, 1.0))}
    if kind in special:
        return special[kind]
    return (rng.uniform(0.01, 1.0, n) if kind == "list" else rng.choice([0.5, 1.0], n)).tolist()


def _laid_out(values: dict[str, Any], order: str) -> dict[str, Any]:
    """Matrices as MOSAIC hands them over, as C does, or as JSON gives them."""
    if order != "lists":
        layout = "F" if order == "as MOSAIC" else "C"
        values |= {key: np.array(values[key], np.float64, order=layout) for key in MATRICES}
    return values
