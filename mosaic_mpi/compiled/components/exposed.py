"""``Exposed`` (exposed.py): deaths."""

from __future__ import annotations

from typing import Any, NamedTuple

from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.inputs import Float, Inputs, Int
from mosaic_mpi.compiled.njit import njit


class Exposed(NamedTuple):
    """What the component takes."""

    E: Int
    non_disease_deaths: Int
    non_disease_death_prob_jt: Float


def take(inputs: Inputs) -> Exposed:
    """Take it from a model."""
    return Exposed(
        E=inputs.people("E"),
        non_disease_deaths=inputs.counts("non_disease_deaths"),
        non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
    )


@njit
def exposed(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance E by a day."""
    E, E_next = taken.E[tick], taken.E[tick + 1]
    prob, deaths = taken.non_disease_death_prob_jt[tick], taken.non_disease_deaths[tick]
    for j in range(len(E)):
        died = binomial(draws, E[j], prob[j])
        if died < 0:
            return False
        E_next[j] = E[j] - died
        deaths[j] += died
    return True
