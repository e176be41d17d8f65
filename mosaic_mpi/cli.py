"""The command line: one function a command, the only place that parses options.

Imports nothing heavy at the top, so that `--help` answers at once on a login node.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from mosaic_mpi import environment
from mosaic_mpi._version import __version__
from mosaic_mpi.console import show_any_text
from mosaic_mpi.deadline import parse_duration
from mosaic_mpi.errors import EXIT_COMPLETE, EXIT_INPUT, EXIT_STOPPED, InputError, MosaicError
from mosaic_mpi.failure_limit import DEFAULT as DEFAULT_FAILURE_LIMIT
from mosaic_mpi.failure_limit import FailureLimit

if TYPE_CHECKING:
    from mosaic_mpi.summary import Summary

_BEGAN = time.time()
_REFUSE_SECONDS = 2.0
"""Time for rank 0 to tell what is wrong, before a launcher ends it for another's exit code."""
_EXIT_CODES = """exit codes: 0 complete; 1 internal error; 2 usage or input; 3 finished, some simulations failed;
75 stopped, the same command resumes"""


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
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_COMPLETE


def _show(text: str) -> None:
    """Print to standard output; where nobody reads it to its end (`| head`), that changes no exit code."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Refuses options once, however many ranks are given them."""

    def error(self, message: str) -> NoReturn:
        if environment.find_launcher().rank:
            time.sleep(_REFUSE_SECONDS)
            sys.exit(EXIT_INPUT)
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        allow_abbrev=False,
        prog="mosaic_mpi",
        description="Run LASER cholera simulations over MPI into one results file that resumes.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"mosaic_mpi {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_status(commands)
    _add_report(commands)
    _add_merge(commands)
    _add_compare(commands)
    _add_export(commands)
    _add_sample(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        help="run simulations, or resume",
        description="Run simulations on this machine, or under mpirun or srun on many. Given again, the same "
        "command resumes where the file stands; with a larger --n-simulations it extends the run.",
        epilog=_EXIT_CODES,
    )
    what = run.add_argument_group("what to run")
    what.add_argument(
        "--config", metavar="FILE", help="laser-cholera config, JSON or JSON.gz (default: the engine's own)"
    )
    what.add_argument("--locations", type=_names, metavar="ETH,KEN", help="only these locations of the config")
    what.add_argument(
        "--samples",
        metavar="FILE",
        help="parameters as a table, Parquet or CSV: a column sim, and one a parameter",
    )
    what.add_argument("--priors", metavar="FILE", help="MOSAIC's priors, JSON: simulation i is simulation i in R")
    what.add_argument(
        "--control", metavar="FILE", help="MOSAIC's control settings, JSON: sampling, likelihood, counts"
    )
    what.add_argument("--n-simulations", type=_positive, metavar="N", help="default 100, or all of --samples")
    what.add_argument(
        "--simulations",
        type=_span,
        metavar="A-B",
        help="only these of them, into a file of their own that `merge` joins with the others",
    )
    what.add_argument("--n-iterations", type=_positive, metavar="N", help="of each simulation (3)")
    what.add_argument(
        "--save",
        type=_names,
        default=(),
        metavar="CHANNEL,…",
        help="output channels to store, e.g. reported_cases",
    )
    where = run.add_argument_group("where the results go")
    where.add_argument("--output", default="mosaic_run.h5", metavar="FILE", help="results file (mosaic_run.h5)")
    where.add_argument("--overwrite", action="store_true", help="start anew if the file exists")
    where.add_argument(
        "--checkpoint-interval",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="seconds between syncs to disk (30)",
    )
    how = run.add_argument_group("how to run it")
    how.add_argument(
        "--slots", type=_slots, default=None, metavar="K|auto", help="slots of every rank (auto: by cores)"
    )
    how.add_argument("--max-attempts", type=_positive, default=3, metavar="N", help="tries at a simulation (3)")
    how.add_argument(
        "--simulation-timeout",
        type=_seconds,
        metavar="S",
        help="limit of one attempt in seconds (20 times the slowest seen, at least 600)",
    )
    how.add_argument(
        "--rank-timeout",
        type=_rank_timeout,
        default=300.0,
        metavar="S",
        help="a rank that is silent for so many seconds is given up (300)",
    )
    ending = run.add_argument_group("when to stop")
    ending.add_argument(
        "--time-limit",
        type=_duration,
        metavar="HH:MM:SS",
        help="stop in time for this, counted from the start, D-HH:MM:SS too (a Slurm job's end is known without it)",
    )
    ending.add_argument(
        "--max-failures",
        type=_failure_limit,
        default=DEFAULT_FAILURE_LIMIT,
        metavar="N|P%",
        help="stop when so many simulations of this start have failed, or so many of a hundred of those that have "
        "ended, judged from the first 100 on (100%%)",
    )
    ending.add_argument(
        "--retry-failed", action="store_true", help="run again what has failed, with all its attempts"
    )
    how.add_argument(
        "--max-simulations-per-slot",
        type=_positive,
        metavar="N",
        help="a fresh process for a slot after so many, against leaks (never)",
    )
    how.add_argument("--dry-run", action="store_true", help="check every input, say what would happen, touch nothing")
    run.set_defaults(function=_run)


def _add_status(commands: argparse._SubParsersAction[_Parser]) -> None:
    status = commands.add_parser("status", allow_abbrev=False, help="where a run stands, also while it runs")
    status.add_argument("file", metavar="FILE", help="results file")
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
        type=_seconds,
        const=5.0,
        metavar="SECONDS",
        help="show it again and again (every 5 s), in place on a terminal, until the run has ended or is dead",
    )
    status.set_defaults(function=_status)


def _add_report(commands: argparse._SubParsersAction[_Parser]) -> None:
    report = commands.add_parser(
        "report", allow_abbrev=False, help="one HTML page about a run, also while it runs; needs no network"
    )
    report.add_argument("file", metavar="FILE", help="results file")
    report.add_argument("--output", default="report.html", metavar="OUT.html", help="(report.html)")
    report.add_argument(
        "--follow",
        type=_seconds,
        nargs="?",
        const=60.0,
        metavar="S",
        help="write it again every so many seconds (60) until the run ends; an open page loads itself again",
    )
    report.set_defaults(function=_report)


def _add_merge(commands: argparse._SubParsersAction[_Parser]) -> None:
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
    merge.set_defaults(function=_merge)


def _add_compare(commands: argparse._SubParsersAction[_Parser]) -> None:
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
    compare.set_defaults(function=_compare)


def _add_export(commands: argparse._SubParsersAction[_Parser]) -> None:
    export = commands.add_parser("export", allow_abbrev=False, help="results as Parquet tables")
    export.add_argument("file", metavar="FILE", help="results file")
    export.add_argument("--samples", metavar="OUT.parquet", help="one row a simulation: likelihood and parameters")
    export.add_argument(
        "--timeseries", metavar="OUT.parquet", help="one row a simulation, iteration, location and day"
    )
    export.add_argument("--mosaic", metavar="DIR", help="what MOSAIC's run_MOSAIC(resume = TRUE) picks up from DIR")
    export.add_argument(
        "--control", metavar="FILE", help="with --mosaic: the run's control settings, to write control.json too"
    )
    export.set_defaults(function=_export)


def _add_sample(commands: argparse._SubParsersAction[_Parser]) -> None:
    sample = commands.add_parser("sample", allow_abbrev=False, help="MOSAIC's draws alone, as a Parquet table")
    sample.add_argument(
        "--config", metavar="FILE", help="laser-cholera config, JSON or JSON.gz (default: the engine's own)"
    )
    sample.add_argument("--locations", type=_names, metavar="ETH,KEN", help="only these locations of the config")
    sample.add_argument("--priors", metavar="FILE", help="MOSAIC's priors, JSON")
    sample.add_argument("--control", metavar="FILE", help="MOSAIC's control settings, JSON")
    sample.add_argument("--n-simulations", type=_positive, metavar="N", help="default 100")
    sample.add_argument("--output", default="samples.parquet", metavar="OUT.parquet", help="(samples.parquet)")
    sample.set_defaults(function=_sample)


def _sample(options: argparse.Namespace, words: Sequence[str]) -> int:
    environment.use_one_thread()
    from mosaic_mpi.plan_inputs import PlanOptions
    from mosaic_mpi.sample import sample

    names = ("config", "locations", "priors", "control", "n_simulations")
    _show(sample(PlanOptions(**{name: getattr(options, name) for name in names}), options.output))
    return EXIT_COMPLETE


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    environment.use_one_thread()  # before anything imports NumPy
    from mosaic_mpi import run
    from mosaic_mpi.dry_run import dry_run
    from mosaic_mpi.plan_inputs import PlanOptions
    from mosaic_mpi.run_options import RunOptions

    if options.overwrite and options.retry_failed:
        raise InputError("run: --overwrite starts anew, --retry-failed goes on: pass one of them")
    plan = PlanOptions(
        config=options.config,
        locations=options.locations,
        samples=options.samples,
        priors=options.priors,
        control=options.control,
        n_simulations=options.n_simulations,
        n_iterations=options.n_iterations,
        simulations=options.simulations,
        save=tuple(options.save),
        simulator=run.simulator_name(),
    )
    run_options = RunOptions(
        plan=plan,
        output=options.output,
        slots=options.slots,
        max_attempts=options.max_attempts,
        max_failures=options.max_failures,
        max_simulations_per_slot=options.max_simulations_per_slot,
        simulation_timeout_s=options.simulation_timeout,
        rank_timeout_s=options.rank_timeout,
        time_limit_s=options.time_limit,
        checkpoint_interval_s=options.checkpoint_interval,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
        command=("python", "-m", "mosaic_mpi", *words),
        began=_BEGAN,
    )
    return dry_run(run_options) if options.dry_run else run.start(run_options)


def _status(options: argparse.Namespace, words: Sequence[str]) -> int:
    from mosaic_mpi.summary import as_json, as_text, check_code, summarise

    if options.watch:
        summary = _watch(options)
        if summary is None:
            return EXIT_COMPLETE
    else:
        summary = summarise(options.file)
        _show(as_json(summary) if options.json else as_text(summary))
    if options.verify:
        _verify(options.file)
    return check_code(summary) if options.check else EXIT_COMPLETE


def _report(options: argparse.Namespace, words: Sequence[str]) -> int:
    environment.use_one_thread()  # before anything imports NumPy; a login node is shared
    from mosaic_mpi.report.writer import described, follow, write

    if options.follow:
        follow(options.file, options.output, options.follow, lambda line: print(line, flush=True))
    else:
        print(described(write(options.file, options.output), options.output))
    return EXIT_COMPLETE


def _merge(options: argparse.Namespace, words: Sequence[str]) -> int:
    from mosaic_mpi.merge import merge

    merged = merge(options.files, options.output, options.overwrite)
    _show(merged.text)
    return merged.exit_code


def _watch(options: argparse.Namespace) -> Summary | None:
    """Show a run until it ends; Ctrl-C ends the showing, which is no failure."""
    from mosaic_mpi.console import is_terminal
    from mosaic_mpi.summary import as_text
    from mosaic_mpi.watch import watch

    if options.json:
        raise InputError("status: --watch is for people, --json says it once: pass one of them")
    try:
        summary = watch(options.file, options.watch)
    except KeyboardInterrupt:
        return None
    if is_terminal(sys.stdout):  # whose screen is as it was before
        print(as_text(summary))
    return summary


def _compare(options: argparse.Namespace, words: Sequence[str]) -> int:
    from mosaic_mpi.compare import as_json, as_text, compare

    comparison = compare(options.first, options.second)
    print(as_json(comparison) if options.json else as_text(comparison))
    return comparison.exit_code


def _verify(file: str) -> None:
    from mosaic_mpi.errors import InputError
    from mosaic_mpi.results import Results

    damaged = Results(file).verify()
    if damaged:
        shown = ", ".join(map(str, damaged[:20])) + (" …" if len(damaged) > 20 else "")
        raise InputError(f"{file}: damaged: {len(damaged)} results do not match their checksums: simulations {shown}")
    print("  verified     every completed simulation matches its checksum", file=sys.stderr)


def _export(options: argparse.Namespace, words: Sequence[str]) -> int:
    from mosaic_mpi.export import export_samples, export_timeseries

    if not options.samples and not options.timeseries and not options.mosaic:
        wanted = "--samples OUT.parquet, --timeseries OUT.parquet or --mosaic DIR"
        raise InputError(f"export: nothing asked for; pass {wanted}")
    if options.control and not options.mosaic:
        raise InputError("export: --control is for --mosaic DIR")
    if options.samples:
        _show(export_samples(options.file, options.samples))
    if options.timeseries:
        _show(export_timeseries(options.file, options.timeseries))
    if options.mosaic:
        from mosaic_mpi.shards import export_mosaic

        _show(export_mosaic(options.file, options.mosaic, options.control))
    return EXIT_COMPLETE


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected names separated by commas")
    return names


def _positive(text: str) -> int:
    try:
        number = int(text.replace("_", ""))
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return number


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        span = _positive(first), _positive(last or first)
    except argparse.ArgumentTypeError:
        span = 1, 0
    if span[0] > span[1] or text.endswith("-"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected A-B with 1 <= A <= B, or one number")
    return span


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected seconds above 0")
    return number


def _rank_timeout(text: str) -> float:
    seconds = _seconds(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected at least 1 second")
    return seconds


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        expected = "expected HH:MM:SS or D-HH:MM:SS, for example 02:00:00"
        raise argparse.ArgumentTypeError(f"found {text!r}, {expected}") from None


def _failure_limit(text: str) -> FailureLimit:
    try:
        return FailureLimit.parse(text)
    except ValueError:
        expected = "expected a number of simulations from 1, or a percentage up to 100%"
        raise argparse.ArgumentTypeError(f"found {text!r}, {expected}") from None


def _slots(text: str) -> int | None:
    return None if text == "auto" else _positive(text)
