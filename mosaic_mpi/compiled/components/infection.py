"""What ``HumanToHuman`` and ``EnvToHuman`` end with: infections at a rate, among the susceptible who are at home."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Floats, Ints, floats, ints
from mosaic_mpi.compiled.ufunc_calls import Call, run


class Infection(NamedTuple):
    """What it takes; ``expm1`` turns the negative rate into the negative probability."""

    n: int
    S: Ints
    E: Ints
    incidence: Ints
    incidence_of_this: Ints
    local_frac: Floats
    negative_rate: Floats
    negative_prob: Floats
    expm1: Call


def take(inputs: Inputs, incidence_of_this: str) -> Infection:
    """Take it from a model."""
    rate, prob = np.zeros(inputs.n_locations, np.float32), np.zeros(inputs.n_locations, np.float32)
    return Infection(
        n=inputs.n_locations,
        S=inputs.people("S"),
        E=inputs.people("E"),
        incidence=inputs.counts("incidence"),
        incidence_of_this=inputs.counts(incidence_of_this),
        local_frac=inputs.keep(1 - inputs.vector("tau_i")),
        negative_rate=inputs.keep(rate),
        negative_prob=inputs.keep(prob),
        expm1=inputs.calls.prepare(np.expm1, rate, prob),
    )


@njit
def infect(taken: Any, draws: Any, tick: Any, rate: Any) -> bool:
    """From S to E, by location."""
    n, after = taken.n, tick + 1
    negative_rate, negative_prob = floats(taken.negative_rate, 0, n), floats(taken.negative_prob, 0, n)
    for j in range(n):
        negative_rate[j] = -rate[j]
    run(taken.expm1)
    S_next, E_next, local_frac = ints(taken.S, after, n), ints(taken.E, after, n), floats(taken.local_frac, 0, n)
    incidence, incidence_of_this = ints(taken.incidence, after, n), ints(taken.incidence_of_this, after, n)
    for j in range(n):
        local = np.int32(np.rint(np.float64(local_frac[j]) * np.float64(S_next[j])))
        infected = binomial(draws, local, -negative_prob[j])
        if infected < 0:
            return False
        S_next[j] -= infected
        E_next[j] += infected
        incidence_of_this[j] += infected
        incidence[j] += infected
        if S_next[j] < 0:
            return False
    return True
