"""What most components do with a compartment: people die of other causes, or move on to another compartment."""

from __future__ import annotations

from typing import Any

from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.njit import njit


@njit
def die(draws: Any, people: Any, people_next: Any, prob: Any, deaths: Any) -> bool:
    """Set tomorrow's people to today's less those who die, each location with its own probability; count these.

    Parameters
    ----------
    draws : Draws
        Advanced.
    people, people_next : ndarray of int32, shape (n_locations,)
        Of one compartment, today and tomorrow.
    prob : ndarray of float32, shape (n_locations,)
        To die on a day.
    deaths : ndarray of int32, shape (n_locations,)
        Added to.
    """
    for j in range(len(people)):
        died = binomial(draws, people[j], prob[j])
        if died < 0:
            return False
        people_next[j] = people[j] - died
        deaths[j] += died
    return True


@njit
def move(draws: Any, from_next: Any, to_next: Any, prob: Any) -> bool:
    """Move people between compartments of tomorrow, with one probability for all locations.

    No more can move than there are, so that what the engine asserts of the rest holds.

    Parameters
    ----------
    draws : Draws
        Advanced.
    from_next, to_next : ndarray of int32, shape (n_locations,)
        Of the two compartments.
    prob : float
        To move on a day.
    """
    for j in range(len(from_next)):
        moved = binomial(draws, from_next[j], prob)
        if moved < 0:
            return False
        from_next[j] -= moved
        to_next[j] += moved
    return True
