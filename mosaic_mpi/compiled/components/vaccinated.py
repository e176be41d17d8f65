"""``Vaccinated`` (vaccinated.py): deaths, loss of protection, second doses, first doses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.compiled.components.flows import die, move
from mosaic_mpi.compiled.inputs import COMPARTMENTS, Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Floats, Ints, Longs, Octets, floats, ints, longs, octets


class Protection(NamedTuple):
    """What deaths and the loss of protection take."""

    n: int
    V1: Ints
    V2: Ints
    S: Ints
    non_disease_deaths: Ints
    non_disease_death_prob_jt: Floats
    omega_1_prob: float
    omega_2_prob: float


class SecondDoses(NamedTuple):
    """What second doses take."""

    n: int
    V1: Ints
    V2: Ints
    dose_two_doses: Ints
    nu_2_jt: Floats
    phi_2: float


class FirstDoses(NamedTuple):
    """What first doses take; sources are indices of compartments, populations (n_sources, n_locations)."""

    n: int
    S: Ints
    E: Ints
    Isym: Ints
    Iasym: Ints
    R: Ints
    V1: Ints
    V2: Ints
    dose_one_doses: Ints
    nu_1_jt: Floats
    phi_1: float
    n_sources: int
    sources: Longs
    populations: Ints
    available: Longs
    doses: Longs
    immunized: Ints


class Vaccinated(NamedTuple):
    """What the component takes, by its parts; which days have doses, ``ndarray of uint8, shape (n_ticks,)``."""

    n_ticks: int
    protection: Protection
    second_doses: SecondDoses
    first_doses: FirstDoses
    has_second_doses: Octets
    has_first_doses: Octets


def take(inputs: Inputs) -> Vaccinated:
    """Take it from a model."""
    nu_1_jt, nu_2_jt = inputs.matrix("nu_1_jt"), inputs.matrix("nu_2_jt")
    return Vaccinated(
        inputs.n_ticks,
        Protection(
            n=inputs.n_locations,
            V1=inputs.people("V1"),
            V2=inputs.people("V2"),
            S=inputs.people("S"),
            non_disease_deaths=inputs.counts("non_disease_deaths"),
            non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
            omega_1_prob=inputs.kept("Vaccinated", "_omega_1_prob"),
            omega_2_prob=inputs.kept("Vaccinated", "_omega_2_prob"),
        ),
        SecondDoses(
            n=inputs.n_locations,
            V1=inputs.people("V1"),
            V2=inputs.people("V2"),
            dose_two_doses=inputs.counts("dose_two_doses", further=0),
            nu_2_jt=inputs.keep(nu_2_jt),
            phi_2=inputs.number("phi_2"),
        ),
        _take_first_doses(inputs, inputs.keep(nu_1_jt)),
        inputs.keep(_has_any(nu_2_jt)),
        inputs.keep(_has_any(nu_1_jt)),
    )


def _has_any(doses: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Days with doses, as Python's any() sees them: NaN counts, -0.0 does not."""
    found: NDArray[np.uint8] = (doses != 0).any(axis=1).astype(np.uint8)
    return found


def _take_first_doses(inputs: Inputs, nu_1_jt: Floats) -> FirstDoses:
    S, E, Isym, Iasym, R, V1, V2 = (inputs.people(name) for name in COMPARTMENTS)
    n, sources = inputs.n_locations, inputs.dose_sources()
    return FirstDoses(
        n,
        *(S, E, Isym, Iasym, R, V1, V2),
        dose_one_doses=inputs.counts("dose_one_doses", further=0),
        nu_1_jt=nu_1_jt,
        phi_1=inputs.number("phi_1"),
        n_sources=len(sources),
        sources=inputs.keep(sources),
        populations=inputs.keep(np.zeros((len(sources), n), np.int32)),
        available=inputs.keep(np.zeros(n, np.int64)),
        doses=inputs.keep(np.zeros(n, np.int64)),
        immunized=inputs.keep(np.zeros(n, np.int32)),
    )


@njit
def vaccinated(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance V1 and V2 by a day."""
    if not lose_protection(taken.protection, draws, tick):
        return False
    if octets(taken.has_second_doses, 0, taken.n_ticks)[tick]:
        give_second_doses(taken.second_doses, tick)
    if octets(taken.has_first_doses, 0, taken.n_ticks)[tick]:
        give_first_doses(taken.first_doses, tick)
    return True


@njit
def lose_protection(taken: Any, draws: Any, tick: Any) -> bool:
    """Deaths among V1, then V2; from V1 back to S, then from V2."""
    n, after = taken.n, tick + 1
    V1, V1_next = ints(taken.V1, tick, n), ints(taken.V1, after, n)
    V2, V2_next = ints(taken.V2, tick, n), ints(taken.V2, after, n)
    prob, deaths = floats(taken.non_disease_death_prob_jt, tick, n), ints(taken.non_disease_deaths, tick, n)
    S_next = ints(taken.S, after, n)
    return (
        die(draws, V1, V1_next, prob, deaths)
        and die(draws, V2, V2_next, prob, deaths)
        and move(draws, V1_next, S_next, taken.omega_1_prob)
        and move(draws, V2_next, S_next, taken.omega_2_prob)
    )


@njit
def give_second_doses(taken: Any, tick: Any) -> None:
    """From V1 to V2, as far as there are people and the dose takes."""
    n = taken.n
    V1_next, V2_next = ints(taken.V1, tick + 1, n), ints(taken.V2, tick + 1, n)
    nu, delivered = floats(taken.nu_2_jt, tick, n), ints(taken.dose_two_doses, tick, n)
    for j in range(n):
        doses = min(np.int32(np.rint(nu[j])), V1_next[j])
        delivered[j] = doses
        immunized = np.int32(np.rint(taken.phi_2 * np.float64(doses)))
        V1_next[j] -= immunized
        V2_next[j] += immunized


@njit
def give_first_doses(taken: Any, tick: Any) -> None:
    """From each source to V1, by its share of all sources, as far as there are people and the dose takes."""
    n, after, sources = taken.n, tick + 1, longs(taken.sources, 0, taken.n_sources)
    compartments = (taken.S, taken.E, taken.Isym, taken.Iasym, taken.R, taken.V1, taken.V2)
    available, doses, immunized = longs(taken.available, 0, n), longs(taken.doses, 0, n), ints(taken.immunized, 0, n)
    available[:] = 0
    immunized[:] = 0
    for k in range(taken.n_sources):
        compartment, population = ints(compartments[sources[k]], after, n), ints(taken.populations, k, n)
        for j in range(n):
            population[j] = compartment[j]
            available[j] += compartment[j]
    nu, delivered = floats(taken.nu_1_jt, tick, n), ints(taken.dose_one_doses, tick, n)
    for j in range(n):
        doses[j] = min(np.int64(np.int32(np.rint(nu[j]))), available[j])
        delivered[j] = doses[j]
        available[j] = max(available[j], 1)
    for k in range(taken.n_sources):
        compartment, population = ints(compartments[sources[k]], after, n), ints(taken.populations, k, n)
        for j in range(n):
            fraction = np.float64(population[j]) / np.float64(available[j])
            compartment_doses = np.int32(np.rint(np.float64(doses[j]) * fraction))
            effective_doses = np.int32(np.rint(taken.phi_1 * np.float64(compartment_doses)))
            compartment[j] -= effective_doses
            immunized[j] += effective_doses
    V1_next = ints(taken.V1, after, n)
    for j in range(n):
        V1_next[j] += immunized[j]
