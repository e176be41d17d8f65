"""`sample`: MOSAIC's draws alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mosaic_mpi import environment, option_types
from mosaic_mpi.commands.parser import Commands, add_inputs
from mosaic_mpi.console import show
from mosaic_mpi.errors import EXIT_COMPLETE


def add(commands: Commands) -> None:
    """Declare the command."""
    sample = commands.add_parser("sample", allow_abbrev=False, help="MOSAIC's draws alone, as a Parquet table")
    add_inputs(sample)
    sample.add_argument("--n-simulations", type=option_types.positive, metavar="N", help="default 100")
    sample.add_argument("--output", default="samples.parquet", metavar="OUT.parquet", help="(samples.parquet)")
    sample.set_defaults(function=_do)


def _do(options: argparse.Namespace, words: Sequence[str]) -> int:
    environment.use_one_thread()
    from mosaic_mpi.plan_inputs import PlanOptions
    from mosaic_mpi.sample import sample

    names = ("config", "locations", "priors", "control", "n_simulations")
    show(sample(PlanOptions(**{name: getattr(options, name) for name in names}), options.output))
    return EXIT_COMPLETE
