"""The loop over ticks: the components that act on every tick, in the engine's order.

Mirrors ``Model.run`` and the list of components in ``run_model`` (laser/cholera/metapop/model.py). What is missing
acts on the last tick alone or, in a slot, not at all (`mosaic_mpi.prepared_model`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mosaic_mpi.compiled.components import (
    census,
    environmental,
    envtohuman,
    exposed,
    humantohuman,
    infectious,
    recovered,
    susceptible,
    vaccinated,
)
from mosaic_mpi.compiled.inputs import Inputs


class State(NamedTuple):
    """What all components take of a model, in the engine's order."""

    susceptible: susceptible.Susceptible
    exposed: exposed.Exposed
    recovered: recovered.Recovered
    infectious: infectious.Infectious
    vaccinated: vaccinated.Vaccinated
    census: census.Census
    human_to_human: humantohuman.HumanToHuman
    env_to_human: envtohuman.EnvToHuman
    environmental: environmental.Environmental


def state_of(inputs: Inputs) -> State:
    """Return what the loop takes of a model.

    Raises
    ------
    UnsupportedError
        Anything is otherwise than expected.
    """
    return State(
        susceptible.take(inputs),
        exposed.take(inputs),
        recovered.take(inputs),
        infectious.take(inputs),
        vaccinated.take(inputs),
        census.take(inputs),
        humantohuman.take(inputs),
        envtohuman.take(inputs),
        environmental.take(inputs),
    )


_susceptible, _exposed, _recovered = susceptible.susceptible, exposed.exposed, recovered.recovered
_infectious, _vaccinated, _census = infectious.infectious, vaccinated.vaccinated, census.census
_human_to_human, _env_to_human = humantohuman.human_to_human, envtohuman.env_to_human
_environmental = environmental.environmental


def advance(
    draws: Any,
    n_ticks: int,
    susceptible: Any,
    exposed: Any,
    recovered: Any,
    infectious: Any,
    vaccinated: Any,
    census: Any,
    human_to_human: Any,
    env_to_human: Any,
    environmental: Any,
) -> int:
    """Run ticks of a model whose arrays are as set-up leaves them.

    Parameters
    ----------
    draws : Draws
        Of the generator that the engine has seeded; advanced.
    n_ticks : int
        So many, from the first.
    susceptible, ...
        The fields of `State`; one by one, since a tuple of hundreds of values takes long to compile.

    Returns
    -------
    int
        The first tick over which the engine would raise: what was written of it is worth nothing. If there is none,
        ``n_ticks``.
    """
    for tick in range(n_ticks):
        if not (
            _susceptible(susceptible, draws, tick)
            and _exposed(exposed, draws, tick)
            and _recovered(recovered, draws, tick)
            and _infectious(infectious, draws, tick)
            and _vaccinated(vaccinated, draws, tick)
            and _census(census, tick)
            and _human_to_human(human_to_human, draws, tick)
            and _env_to_human(env_to_human, draws, tick)
            and _environmental(environmental, draws, tick)
        ):
            return tick
    return n_ticks
