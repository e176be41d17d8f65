"""`compare`: do two runs agree?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mosaic_mpi.commands.parser import Commands
from mosaic_mpi.console import show


def add(commands: Commands) -> None:
    """Declare the command."""
    compare = commands.add_parser(
        "compare",
        allow_abbrev=False,
        help="do two runs agree?",
        description="Compare two runs: plans, status, parameters, likelihoods and every saved channel, with the "
        "largest difference of each and where it is. NaN equals NaN.",
        epilog="exit codes: 0 identical; 2 one of them is missing, damaged or none of these; 3 not identical",
    )
    kinds = "results file, directory of MOSAIC's shards, or samples.parquet"
    compare.add_argument("first", metavar="A", help=kinds)
    compare.add_argument("second", metavar="B", help="another one")
    compare.add_argument("--json", action="store_true", help="for programs")
    compare.set_defaults(function=_do)


def _do(options: argparse.Namespace, words: Sequence[str]) -> int:
    from mosaic_mpi.compare import as_json, as_text, compare

    comparison = compare(options.first, options.second)
    show(as_json(comparison) if options.json else as_text(comparison))
    return comparison.exit_code
