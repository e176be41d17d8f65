"""The engine's configuration: read, checked, cut to locations, typed for the engine.

Owns the path from a laser-cholera JSON file to the values that the engine is handed. Knows neither the
engine nor the parameters of a simulation. The types and the memory order that `engine_values` gives are
part of the numbers: see its docstring.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.catalogue import (
    CONFIDENCE,
    COORDINATES,
    LISTS_WITH_ONE_LOCATION,
    MATRICES,
    OBSERVATIONS,
    OPTIONAL,
    PARAMETERS,
    Parameter,
)
from mosaic_mpi.errors import InputError
from mosaic_mpi.jsontext import parse_json
from mosaic_mpi.nearest import suggestion

BUNDLED = "laser-cholera's bundled config"
_NOT_PER_LOCATION = frozenset({"location_name", "nu_jt_sources", "epidemic_peaks", "return"})


@dataclass(frozen=True)
class Config:
    """A checked configuration, cut to the locations of the run.

    Parameters
    ----------
    source : str
        Where it came from, for messages.
    text : str
        The JSON text as given, before any cut.
    locations : tuple of str
        ISO codes, in the config's order.
    date_start : datetime.date
        The first day.
    n_ticks : int
        Days.
    values : mapping
        Key to value: numbers, lists of one number a location, and matrices as
        ``ndarray of float64, shape (n_locations, n_ticks)`` in Fortran order (missing: NaN).
    """

    source: str
    text: str
    locations: tuple[str, ...]
    date_start: date
    n_ticks: int
    values: Mapping[str, Any]

    @property
    def dates(self) -> list[str]:
        """The days of the run, ISO 8601."""
        return [(self.date_start + timedelta(days=day)).isoformat() for day in range(self.n_ticks)]


def load_config(path: str | None, locations: Sequence[str] | None = None) -> Config:
    """Read a laser-cholera config, check all of it, and cut it to some locations.

    Parameters
    ----------
    path : str or None
        A ``.json`` or ``.json.gz`` file; None takes the config that laser-cholera brings.
    locations : sequence of str, optional
        ISO codes to keep; the config's order is kept.

    Returns
    -------
    Config

    Raises
    ------
    InputError
        With every problem found: file, key, what was found, what is expected.
    """
    source = path if path is not None else BUNDLED
    text = _read_text(path)
    try:
        raw = parse_json(text)
    except json.JSONDecodeError as error:
        message = f"{source}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InputError(message) from None
    if not isinstance(raw, dict):
        raise InputError(f"{source}: found a JSON {_kind(raw)}, expected an object of laser-cholera's keys")
    return _Reader(source, text, raw).read(locations)


def parse_config(text: str, locations: Sequence[str] | None, source: str) -> Config:
    """Build a `Config` from JSON text already known to be good (a results file's own copy)."""
    return _Reader(source, text, parse_json(text)).read(locations)


def _read_text(path: str | None) -> str:
    file = _bundled_path() if path is None else Path(path)
    try:
        data = file.read_bytes()
        if data[:2] == b"\x1f\x8b":  # by content: gzipped files come under any name
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"--config {file}: cannot be read: {reason}") from None
    except (EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"--config {file}: damaged, or not a JSON or JSON.gz file: {error}") from None


def _bundled_path() -> Path:
    try:
        package = distribution("laser-cholera")
    except PackageNotFoundError:
        raise InputError("laser-cholera is not installed here: pip install laser-cholera") from None
    return Path(str(package.locate_file("laser/cholera/metapop/data/default_parameters.json")))


def _kind(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "true/false", type(None): "null"}
    return names.get(type(value), "number")


class _Reader:
    """Checks a raw config key by key, and gathers every problem before it gives up."""

    def __init__(self, source: str, text: str, raw: dict[str, Any]) -> None:
        self.source, self.text, self.raw = source, text, raw
        self.problems: list[str] = []
        self.missing: list[str] = []

    def _report_missing(self) -> None:
        """All missing keys in one line, and where one looks mistyped, a line for that."""
        known = {*PARAMETERS, *COORDINATES, *MATRICES, *OBSERVATIONS, "location_name", "p"}
        strangers = [key for key in self.raw if key not in known]
        for key in self.missing:
            if hint := suggestion(key, strangers, cutoff=0.8):
                self.problems.append(f"{key}: missing{hint}")
        if self.missing:
            self.problems.append(
                f"{len(self.missing)} keys that the engine needs are missing: " + ", ".join(self.missing)
            )

    def read(self, wanted: Sequence[str] | None) -> Config:
        all_locations = self._locations()
        start, n_ticks = self._calendar()
        keep = self._kept(all_locations, wanted)
        values = self._values(all_locations, n_ticks, keep)
        self._report_missing()
        if self.problems:
            raise InputError([f"{self.source}: {problem}" for problem in self.problems])
        kept = tuple(all_locations[index] for index in keep)
        return Config(self.source, self.text, kept, start, n_ticks, _cut_peaks(values, kept))

    def _problem(self, key: str, found: object, expected: str) -> None:
        if key not in self.raw and "[" not in key:
            self.missing.append(key)
            return
        self.problems.append(f"{key}: found {found}, expected {expected}")

    def _locations(self) -> list[str]:
        found = self.raw.get("location_name")
        names = [found] if isinstance(found, str) else found
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            self._problem("location_name", _describe(found), "a list of ISO codes")
            return []
        if len(set(names)) < len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
            self._problem("location_name", f"{', '.join(repeated)} more than once", "each location once")
        return names

    def _calendar(self) -> tuple[date, int]:
        days = [self._date("date_start"), self._date("date_stop")]
        start, stop = (day if day is not None else date(2000, 1, 1) for day in days)
        if None not in days and stop < start:
            self._problem("date_stop", stop, f"a day not before date_start ({start})")
        return start, 0 if None in days else max((stop - start).days + 1, 0)

    def _date(self, key: str) -> date | None:
        found = self.raw.get(key)
        try:
            return date.fromisoformat(str(found)[:10]) if isinstance(found, str) else _raise()
        except ValueError:
            self._problem(key, _describe(found), "a date like 2023-02-01")
            return None

    def _kept(self, locations: list[str], wanted: Sequence[str] | None) -> list[int]:
        if wanted is None:
            return list(range(len(locations)))
        if not wanted:
            self.problems.append("--locations: found no name, expected ISO codes like ETH,KEN")
        for name in wanted:
            if locations and name not in locations:
                hint = suggestion(name, locations) or f"; it has {', '.join(locations)}"
                self.problems.append(f"--locations {name}: not a location of this config{hint}")
        return [index for index, name in enumerate(locations) if name in set(wanted)]

    def _values(self, locations: list[str], n_ticks: int, keep: list[int]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key in self.raw:
            if key not in PARAMETERS and key not in (*COORDINATES, *MATRICES, *OBSERVATIONS, *CONFIDENCE):
                values[key] = self._extra(key, len(locations), keep)
        values["location_name"] = [locations[index] for index in keep]
        for name in (*PARAMETERS, *COORDINATES):
            if name in self.raw or name not in OPTIONAL:
                values[name] = self._numbers(name, locations, keep)
        for key in (*MATRICES, *OBSERVATIONS, *(key for key in CONFIDENCE if self.raw.get(key) is not None)):
            values[key] = self._matrix(key, len(locations), n_ticks, keep)
        self._check_period()
        self._check_peaks()
        return {key: values[key] for key in self.raw if key in values}  # in the config's order

    def _check_period(self) -> None:
        found = self.raw.get("p")
        if not _is_number(found) or not float(found).is_integer() or found <= 0:
            self._problem("p", _describe(found), "a whole number of days, the period of the seasonality")

    def _check_peaks(self) -> None:
        peaks = self.raw.get("epidemic_peaks")
        keys = {"iso_code", "peak_date"}
        if peaks is not None and not (
            isinstance(peaks, list) and all(isinstance(peak, dict) and keys <= peak.keys() for peak in peaks)
        ):
            self._problem("epidemic_peaks", _describe(peaks), "a list of objects with iso_code and peak_date")

    def _extra(self, key: str, n_locations: int, keep: list[int]) -> Any:
        value = self.raw[key]
        per_location = isinstance(value, list) and len(value) == n_locations and key not in _NOT_PER_LOCATION
        return [value[index] for index in keep] if per_location else value

    def _numbers(self, name: str, locations: list[str], keep: list[int]) -> Any:
        parameter = PARAMETERS.get(name, Parameter(name, "location"))
        found = self.raw.get(name)
        if parameter.shape == "scalar" or (parameter.shape == "either" and _is_number(found)):
            self._check_number(parameter, name, found)
            return found
        entries = [found] if _is_number(found) and len(locations) == 1 else found
        if not isinstance(entries, list) or len(entries) != len(locations):
            count = f"a list of {len(locations)} numbers, one a location"
            either = "a number or " if parameter.shape == "either" else ""
            self._problem(name, _describe(found), either + count)
            return None
        # The engine reads the text "NA" in a vector as 0 (as_ndarray in its params.py).
        entries = [0 if entry == "NA" else entry for entry in entries]
        for index in keep:
            self._check_number(parameter, f"{name}[{locations[index]}]", entries[index])
        return [entries[index] for index in keep]

    def _check_number(self, parameter: Parameter, where: str, found: Any) -> None:
        kind = "a whole number" if parameter.integer else "a number"
        if not _is_number(found):
            self._problem(where, _describe(found), kind)
        elif not math.isfinite(found) or not parameter.accepts(found):
            self._problem(where, found, f"{kind} in {parameter.bounds}")

    def _matrix(self, key: str, n_locations: int, n_ticks: int, keep: list[int]) -> Any:
        rows = self.raw.get(key)
        matrix = _to_matrix(rows, n_locations)
        if matrix is None:
            self._problem(key, _describe(rows), f"{n_locations} lists of {n_ticks} numbers (location x day)")
            return None
        observed = key in (*OBSERVATIONS, *CONFIDENCE)
        if not observed and matrix.shape == (n_ticks, n_locations) != (n_locations, n_ticks):
            matrix = matrix.T
        if matrix.shape[0] != n_locations or (matrix.shape[1] != n_ticks and not observed):
            shape = f"{matrix.shape[0]} x {matrix.shape[1]} numbers"
            self._problem(key, shape, f"{n_locations} x {n_ticks} (location x day)")
            return None
        self._check_cells(key, matrix, observed)
        return np.asfortranarray(matrix[keep])

    def _cell(self, key: str, location: int, day: int) -> str:
        """A cell as the file has it, whichever way round its matrix lies."""
        rows = self.raw[key]
        rows = rows if isinstance(rows[0], list) else [rows]
        upright = location < len(rows) and day < len(rows[location])
        return json.dumps(rows[location][day] if upright else rows[day][location], default=str)

    def _check_cells(self, key: str, matrix: NDArray[np.float64], observed: bool) -> None:
        bad = np.isinf(matrix) if observed else ~np.isfinite(matrix)
        if bad.any():
            location, day = np.argwhere(bad)[0]
            where = f"{key}[{location}][{day}]"
            missing = "a number" if not observed else 'a number, null or "NA"'
            self._problem(where, f"{self._cell(key, location, day)} ({bad.sum()} such)", missing)


def _raise() -> date:
    raise ValueError


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _describe(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        inner = f", the first of them {_describe(value[0])}" if value and isinstance(value[0], list) else ""
        return f"a list of {len(value)}{inner}"
    return json.dumps(value, default=str)[:60]


def _to_matrix(rows: object, n_locations: int) -> NDArray[np.float64] | None:
    """Turn JSON rows into float64 with NaN for null and "NA"; None where they are no matrix."""
    if isinstance(rows, list) and n_locations == 1 and rows and not isinstance(rows[0], list):
        rows = [rows]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        return None
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        return None
    try:
        return np.array(rows, dtype=np.float64)  # null becomes NaN here; "NA" raises
    except (TypeError, ValueError):
        pass
    cells = [[_observation(cell) for cell in row] for row in rows]
    return np.array(cells, dtype=np.float64)


def _observation(cell: object) -> float:
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return float(cell)
    return math.nan if cell is None or cell in ("NA", "NaN") else math.inf


def _cut_peaks(values: dict[str, Any], locations: tuple[str, ...]) -> dict[str, Any]:
    peaks = values.get("epidemic_peaks")
    if isinstance(peaks, list):
        values["epidemic_peaks"] = [
            peak for peak in peaks if isinstance(peak, dict) and peak.get("iso_code") in locations
        ]
    return values


def engine_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give config values the types and the memory order in which MOSAIC hands them to the engine.

    MOSAIC's local backend reaches the engine through reticulate, and what arrives there defines the
    numbers: vectors are lists of float or int, matrices are float64 in Fortran order (location x day),
    and with one location most one-element vectors are plain numbers. The order matters with more than
    one location, since the engine takes a float32 mean over psi_jt whose rounding follows the layout; a
    plain number matters for the exponents, since NumPy's power takes another path for them.

    Parameters
    ----------
    values : mapping
        As in `Config.values`, or the part of it that a simulation replaces.

    Returns
    -------
    dict
        Ready for `laser.cholera.metapop.model.run_model`.
    """
    return {key: _engine_value(key, value) for key, value in values.items()}


def _engine_value(key: str, value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 2:
        return np.asfortranarray(value)
    per_location = key in PARAMETERS or key in COORDINATES or key == "location_name"
    one = per_location and isinstance(value, list) and len(value) == 1
    return value[0] if one and key not in LISTS_WITH_ONE_LOCATION else value
