"""A model's arrays and parameters, looked at one by one before the compiled loop takes them.

Owns what the loop presumes of them: dtype, shape and order in memory. A model that is made otherwise is refused, to
be run by the engine's own loop. The frames' arrays are the engine's own, so that what the loop writes is where the
engine's components and results look for it. The loop is handed addresses; what they stand for is kept alive here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic_mpi.compiled.rows import Floats, Ints
from mosaic_mpi.compiled.ufunc_calls import UfuncCalls

COMPARTMENTS = ("S", "E", "Isym", "Iasym", "R", "V1", "V2")


class UnsupportedError(Exception):
    """A model that the loop was not made for, and what of it."""


class Inputs:
    """What components take of a model that is set up and not yet run; to live as long as the loop may run.

    Every method raises `UnsupportedError` where something is not as expected.

    Parameters
    ----------
    model : laser.cholera.metapop.model.Model
        With its components.

    Attributes
    ----------
    calls : UfuncCalls
        Of the components.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._given = model, model.params
        self._kept: list[NDArray[Any]] = []
        self.calls = UfuncCalls()
        self.n_ticks, self.n_locations = model.params.nticks, len(model.params.location_name)
        if type(self.n_ticks) is not int:
            raise UnsupportedError(f"nticks is {type(self.n_ticks).__name__}, expected int")
        if self.n_locations > np.getbufsize() // 8:
            raise UnsupportedError(f"{self.n_locations} locations: NumPy works on so many piece by piece")
        self._components = {type(component).__name__: component for component in model.instances}

    def keep(self, array: NDArray[Any]) -> int:
        """Address of a contiguous array, which is kept."""
        self._kept.append(array)
        return array.ctypes.data

    def people(self, name: str) -> Ints:
        """A compartment, shape (n_ticks + 1, n_locations)."""
        return self._array(self._model.people, name, np.int32, self.n_ticks + 1)

    def counts(self, name: str, further: int = 1) -> Ints:
        """Counts of `model.patches`, shape (n_ticks + further, n_locations)."""
        return self._array(self._model.patches, name, np.int32, self.n_ticks + further)

    def levels(self, name: str, further: int = 1) -> Floats:
        """Rates and levels of `model.patches`, shape (n_ticks + further, n_locations)."""
        return self._array(self._model.patches, name, np.float32, self.n_ticks + further)

    def pairs(self, name: str) -> Floats:
        """Numbers of `model.patches`, shape (n_locations, n_locations)."""
        return self._array(self._model.patches, name, np.float32, self.n_locations)

    def matrix(self, name: str) -> NDArray[np.float32]:
        """A parameter, shape (n_ticks, n_locations)."""
        return self._copied(name, (self.n_ticks, self.n_locations))

    def vector(self, name: str) -> NDArray[np.float32]:
        """A parameter, shape (n_locations,)."""
        return self._copied(name, (self.n_locations,))

    def number_or_vector(self, name: str) -> NDArray[np.float32]:
        """A parameter that may be a number, shape (), or one a location, shape (n_locations,)."""
        if isinstance(getattr(self._given, name), np.ndarray):
            return self.vector(name)
        return np.array(self.number(name), np.float32)

    def number(self, name: str) -> float:
        """A parameter of float32; float64 holds it exactly."""
        return _number(name, getattr(self._given, name))

    def kept(self, component: str, name: str) -> float:
        """A number of float32 that a component has made of parameters."""
        return _number(f"{component}.{name}", getattr(self._components[component], name))

    def delay(self, name: str) -> int:
        """A parameter of int32, days; a negative one would look at days that are not there, or not over yet.

        The engine asserts that there is none, which ``python -O`` leaves out.
        """
        number = getattr(self._given, name)
        if type(number) is not np.int32:
            raise UnsupportedError(f"{name} is {type(number).__name__}, expected int32")
        if number < 0:
            raise UnsupportedError(f"{name} is negative")
        return int(number)

    def dose_sources(self) -> NDArray[np.int64]:
        """Indices in `COMPARTMENTS`; other names are passed over, unless they mean something to the engine."""
        names = self._components["Vaccinated"].sources
        if not isinstance(names, list | tuple | str):  # the engine looks at them on days with doses alone
            raise UnsupportedError(f"nu_jt_sources is {type(names).__name__}, expected list")
        sources = [COMPARTMENTS.index(name) for name in names if name in COMPARTMENTS]
        strange = any(
            type(name) is not str or hasattr(self._model.people, name) for name in names if name not in COMPARTMENTS
        )
        if strange or not sources:
            raise UnsupportedError(f"nu_jt_sources is {names!r}")
        return np.array(sources, np.int64)

    def _array(self, frame: Any, name: str, dtype: type, n_rows: int) -> int:
        array = getattr(frame, name)
        _refuse_other(name, array, dtype, (n_rows, self.n_locations))
        if not array.flags.carray:
            raise UnsupportedError(f"{name} does not lie in memory row by row, to be written to")
        return self.keep(array)

    def _copied(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A parameter's array, row by row; its own may be in another order, or not to be written to."""
        array = getattr(self._given, name)
        _refuse_other(name, array, np.float32, shape)
        return np.array(array, order="C")


def _refuse_other(name: str, array: Any, dtype: type, shape: tuple[int, ...]) -> None:
    if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise UnsupportedError(f"{name} is {found}, expected {np.dtype(dtype)} {shape}")


def _number(name: str, number: Any) -> float:
    if type(number) is not np.float32:
        raise UnsupportedError(f"{name} is {type(number).__name__}, expected float32")
    return float(number)
