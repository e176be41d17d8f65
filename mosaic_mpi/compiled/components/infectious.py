"""``Infectious`` (infectious.py): the symptomatic, the asymptomatic, new ones, and reports."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.components.flows import die, move
from mosaic_mpi.compiled.draws import binomial
from mosaic_mpi.compiled.inputs import COMPARTMENTS, Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Doubles, Floats, Ints, doubles, floats, ints
from mosaic_mpi.compiled.ufunc_calls import Call, run


class Symptomatic(NamedTuple):
    """What the component's first part takes."""

    n: int
    Isym: Ints
    R: Ints
    non_disease_deaths: Ints
    non_disease_death_prob_jt: Floats
    disease_deaths: Ints
    reported_deaths: Ints
    delta_reporting_deaths: int
    rho_deaths: float
    gamma_1_prob: float


class DiseaseDeaths(NamedTuple):
    """What its rate of deaths takes; ``expm1`` turns the negative rate into the negative probability."""

    n: int
    S: Ints
    E: Ints
    Isym: Ints
    Iasym: Ints
    R: Ints
    V1: Ints
    V2: Ints
    mu_j_baseline: Floats
    mu_j_slope: Floats
    mu_j_epidemic_factor: Floats
    epidemic_threshold: Floats
    delta_reporting_cases: int
    n_ticks: int
    negative_rate: Doubles
    negative_prob: Doubles
    expm1: Call


class Asymptomatic(NamedTuple):
    """What its second part takes."""

    n: int
    Iasym: Ints
    R: Ints
    non_disease_deaths: Ints
    non_disease_death_prob_jt: Floats
    gamma_2_prob: float


class Progression(NamedTuple):
    """What its third part takes."""

    n: int
    E: Ints
    Isym: Ints
    Iasym: Ints
    new_symptomatic: Ints
    iota_prob: float
    sigma: float


class Reports(NamedTuple):
    """What its last part takes."""

    n: int
    Isym: Ints
    N: Ints
    new_symptomatic: Ints
    reported_cases: Ints
    delta_reporting_cases: int
    epidemic_threshold: Floats
    chi_endemic: float
    chi_epidemic: float
    rho: float


class Infectious(NamedTuple):
    """What the component takes, by its parts."""

    n: int
    symptomatic: Symptomatic
    disease_deaths: DiseaseDeaths
    asymptomatic: Asymptomatic
    progression: Progression
    reports: Reports


def take(inputs: Inputs) -> Infectious:
    """Take it from a model."""
    threshold = np.zeros(inputs.n_locations, np.float32)
    threshold[:] = inputs.number_or_vector("epidemic_threshold")
    epidemic_threshold = inputs.keep(threshold)
    return Infectious(
        inputs.n_locations,
        _take_symptomatic(inputs),
        _take_disease_deaths(inputs, epidemic_threshold),
        Asymptomatic(
            n=inputs.n_locations,
            Iasym=inputs.people("Iasym"),
            R=inputs.people("R"),
            non_disease_deaths=inputs.counts("non_disease_deaths"),
            non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
            gamma_2_prob=inputs.kept("Infectious", "_gamma_2_prob"),
        ),
        Progression(
            n=inputs.n_locations,
            E=inputs.people("E"),
            Isym=inputs.people("Isym"),
            Iasym=inputs.people("Iasym"),
            new_symptomatic=inputs.counts("new_symptomatic"),
            iota_prob=inputs.kept("Infectious", "_iota_prob"),
            sigma=inputs.number("sigma"),
        ),
        _take_reports(inputs, epidemic_threshold),
    )


def _take_symptomatic(inputs: Inputs) -> Symptomatic:
    return Symptomatic(
        n=inputs.n_locations,
        Isym=inputs.people("Isym"),
        R=inputs.people("R"),
        non_disease_deaths=inputs.counts("non_disease_deaths"),
        non_disease_death_prob_jt=inputs.levels("non_disease_death_prob_jt", further=0),
        disease_deaths=inputs.counts("disease_deaths"),
        reported_deaths=inputs.counts("reported_deaths"),
        delta_reporting_deaths=inputs.delay("delta_reporting_deaths"),
        rho_deaths=inputs.number("rho_deaths"),
        gamma_1_prob=inputs.kept("Infectious", "_gamma_1_prob"),
    )


def _take_disease_deaths(inputs: Inputs, epidemic_threshold: Floats) -> DiseaseDeaths:
    S, E, Isym, Iasym, R, V1, V2 = (inputs.people(name) for name in COMPARTMENTS)
    rate, prob = np.zeros(inputs.n_locations), np.zeros(inputs.n_locations)
    return DiseaseDeaths(
        inputs.n_locations,
        *(S, E, Isym, Iasym, R, V1, V2),
        mu_j_baseline=inputs.keep(inputs.vector("mu_j_baseline")),
        mu_j_slope=inputs.keep(inputs.vector("mu_j_slope")),
        mu_j_epidemic_factor=inputs.keep(inputs.vector("mu_j_epidemic_factor")),
        epidemic_threshold=epidemic_threshold,
        delta_reporting_cases=inputs.delay("delta_reporting_cases"),
        n_ticks=inputs.n_ticks,
        negative_rate=inputs.keep(rate),
        negative_prob=inputs.keep(prob),
        expm1=inputs.calls.prepare(np.expm1, rate, prob),
    )


def _take_reports(inputs: Inputs, epidemic_threshold: Floats) -> Reports:
    return Reports(
        n=inputs.n_locations,
        Isym=inputs.people("Isym"),
        N=inputs.counts("N"),
        new_symptomatic=inputs.counts("new_symptomatic"),
        reported_cases=inputs.counts("reported_cases"),
        delta_reporting_cases=inputs.delay("delta_reporting_cases"),
        epidemic_threshold=epidemic_threshold,
        chi_endemic=inputs.number("chi_endemic"),
        chi_epidemic=inputs.number("chi_epidemic"),
        rho=inputs.number("rho"),
    )


@njit
def infectious(taken: Any, draws: Any, tick: Any) -> bool:
    """Advance Isym and Iasym by a day."""
    set_disease_death_prob(taken.disease_deaths, tick)
    return (
        symptomatic(taken.symptomatic, doubles(taken.disease_deaths.negative_prob, 0, taken.n), draws, tick)
        and asymptomatic(taken.asymptomatic, draws, tick)
        and progress(taken.progression, draws, tick)
        and report_cases(taken.reports, draws, tick)
    )


@njit
def set_disease_death_prob(taken: Any, tick: Any) -> None:
    """Set the probability to die of cholera on a day, negative, by location; it depends on earlier days alone."""
    n, probe = taken.n, tick - taken.delta_reporting_cases
    one, t_factor = np.float32(1), np.float32(np.float64(tick) / np.float64(taken.n_ticks))
    S, E, Isym = ints(taken.S, tick, n), ints(taken.E, tick, n), ints(taken.Isym, tick, n)
    Iasym, R, V1 = ints(taken.Iasym, tick, n), ints(taken.R, tick, n), ints(taken.V1, tick, n)
    V2, reported = ints(taken.V2, tick, n), ints(taken.Isym, max(probe, 0), n)
    baseline, slope = floats(taken.mu_j_baseline, 0, n), floats(taken.mu_j_slope, 0, n)
    epidemic_factor, threshold = floats(taken.mu_j_epidemic_factor, 0, n), floats(taken.epidemic_threshold, 0, n)
    negative_rate = doubles(taken.negative_rate, 0, n)
    for j in range(n):
        epidemic = 0.0
        if probe >= 0:
            N = np.int32(S[j] + E[j] + Isym[j] + Iasym[j] + R[j] + V1[j] + V2[j])
            if np.float64(reported[j]) > np.float64(threshold[j]) * np.float64(N):
                epidemic = 1.0
        trend = np.float32(one + np.float32(slope[j] * t_factor))
        factor = 1.0 + np.float64(epidemic_factor[j]) * epidemic
        negative_rate[j] = -(np.float64(np.float32(baseline[j] * trend)) * factor)
    run(taken.expm1)


@njit
def symptomatic(taken: Any, negative_prob: Any, draws: Any, tick: Any) -> bool:
    """Deaths of other causes, deaths of cholera, reports of earlier ones, recoveries."""
    n = taken.n
    Isym, Is_next, R_next = ints(taken.Isym, tick, n), ints(taken.Isym, tick + 1, n), ints(taken.R, tick + 1, n)
    prob, deaths = floats(taken.non_disease_death_prob_jt, tick, n), ints(taken.non_disease_deaths, tick, n)
    if not die(draws, Isym, Is_next, prob, deaths):
        return False
    disease_deaths = ints(taken.disease_deaths, tick, n)
    for j in range(n):
        died = binomial(draws, Is_next[j], -negative_prob[j])
        if died < 0:
            return False
        disease_deaths[j] = died
        Is_next[j] -= died
    if tick >= taken.delta_reporting_deaths:
        earlier = ints(taken.disease_deaths, tick - taken.delta_reporting_deaths, n)
        reported = ints(taken.reported_deaths, tick, n)
        for j in range(n):
            told = binomial(draws, earlier[j], taken.rho_deaths)
            if told < 0:
                return False
            reported[j] += told
    return move(draws, Is_next, R_next, taken.gamma_1_prob)


@njit
def asymptomatic(taken: Any, draws: Any, tick: Any) -> bool:
    """Deaths of other causes, recoveries."""
    n = taken.n
    Iasym, Ia_next, R_next = ints(taken.Iasym, tick, n), ints(taken.Iasym, tick + 1, n), ints(taken.R, tick + 1, n)
    prob, deaths = floats(taken.non_disease_death_prob_jt, tick, n), ints(taken.non_disease_deaths, tick, n)
    if not die(draws, Iasym, Ia_next, prob, deaths):
        return False
    return move(draws, Ia_next, R_next, taken.gamma_2_prob)


@njit
def progress(taken: Any, draws: Any, tick: Any) -> bool:
    """The exposed fall ill, with symptoms or without."""
    n, after = taken.n, tick + 1
    E_next, Is_next, Ia_next = ints(taken.E, after, n), ints(taken.Isym, after, n), ints(taken.Iasym, after, n)
    new_symptomatic = ints(taken.new_symptomatic, after, n)
    for j in range(n):
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
    n = taken.n
    Isym, N, ill = ints(taken.Isym, probe, n), ints(taken.N, probe, n), ints(taken.new_symptomatic, probe, n)
    reported, threshold = ints(taken.reported_cases, tick, n), floats(taken.epidemic_threshold, 0, n)
    for j in range(n):
        detected = binomial(draws, ill[j], taken.rho)
        if detected < 0:
            return False
        infected_fraction = np.float64(Isym[j]) / np.float64(N[j])
        endemic = infected_fraction < np.float64(threshold[j])
        chi_eff = taken.chi_endemic if endemic else taken.chi_epidemic
        reported[j] += np.int32(np.rint(np.float64(detected) / chi_eff))
    return True
