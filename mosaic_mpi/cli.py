"""The command line: finds the command, and turns what it meets into words and an exit code.

Imports nothing heavy, so that `--help` answers at once on a login node.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mosaic_mpi._version import __version__
from mosaic_mpi.commands import compare, export, merge, report, run, sample, status
from mosaic_mpi.commands.parser import Parser
from mosaic_mpi.console import show_any_text
from mosaic_mpi.errors import EXIT_CODES, EXIT_STOPPED, MosaicError

_COMMANDS = (run, status, report, merge, compare, export, sample)
"""In the order in which `--help` names them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    show_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        code: int = options.function(options, words)
        return code
    except MosaicError as error:
        print(f"mosaic_mpi: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mosaic_mpi: interrupted", file=sys.stderr)
        return EXIT_STOPPED


def _parser() -> Parser:
    parser = Parser(
        allow_abbrev=False,
        prog="mosaic_mpi",
        description="Run LASER cholera simulations over MPI into one results file that resumes.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"mosaic_mpi {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser
