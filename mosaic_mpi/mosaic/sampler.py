"""From a simulation number to MOSAIC's parameter set.

Owns the order of the draws, which fixes what every random number is used for. The generators are in
``rrandom``, the priors in ``priors``, the arithmetic in ``derivations``, the recorded columns in ``columns``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.mosaic.base_config import BaseConfig
from mosaic_mpi.mosaic.columns import ParameterColumns
from mosaic_mpi.mosaic.derivations import (
    CLAMPS,
    Suitability,
    clamped,
    fatality_baseline,
    hamilton_counts,
    initial_proportions,
    quotient,
)
from mosaic_mpi.mosaic.parameter_names import BY_LOCATION, COUNTS, GLOBALS, PROPORTIONS, PSI_STAR, WHOLE_GLOBALS
from mosaic_mpi.mosaic.priors import InputProblems, Prior, Priors
from mosaic_mpi.mosaic.rrandom import RRandom
from mosaic_mpi.mosaic.sampling_flags import SamplingFlags
from mosaic_mpi.nearest import suggestion

__all__ = ["DrawFailed", "MosaicSampler", "SamplingFlags", "Value"]

Value: TypeAlias = float | int | list[float] | list[int] | NDArray[np.float64]
Draw: TypeAlias = Callable[[], float]

# zeta_2 has a prior of its own besides; its draw is thrown away.
_DERIVED_FROM = {
    "decay_days_long": ("decay_days_short", "decay_days_spread"),
    "beta_j0_hum": ("beta_j0_tot", "p_beta"),
    "mu_j_baseline": ("CFR_target", "gamma_1", "rho", "rho_deaths", "chi_epidemic"),
    "zeta_2": ("zeta_1", "zeta_ratio"),
}


class DrawFailed(RuntimeError):
    """One simulation has no parameter set; MOSAIC writes no shard for it."""


class MosaicSampler:
    """Draws MOSAIC's parameter sets for one base config.

    The parameter set of a simulation depends on its number, the priors, the flags and of the base config on
    the locations and their order, their populations and the suitability series. Not safe for use from several
    threads at once.

    Parameters
    ----------
    priors : Priors
    config : mapping of str to any
        Base config in plain JSON form, possibly restricted to some locations. Not changed.
    flags : SamplingFlags, optional

    Raises
    ------
    InputProblems
        If priors and config do not fit; its message lists every problem.
    """

    def __init__(self, priors: Priors, config: Mapping[str, Any], flags: SamplingFlags | None = None) -> None:
        problems: list[str] = []
        self._flags = flags or SamplingFlags()
        self._base = BaseConfig.of(config, problems)
        self._population = self._base.population(problems)
        self._rng = RRandom(0)
        self._globals = [
            (name, self._bound(prior)) for name, prior in priors.parameters_global.items() if self._flags.draws(name)
        ]
        self._by_location = self._plan(self._location_names(priors), priors, problems)
        self._initial = self._plan(self._initial_names(), priors, problems)
        self._derived = self._derivable(problems)
        problems += _misspelt(priors)
        self._suitability = self._prepared_suitability(problems)
        if problems:
            raise InputProblems("sampling", problems)
        self._columns = ParameterColumns(self._base)
        self._clamped_config = self._pinned_out_of_bounds()

    def _bound(self, prior: Prior) -> Draw:
        match prior.method:
            case "failed":
                return lambda: math.nan
            case "fixed":
                return lambda: prior.arguments[0]
            case method:
                return partial(getattr(self._rng, method), *prior.arguments)

    def _location_names(self, priors: Priors) -> list[str]:
        names = priors.parameters_location
        return [name for name in names if name not in PROPORTIONS and self._flags.draws(name)]

    def _initial_names(self) -> list[str]:
        # S is what the others leave; its own prior is never drawn from.
        return list(PROPORTIONS[1:]) if self._flags.draws("initial_conditions") else []

    def _plan(
        self, names: list[str], priors: Priors, problems: list[str]
    ) -> list[tuple[str, list[Draw], list[float]]]:
        plan = []
        for name in names:
            found = priors.parameters_location.get(name, {})
            missing = [iso for iso in self._base.locations if iso not in found]
            if missing:
                problems.append(
                    f"parameters_location.{name}.location: found no prior of {', '.join(missing)}, "
                    "expected one for every location of the config"
                )
            draws = [self._bound(found[iso]) for iso in self._base.locations if iso in found]
            plan.append((name, draws, self._base.per_location(name)))
        return plan

    def _prepared_suitability(self, problems: list[str]) -> Suitability | None:
        if not any(self._flags.draws(name) for name in PSI_STAR):
            return None
        psi = self._base.suitability(problems)
        return Suitability(psi) if psi.size else None

    def _derivable(self, problems: list[str]) -> frozenset[str]:
        """Derived parameters of which an input, or a draw to be replaced, comes from the priors."""
        drawn = {name for name, _ in self._globals} | {name for name, _, _ in self._by_location}
        derived = {name for name, inputs in _DERIVED_FROM.items() if drawn & {name, *inputs}}
        if "CFR_target" not in drawn or not self._flags.draws("mu_j_baseline"):
            derived.discard("mu_j_baseline")
        problems.extend(
            f"config.{source}: found nothing, expected a number, since {name} is derived from it and it is not drawn"
            for name in sorted(derived)
            for source in _DERIVED_FROM[name]
            if source not in drawn and not self._base.values(source)
        )
        return frozenset(derived)

    def _pinned_out_of_bounds(self) -> dict[str, list[float]]:
        pinned = {name: self._base.values(name) for name in CLAMPS}
        return {name: clamped(name, found) for name, found in pinned.items() if clamped(name, found) != found}

    def columns(self) -> tuple[str, ...]:
        """Names of the parameter columns, in MOSAIC's order."""
        return self._columns.names

    def draw(self, sim_id: int) -> dict[str, Value]:
        """Parameter set of a simulation: every key of the config that the sampler sets.

        Parameters
        ----------
        sim_id : int
            Simulation number, which is the seed.

        Returns
        -------
        dict
            ``seed``; global parameters (float; reporting delays int, NaN without a value); parameters by
            location (lists, also for one location); ``*_j_initial`` (lists of int); ``psi_jt`` (ndarray of
            float64, shape (n_locations, n_ticks), Fortran order) unless no ``psi_star_*`` is drawn.

        Raises
        ------
        DrawFailed
            If an initial proportion has no finite value.
        """
        values = self._parameters(sim_id)
        if self._suitability is not None:
            calibration = (self._listed(values, name) for name in PSI_STAR)
            values["psi_jt"] = self._suitability.calibrated(*calibration)
        return values

    def row(self, sim_id: int) -> NDArray[np.float64]:
        """Parameter columns of a simulation: ndarray of float64, shape (n_columns,); see `draw`."""
        return self._columns.row(self._parameters(sim_id))

    def row_of(self, values: Mapping[str, Value]) -> NDArray[np.float64]:
        """Parameter columns of a drawn parameter set: ndarray of float64, shape (n_columns,)."""
        return self._columns.row(values)

    def _parameters(self, sim_id: int) -> dict[str, Any]:
        self._rng.set_seed(sim_id)
        values: dict[str, Any] = {"seed": int(sim_id)}
        for name, draw in self._globals:
            values[name] = _whole(draw()) if name in WHOLE_GLOBALS else draw()
        for name, draws, fallback in self._by_location:
            drawn = [draw() for draw in draws]
            # The stream has not moved for a value that is missing; later draws shift.
            values[name] = [x if x == x else other for x, other in zip(drawn, fallback, strict=True)]
        self._derive(values)
        if self._initial:
            self._draw_initial(values, sim_id)
        self._clamp(values)
        return values

    def _scalar(self, values: Mapping[str, Any], name: str) -> float:
        return float(values[name]) if name in values else self._base.at(name, 0)

    def _listed(self, values: Mapping[str, Any], name: str) -> list[float]:
        return values[name] if name in values else self._base.per_location(name)

    def _derive(self, values: dict[str, Any]) -> None:
        scalar, listed = partial(self._scalar, values), partial(self._listed, values)
        if "decay_days_long" in self._derived:
            values["decay_days_long"] = scalar("decay_days_short") + scalar("decay_days_spread")
        if "beta_j0_hum" in self._derived:
            shares = list(zip(listed("p_beta"), listed("beta_j0_tot"), strict=True))
            values["beta_j0_hum"] = [p * total for p, total in shares]
            values["beta_j0_env"] = [(1.0 - p) * total for p, total in shares]
        if "mu_j_baseline" in self._derived:
            rates = (scalar(name) for name in ("gamma_1", "rho", "rho_deaths", "chi_epidemic"))
            values["mu_j_baseline"] = fatality_baseline(listed("CFR_target"), *rates)
        if "zeta_2" in self._derived:
            values["zeta_2"] = quotient(scalar("zeta_1"), scalar("zeta_ratio"))

    def _draw_initial(self, values: dict[str, Any], sim_id: int) -> None:
        drawn = np.array([[draw() for draw in draws] for _, draws, _ in self._initial])
        for row, location in np.argwhere(~np.isfinite(drawn)).tolist():
            what = f"{PROPORTIONS[1 + row]} of {self._base.locations[location]}"
            raise DrawFailed(
                f"simulation {sim_id}: {what}: found {drawn[row, location]}, expected a finite number; "
                "check this prior"
            )
        proportions = initial_proportions(drawn)
        counts = hamilton_counts(proportions, self._population)
        values.update(zip(COUNTS, counts.tolist(), strict=True))
        shares = zip(PROPORTIONS, proportions.tolist(), strict=True)
        values.update((name, share) for name, share in shares if self._base.has(name))

    def _clamp(self, values: dict[str, Any]) -> None:
        for name in CLAMPS:
            if name in values:
                values[name] = clamped(name, values[name])
            elif name in self._clamped_config:
                values[name] = self._clamped_config[name]


def _misspelt(priors: Priors) -> list[str]:
    """Names that MOSAIC does not know and that are close to one that is missing."""
    sections = {"parameters_global": GLOBALS, "parameters_location": BY_LOCATION}
    found = []
    for section, known in sections.items():
        names = getattr(priors, section)
        missing = known - set(names)
        hints = {name: suggestion(name, missing, cutoff=0.8) for name in names if name not in GLOBALS | BY_LOCATION}
        found += [f"{section}.{name}: not a parameter of MOSAIC{hint}" for name, hint in hints.items() if hint]
    return found


def _whole(x: float) -> float | int:
    """Nearest integer, halves to even; NaN stays."""
    return round(x) if math.isfinite(x) else math.nan
