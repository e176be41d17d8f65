"""What ``HumanToHuman`` and ``EnvToHuman`` end with: infections at a rate, among the susceptible who are at home."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.inputs import Float, Inputs, Int
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.ufunc_calls import Call, UfuncCalls, run


class Infection(NamedTuple):
    """What it takes; ``expm1`` turns the negative rate into the negative probability."""

    S: Int
    E: Int
    incidence: Int
    incidence_of_this: Int
    local_frac: Float
    negative_rate: Float
    negative_prob: Float
    expm1: Call


def take(inputs: Inputs, calls: UfuncCalls, incidence_of_this: str) -> Infection:
    """Take it from a model."""
    rate, prob = np.zeros(inputs.n_locations, np.float32), np.zeros(inputs.n_locations, np.float32)
    return Infection(
        S=inputs.people("S"),
        E=inputs.people("E"),
        incidence=inputs.counts("incidence"),
        incidence_of_this=inputs.counts(incidence_of_this),
        local_frac=1 - inputs.vector("tau_i"),
        negative_rate=rate,
        negative_prob=prob,
        expm1=calls.prepare(np.expm1, rate, prob),
    )


@njit
def infect(taken: Any, draws: Any, tick: Any, rate: Any) -> bool:
    """From S to E, by location."""
    for j in range(len(rate)):
        taken.negative_rate[j] = -rate[j]
    run(taken.expm1)
    S_next, E_next = taken.S[tick + 1], taken.E[tick + 1]
    incidence, incidence_of_this = taken.incidence[tick + 1], taken.incidence_of_this[tick + 1]
    for j in range(len(rate)):
        local = np.int32(np.rint(np.float64(taken.local_frac[j]) * np.float64(S_next[j])))
        infected = binomial(draws, local, -taken.negative_prob[j])
        if infected < 0:
            return False
        S_next[j] -= infected
        E_next[j] += infected
        incidence_of_this[j] += infected
        incidence[j] += infected
        if S_next[j] < 0:
            return False
    return True
