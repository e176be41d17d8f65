"""``Recovered`` (recovered.py): deaths, then loss of immunity."""

from __future__ import annotations

from typing import Any, NamedTuple

from mosaic_mpi.compiled.components.flows import move
from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Floats, Ints, floats, ints


class Recovered(NamedTuple):
    """What the component takes."""

    n: int
    R: Ints
    S: Ints
    non_disease_deaths: Ints
    non_disease_death_prob_jt: Floats
    waning_prob: float


def take(inputs: Inputs) -> Recovered:
    """Take it from a model."""
    return Recovered(
        n=inputs.n_locations,
        R=inputs.people("R"),
        S=inputs.people("S"),
        non_disease_deaths=inputs.counts("non_disease_deaths"),
        non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
        waning_prob=inputs.kept("Recovered", "_waning_prob"),
    )


@njit
def recovered(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance R by a day."""
    n = taken.n
    R, R_next, S_next = ints(taken.R, tick, n), ints(taken.R, tick + 1, n), ints(taken.S, tick + 1, n)
    prob, deaths = floats(taken.non_disease_death_prob_jt, tick, n), ints(taken.non_disease_deaths, tick, n)
    for j in range(n):
        died = binomial(draws, R[j], prob[j])
        if died < 0:
            return False
        R_next[j] += R[j] - died
        deaths[j] += died
    return move(draws, R_next, S_next, taken.waning_prob)
