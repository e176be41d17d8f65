"""``Vaccinated`` (vaccinated.py): deaths, loss of protection, second doses, first doses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.inputs import COMPARTMENTS, Float, Inputs, Int
from mosaic_mpi.compiled.njit import njit


class Protection(NamedTuple):
    """What deaths and the loss of protection take."""

    V1: Int
    V2: Int
    S: Int
    non_disease_deaths: Int
    non_disease_death_prob_jt: Float
    omega_1_prob: float
    omega_2_prob: float


class SecondDoses(NamedTuple):
    """What second doses take."""

    V1: Int
    V2: Int
    dose_two_doses: Int
    nu_2_jt: Float
    phi_2: float


class FirstDoses(NamedTuple):
    """What first doses take; sources are indices of compartments, populations (n_sources, n_locations)."""

    S: Int
    E: Int
    Isym: Int
    Iasym: Int
    R: Int
    V1: Int
    V2: Int
    dose_one_doses: Int
    nu_1_jt: Float
    phi_1: float
    sources: NDArray[np.int64]
    populations: Int
    available: NDArray[np.int64]
    doses: NDArray[np.int64]
    immunized: Int


class Vaccinated(NamedTuple):
    """What the component takes, by its parts; which days have doses, ``ndarray of bool, shape (n_ticks,)``."""

    protection: Protection
    second_doses: SecondDoses
    first_doses: FirstDoses
    has_second_doses: NDArray[np.bool_]
    has_first_doses: NDArray[np.bool_]


def take(inputs: Inputs) -> Vaccinated:
    """Take it from a model."""
    S, E, Isym, Iasym, R, V1, V2 = (inputs.people(name) for name in COMPARTMENTS)
    died, prob = inputs.counts("non_disease_deaths"), inputs.levels("non_disease_death_prob_jt", further=0)
    omega = (inputs.kept("Vaccinated", f"_omega_{number}_prob") for number in (1, 2))
    nu_1_jt, nu_2_jt, sources = inputs.matrix("nu_1_jt"), inputs.matrix("nu_2_jt"), inputs.dose_sources()
    n = inputs.n_locations
    populations, immunized = np.zeros((len(sources), n), np.int32), np.zeros(n, np.int32)
    available, doses = np.zeros(n, np.int64), np.zeros(n, np.int64)
    ones, twos = inputs.counts("dose_one_doses", further=0), inputs.counts("dose_two_doses", further=0)
    return Vaccinated(
        Protection(V1, V2, S, died, prob, *omega),
        SecondDoses(V1, V2, twos, nu_2_jt, inputs.number("phi_2")),
        FirstDoses(
            S=S,
            E=E,
            Isym=Isym,
            Iasym=Iasym,
            R=R,
            V1=V1,
            V2=V2,
            dose_one_doses=ones,
            nu_1_jt=nu_1_jt,
            phi_1=inputs.number("phi_1"),
            sources=sources,
            populations=populations,
            available=available,
            doses=doses,
            immunized=immunized,
        ),
        (nu_2_jt != 0).any(axis=1),  # as Python's any() sees it: NaN counts, -0.0 does not
        (nu_1_jt != 0).any(axis=1),
    )


@njit
def vaccinated(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance V1 and V2 by a day."""
    if not lose_protection(taken.protection, draws, tick):
        return False
    if taken.has_second_doses[tick]:
        give_second_doses(taken.second_doses, tick)
    if taken.has_first_doses[tick]:
        give_first_doses(taken.first_doses, tick)
    return True


@njit
def lose_protection(taken: Any, draws: Any, tick: Any) -> bool:
    """Deaths among V1, then V2; from V1 back to S, then from V2."""
    V1, V1_next, V2, V2_next = taken.V1[tick], taken.V1[tick + 1], taken.V2[tick], taken.V2[tick + 1]
    prob, deaths = taken.non_disease_death_prob_jt[tick], taken.non_disease_deaths[tick]
    for V, V_next in ((V1, V1_next), (V2, V2_next)):
        for j in range(len(V)):
            died = binomial(draws, V[j], prob[j])
            if died < 0:
                return False
            V_next[j] = V[j] - died
            deaths[j] += died
    S_next = taken.S[tick + 1]
    for V_next, omega_prob in ((V1_next, taken.omega_1_prob), (V2_next, taken.omega_2_prob)):
        for j in range(len(V1)):
            waned = binomial(draws, V_next[j], omega_prob)
            if waned < 0:
                return False
            V_next[j] -= waned
            S_next[j] += waned
    return True


@njit
def give_second_doses(taken: Any, tick: Any) -> None:
    """From V1 to V2, as far as there are people and the dose takes."""
    V1_next, V2_next = taken.V1[tick + 1], taken.V2[tick + 1]
    nu, delivered = taken.nu_2_jt[tick], taken.dose_two_doses[tick]
    for j in range(len(V1_next)):
        doses = min(np.int32(np.rint(nu[j])), V1_next[j])
        delivered[j] = doses
        immunized = np.int32(np.rint(taken.phi_2 * np.float64(doses)))
        V1_next[j] -= immunized
        V2_next[j] += immunized


@njit
def give_first_doses(taken: Any, tick: Any) -> None:
    """From each source to V1, by its share of all sources, as far as there are people and the dose takes."""
    compartments = (taken.S, taken.E, taken.Isym, taken.Iasym, taken.R, taken.V1, taken.V2)
    populations, available, doses, immunized = taken.populations, taken.available, taken.doses, taken.immunized
    V1_next, nu, delivered = taken.V1[tick + 1], taken.nu_1_jt[tick], taken.dose_one_doses[tick]
    available[:] = 0
    immunized[:] = 0
    for k in range(len(taken.sources)):
        compartment = compartments[taken.sources[k]][tick + 1]
        for j in range(len(V1_next)):
            populations[k, j] = compartment[j]
            available[j] += compartment[j]
    for j in range(len(V1_next)):
        doses[j] = min(np.int64(np.int32(np.rint(nu[j]))), available[j])
        delivered[j] = doses[j]
        available[j] = max(available[j], 1)
    for k in range(len(taken.sources)):
        compartment = compartments[taken.sources[k]][tick + 1]
        for j in range(len(V1_next)):
            fraction = np.float64(populations[k, j]) / np.float64(available[j])
            compartment_doses = np.int32(np.rint(np.float64(doses[j]) * fraction))
            effective_doses = np.int32(np.rint(taken.phi_1 * np.float64(compartment_doses)))
            compartment[j] -= effective_doses
            immunized[j] += effective_doses
    for j in range(len(V1_next)):
        V1_next[j] += immunized[j]
