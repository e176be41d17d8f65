"""``Susceptible`` (susceptible.py): deaths, then births."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.draws import binomial, poisson
from mosaic_mpi.compiled.inputs import Float, Inputs, Int
from mosaic_mpi.compiled.njit import njit


class Susceptible(NamedTuple):
    """What the component takes."""

    S: Int
    N: Int
    births: Int
    non_disease_deaths: Int
    non_disease_death_prob_jt: Float
    b_jt: Float


def take(inputs: Inputs) -> Susceptible:
    """Take it from a model."""
    return Susceptible(
        S=inputs.people("S"),
        N=inputs.counts("N"),
        births=inputs.counts("births"),
        non_disease_deaths=inputs.counts("non_disease_deaths"),
        non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
        b_jt=inputs.matrix("b_jt"),
    )


@njit
def susceptible(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance S by a day."""
    S, S_next = taken.S[tick], taken.S[tick + 1]
    prob, deaths = taken.non_disease_death_prob_jt[tick], taken.non_disease_deaths[tick]
    for j in range(len(S)):
        died = binomial(draws, S[j], prob[j])
        if died < 0:
            return False
        S_next[j] = S[j] - died
        deaths[j] += died
        if S_next[j] < 0:
            return False
    N, b, births = taken.N[tick], taken.b_jt[tick], taken.births[tick]
    for j in range(len(S)):
        born = poisson(draws, np.float64(N[j]) * np.float64(b[j]))
        if born < 0:
            return False
        S_next[j] += born
        births[j] = born
    return True
