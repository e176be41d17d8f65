"""``Environmental`` (environmental.py): the water clears, and is contaminated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.draws import poisson
from mosaic_mpi.compiled.inputs import Float, Inputs, Int
from mosaic_mpi.compiled.njit import njit


class Environmental(NamedTuple):
    """What the component takes."""

    W: Float
    delta_jt: Float
    Isym: Int
    Iasym: Int
    zeta_1: float
    zeta_2: float
    non_wash: Float


def take(inputs: Inputs) -> Environmental:
    """Take it from a model."""
    return Environmental(
        W=inputs.levels("W"),
        delta_jt=inputs.levels("delta_jt", further=0),
        Isym=inputs.people("Isym"),
        Iasym=inputs.people("Iasym"),
        zeta_1=inputs.number("zeta_1"),
        zeta_2=inputs.number("zeta_2"),
        non_wash=1 - inputs.vector("theta_j"),
    )


@njit
def environmental(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance W by a day."""
    W, W_next, delta = taken.W[tick], taken.W[tick + 1], taken.delta_jt[tick]
    for j in range(len(W)):
        cleared = poisson(draws, np.float32(delta[j] * W[j]))
        if cleared < 0:
            return False
        W_next[j] = W[j] - np.float32(min(np.float64(cleared), np.float64(W[j])))
    for infectious, zeta in ((taken.Isym[tick], taken.zeta_1), (taken.Iasym[tick], taken.zeta_2)):
        for j in range(len(W)):
            shed = poisson(draws, zeta * np.float64(infectious[j]))
            if shed < 0:
                return False
            W_next[j] += np.float32(taken.non_wash[j] * np.float32(shed))
    return True
