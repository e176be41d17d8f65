"""MOSAIC's draws as a source of parameters, alone or with a table's values on top.

Owns what is stored of a draw and what makes two sources the same. See `mosaic_mpi.parameters` for the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mosaic_mpi.mosaic.priors import Priors
from mosaic_mpi.mosaic.sampler import MosaicSampler
from mosaic_mpi.mosaic.sampling_flags import SamplingFlags
from mosaic_mpi.parameter_table import ParameterTable
from mosaic_mpi.parameters import ParameterSet

SAMPLER_VERSION = "MOSAIC 0.64.2, R 4.2.2"
"""What the draws agree with, bit for bit."""


class MosaicPrior:
    """Draws by MOSAIC's priors: simulation i is what ``set.seed(i)`` gives in R.

    Parameters
    ----------
    priors : Priors
        MOSAIC's.
    flags : SamplingFlags
        Which parameters are drawn.
    base : mapping
        `Config.values`.

    Raises
    ------
    InputProblems
        Priors and config do not fit.
    """

    def __init__(self, priors: Priors, flags: SamplingFlags, base: Mapping[str, Any]) -> None:
        self._priors, self._flags, self._base = priors, flags, base
        self._sampler = MosaicSampler(priors, base, flags)
        self.names = self._sampler.columns()

    def __reduce__(self) -> tuple[type[MosaicPrior], tuple[Priors, SamplingFlags, Mapping[str, Any]]]:
        # The sampler is made of closures: what it is made from travels.
        return MosaicPrior, (self._priors, self._flags, self._base)

    @property
    def identity(self) -> dict[str, str]:
        """Digests of the priors and flags, and the version of the sampler."""
        return {
            "parameters": f"MOSAIC's priors {self._priors.version}, sha256:{priors_digest(self._priors)}",
            "sampler": SAMPLER_VERSION,
            "not sampled": ", ".join(sorted(self._flags.pinned)),
        }

    def draw(self, row: int, sim_id: int) -> ParameterSet:
        """See `mosaic_mpi.parameters.ParameterSource.draw`; `row` is not used."""
        values = self._sampler.draw(sim_id)
        stored = self._sampler.row_of(values)
        del values["seed"]
        return ParameterSet(stored, values)

    def row(self, sim_id: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The stored values alone, without the calibrated series: ndarray of float64, shape (n_parameters,)."""
        return self._sampler.row(sim_id)


class TableOverPrior:
    """A table's values, and MOSAIC's draws for everything that it does not give.

    Parameters
    ----------
    prior : MosaicPrior
        Draws the rest.
    table : ParameterTable
        Its values win.
    """

    def __init__(self, prior: MosaicPrior, table: ParameterTable) -> None:
        self._prior, self.table = prior, table
        self.names = table.names

    @property
    def identity(self) -> dict[str, str]:
        """Of both."""
        under = self._prior.identity
        return {**under, **self.table.identity, "under the table": under["parameters"]}

    def draw(self, row: int, sim_id: int) -> ParameterSet:
        """See `mosaic_mpi.parameters.ParameterSource.draw`."""
        drawn = self._prior.draw(row, sim_id).overrides
        return self.table.over(row, drawn)


def priors_digest(priors: Priors) -> str:
    """SHA-256 of what priors say, whatever their file's formatting; the order of parameters counts."""
    content: Sequence[Any] = [
        [[name, prior.method, prior.arguments] for name, prior in priors.parameters_global.items()],
        [
            [name, iso, prior.method, prior.arguments]
            for name, by_location in priors.parameters_location.items()
            for iso, prior in sorted(by_location.items())
        ],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
