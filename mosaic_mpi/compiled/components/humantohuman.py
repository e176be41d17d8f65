"""``HumanToHuman`` (humantohuman.py): people infect one another, at home and by travel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.compiled.components import infection
from mosaic_mpi.compiled.components.infection import Infection, infect
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Doubles, Floats, Ints, doubles, floats, ints
from mosaic_mpi.compiled.ufunc_calls import Call, run


class Infectivity(NamedTuple):
    """What the infectious at each location take."""

    n: int
    Isym: Ints
    Iasym: Ints
    tau_i: Floats
    local_frac: Floats
    pi_ij: Floats
    immigrating_i: Doubles
    effective_i: Floats


class Rate(NamedTuple):
    """What the rate takes; the calls are powers with alpha_1 and alpha_2, and the larger of the rate and 0."""

    n: int
    N: Ints
    Lambda: Floats
    beta_jt_human: Floats
    effective_i: Floats
    power_adjusted: Floats
    N_float: Doubles
    denominator: Doubles
    rate: Floats
    rate_not_negative: Floats
    power_alpha_1: Call
    power_alpha_2: Call
    maximum: Call


class HumanToHuman(NamedTuple):
    """What the component takes, by its parts."""

    n: int
    infectivity: Infectivity
    rate: Rate
    infection: Infection


def take(inputs: Inputs) -> HumanToHuman:
    """Take it from a model."""
    effective_i = np.zeros(inputs.n_locations, np.float32)
    return HumanToHuman(
        inputs.n_locations,
        _take_infectivity(inputs, effective_i),
        _take_rate(inputs, effective_i),
        infection.take(inputs, "incidence_human"),
    )


def _take_infectivity(inputs: Inputs, effective_i: NDArray[np.float32]) -> Infectivity:
    tau_i = inputs.vector("tau_i")
    return Infectivity(
        n=inputs.n_locations,
        Isym=inputs.people("Isym"),
        Iasym=inputs.people("Iasym"),
        tau_i=inputs.keep(tau_i),
        local_frac=inputs.keep(1 - tau_i),
        pi_ij=inputs.pairs("pi_ij"),
        immigrating_i=inputs.keep(np.zeros(inputs.n_locations)),
        effective_i=inputs.keep(effective_i),
    )


def _take_rate(inputs: Inputs, effective_i: NDArray[np.float32]) -> Rate:
    n, calls = inputs.n_locations, inputs.calls
    power, rate, not_negative = (np.zeros(n, np.float32) for _ in range(3))
    N_float, denominator = np.zeros(n), np.zeros(n)
    alpha_1, alpha_2 = inputs.number_or_vector("alpha_1"), inputs.number_or_vector("alpha_2").astype(np.float64)
    return Rate(
        n=n,
        N=inputs.counts("N"),
        Lambda=inputs.levels("Lambda"),
        beta_jt_human=inputs.levels("beta_jt_human", further=0),
        effective_i=inputs.keep(effective_i),
        power_adjusted=inputs.keep(power),
        N_float=inputs.keep(N_float),
        denominator=inputs.keep(denominator),
        rate=inputs.keep(rate),
        rate_not_negative=inputs.keep(not_negative),
        power_alpha_1=calls.prepare(np.power, effective_i, alpha_1, power),
        power_alpha_2=calls.prepare(np.power, N_float, alpha_2, denominator),
        maximum=calls.prepare(np.maximum, rate, np.array(0.0, np.float32), not_negative),
    )


@njit
def human_to_human(taken: Any, draws: Any, tick: Any) -> bool:
    """Infect people on a day."""
    set_effective_infectious(taken.infectivity, tick)
    set_rate(taken.rate, tick)
    return infect(taken.infection, draws, tick, floats(taken.rate.Lambda, tick + 1, taken.n))


@njit
def set_effective_infectious(taken: Any, tick: Any) -> None:
    """Set the number of infectious at each location: those who stay and those who come."""
    n = taken.n
    Isym, Iasym = ints(taken.Isym, tick, n), ints(taken.Iasym, tick, n)
    tau_i, local_frac = floats(taken.tau_i, 0, n), floats(taken.local_frac, 0, n)
    immigrating_i, effective_i = doubles(taken.immigrating_i, 0, n), floats(taken.effective_i, 0, n)
    immigrating_i[:] = 0.0
    for i in range(n):
        leaving = np.float64(tau_i[i]) * np.float64(np.int32(Isym[i] + Iasym[i]))
        pi_i = floats(taken.pi_ij, i, n)
        for j in range(n):
            immigrating_i[j] += leaving * np.float64(pi_i[j])
    for j in range(n):
        local_i = np.float32(np.float64(local_frac[j]) * np.float64(np.int32(Isym[j] + Iasym[j])))
        effective_i[j] = local_i + np.float32(immigrating_i[j])


@njit
def set_rate(taken: Any, tick: Any) -> None:
    """Set Lambda, the rate of transmission."""
    n = taken.n
    N, N_float, denominator = ints(taken.N, tick, n), doubles(taken.N_float, 0, n), doubles(taken.denominator, 0, n)
    for j in range(n):
        N_float[j] = N[j]
    run(taken.power_alpha_1)
    run(taken.power_alpha_2)
    beta, power_adjusted = floats(taken.beta_jt_human, tick, n), floats(taken.power_adjusted, 0, n)
    rate, Lambda = floats(taken.rate, 0, n), floats(taken.Lambda, tick + 1, n)
    any_negative = False
    for j in range(n):
        adjusted = np.float32(beta[j] * power_adjusted[j])
        rate[j] = adjusted / np.float32(denominator[j])
        any_negative |= rate[j] < 0
    if any_negative:
        run(taken.maximum)
        rate = floats(taken.rate_not_negative, 0, n)
    for j in range(n):
        Lambda[j] = rate[j]
