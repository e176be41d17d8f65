"""Do two runs agree? A run with another, with MOSAIC's shards or with a table of samples.

Owns what is compared with what, and how that is told. Knows no MPI and no engine; never writes.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file
from mosaic_mpi.comparable import Comparable, RunNumbers, open_comparable
from mosaic_mpi.config import Config, parse_config
from mosaic_mpi.difference import Largest, Tally, Where
from mosaic_mpi.errors import EXIT_COMPLETE, EXIT_SOME_FAILED
from mosaic_mpi.plan import Channel
from mosaic_mpi.plan_differences import identity_differences
from mosaic_mpi.shards import LIKELIHOOD_TOLERANCE

_BLOCK_BYTES = 1 << 23
_MAX_NAMED = 5
_MAX_IDS = 100
_STATUS = ("pending", "completed", "failed")


@dataclass(frozen=True)
class Quantity:
    """One compared quantity.

    Parameters
    ----------
    name : str
        "status", "likelihood", "likelihood of iterations", "parameters", or a saved channel.
    n_compared, n_differing : int
        Numbers.
    absolute, relative, ulps : Largest or None
        See `difference.Tally`.
    note : str
        What could not be compared and why, or which status differs; empty where all is well.
    tolerance : float or None
        What MOSAIC's own likelihoods and ours may differ by, relative to values of at least 1; only told, never
        applied.
    is_within_tolerance : bool or None
        Whether they do not differ by more.
    """

    name: str
    n_compared: int
    n_differing: int
    absolute: Largest | None
    relative: Largest | None
    ulps: Largest | None
    note: str = ""
    tolerance: float | None = None
    is_within_tolerance: bool | None = None

    @property
    def is_identical(self) -> bool:
        """Whether all of it was compared, and is equal."""
        return not self.n_differing and not self.note


@dataclass(frozen=True)
class Comparison:
    """How two runs compare.

    Parameters
    ----------
    first, second : str
        As the user called them.
    plan : list of str or None
        Differences of the plans, each with both values; None where one of them has no plan.
    n_common : int
        Simulations that both have: of two runs, of their plans; else, with numbers.
    n_only_first, n_only_second : int
        Simulations that only one of them has.
    only_first, only_second : list of int
        Ids of the first of those.
    quantities : list of Quantity
        What was compared.
    """

    first: str
    second: str
    plan: list[str] | None
    n_common: int
    n_only_first: int
    n_only_second: int
    only_first: list[int]
    only_second: list[int]
    quantities: list[Quantity]

    @property
    def is_identical(self) -> bool:
        """Whether nothing differs."""
        alone = self.n_only_first or self.n_only_second
        return not self.plan and not alone and all(entry.is_identical for entry in self.quantities)

    @property
    def exit_code(self) -> int:
        """0: identical; 3: not."""
        return EXIT_COMPLETE if self.is_identical else EXIT_SOME_FAILED


def compare(first: str, second: str) -> Comparison:
    """Compare two runs.

    Parameters
    ----------
    first, second : str
        Results files; either may be a directory of MOSAIC's shards or a samples.parquet.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        One of them is missing, damaged, or none of these.
    """
    a, b = open_comparable(first), open_comparable(second)
    if isinstance(a, RunNumbers) and isinstance(b, RunNumbers):
        return _compare_runs(a, b)
    likelihood, parameters = _numbers(a, b)
    return Comparison(first, second, None, **_overlap(a.ids, b.ids), quantities=[likelihood, parameters])


def _compare_runs(a: RunNumbers, b: RunNumbers) -> Comparison:
    common, in_a, in_b = np.intersect1d(a.all_ids, b.all_ids, assume_unique=True, return_indices=True)
    quantities = [_statuses(common, a.status[in_a], b.status[in_b]), *_numbers(a, b), _iterations(a, b)]
    quantities += _channels(a, b)
    return Comparison(a.name, b.name, _plans(a, b), **_overlap(a.all_ids, b.all_ids), quantities=quantities)


def _overlap(a: NDArray[np.int64], b: NDArray[np.int64]) -> dict[str, Any]:
    first, second = np.setdiff1d(a, b, assume_unique=True), np.setdiff1d(b, a, assume_unique=True)
    return {
        "n_common": len(a) - len(first),
        "n_only_first": len(first),
        "n_only_second": len(second),
        "only_first": first[:_MAX_IDS].tolist(),
        "only_second": second[:_MAX_IDS].tolist(),
    }


def _plans(a: RunNumbers, b: RunNumbers) -> list[str]:
    identities = a.results.header.identity, b.results.header.identity

    def configs() -> tuple[Config, Config]:
        first, second = (parse_config(_config_text(x), x.results.locations, f"{x.name}'s config") for x in (a, b))
        return first, second

    return identity_differences(*identities, configs, (f"in {a.name}", f"in {b.name}"))


def _config_text(run: RunNumbers) -> str:
    with h5file.reading(run.name) as file:
        return h5file.read_config(file)


# ---- quantities -------------------------------------------------------------------------------------


def _quantity(tally: Tally, note: str = "") -> Quantity:
    measures = tally.absolute, tally.relative, tally.ulps
    return Quantity(tally.name, tally.n_compared, tally.n_differing, *measures, note)


def _likelihood(tally: Tally, a: Comparable, b: Comparable) -> Quantity:
    """Tell whether likelihoods are as near as R's come to ours, where one may be R's."""
    found = _quantity(tally)
    if isinstance(a, RunNumbers) and isinstance(b, RunNumbers):
        return found
    within = tally.scaled is None or tally.scaled.value < LIKELIHOOD_TOLERANCE
    return replace(found, tolerance=LIKELIHOOD_TOLERANCE, is_within_tolerance=within)


def _statuses(ids: NDArray[np.int64], first: NDArray[np.int8], second: NDArray[np.int8]) -> Quantity:
    tally = Tally("status")
    tally.same(len(ids))
    differing = np.flatnonzero(first != second)
    tally.n_differing = len(differing)
    if not len(differing):
        return _quantity(tally)
    some = [
        f"simulation {ids[row]} {_STATUS[first[row]]} and {_STATUS[second[row]]}" for row in differing[:_MAX_NAMED]
    ]
    more = f" and {len(differing) - _MAX_NAMED} more" if len(differing) > _MAX_NAMED else ""
    return _quantity(tally, ", ".join(some) + more)


def _numbers(a: Comparable, b: Comparable) -> tuple[Quantity, Quantity]:
    """Compare the likelihoods and parameters of the simulations that have them in both."""
    likelihood, parameters = Tally("likelihood"), Tally("parameters")
    ids, in_a, in_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    names = [name for name in a.parameter_names if name in set(b.parameter_names)]
    columns = [[x.parameter_names.index(name) for name in names] for x in (a, b)]
    for rows in _blocks(len(ids), 8 * (1 + len(a.parameter_names))):
        block, sims = (a.read(in_a[rows]), b.read(in_b[rows])), ids[rows]
        likelihood.add(block[0].likelihood, block[1].likelihood, _where(sims))
        values = [part.parameters[:, wanted] for part, wanted in zip(block, columns, strict=True)]
        parameters.add(values[0], values[1], _where(sims, ("parameter", names)))
    alone = [_alone(x, y) for x, y in ((a, b), (b, a)) if set(x.parameter_names) - set(y.parameter_names)]
    return _likelihood(likelihood, a, b), _quantity(parameters, "; ".join(alone))


def _alone(a: Comparable, b: Comparable) -> str:
    names = [name for name in a.parameter_names if name not in set(b.parameter_names)]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"only {a.name} has {', '.join(names[:_MAX_NAMED])}{more}"


def _iterations(a: RunNumbers, b: RunNumbers) -> Quantity:
    tally = Tally("likelihood of iterations")
    counts = [x.results.header.n_iterations for x in (a, b)]
    if counts[0] != counts[1]:
        return _quantity(tally, f"{counts[0]} and {counts[1]} iterations a simulation, with other seeds")
    ids, in_a, in_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    numbers = range(1, counts[0] + 1)
    for rows in _blocks(len(ids), 8 * counts[0]):
        first, second = (
            x.results.rows_of("iterations/likelihood", x.rows[places[rows]]) for x, places in ((a, in_a), (b, in_b))
        )
        tally.add(first, second, _where(ids[rows], ("iteration", numbers)))
    return _quantity(tally)


def _channels(a: RunNumbers, b: RunNumbers) -> list[Quantity]:
    kinds = [{channel.name: channel for channel in x.results.header.channels} for x in (a, b)]
    found, wanted = [], []
    for name in dict.fromkeys((*kinds[0], *kinds[1])):
        why = _incomparable(name, kinds[0].get(name), kinds[1].get(name), a, b)
        if why:
            found.append(_quantity(Tally(name), why))
        else:
            wanted.append(name)
    return [*_series(a, b, wanted), *found]


def _incomparable(name: str, first: Channel | None, second: Channel | None, a: RunNumbers, b: RunNumbers) -> str:
    if first is None or second is None:
        return f"only {(a if second is None else b).name} has it"
    if first.axes != second.axes or first.shape != second.shape:
        return f"its axes are {_shape(first)} and {_shape(second)}"
    if a.results.header.n_iterations != b.results.header.n_iterations:
        return "other iterations, with other seeds"
    if a.results.locations != b.results.locations or a.results.header.dates != b.results.header.dates:
        return "other locations or days"
    return ""


def _shape(channel: Channel) -> str:
    return " x ".join(f"{length} {axis}" for axis, length in zip(channel.axes, channel.shape, strict=True))


def _series(a: RunNumbers, b: RunNumbers, names: list[str]) -> list[Quantity]:
    """Compare time series simulation by simulation; what is stored in the same bytes need not be unpacked."""
    ids, in_a, in_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    tallies = [Tally(name) for name in names]
    channels = {channel.name: channel for channel in a.results.header.channels}
    if not names:
        return []
    pairs = zip(
        ids,
        a.results.stored_series(a.rows[in_a], names),
        b.results.stored_series(b.rows[in_b], names),
        strict=True,
    )
    n_iterations = a.results.header.n_iterations
    for sim_id, (row, first), (other_row, second) in pairs:
        for tally, name, mine, other in zip(tallies, names, first, second, strict=True):
            channel = channels[name]
            if mine == other and channel in b.results.header.channels:
                tally.same(n_iterations * math.prod(channel.shape))
                continue
            ours, theirs = a.results.unpack(name, mine, row), b.results.unpack(name, other, other_row)
            tally.add(ours[None], theirs[None], _where(np.array([sim_id]), *_axes(a, channel)))
    return [_quantity(tally) for tally in tallies]


def _axes(run: RunNumbers, channel: Channel) -> list[tuple[str, Any]]:
    known: dict[str, tuple[str, Any]] = {
        "location": ("location", run.results.locations),
        "to_location": ("to_location", run.results.locations),
        "time": ("day", run.results.header.dates),
    }
    axes = [known.get(axis, (axis, range(length))) for axis, length in zip(channel.axes, channel.shape, strict=True)]
    fitting = [
        (name, values if len(values) == length else range(length))
        for (name, values), length in zip(axes, channel.shape, strict=True)
    ]
    return [("iteration", range(1, run.results.header.n_iterations + 1)), *fitting]


def _where(ids: NDArray[np.int64], *axes: tuple[str, Any]) -> Callable[[tuple[int, ...]], Where]:
    """What an index means: its first number is a simulation, the others are along the named axes."""

    def where(place: tuple[int, ...]) -> Where:
        others = {name: values[index] for (name, values), index in zip(axes, place[1:], strict=True)}
        return {"sim_id": int(ids[place[0]]), **others}

    return where


def _blocks(n_rows: int, row_bytes: int) -> list[slice]:
    size = max(_BLOCK_BYTES // row_bytes, 1)
    return [slice(first, min(first + size, n_rows)) for first in range(0, n_rows, size)]


# ---- telling it -------------------------------------------------------------------------------------


def as_json(comparison: Comparison) -> str:
    """Return a comparison as JSON; numbers that JSON lacks are the strings NaN, Infinity and -Infinity."""
    found = asdict(comparison) | {"is_identical": comparison.is_identical}
    for entry, quantity in zip(found["quantities"], comparison.quantities, strict=True):
        entry["is_identical"] = quantity.is_identical
    return json.dumps(_speakable(found), indent=1, allow_nan=False)


def _speakable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _speakable(entry) for key, entry in value.items()}
    return [_speakable(entry) for entry in value] if isinstance(value, list) else value


def as_text(comparison: Comparison) -> str:
    """Return a comparison for people."""
    verdict = "are identical" if comparison.is_identical else "differ"
    lines = [f"{comparison.first} and {comparison.second} {verdict}", *_plan_lines(comparison.plan)]
    lines.append(f"  {'simulations':<26}{comparison.n_common} in both{_only_text(comparison)}")
    lines += itertools.chain.from_iterable(map(_quantity_lines, comparison.quantities))
    return "\n".join(lines)


def _plan_lines(plan: list[str] | None) -> list[str]:
    if plan is None:
        return [f"  {'plan':<26}not compared: one of them has none"]
    if not plan:
        return [f"  {'plan':<26}identical"]
    return [f"  {'plan':<26}{len(plan)} difference{'s' * (len(plan) > 1)}", *(f"    {line}" for line in plan)]


def _only_text(comparison: Comparison) -> str:
    parts = ""
    for name, n, ids in (
        (comparison.first, comparison.n_only_first, comparison.only_first),
        (comparison.second, comparison.n_only_second, comparison.only_second),
    ):
        some = ", ".join(map(str, ids[:_MAX_NAMED])) + (" …" if n > _MAX_NAMED else "")
        parts += f"; {n} only in {name}: {some}" if n else ""
    return parts


def _quantity_lines(quantity: Quantity) -> list[str]:
    verdict = f"{quantity.n_differing} of {quantity.n_compared} differ"
    if not quantity.n_differing:
        verdict = f"{quantity.n_compared} identical" if quantity.n_compared else "nothing to compare"
    lines = [f"  {quantity.name:<26}{verdict}" + (f"; {quantity.note}" if quantity.note else "")]
    for measure, largest in (
        ("absolute", quantity.absolute),
        ("relative", quantity.relative),
        ("ulps", quantity.ulps),
    ):
        if largest is not None:
            what = "in units in the last place" if measure == "ulps" else measure
            lines.append(
                f"    largest {what}: {_number(largest.value)} ({largest.first!r} and {largest.second!r}) at "
                + ", ".join(f"{key} {value}" for key, value in largest.where.items())
            )
    if quantity.n_differing and quantity.tolerance is not None:
        within = "are" if quantity.is_within_tolerance else "are not"
        lines.append(
            f"    they {within} within {quantity.tolerance:g}, relative to values of at least 1, of one another: "
            "as near as likelihoods by R and by mosaic_mpi come"
        )
    return lines


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
