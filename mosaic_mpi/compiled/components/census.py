"""``Census`` (census.py): everybody."""

from __future__ import annotations

from typing import Any, NamedTuple

from mosaic_mpi.compiled.inputs import COMPARTMENTS, Inputs, Int
from mosaic_mpi.compiled.njit import njit


class Census(NamedTuple):
    """What the component takes."""

    S: Int
    E: Int
    Isym: Int
    Iasym: Int
    R: Int
    V1: Int
    V2: Int
    N: Int


def take(inputs: Inputs) -> Census:
    """Take it from a model."""
    S, E, Isym, Iasym, R, V1, V2 = (inputs.people(name) for name in COMPARTMENTS)
    return Census(S, E, Isym, Iasym, R, V1, V2, inputs.counts("N"))


@njit
def census(taken: Any, tick: Any) -> bool:
    """Count people at the end of a day."""
    after = tick + 1
    S, E, Isym, Iasym = taken.S[after], taken.E[after], taken.Isym[after], taken.Iasym[after]
    R, V1, V2, N = taken.R[after], taken.V1[after], taken.V2[after], taken.N[after]
    for j in range(len(N)):
        N[j] += S[j] + E[j] + Isym[j] + Iasym[j] + R[j] + V1[j] + V2[j]
        if N[j] < 0:
            return False
    return True
