"""`export`: results as tables, and as what MOSAIC picks up."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mosaic_mpi.commands.parser import Commands, add_results_file
from mosaic_mpi.console import show
from mosaic_mpi.errors import EXIT_COMPLETE, InputError


def add(commands: Commands) -> None:
    """Declare the command."""
    export = commands.add_parser("export", allow_abbrev=False, help="results as Parquet tables")
    add_results_file(export)
    export.add_argument("--samples", metavar="OUT.parquet", help="one row a simulation: likelihood and parameters")
    export.add_argument(
        "--timeseries", metavar="OUT.parquet", help="one row a simulation, iteration, location and day"
    )
    export.add_argument("--mosaic", metavar="DIR", help="what MOSAIC's run_MOSAIC(resume = TRUE) picks up from DIR")
    export.add_argument(
        "--control", metavar="FILE", help="with --mosaic: the run's control settings, to write control.json too"
    )
    export.set_defaults(function=_do)


def _do(options: argparse.Namespace, words: Sequence[str]) -> int:
    from mosaic_mpi.export import export_samples, export_timeseries

    if not options.samples and not options.timeseries and not options.mosaic:
        wanted = "--samples OUT.parquet, --timeseries OUT.parquet or --mosaic DIR"
        raise InputError(f"export: nothing asked for; pass {wanted}")
    if options.control and not options.mosaic:
        raise InputError("export: --control is for --mosaic DIR")
    if options.samples:
        show(export_samples(options.file, options.samples))
    if options.timeseries:
        show(export_timeseries(options.file, options.timeseries))
    if options.mosaic:
        from mosaic_mpi.shards import export_mosaic

        show(export_mosaic(options.file, options.mosaic, options.control))
    return EXIT_COMPLETE
