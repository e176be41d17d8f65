"""``HumanToHuman`` (humantohuman.py): people infect one another, at home and by travel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.components import infection
from mosaic_mpi.compiled.components.infection import Infection, infect
from mosaic_mpi.compiled.inputs import Double, Float, Inputs, Int
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.ufunc_calls import Call, UfuncCalls, run


class Infectivity(NamedTuple):
    """What the infectious at each location take."""

    Isym: Int
    Iasym: Int
    tau_i: Float
    local_frac: Float
    pi_ij: Float
    immigrating_i: Double
    effective_i: Float


class Rate(NamedTuple):
    """What the rate takes; the calls are powers with alpha_1 and alpha_2, and the larger of the rate and 0."""

    N: Int
    Lambda: Float
    beta_jt_human: Float
    effective_i: Float
    power_adjusted: Float
    N_float: Double
    denominator: Double
    rate: Float
    rate_not_negative: Float
    power_alpha_1: Call
    power_alpha_2: Call
    maximum: Call


class HumanToHuman(NamedTuple):
    """What the component takes, by its parts."""

    infectivity: Infectivity
    rate: Rate
    infection: Infection


def take(inputs: Inputs, calls: UfuncCalls) -> HumanToHuman:
    """Take it from a model."""
    n, tau_i = inputs.n_locations, inputs.vector("tau_i")
    effective, power, rate, not_negative = (np.zeros(n, np.float32) for _ in range(4))
    N_float, denominator = np.zeros(n), np.zeros(n)
    alpha_2 = inputs.number_or_vector("alpha_2").astype(np.float64)
    return HumanToHuman(
        Infectivity(
            inputs.people("Isym"),
            inputs.people("Iasym"),
            tau_i,
            1 - tau_i,
            inputs.pairs("pi_ij"),
            np.zeros(n),
            effective,
        ),
        Rate(
            inputs.counts("N"),
            inputs.levels("Lambda"),
            inputs.levels("beta_jt_human", further=0),
            effective,
            power,
            N_float,
            denominator,
            rate,
            not_negative,
            calls.prepare(np.power, effective, inputs.number_or_vector("alpha_1"), power),
            calls.prepare(np.power, N_float, alpha_2, denominator),
            calls.prepare(np.maximum, rate, np.array(0.0, np.float32), not_negative),
        ),
        infection.take(inputs, calls, "incidence_human"),
    )


@njit
def human_to_human(taken: Any, draws: Any, tick: Any) -> bool:
    """Infect people on a day."""
    set_effective_infectious(taken.infectivity, tick)
    set_rate(taken.rate, tick)
    return infect(taken.infection, draws, tick, taken.rate.Lambda[tick + 1])


@njit
def set_effective_infectious(taken: Any, tick: Any) -> None:
    """Set the number of infectious at each location: those who stay and those who come."""
    Isym, Iasym, immigrating_i = taken.Isym[tick], taken.Iasym[tick], taken.immigrating_i
    immigrating_i[:] = 0.0
    for i in range(len(Isym)):
        leaving, pi = np.float64(taken.tau_i[i]) * np.float64(np.int32(Isym[i] + Iasym[i])), taken.pi_ij[i]
        for j in range(len(Isym)):
            immigrating_i[j] += leaving * np.float64(pi[j])
    for j in range(len(Isym)):
        local_i = np.float32(np.float64(taken.local_frac[j]) * np.float64(np.int32(Isym[j] + Iasym[j])))
        taken.effective_i[j] = local_i + np.float32(immigrating_i[j])


@njit
def set_rate(taken: Any, tick: Any) -> None:
    """Set Lambda, the rate of transmission."""
    N, beta, Lambda, rate = taken.N[tick], taken.beta_jt_human[tick], taken.Lambda[tick + 1], taken.rate
    for j in range(len(N)):
        taken.N_float[j] = N[j]
    run(taken.power_alpha_1)
    run(taken.power_alpha_2)
    any_negative = False
    for j in range(len(N)):
        adjusted = np.float32(beta[j] * taken.power_adjusted[j])
        rate[j] = adjusted / np.float32(taken.denominator[j])
        any_negative |= rate[j] < 0
    if any_negative:
        run(taken.maximum)
        rate = taken.rate_not_negative
    for j in range(len(N)):
        Lambda[j] = rate[j]
