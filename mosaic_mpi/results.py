"""Reads a results file, finished or still growing: tables and labelled arrays for notebooks and exports.

Owns the way back from the format to what people work with. Knows no MPI and no engine; never writes.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi import h5file, layout
from mosaic_mpi.catalogue import OBSERVATIONS
from mosaic_mpi.config import parse_config
from mosaic_mpi.errors import InputError
from mosaic_mpi.h5file import Header
from mosaic_mpi.nearest import suggestion
from mosaic_mpi.plan import Channel
from mosaic_mpi.records import checksum, decompress
from mosaic_mpi.stored_series import stored_chunks

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import xarray as xr


class Results:
    """A results file, opened anew at every question, so that a growing run is seen as it is now.

    Parameters
    ----------
    path : str or path-like
        The results file.

    Raises
    ------
    InputError
        It is missing, damaged or not a results file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.header: Header = self._read_header()

    def _read_header(self) -> Header:
        with h5file.reading(self.path) as file:
            return h5file.read_header(file)

    @property
    def n_simulations(self) -> int:
        """Simulations of the run, whatever their state."""
        return self.header.n_simulations

    @property
    def locations(self) -> tuple[str, ...]:
        """ISO codes, in order."""
        return self.header.locations

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the saved channels."""
        return tuple(channel.name for channel in self.header.channels)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The engine's config as it was given, before any cut to locations."""
        with h5file.reading(self.path) as file:
            found: dict[str, Any] = json.loads(h5file.read_config(file))
        return found

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the stored parameters, ``name`` or ``name_ISO``."""
        with h5file.reading(self.path) as file:
            if "parameters/name" not in file:
                return ()
            return tuple(name.decode() for name in file["parameters/name"][()])

    def table(self, name: str) -> NDArray[Any]:
        """Return one dataset by its path in the file, all of its rows.

        Parameters
        ----------
        name : str
            For example "simulations/likelihood"; the README lists them.

        Returns
        -------
        ndarray
        """
        with h5file.reading(self.path) as file:
            if name not in file:
                raise InputError(f"{self.path}: has no {name}")
            if not hasattr(file[name], "shape"):
                raise InputError(f"{self.path}: {name} is a group of {', '.join(file[name])}: name one of these")
            values: NDArray[Any] = file[name][...]
        return values

    def rows_of(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows of one dataset, ascending ones, without reading far beyond them."""
        if not len(rows):
            return self.table(name)[:0]
        with h5file.reading(self.path) as file:
            block: NDArray[Any] = file[name][int(rows[0]) : int(rows[-1]) + 1]
        found: NDArray[Any] = block[rows - rows[0]]
        return found

    def completed(self) -> NDArray[np.int64]:
        """Rows of the completed simulations, ascending, ``ndarray of int64, shape (n_completed,)``."""
        return np.flatnonzero(self._status() == layout.COMPLETED)

    def _status(self) -> NDArray[np.int8]:
        with h5file.reading(self.path) as file:
            return h5file.read_status(file)

    def verify(self) -> list[int]:
        """Compare every completed simulation with the checksum that it left its slot with.

        Returns
        -------
        list of int
            Ids of the simulations whose stored numbers are not those that were found.
        """
        rows = self.completed()
        ids, expected = (self.rows_of(f"simulations/{name}", rows) for name in ("sim_id", "checksum"))
        columns = {
            "likelihood": self.rows_of("simulations/likelihood", rows),
            "iteration_likelihood": self.rows_of("iterations/likelihood", rows),
            "parameters": self.rows_of("parameters/values", rows)
            if self.parameter_names
            else np.empty((len(rows), 0)),
        }
        damaged = []
        with h5file.reading(self.path) as file, stored_chunks(self.path, file, len(rows)) as chunk:
            for index, row in enumerate(map(int, rows)):
                record = {name: column[index] for name, column in columns.items()}
                try:
                    series = b"".join(chunk(row, channel) for channel in range(len(self.channels)))
                except InputError:
                    damaged.append(int(ids[index]))
                    continue
                if checksum(record, series) != expected[index]:
                    damaged.append(int(ids[index]))
        return damaged

    def parameters(self) -> pd.DataFrame:
        """Return the completed simulations as a table.

        Returns
        -------
        pandas.DataFrame
            One row a completed simulation, indexed by sim; column ``likelihood`` (log-likelihood,
            log-mean-exp over the finite iterations), then one column of float64 a parameter.
        """
        import pandas as pd

        rows = self.completed()
        index = pd.Index(self.table("simulations/sim_id")[rows], name="sim")
        likelihood = pd.DataFrame({"likelihood": self.table("simulations/likelihood")[rows]}, index)
        if not self.parameter_names:
            return likelihood
        values = self.table("parameters/values")[rows]
        return likelihood.join(pd.DataFrame(values, index, list(self.parameter_names)))

    def likelihoods(self) -> pd.DataFrame:
        """Return the log-likelihood of every iteration.

        Returns
        -------
        pandas.DataFrame
            One row a completed simulation, indexed by sim; columns 1..n_iterations of float64.
        """
        import pandas as pd

        rows = self.completed()
        index = pd.Index(self.table("simulations/sim_id")[rows], name="sim")
        columns = pd.RangeIndex(1, self.header.n_iterations + 1, name="iteration")
        return pd.DataFrame(self.table("iterations/likelihood")[rows], index, columns)

    def simulations(self) -> pd.DataFrame:
        """Return where and how every simulation of the run went, done or not.

        Returns
        -------
        pandas.DataFrame
            Indexed by sim: attempts, likelihood, elapsed_s, finished_at, rank, slot, status, host, error. What only
            a completed simulation has is missing (NaN, NA or empty) from the others; finished_at is also when a
            failed one was given up.
        """
        import pandas as pd

        status = self._status()  # first: what it calls completed is all there
        done, ended = status == layout.COMPLETED, status != layout.PENDING
        data: dict[str, Any] = {"attempts": self.table("simulations/attempts")}
        for name, has_it in (("likelihood", done), ("elapsed_s", done), ("finished_at", ended)):
            data[name] = np.where(has_it, self.table(f"simulations/{name}"), np.nan)
        for name in ("rank", "slot"):
            data[name] = pd.arrays.IntegerArray(self.table(f"simulations/{name}"), ~done)
        data["status"] = np.array(["pending", "completed", "failed"])[status]
        hosts = np.char.decode(self.table("hosts/name"), "utf-8", "replace")
        data["host"] = np.where(done, hosts.take(self.table("simulations/host"), mode="clip"), "")
        data["error"] = [self.error_text(int(row)) for row in self.table("simulations/error")]
        return pd.DataFrame(data, pd.Index(self.table("simulations/sim_id"), name="sim"))

    @cached_property
    def _error_texts(self) -> list[str]:
        return [bytes(text).decode("utf-8", "replace") for text in self.table("errors/text")]

    def error_text(self, number: int) -> str:
        """Return the text of a value of ``simulations/error``; 0 is none."""
        return self._error_texts[number - 1] if 0 < number <= len(self._error_texts) else ""

    def channel(self, name: str, simulations: Sequence[int] | None = None) -> xr.DataArray:
        """Return a saved channel as an array with named axes.

        Parameters
        ----------
        name : str
            One of `channels`.
        simulations : sequence of int, optional
            Simulation ids; all completed ones by default. 10 000 simulations of 3 iterations, 40 locations
            and 1155 days are 5.5 GB: ask for what you need.

        Returns
        -------
        xarray.DataArray
            Named simulation, iteration, location and time (dates) for a time series; the engine's dtype.

        Raises
        ------
        InputError
            There is no such channel, or a simulation is not completed.
        """
        import xarray as xr

        channel = self._channel(name)
        rows = self.completed() if simulations is None else self._rows(simulations)
        shape = (len(rows), self.header.n_iterations, *channel.shape)
        data = np.empty(shape, channel.dtype)
        for index, (_, arrays) in enumerate(self.series(rows, (name,))):
            data[index] = arrays[0]
        axes = ("simulation", "iteration", *channel.axes)
        ids = self.table("simulations/sim_id")[rows]
        return xr.DataArray(data, self._coordinates(channel, ids), axes, name=name)

    def observed(self, name: str = "reported_cases") -> xr.DataArray:
        """Return what was observed, from the config in the file, to hold simulated channels against.

        Parameters
        ----------
        name : str
            "reported_cases" or "reported_deaths".

        Returns
        -------
        xarray.DataArray
            float64, named location and time (dates), as `channel` names them; NaN where nothing was reported.

        Raises
        ------
        InputError
            The config has no such observations.
        """
        import xarray as xr

        if name not in OBSERVATIONS:
            wanted = ", ".join(OBSERVATIONS)
            raise InputError(f"{name}: is not observed{suggestion(name, OBSERVATIONS)}; the config has {wanted}")
        with h5file.reading(self.path) as file:
            config = parse_config(h5file.read_config(file), self.locations, f"{self.path}'s config")
        values = np.ascontiguousarray(config.values[name])[:, : len(self.header.dates)]
        dates = np.array(self.header.dates[: values.shape[1]], dtype="datetime64[ns]")
        return xr.DataArray(
            values, {"location": list(self.locations), "time": dates}, ("location", "time"), name=name
        )

    def arrow(self) -> pa.Table:
        """Return the completed simulations as an Arrow table, for polars, DuckDB or a file.

        Returns
        -------
        pyarrow.Table
            sim (int64), likelihood, then one column of float64 a parameter; see `parameters`.
        """
        import pyarrow as pa

        return pa.Table.from_pandas(self.parameters().reset_index(), preserve_index=False)

    def _coordinates(self, channel: Channel, sim_ids: NDArray[np.int32]) -> dict[str, Any]:
        known: dict[str, Any] = {
            "simulation": sim_ids,
            "iteration": np.arange(1, self.header.n_iterations + 1),
            "location": list(self.header.locations),
            "to_location": list(self.header.locations),
            "time": np.array(self.header.dates, dtype="datetime64[ns]"),
        }
        lengths = dict(zip(channel.axes, channel.shape, strict=True))
        axes = ("simulation", "iteration", *channel.axes)
        return {axis: known[axis] for axis in axes if axis not in lengths or len(known[axis]) == lengths[axis]}

    def _channel(self, name: str) -> Channel:
        for channel in self.header.channels:
            if channel.name == name:
                return channel
        saved = ", ".join(self.channels) or "no time series (run with --save)"
        raise InputError(f"{self.path}: no channel {name}{suggestion(name, self.channels)}; it holds {saved}")

    def _rows(self, simulations: Sequence[int]) -> NDArray[np.int64]:
        row_of = {int(sim_id): row for row, sim_id in enumerate(self.table("simulations/sim_id"))}
        status = self._status()
        missing = [
            sim_id
            for sim_id in map(int, simulations)
            if sim_id not in row_of or status[row_of[sim_id]] != layout.COMPLETED
        ]
        if missing:
            raise InputError(f"{self.path}: not completed: simulations {', '.join(map(str, missing[:10]))}")
        return np.array([row_of[int(sim_id)] for sim_id in simulations], dtype=np.int64)

    def series(self, rows: NDArray[np.int64], names: Sequence[str]) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """Yield saved channels of completed simulations, one after the other.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Rows of completed simulations.
        names : sequence of str
            Channels.

        Yields
        ------
        row : int
        arrays : list of ndarray, shape (n_iterations, ...) each
        """
        wanted = [self.channels.index(name) for name in names]
        kinds = [self.header.channels[index] for index in wanted]
        with h5file.reading(self.path) as file, stored_chunks(self.path, file, len(rows)) as chunk:
            for row in map(int, rows):
                arrays = [
                    self._array(chunk(row, index), kind, row) for index, kind in zip(wanted, kinds, strict=True)
                ]
                yield row, arrays

    def stored_series(self, rows: NDArray[np.int64], names: Sequence[str]) -> Iterator[tuple[int, list[bytes]]]:
        """Yield rows of completed simulations with saved channels as they are stored; see `unpack`."""
        wanted = [self.channels.index(name) for name in names]
        with h5file.reading(self.path) as file, stored_chunks(self.path, file, len(rows)) as chunk:
            for row in map(int, rows):
                yield row, [chunk(row, index) for index in wanted]

    def unpack(self, name: str, data: bytes, row: int) -> NDArray[Any]:
        """Return a stored channel of one simulation, ``ndarray, shape (n_iterations, ...)``.

        Raises
        ------
        InputError
            It is damaged.
        """
        return self._array(data, self._channel(name), row)

    def _array(self, data: bytes, kind: Channel, row: int) -> NDArray[Any]:
        try:
            return decompress(data, (self.header.n_iterations, *kind.shape), kind.dtype)
        except (zlib.error, ValueError) as error:
            raise InputError(f"{self.path}: damaged: channel {kind.name} in row {row}: {error}") from None
