"""How options are declared and refused, by every command alike."""

from __future__ import annotations

import argparse
import sys
import time
from typing import NoReturn, TypeAlias

from mosaic_mpi import environment, option_types
from mosaic_mpi.errors import EXIT_INPUT

_REFUSE_SECONDS = 2.0
"""Time for rank 0 to tell what is wrong, before a launcher ends it for another's exit code."""


class Parser(argparse.ArgumentParser):
    """Refuses options once, however many ranks are given them."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with an option, and end."""
        if environment.find_launcher().rank:
            time.sleep(_REFUSE_SECONDS)
            sys.exit(EXIT_INPUT)
        super().error(message)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""To which a command adds itself."""


def add_inputs(parser: argparse._ActionsContainer, with_samples: bool = False) -> None:
    """Declare what parameters are drawn from."""
    parser.add_argument(
        "--config", metavar="FILE", help="laser-cholera config, JSON or JSON.gz (default: the engine's own)"
    )
    parser.add_argument(
        "--locations", type=option_types.names, metavar="ETH,KEN", help="only these locations of the config"
    )
    if with_samples:
        parser.add_argument(
            "--samples",
            metavar="FILE",
            help="parameters as a table, Parquet or CSV: a column sim, and one a parameter",
        )
    parser.add_argument("--priors", metavar="FILE", help="MOSAIC's priors, JSON: simulation i is simulation i in R")
    parser.add_argument(
        "--control", metavar="FILE", help="MOSAIC's control settings, JSON: sampling, likelihood, counts"
    )


def add_results_file(parser: Parser) -> None:
    """Declare the file that a command reads."""
    parser.add_argument("file", metavar="FILE", help="results file")
