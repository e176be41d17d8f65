"""``Susceptible`` (susceptible.py): deaths, then births."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.components.flows import die
from mosaic_mpi.compiled.draws import poisson
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Floats, Ints, floats, ints


class Susceptible(NamedTuple):
    """What the component takes."""

    n: int
    S: Ints
    N: Ints
    births: Ints
    non_disease_deaths: Ints
    non_disease_death_prob_jt: Floats
    b_jt: Floats


def take(inputs: Inputs) -> Susceptible:
    """Take it from a model."""
    return Susceptible(
        n=inputs.n_locations,
        S=inputs.people("S"),
        N=inputs.counts("N"),
        births=inputs.counts("births"),
        non_disease_deaths=inputs.counts("non_disease_deaths"),
        non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
        b_jt=inputs.keep(inputs.matrix("b_jt")),
    )


@njit
def susceptible(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance S by a day."""
    n = taken.n
    S, S_next = ints(taken.S, tick, n), ints(taken.S, tick + 1, n)
    prob, deaths = floats(taken.non_disease_death_prob_jt, tick, n), ints(taken.non_disease_deaths, tick, n)
    if not die(draws, S, S_next, prob, deaths):
        return False
    N, b, births = ints(taken.N, tick, n), floats(taken.b_jt, tick, n), ints(taken.births, tick, n)
    for j in range(n):
        born = poisson(draws, np.float64(N[j]) * np.float64(b[j]))
        if born < 0:
            return False
        S_next[j] += born
        births[j] = born
    return True
