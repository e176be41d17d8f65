"""``EnvToHuman`` (envtohuman.py): the water infects people."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.components import infection
from mosaic_mpi.compiled.components.infection import Infection, infect
from mosaic_mpi.compiled.inputs import Float, Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.ufunc_calls import UfuncCalls


class EnvToHuman(NamedTuple):
    """What the component takes."""

    W: Float
    Psi: Float
    beta_jt_env: Float
    non_wash: Float
    kappa: np.float32
    infection: Infection


def take(inputs: Inputs, calls: UfuncCalls) -> EnvToHuman:
    """Take it from a model."""
    return EnvToHuman(
        W=inputs.levels("W"),
        Psi=inputs.levels("Psi"),
        beta_jt_env=inputs.levels("beta_jt_env", further=0),
        non_wash=1 - inputs.vector("theta_j"),
        kappa=np.float32(inputs.number("kappa")),
        infection=infection.take(inputs, calls, "incidence_env"),
    )


@njit
def env_to_human(taken: Any, draws: Any, tick: Any) -> bool:
    """Infect people on a day."""
    W, Psi, beta = taken.W[tick], taken.Psi[tick + 1], taken.beta_jt_env[tick]
    for j in range(len(W)):
        seasonal = np.float32(beta[j] * np.float32(taken.non_wash[j] * W[j]))
        Psi[j] = seasonal / np.float32(taken.kappa + W[j])
    return infect(taken.infection, draws, tick, Psi)
