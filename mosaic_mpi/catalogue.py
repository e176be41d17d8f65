"""What the engine reads from a config: names, shapes and bounds.

Owns the facts about laser-cholera's configuration keys (`laser.cholera.metapop.params` of 0.16.1) that
inputs are checked against before a worker starts. Knows no file and no engine object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["scalar", "location", "either"]
Scale = Literal["rate", "probability", "real"]


@dataclass(frozen=True)
class Parameter:
    """One numeric configuration key that a table or a prior may set.

    Parameters
    ----------
    name : str
        The engine's name.
    shape : {"scalar", "location", "either"}
        One number, one a location, or whichever the config has.
    scale : {"rate", "probability", "real"} or None
        The scale on which the built-in default prior varies it; None where it does not.
    low, high : float
        Bounds the engine (or its arithmetic) asks for, inclusive unless `low_open`.
    integer : bool
        Whole numbers only.
    engine : bool
        Whether the engine itself reads it; the others only serve derivations.
    """

    name: str
    shape: Shape
    scale: Scale | None = None
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    integer: bool = False
    engine: bool = True

    @property
    def bounds(self) -> str:
        """The bounds in interval notation."""
        left = "(" if self.low_open or math.isinf(self.low) else "["
        right = ")" if math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"

    def accepts(self, value: float) -> bool:
        """Whether a number lies within the bounds (NaN does not)."""
        above = value > self.low if self.low_open else value >= self.low
        return above and value <= self.high and (not self.integer or float(value).is_integer())


def _probability(name: str, shape: Shape = "scalar", *, low_open: bool = False) -> Parameter:
    return Parameter(name, shape, "probability", 0.0, 1.0, low_open=low_open)


def _rate(name: str, shape: Shape = "scalar", *, low_open: bool = False) -> Parameter:
    return Parameter(name, shape, "rate", 0.0, low_open=low_open)


def _count(name: str) -> Parameter:
    return Parameter(name, "location", low=0.0, high=2.0**32 - 1, integer=True)


def _helper(name: str, shape: Shape, low: float = -math.inf, high: float = math.inf) -> Parameter:
    return Parameter(name, shape, low=low, high=high, engine=False)


COMPARTMENTS = ("S", "E", "I", "R", "V1", "V2")

PARAMETERS: dict[str, Parameter] = {
    parameter.name: parameter
    for parameter in (
        *(_probability(name) for name in ("phi_1", "phi_2", "rho", "rho_deaths", "sigma")),
        *(_rate(name) for name in ("omega_1", "omega_2", "iota", "gamma_1", "gamma_2", "epsilon")),
        *(Parameter(name, "scalar", "probability", 0.0) for name in ("chi_endemic", "chi_epidemic")),
        *(_rate(name) for name in ("mobility_omega", "mobility_gamma", "zeta_1", "zeta_2", "kappa")),
        *(_rate(name, low_open=True) for name in ("decay_days_short", "decay_days_long")),
        *(_rate(name, low_open=True) for name in ("decay_shape_1", "decay_shape_2")),
        *(Parameter(f"delta_reporting_{what}", "scalar", low=0.0, integer=True) for what in ("cases", "deaths")),
        _probability("alpha_1", "either", low_open=True),
        _probability("alpha_2", "either"),
        _rate("epidemic_threshold", "either"),
        *(_count(f"{compartment}_j_initial") for compartment in ("N", *COMPARTMENTS)),
        *(_probability(name, "location") for name in ("tau_i", "theta_j")),
        *(_rate(name, "location") for name in ("beta_j0_hum", "beta_j0_env")),
        *(Parameter(name, "location", "real") for name in ("a_1_j", "a_2_j", "b_1_j", "b_2_j")),
        *(_rate(name, "location") for name in ("mu_j_baseline", "mu_j_epidemic_factor")),
        Parameter("mu_j_slope", "location", "real"),
        _helper("beta_j0_tot", "location", low=0.0),
        _helper("p_beta", "location", low=0.0, high=1.0),
        Parameter("zeta_ratio", "scalar", low=0.0, low_open=True, engine=False),
        _helper("decay_days_spread", "scalar", low=0.0),
        *(_helper(f"psi_star_{letter}", "location") for letter in "abzk"),
        *(_helper(f"prop_{compartment}_initial", "location", 0.0, 1.0) for compartment in COMPARTMENTS),
        _helper("CFR_target", "location", 0.0, 1.0),
    )
}
"""Every numeric key with one value, or one a location, by name."""

OPTIONAL = frozenset({"zeta_ratio", "decay_days_spread", "CFR_target"})
"""Keys of `PARAMETERS` that the engine does not ask a config to have."""

COORDINATES = ("longitude", "latitude")

MATRICES = ("b_jt", "d_jt", "nu_1_jt", "nu_2_jt", "psi_jt", "mu_jt")
"""Keys with one number a location and day, none missing."""

OBSERVATIONS = ("reported_cases", "reported_deaths")
"""Keys with one number a location and day; null and "NA" mean missing."""

CONFIDENCE = ("reported_cases_weight", "reported_deaths_weight")
"""Optional keys with a weight in [0, 1] a location and day, or null: how far an observation is trusted."""

LISTS_WITH_ONE_LOCATION = frozenset(
    {
        *(f"psi_star_{letter}" for letter in "abzk"),
        "beta_j0_tot",
        "p_beta",
        *(f"prop_{compartment}_initial" for compartment in COMPARTMENTS),
        "mu_j_baseline",
        "mu_j_slope",
        "mu_j_epidemic_factor",
    }
)
"""Keys that MOSAIC hands to the engine as one-element lists when there is one location; the others
arrive as plain numbers."""
