"""Parameters given as a table, one row a simulation, and what follows from them.

Owns the rule that values given win and the rest is derived as MOSAIC derives it. Knows no file: the table is read
by `tables.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.mosaic.derivations import Suitability, fatality_baseline, hamilton_counts, quotient
from mosaic_mpi.mosaic.parameter_names import COUNTS, PROPORTIONS, PSI_STAR
from mosaic_mpi.parameters import ParameterSet, Place, collect

_HELPERS = frozenset(
    (
        *("beta_j0_tot", "p_beta", "decay_days_short", "decay_days_spread", "zeta_1", "zeta_ratio", "CFR_target"),
        *PROPORTIONS,
    )
)
"""Of these something follows."""


class ParameterTable:
    """Parameters given as a table, one row a simulation.

    Parameters
    ----------
    places : sequence of Place
        Where each column goes.
    values : ndarray of float64, shape (n_simulations, n_parameters)
        In the plan's row order.
    base : mapping
        `Config.values`.
    digest : str
        SHA-256 of ids, names and values of the whole table.
    names : sequence of str
        The columns as the table calls them.
    calibrates : bool
        Whether psi_star_* calibrate psi_jt; MOSAIC does so unless it samples none of them.
    """

    def __init__(
        self,
        places: Sequence[Place],
        values: NDArray[np.float64],
        base: Mapping[str, Any],
        digest: str,
        names: Sequence[str],
        calibrates: bool = True,
    ) -> None:
        self._places, self.values, self.digest, self._base = tuple(places), values, digest, base
        self._given = frozenset(self._places)
        self._calibrates = calibrates and any(place.key in PSI_STAR for place in places)
        self.names = tuple(names)

    @property
    def identity(self) -> dict[str, str]:
        """The table's digest."""
        calibration = "" if self._calibrates else ", psi_jt not calibrated"
        return {"parameters": f"table sha256:{self.digest}{calibration}"}

    def cut(self, rows: slice) -> ParameterTable:
        """Return some adjacent rows of the table, which still says that it is the whole one."""
        piece = copy.copy(self)
        piece.values = self.values[rows]
        return piece

    def draw(self, row: int, sim_id: int) -> ParameterSet:
        """See `mosaic_mpi.parameters.ParameterSource.draw`."""
        return self.over(row, {})

    def over(self, row: int, drawn: Mapping[str, Any]) -> ParameterSet:
        """Return a row's parameter set on top of other overrides.

        Parameters
        ----------
        row : int
            Of the table.
        drawn : mapping
            Config key to value: what is used where the table gives nothing. A single value that is the first of
            a drawn list leaves the list alone: so MOSAIC records an ``alpha_1`` drawn by location when the config
            has one for all.
        """
        values = self.values[row]
        if not drawn:
            given = collect(self._places, values.tolist(), self._base)
            known = {**self._base, **given} if self._derives else {}
            return ParameterSet(values, {**given, **self._derived(known)})
        kept = [
            (place, value)
            for place, value in zip(self._places, values.tolist(), strict=True)
            if place.index is not None or not _is_first(drawn.get(place.key), value)
        ]
        known = {**self._base, **drawn}
        given = collect([place for place, _ in kept], [value for _, value in kept], known)
        overrides = {**drawn, **given}
        return ParameterSet(values, {**overrides, **self._derived({**known, **given})})

    @cached_property
    def _derives(self) -> bool:
        """Whether anything follows from what the table gives."""
        return self._calibrates or any(place.key in _HELPERS for place in self._places)

    # ---- what follows from the given values ---------------------------------------------------------

    def _gives(self, key: str, index: int | None = None) -> bool:
        return Place(key, index) in self._given

    def _gives_any(self, *keys: str) -> bool:
        return any(place.key in keys for place in self._given)

    def _derived(self, known: Mapping[str, Any]) -> dict[str, Any]:
        derived: dict[str, Any] = {}
        if not self._derives:
            return derived
        if self._gives_any("beta_j0_tot", "p_beta"):
            derived |= self._transmission(known)
        if self._lacks("decay_days_long", ("decay_days_short", "decay_days_spread"), known):
            derived["decay_days_long"] = known["decay_days_short"] + known["decay_days_spread"]
        if self._lacks("zeta_2", ("zeta_1", "zeta_ratio"), known):
            derived["zeta_2"] = quotient(known["zeta_1"], known["zeta_ratio"])
        if self._gives_any("CFR_target"):
            derived["mu_j_baseline"] = self._fatality(known)
        if self._gives_any(*PROPORTIONS):
            derived |= self._counts(known)
        if self._calibrates:
            derived["psi_jt"] = self._suitability.calibrated(*(known[name] for name in PSI_STAR))
        return derived

    def _lacks(self, key: str, inputs: Sequence[str], known: Mapping[str, Any]) -> bool:
        """Whether a value is to be derived: an input is given, it is not, and all inputs are known."""
        return self._gives_any(*inputs) and not self._gives(key) and all(name in known for name in inputs)

    def _where_free(
        self, key: str, helpers: Sequence[str], known: Mapping[str, Any], new: Sequence[Any]
    ) -> list[Any]:
        """New values for the locations of which a helper is given and the value itself is not."""
        return [
            new[index] if any(self._gives(name, index) for name in helpers) and not self._gives(key, index) else old
            for index, old in enumerate(known[key])
        ]

    def _transmission(self, known: Mapping[str, Any]) -> dict[str, list[float]]:
        helpers = ("beta_j0_tot", "p_beta")
        pairs = list(zip(known["p_beta"], known["beta_j0_tot"], strict=True))
        human = [share * total for share, total in pairs]
        environment = [(1.0 - share) * total for share, total in pairs]
        return {
            "beta_j0_hum": self._where_free("beta_j0_hum", helpers, known, human),
            "beta_j0_env": self._where_free("beta_j0_env", helpers, known, environment),
        }

    def _fatality(self, known: Mapping[str, Any]) -> list[float]:
        n_locations = len(known["location_name"])
        targets = known["CFR_target"]
        rates = (float(known[name]) for name in ("gamma_1", "rho", "rho_deaths", "chi_epidemic"))
        new = fatality_baseline([float(target) for target in targets[:n_locations]], *rates)
        return self._where_free("mu_j_baseline", ("CFR_target",), known, new)

    def _counts(self, known: Mapping[str, Any]) -> dict[str, list[int]]:
        shares = np.array([known[name] for name in PROPORTIONS], dtype=np.float64)
        counts = hamilton_counts(shares, np.array(known["N_j_initial"], dtype=np.float64)).tolist()
        return {
            name: self._where_free(name, PROPORTIONS, known, new) for name, new in zip(COUNTS, counts, strict=True)
        }

    @cached_property
    def _suitability(self) -> Suitability:
        return Suitability(self._base["psi_jt"])

    def __getstate__(self) -> dict[str, Any]:
        """Without the prepared series, which is cheap to make and large to send."""
        return {name: value for name, value in vars(self).items() if name != "_suitability"}


def _is_first(drawn: Any, value: float) -> bool:
    return isinstance(drawn, list) and len(drawn) > 1 and drawn[0] == value
