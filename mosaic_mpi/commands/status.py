"""`status`: where a run stands, once or again and again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mosaic_mpi import option_types
from mosaic_mpi.commands.parser import Commands, add_results_file
from mosaic_mpi.console import show
from mosaic_mpi.errors import EXIT_COMPLETE, InputError

if TYPE_CHECKING:
    from mosaic_mpi.summary import Summary


def add(commands: Commands) -> None:
    """Declare the command."""
    status = commands.add_parser("status", allow_abbrev=False, help="where a run stands, also while it runs")
    add_results_file(status)
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument(
        "--verify", action="store_true", help="compare every result with its checksum (exit 2: damaged)"
    )
    status.add_argument(
        "--check",
        action="store_true",
        help="exit with 0 only if the run is complete; 75: the same command goes on; 1: so it does, but the latest "
        "start ended by an error or by --max-failures; 2: no results file",
    )
    status.add_argument(
        "--watch",
        nargs="?",
        type=option_types.seconds,
        const=5.0,
        metavar="SECONDS",
        help="show it again and again (every 5 s), in place on a terminal, until the run has ended or is dead",
    )
    status.set_defaults(function=_do)


def _do(options: argparse.Namespace, words: Sequence[str]) -> int:
    from mosaic_mpi.summary import as_json, check_code, summarise
    from mosaic_mpi.summary_text import as_text

    if options.watch:
        summary = _watch(options)
        if summary is None:
            return EXIT_COMPLETE
    else:
        summary = summarise(options.file)
        show(as_json(summary) if options.json else as_text(summary))
    if options.verify:
        _verify(options.file)
    return check_code(summary) if options.check else EXIT_COMPLETE


def _watch(options: argparse.Namespace) -> Summary | None:
    """Show a run until it ends; Ctrl-C ends the showing, which is no failure."""
    from mosaic_mpi.console import is_terminal
    from mosaic_mpi.summary_text import as_text
    from mosaic_mpi.watch import watch

    if options.json:
        raise InputError("status: --watch is for people, --json says it once: pass one of them")
    try:
        summary = watch(options.file, options.watch)
    except KeyboardInterrupt:
        return None
    if is_terminal(sys.stdout):  # whose screen is as it was before
        show(as_text(summary))
    return summary


def _verify(file: str) -> None:
    from mosaic_mpi.results import Results

    damaged = Results(file).verify()
    if damaged:
        shown = ", ".join(map(str, damaged[:20])) + (" …" if len(damaged) > 20 else "")
        raise InputError(f"{file}: damaged: {len(damaged)} results do not match their checksums: simulations {shown}")
    print("  verified     every completed simulation matches its checksum", file=sys.stderr)
