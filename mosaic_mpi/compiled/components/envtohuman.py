"""``EnvToHuman`` (envtohuman.py): the water infects people."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mosaic_mpi.compiled.components import infection
from mosaic_mpi.compiled.components.infection import Infection, infect
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.njit import njit
from mosaic_mpi.compiled.rows import Floats, floats


class EnvToHuman(NamedTuple):
    """What the component takes."""

    n: int
    W: Floats
    Psi: Floats
    beta_jt_env: Floats
    non_wash: Floats
    kappa: np.float32
    infection: Infection


def take(inputs: Inputs) -> EnvToHuman:
    """Take it from a model."""
    return EnvToHuman(
        n=inputs.n_locations,
        W=inputs.levels("W"),
        Psi=inputs.levels("Psi"),
        beta_jt_env=inputs.levels("beta_jt_env", further=0),
        non_wash=inputs.keep(1 - inputs.vector("theta_j")),
        kappa=np.float32(inputs.number("kappa")),
        infection=infection.take(inputs, "incidence_env"),
    )


@njit
def env_to_human(taken: Any, draws: Any, tick: Any) -> bool:
    """Infect people on a day."""
    n = taken.n
    W, Psi, beta = floats(taken.W, tick, n), floats(taken.Psi, tick + 1, n), floats(taken.beta_jt_env, tick, n)
    non_wash = floats(taken.non_wash, 0, n)
    for j in range(n):
        seasonal = np.float32(beta[j] * np.float32(non_wash[j] * W[j]))
        Psi[j] = seasonal / np.float32(taken.kappa + W[j])
    return infect(taken.infection, draws, tick, Psi)
