"""What a results file is made from: everything that stands in it before its first result.

A plan gives one, and so does an existing file (`h5file.read_blueprint`). Knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import layout
from mosaic_mpi.mosaic.source import TableOverPrior
from mosaic_mpi.parameter_table import ParameterTable
from mosaic_mpi.parameters import ParameterSource
from mosaic_mpi.plan import Channel, RunPlan, SimIds


@dataclass(frozen=True)
class Blueprint:
    """Everything that stands in a results file before its first result.

    Parameters
    ----------
    sim_ids : range or ndarray of int64, shape (n_simulations,)
        Id of each row, ascending.
    n_iterations : int
        Stochastic realisations of a simulation.
    parameter_names : tuple of str
        Columns of ``parameters/values``.
    channels : tuple of Channel
        Saved ones, in order.
    identity, fingerprint
        See `RunPlan`.
    config : str
        JSON as it was given.
    locations, dates : tuple of str
        Labels of the axes.
    given : ndarray of float64, shape (n_simulations, n_parameters), or None
        Parameters that are known before the run, from a table.
    """

    sim_ids: SimIds
    n_iterations: int
    parameter_names: tuple[str, ...]
    channels: tuple[Channel, ...]
    identity: Mapping[str, Any]
    fingerprint: str
    config: str
    locations: tuple[str, ...]
    dates: tuple[str, ...]
    given: NDArray[np.float64] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """See `layout.lengths`."""
        return layout.lengths(len(self.sim_ids), self.n_iterations, len(self.parameter_names), len(self.channels))


def blueprint_of(plan: RunPlan) -> Blueprint:
    """The results file of a plan that has its channels."""
    return Blueprint(
        sim_ids=plan.sim_ids,
        n_iterations=plan.n_iterations,
        parameter_names=plan.source.names,
        channels=plan.channels,
        identity=plan.identity,
        fingerprint=plan.fingerprint,
        config=plan.config.text,
        locations=tuple(plan.config.locations),
        dates=tuple(plan.config.dates),
        given=_given_values(plan.source),
    )


def _given_values(source: ParameterSource) -> NDArray[np.float64] | None:
    """The values of a source that is a table."""
    table = source.table if isinstance(source, TableOverPrior) else source
    return table.values if isinstance(table, ParameterTable) else None
