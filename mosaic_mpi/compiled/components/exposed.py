"""``Exposed`` (exposed.py): deaths."""

from __future__ import annotations

from typing import Any, NamedTuple

from mosaic_mpi.compiled.components.flows import die
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Floats, Ints, floats, ints


class Exposed(NamedTuple):
    """What the component takes."""

    n: int
    E: Ints
    non_disease_deaths: Ints
    non_disease_death_prob_jt: Floats


def take(inputs: Inputs) -> Exposed:
    """Take it from a model."""
    return Exposed(
        n=inputs.n_locations,
        E=inputs.people("E"),
        non_disease_deaths=inputs.counts("non_disease_deaths"),
        non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
    )


@njit
def exposed(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance E by a day."""
    n = taken.n
    E, E_next = ints(taken.E, tick, n), ints(taken.E, tick + 1, n)
    prob, deaths = floats(taken.non_disease_death_prob_jt, tick, n), ints(taken.non_disease_deaths, tick, n)
    return die(draws, E, E_next, prob, deaths)
