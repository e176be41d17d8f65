"""Reads a parameter table (`--samples`): Parquet or CSV, a `sim` column and one column a parameter.

Owns the check of names and values against the config. Knows no engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.arrowfile import read_csv, read_parquet
from mosaic_mpi.catalogue import PARAMETERS, Parameter
from mosaic_mpi.errors import InputError
from mosaic_mpi.mosaic.parameter_names import PROPORTIONS
from mosaic_mpi.nearest import suggestion
from mosaic_mpi.parameter_table import ParameterTable
from mosaic_mpi.parameters import Place

_MAX_SHOWN = 5
_SHARE_TOLERANCE = 1e-6
_MAX_SIM = 2**31 - 1
_BOOKKEEPING = ("seed", "iter", "seed_sim", "seed_iter", "likelihood")
_BOOKKEEPING_PREFIXES = ("is_", "weight_", "cfr_")
"""Columns of an exported table, of MOSAIC's shards or of its samples.parquet that are no parameters."""


def load_table(
    path: str, base: Mapping[str, Any], calibrates: bool = True
) -> tuple[NDArray[np.int64], ParameterTable]:
    """Read and check a parameter table.

    Parameters
    ----------
    path : str
        A Parquet or CSV file.
    base : mapping
        `Config.values`: the valid names and the values of what the table does not give.
    calibrates : bool
        See `ParameterTable`.

    Returns
    -------
    sim_ids : ndarray of int64, shape (n_rows,)
        Ascending.
    table : ParameterTable
        In the same order.

    Raises
    ------
    InputError
        With every problem found: column, row, what was found, what is expected.
    """
    columns = _read_columns(path)
    return _Checker(path, base, calibrates).check(columns)


def _read_columns(path: str) -> dict[str, Any]:
    import pyarrow as arrow

    file = Path(path)
    if not file.is_file():
        raise InputError(f"--samples {path}: no such file")
    try:
        with file.open("rb") as handle:
            is_parquet = handle.read(4) == b"PAR1"
        table = read_parquet(file) if is_parquet else read_csv(file)
        names = [name.strip() for name in table.column_names]
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"--samples {path}: neither a Parquet nor a CSV file: {error}") from None
    if len(names) == 1 and (separator := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise InputError(f"--samples {path}: columns are separated by {separator!r}, expected commas")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"--samples {path}: columns named twice: {', '.join(twice)}")
    return dict(zip(names, table.columns, strict=True))


class _Checker:
    """Checks columns one by one and gathers every problem."""

    def __init__(self, path: str, base: Mapping[str, Any], calibrates: bool) -> None:
        self.path, self.base, self.calibrates = path, base, calibrates
        self.locations: list[str] = base["location_name"]
        self.problems: list[str] = []

    def check(self, columns: dict[str, Any]) -> tuple[NDArray[np.int64], ParameterTable]:
        sims = self._sims(columns.pop("sim", None))
        columns = {name: column for name, column in columns.items() if not _is_bookkeeping(name)}
        names, places, values = self._parameters(columns)
        self._check_twice(places)
        if not self.problems:
            self._check_proportions(places, values)
        if self.problems:
            raise InputError([f"--samples {self.path}: {problem}" for problem in self.problems])
        assert sims is not None
        order = np.argsort(sims, kind="stable")
        matrix = np.empty((len(sims), len(values)))
        for index, column in enumerate(values):
            matrix[:, index] = column[order]
        digest = _digest(sims[order], names, matrix)
        return sims[order], ParameterTable(places, matrix, self.base, digest, names, self.calibrates)

    def _sims(self, column: Any) -> NDArray[np.int64] | None:
        if column is None:
            self.problems.append('no column "sim": it gives each row its simulation id, from 1')
            return None
        numbers = _numbers(column)
        if numbers is None or not len(numbers):
            self.problems.append("sim: found no whole numbers, expected ids from 1, each once")
            return None
        bad = ~((numbers >= 1) & (numbers <= _MAX_SIM) & (numbers == np.round(numbers)))
        if bad.any():
            self.problems.append(f"sim: {_shown(numbers, bad)}, expected whole numbers from 1 to {_MAX_SIM}")
            return None
        sims = numbers.astype(np.int64)
        ids, counts = np.unique(sims, return_counts=True)
        if (counts > 1).any():
            repeated = ", ".join(map(str, ids[counts > 1][:_MAX_SHOWN]))
            self.problems.append(f"sim: {(counts > 1).sum()} ids more than once ({repeated}), expected once")
        return sims

    def _parameters(self, columns: dict[str, Any]) -> tuple[list[str], list[Place], list[NDArray[np.float64]]]:
        names: list[str] = []
        places: list[Place] = []
        values: list[NDArray[np.float64]] = []
        for name, column in columns.items():
            place = self._place(name)
            numbers = self._values(name, place, column) if place is not None else None
            if place is not None and numbers is not None:
                names.append(name)
                places.append(place)
                values.append(numbers)
        return names, places, values

    def _place(self, name: str) -> Place | None:
        key, index = self._split(name)
        if key is None:
            self.problems.append(f"{name}: not a parameter of this config{suggestion(name, self._valid())}")
            return None
        parameter = PARAMETERS[key]
        if parameter.shape == "location" and index is None:
            if len(self.locations) == 1:
                return Place(key, 0)
            self.problems.append(f"{name}: one value a location, expected {key}_{self.locations[0]} and so on")
            return None
        if parameter.shape == "either" and index is None and isinstance(self.base[key], list):
            if len(self.locations) == 1:
                return Place(key, 0)
            self.problems.append(f"{name}: the config has one value a location, expected {key}_ISO")
            return None
        return Place(key, index)

    def _split(self, name: str) -> tuple[str | None, int | None]:
        if name in PARAMETERS:
            return name, None
        key, _, iso = name.rpartition("_")
        if key in PARAMETERS and PARAMETERS[key].shape != "scalar" and iso in self.locations:
            return key, self.locations.index(iso)
        return None, None

    def _valid(self) -> list[str]:
        names: list[str] = []
        for name, parameter in PARAMETERS.items():
            names.extend([name] if parameter.shape != "location" else [])
            if parameter.shape != "scalar":
                names.extend(f"{name}_{iso}" for iso in self.locations)
        return names

    def _values(self, name: str, place: Place | None, column: Any) -> NDArray[np.float64] | None:
        assert place is not None
        parameter = PARAMETERS[place.key]
        numbers = _numbers(column)
        if numbers is None:
            self.problems.append(f"{name}: found {column.type}, expected numbers")
            return None
        bad = ~_accepted(parameter, numbers)
        if bad.any():
            kind = "whole numbers" if parameter.integer else "numbers"
            self.problems.append(f"{name}: {_shown(numbers, bad)}, expected {kind} in {parameter.bounds}")
        return numbers

    def _check_proportions(self, places: Sequence[Place], values: Sequence[NDArray[np.float64]]) -> None:
        """Where a compartment's share is given, the six of its location must make a whole."""
        given = {place: column for place, column in zip(places, values, strict=True) if place.key in PROPORTIONS}
        for index in sorted({place.index for place in given if place.index is not None}):
            shares = [given.get(Place(name, index), self.base[name][index]) for name in PROPORTIONS]
            total = np.asarray(sum(shares))
            bad = np.abs(total - 1.0) > _SHARE_TOLERANCE
            if bad.any():
                where = f"prop_*_initial_{self.locations[index]}"
                self.problems.append(f"{where}: the six shares sum to: {_shown(total, bad)}, expected 1")

    def _check_twice(self, places: Sequence[Place]) -> None:
        seen: set[Place] = set()
        for place in places:
            whole = Place(place.key, None)
            if place in seen or (place.index is not None and whole in seen):
                self.problems.append(f"{place.key}: given twice, as one value and by location")
            seen.add(place)


def _is_bookkeeping(name: str) -> bool:
    return name in _BOOKKEEPING or name.startswith(_BOOKKEEPING_PREFIXES)


def _numbers(column: Any) -> NDArray[np.float64] | None:
    """A column as float64 with NaN for null; None where it holds no numbers."""
    import pyarrow as arrow

    kind = column.type
    if not (arrow.types.is_integer(kind) or arrow.types.is_floating(kind)):
        return None
    numbers: NDArray[np.float64] = column.cast(arrow.float64(), safe=False).to_numpy()
    return numbers


def _accepted(parameter: Parameter, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    above = numbers > parameter.low if parameter.low_open else numbers >= parameter.low
    whole = numbers == np.round(numbers) if parameter.integer else np.True_
    accepted: NDArray[np.bool_] = np.isfinite(numbers) & above & (numbers <= parameter.high) & whole
    return accepted


def _shown(numbers: NDArray[np.float64], bad: NDArray[np.bool_]) -> str:
    rows = np.flatnonzero(bad)[:_MAX_SHOWN]
    cells = ", ".join(
        f"{'nothing' if np.isnan(numbers[row]) else format(numbers[row], 'g')} in row {row + 1}" for row in rows
    )
    more = f" and {bad.sum() - len(rows)} more" if bad.sum() > len(rows) else ""
    return f"found {cells}{more}"


def _digest(sims: NDArray[np.int64], names: Sequence[str], values: NDArray[np.float64]) -> str:
    digest = hashlib.sha256("\n".join(names).encode())
    digest.update(sims.tobytes())
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
