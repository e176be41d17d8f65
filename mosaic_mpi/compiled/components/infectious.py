"""``Infectious`` (infectious.py): the symptomatic, the asymptomatic, new ones, and reports."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.inputs import COMPARTMENTS, Double, Float, Inputs, Int
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.ufunc_calls import Call, UfuncCalls, run


class Symptomatic(NamedTuple):
    """What the component's first part takes."""

    Isym: Int
    R: Int
    non_disease_deaths: Int
    non_disease_death_prob_jt: Float
    disease_deaths: Int
    reported_deaths: Int
    delta_reporting_deaths: int
    rho_deaths: float
    gamma_1_prob: float


class DiseaseDeaths(NamedTuple):
    """What its rate of deaths takes; ``expm1`` turns the negative rate into the negative probability."""

    S: Int
    E: Int
    Isym: Int
    Iasym: Int
    R: Int
    V1: Int
    V2: Int
    mu_j_baseline: Float
    mu_j_slope: Float
    mu_j_epidemic_factor: Float
    epidemic_threshold: Float
    delta_reporting_cases: int
    n_ticks: int
    negative_rate: Double
    negative_prob: Double
    expm1: Call


class Asymptomatic(NamedTuple):
    """What its second part takes."""

    Iasym: Int
    R: Int
    non_disease_deaths: Int
    non_disease_death_prob_jt: Float
    gamma_2_prob: float


class Progression(NamedTuple):
    """What its third part takes."""

    E: Int
    Isym: Int
    Iasym: Int
    new_symptomatic: Int
    iota_prob: float
    sigma: float


class Reports(NamedTuple):
    """What its last part takes."""

    Isym: Int
    N: Int
    new_symptomatic: Int
    reported_cases: Int
    delta_reporting_cases: int
    epidemic_threshold: Float
    chi_endemic: float
    chi_epidemic: float
    rho: float


class Infectious(NamedTuple):
    """What the component takes, by its parts."""

    symptomatic: Symptomatic
    disease_deaths: DiseaseDeaths
    asymptomatic: Asymptomatic
    progression: Progression
    reports: Reports


def take(inputs: Inputs, calls: UfuncCalls) -> Infectious:
    """Take it from a model."""
    S, E, Isym, Iasym, R, V1, V2 = (inputs.people(name) for name in COMPARTMENTS)
    N, new_symptomatic = inputs.counts("N"), inputs.counts("new_symptomatic")
    died, prob = inputs.counts("non_disease_deaths"), inputs.levels("non_disease_death_prob_jt", further=0)
    iota_prob, gamma_1_prob, gamma_2_prob = (
        inputs.kept("Infectious", f"_{name}_prob") for name in ("iota", "gamma_1", "gamma_2")
    )
    delta_cases, delta_deaths = (inputs.whole(f"delta_reporting_{what}") for what in ("cases", "deaths"))
    threshold = np.zeros(inputs.n_locations, np.float32)
    threshold[:] = inputs.number_or_vector("epidemic_threshold")
    baseline, slope, factor = (inputs.vector(f"mu_j_{what}") for what in ("baseline", "slope", "epidemic_factor"))
    rate, negative_prob = np.zeros(inputs.n_locations), np.zeros(inputs.n_locations)
    expm1 = calls.prepare(np.expm1, rate, negative_prob)
    disease_deaths, reported_deaths = inputs.counts("disease_deaths"), inputs.counts("reported_deaths")
    rho, rho_deaths = inputs.number("rho"), inputs.number("rho_deaths")
    chi = inputs.number("chi_endemic"), inputs.number("chi_epidemic")
    reported_cases = inputs.counts("reported_cases")
    return Infectious(
        Symptomatic(Isym, R, died, prob, disease_deaths, reported_deaths, delta_deaths, rho_deaths, gamma_1_prob),
        DiseaseDeaths(
            *(S, E, Isym, Iasym, R, V1, V2),
            *(baseline, slope, factor, threshold, delta_cases, inputs.n_ticks),
            *(rate, negative_prob, expm1),
        ),
        Asymptomatic(Iasym, R, died, prob, gamma_2_prob),
        Progression(E, Isym, Iasym, new_symptomatic, iota_prob, inputs.number("sigma")),
        Reports(Isym, N, new_symptomatic, reported_cases, delta_cases, threshold, *chi, rho),
    )


@njit
def infectious(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance Isym and Iasym by a day."""
    set_disease_death_prob(taken.disease_deaths, tick)
    return (
        symptomatic(taken.symptomatic, taken.disease_deaths.negative_prob, draws, tick)
        and asymptomatic(taken.asymptomatic, draws, tick)
        and progress(taken.progression, draws, tick)
        and report_cases(taken.reports, draws, tick)
    )


@njit
def set_disease_death_prob(taken: Any, tick: Any) -> None:
    """Set the probability to die of cholera on a day, negative, by location; it depends on earlier days alone."""
    one, t_factor = np.float32(1), np.float32(np.float64(tick) / np.float64(taken.n_ticks))
    probe = tick - taken.delta_reporting_cases
    S, E, Isym, Iasym = taken.S[tick], taken.E[tick], taken.Isym[tick], taken.Iasym[tick]
    R, V1, V2 = taken.R[tick], taken.V1[tick], taken.V2[tick]
    for j in range(len(S)):
        epidemic = 0.0
        if probe >= 0:
            N = np.int32(S[j] + E[j] + Isym[j] + Iasym[j] + R[j] + V1[j] + V2[j])
            if np.float64(taken.Isym[probe, j]) > np.float64(taken.epidemic_threshold[j]) * np.float64(N):
                epidemic = 1.0
        trend = np.float32(one + np.float32(taken.mu_j_slope[j] * t_factor))
        factor = 1.0 + np.float64(taken.mu_j_epidemic_factor[j]) * epidemic
        taken.negative_rate[j] = -(np.float64(np.float32(taken.mu_j_baseline[j] * trend)) * factor)
    run(taken.expm1)


@njit
def symptomatic(taken: Any, negative_prob: Any, draws: Any, tick: Any) -> bool:
    """Deaths of other causes, deaths of cholera, reports of earlier ones, recoveries."""
    Isym, Is_next, R_next = taken.Isym[tick], taken.Isym[tick + 1], taken.R[tick + 1]
    prob, deaths = taken.non_disease_death_prob_jt[tick], taken.non_disease_deaths[tick]
    for j in range(len(Isym)):
        died = binomial(draws, Isym[j], prob[j])
        if died < 0:
            return False
        Is_next[j] = Isym[j] - died
        deaths[j] += died
        if Is_next[j] < 0:
            return False
    disease_deaths = taken.disease_deaths[tick]
    for j in range(len(Isym)):
        died = binomial(draws, Is_next[j], -negative_prob[j])
        if died < 0:
            return False
        disease_deaths[j] = died
        Is_next[j] -= died
        if Is_next[j] < 0:
            return False
    if tick >= taken.delta_reporting_deaths:
        earlier, reported = taken.disease_deaths[tick - taken.delta_reporting_deaths], taken.reported_deaths[tick]
        for j in range(len(Isym)):
            told = binomial(draws, earlier[j], taken.rho_deaths)
            if told < 0:
                return False
            reported[j] += told
    for j in range(len(Isym)):
        healed = binomial(draws, Is_next[j], taken.gamma_1_prob)
        if healed < 0:
            return False
        Is_next[j] -= healed
        R_next[j] += healed
        if Is_next[j] < 0:
            return False
    return True


@njit
def asymptomatic(taken: Any, draws: Any, tick: Any) -> bool:
    """Deaths of other causes, recoveries."""
    Iasym, Ia_next, R_next = taken.Iasym[tick], taken.Iasym[tick + 1], taken.R[tick + 1]
    prob, deaths = taken.non_disease_death_prob_jt[tick], taken.non_disease_deaths[tick]
    for j in range(len(Iasym)):
        died = binomial(draws, Iasym[j], prob[j])
        if died < 0:
            return False
        Ia_next[j] = Iasym[j] - died
        deaths[j] += died
        if Ia_next[j] < 0:
            return False
    for j in range(len(Iasym)):
        healed = binomial(draws, Ia_next[j], taken.gamma_2_prob)
        if healed < 0:
            return False
        Ia_next[j] -= healed
        R_next[j] += healed
        if Ia_next[j] < 0:
            return False
    return True


@njit
def progress(taken: Any, draws: Any, tick: Any) -> bool:
    """The exposed fall ill, with symptoms or without."""
    E_next, Is_next, Ia_next = taken.E[tick + 1], taken.Isym[tick + 1], taken.Iasym[tick + 1]
    new_symptomatic = taken.new_symptomatic[tick + 1]
    for j in range(len(E_next)):
        progressing = binomial(draws, E_next[j], taken.iota_prob)
        if progressing < 0:
            return False
        E_next[j] -= progressing
        if E_next[j] < 0:
            return False
        ill = np.int32(np.rint(taken.sigma * np.float64(progressing)))
        Is_next[j] += ill
        Ia_next[j] += progressing - ill
        new_symptomatic[j] = ill
    return True


@njit
def report_cases(taken: Any, draws: Any, tick: Any) -> bool:
    """Cases of some days ago are reported."""
    probe = tick - taken.delta_reporting_cases
    if probe < 0:
        return True
    Isym, N, ill = taken.Isym[probe], taken.N[probe], taken.new_symptomatic[probe]
    reported = taken.reported_cases[tick]
    for j in range(len(N)):
        detected = binomial(draws, ill[j], taken.rho)
        if detected < 0:
            return False
        infected_fraction = np.float64(Isym[j]) / np.float64(N[j])
        endemic = infected_fraction < np.float64(taken.epidemic_threshold[j])
        chi_eff = taken.chi_endemic if endemic else taken.chi_epidemic
        reported[j] += np.int32(np.rint(np.float64(detected) / chi_eff))
    return True
