"""``Census`` (census.py): everybody."""

from __future__ import annotations

from typing import Any, NamedTuple

from mosaic_mpi.compiled.inputs import COMPARTMENTS, Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Ints, ints


class Census(NamedTuple):
    """What the component takes."""

    n: int
    S: Ints
    E: Ints
    Isym: Ints
    Iasym: Ints
    R: Ints
    V1: Ints
    V2: Ints
    N: Ints


def take(inputs: Inputs) -> Census:
    """Take it from a model."""
    S, E, Isym, Iasym, R, V1, V2 = (inputs.people(name) for name in COMPARTMENTS)
    return Census(inputs.n_locations, S, E, Isym, Iasym, R, V1, V2, inputs.counts("N"))


@njit
def census(taken: Any, tick: Any) -> bool:
    """Count people at the end of a day."""
    n, after = taken.n, tick + 1
    S, E, Isym = ints(taken.S, after, n), ints(taken.E, after, n), ints(taken.Isym, after, n)
    Iasym, R, V1 = ints(taken.Iasym, after, n), ints(taken.R, after, n), ints(taken.V1, after, n)
    V2, N = ints(taken.V2, after, n), ints(taken.N, after, n)
    for j in range(n):
        N[j] += S[j] + E[j] + Isym[j] + Iasym[j] + R[j] + V1[j] + V2[j]
        if N[j] < 0:
            return False
    return True
