"""``Environmental`` (environmental.py): the water clears, and is contaminated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.draws import poisson
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Floats, Ints, floats, ints


class Environmental(NamedTuple):
    """What the component takes."""

    n: int
    W: Floats
    delta_jt: Floats
    Isym: Ints
    Iasym: Ints
    zeta_1: float
    zeta_2: float
    non_wash: Floats


def take(inputs: Inputs) -> Environmental:
    """Take it from a model."""
    return Environmental(
        n=inputs.n_locations,
        W=inputs.levels("W"),
        delta_jt=inputs.levels("delta_jt", further=0),
        Isym=inputs.people("Isym"),
        Iasym=inputs.people("Iasym"),
        zeta_1=inputs.number("zeta_1"),
        zeta_2=inputs.number("zeta_2"),
        non_wash=inputs.keep(1 - inputs.vector("theta_j")),
    )


@njit
def environmental(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance W by a day."""
    n = taken.n
    W, W_next, delta = floats(taken.W, tick, n), floats(taken.W, tick + 1, n), floats(taken.delta_jt, tick, n)
    non_wash = floats(taken.non_wash, 0, n)
    for j in range(n):
        cleared = poisson(draws, np.float32(delta[j] * W[j]))
        if cleared < 0:
            return False
        W_next[j] = W[j] - np.float32(min(np.float64(cleared), np.float64(W[j])))
    Isym, Iasym = ints(taken.Isym, tick, n), ints(taken.Iasym, tick, n)
    for infectious, zeta in ((Isym, taken.zeta_1), (Iasym, taken.zeta_2)):
        for j in range(n):
            shed = poisson(draws, zeta * np.float64(infectious[j]))
            if shed < 0:
                return False
            W_next[j] += np.float32(non_wash[j] * np.float32(shed))
    return True
