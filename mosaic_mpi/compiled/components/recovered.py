"""``Recovered`` (recovered.py): deaths, then loss of immunity."""

from __future__ import annotations

from typing import Any, NamedTuple

from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.inputs import Float, Inputs, Int
from mosaic_mpi.compiled.njit import njit


class Recovered(NamedTuple):
    """What the component takes."""

    R: Int
    S: Int
    non_disease_deaths: Int
    non_disease_death_prob_jt: Float
    waning_prob: float


def take(inputs: Inputs) -> Recovered:
    """Take it from a model."""
    return Recovered(
        R=inputs.people("R"),
        S=inputs.people("S"),
        non_disease_deaths=inputs.counts("non_disease_deaths"),
        non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
        waning_prob=inputs.kept("Recovered", "_waning_prob"),
    )


@njit
def recovered(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance R by a day."""
    R, R_next, S_next = taken.R[tick], taken.R[tick + 1], taken.S[tick + 1]
    prob, deaths = taken.non_disease_death_prob_jt[tick], taken.non_disease_deaths[tick]
    for j in range(len(R)):
        died = binomial(draws, R[j], prob[j])
        if died < 0:
            return False
        R_next[j] += R[j] - died
        deaths[j] += died
    for j in range(len(R)):
        waned = binomial(draws, R_next[j], taken.waning_prob)
        if waned < 0:
            return False
        R_next[j] -= waned
        S_next[j] += waned
        if R_next[j] < 0:
            return False
    return True
