"""`merge`: joins the files of a run's pieces."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mosaic_mpi.commands.parser import Commands
from mosaic_mpi.console import show


def add(commands: Commands) -> None:
    """Declare the command."""
    merge = commands.add_parser(
        "merge",
        allow_abbrev=False,
        help="join the files of a run's pieces",
        description="Join results files of one plan, each made by `run --simulations A-B`, into the file that one "
        "run would have made. Checks that they belong together; the inputs are only read.",
        epilog="exit codes: 0 complete; 2 they cannot be joined; 3 complete, some simulations failed; 75 some are "
        "pending or in no file, the run command of the whole plan completes them",
    )
    merge.add_argument("files", nargs="+", metavar="FILE", help="results files")
    merge.add_argument("--output", required=True, metavar="FILE", help="results file to make")
    merge.add_argument("--overwrite", action="store_true", help="replace it if it exists")
    merge.set_defaults(function=_do)


def _do(options: argparse.Namespace, words: Sequence[str]) -> int:
    from mosaic_mpi.merge import merge

    merged = merge(options.files, options.output, options.overwrite)
    show(merged.text)
    return merged.exit_code
