"""Which parameters MOSAIC draws.

Owns the ``sampling`` section of MOSAIC's control JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mosaic_mpi.mosaic.parameter_names import BY_LOCATION, GLOBALS, PROPORTIONS
from mosaic_mpi.mosaic.priors import InputProblems

__all__ = ["SamplingFlags"]

# CFR_target is drawn whatever the flags say; sample_mu_j_baseline decides whether it is used.
_WITHOUT_FLAG = frozenset(["decay_days_long", "beta_j0_hum", "beta_j0_env", "CFR_target", *PROPORTIONS])
_FLAGS = (GLOBALS | BY_LOCATION | {"initial_conditions"}) - _WITHOUT_FLAG


@dataclass(frozen=True, slots=True)
class SamplingFlags:
    """Which parameters are drawn.

    Attributes
    ----------
    pinned : frozenset of str
        Parameters that keep the base config's value; by default, as MOSAIC's, only ``alpha_2``.
    """

    pinned: frozenset[str] = frozenset(["alpha_2"])

    @classmethod
    def from_control(cls, control: Mapping[str, Any]) -> SamplingFlags:
        """Flags of the ``sampling`` section of MOSAIC's control JSON; absent ones keep their default.

        Raises
        ------
        InputProblems
            For unknown flags, values other than true and false, and ``ic_moment_match``.
        """
        section = control.get("sampling", {})
        problems: list[str] = []
        if not isinstance(section, Mapping):
            raise InputProblems("control", [f"sampling: found {section!r}, expected an object"])
        pinned = set(cls().pinned)
        for key, value in section.items():
            name = key.removeprefix("sample_")
            problems.extend(_flag_problems(key, name, value))
            (pinned.discard if value is True else pinned.add)(name)
        if problems:
            raise InputProblems("control", problems)
        return cls(frozenset(pinned - {"ic_moment_match"}))

    def draws(self, name: str) -> bool:
        """Whether a parameter is drawn; one without a flag always is."""
        return name not in self.pinned


def _flag_problems(key: str, name: str, value: object) -> list[str]:
    if not isinstance(value, bool):
        return [f"sampling.{key}: found {value!r}, expected true or false"]
    if key == "ic_moment_match":
        problem = "sampling.ic_moment_match: found true, expected false (it is not implemented)"
        return [problem] if value else []
    if key == name or name not in _FLAGS:
        known = ", ".join(f"sample_{flag}" for flag in sorted(_FLAGS))
        return [f"sampling.{key}: found an unknown flag, expected one of {known}"]
    return []
