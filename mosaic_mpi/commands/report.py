"""`report`: one HTML page about a run."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence

from mosaic_mpi import environment, option_types
from mosaic_mpi.commands.parser import Commands, add_results_file
from mosaic_mpi.console import say, show
from mosaic_mpi.errors import EXIT_COMPLETE


def add(commands: Commands) -> None:
    """Declare the command."""
    report = commands.add_parser(
        "report", allow_abbrev=False, help="one HTML page about a run, also while it runs; needs no network"
    )
    add_results_file(report)
    report.add_argument("--output", default="report.html", metavar="OUT.html", help="(report.html)")
    report.add_argument(
        "--follow",
        type=option_types.seconds,
        nargs="?",
        const=60.0,
        metavar="S",
        help="write it again every so many seconds (60) until the run ends; an open page loads itself again",
    )
    report.set_defaults(function=_do)


def _do(options: argparse.Namespace, words: Sequence[str]) -> int:
    environment.use_one_thread()  # before anything imports NumPy; a login node is shared
    from mosaic_mpi.report.writer import described, follow, write

    if options.follow:
        with contextlib.suppress(KeyboardInterrupt):  # which ends the following, and is no failure
            follow(options.file, options.output, options.follow, say)
    else:
        show(described(write(options.file, options.output), options.output))
    return EXIT_COMPLETE
