"""Random draws: NumPy's own functions, called by address.

Mirrors what `numpy.random.Generator.binomial` and `.poisson` do with one element of their arrays: the same check of
its arguments, the same function of the same stream. The functions are those that `numpy/random/_generator` exports
for C and Numba.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numpy.random import _generator

from mosaic_mpi.compiled.njit import intrinsic, njit

REFUSED = -1
"""In the place of a draw: NumPy would raise over its arguments."""
_MAX_RATE = 9e18
"""A little below the rate that NumPy finds too large."""
_WORKSPACE_BYTES = 1024
"""Several times the size of NumPy's binomial_t, in which it keeps the constants of the latest n and p."""


class Draws(NamedTuple):
    """A generator, for compiled code: addresses.

    Parameters
    ----------
    bit_generator : int
        The stream (bitgen_t).
    binomial, poisson : int
        NumPy's functions.
    workspace : int
        Room for binomial_t; zeros before the first draw.
    """

    bit_generator: Any
    binomial: Any
    poisson: Any
    workspace: Any


class Drawing:
    """NumPy's functions, and the room that they need; one at a time may draw."""

    def __init__(self) -> None:
        library = ctypes.CDLL(_generator.__file__)
        names = ("random_binomial", "random_poisson")
        self._functions = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names]
        self._workspace = np.zeros(_WORKSPACE_BYTES, np.uint8)

    def by(self, generator: np.random.Generator) -> Draws:
        """Return a generator's draws, good until the next call; they advance its own stream."""
        self._workspace[:] = 0
        binomial, poisson = self._functions
        return Draws(bit_generator_of(generator), binomial, poisson, self._workspace.ctypes.data)


def bit_generator_of(generator: np.random.Generator) -> int:
    """Address of a generator's stream (bitgen_t)."""
    return int(_capsule_pointer(generator.bit_generator.capsule, b"BitGenerator"))


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_INT64, _DOUBLE = ir.IntType(64), ir.DoubleType()
_POINTER = ir.IntType(8).as_pointer()


def _called(builder: Any, address: Any, returned: Any, arguments: Any) -> Any:
    """Call the C function at an address; integers that stand for addresses have been made pointers."""
    kind = ir.FunctionType(returned, [value.type for value in arguments])
    return builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)


@intrinsic
def _call_binomial(typing: Any, function: Any, stream: Any, p: Any, n: Any, workspace: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function, stream, p, n, workspace = values
        pointers = [builder.inttoptr(address, _POINTER) for address in (stream, workspace)]
        return _called(builder, function, _INT64, [pointers[0], p, n, pointers[1]])

    return types.int64(types.intp, types.intp, types.float64, types.int64, types.intp), generate


@intrinsic
def _call_poisson(typing: Any, function: Any, stream: Any, rate: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function, stream, rate = values
        return _called(builder, function, _INT64, [builder.inttoptr(stream, _POINTER), rate])

    return types.int64(types.intp, types.intp, types.float64), generate


@njit
def binomial(draws: Any, n: Any, p: Any) -> Any:
    """``Generator.binomial(n, p)`` of one element: int64, or `REFUSED`."""
    if n < 0 or not (p >= 0.0 and p <= 1.0):
        return np.int64(REFUSED)
    if n == 0 or p == 0.0:  # as NumPy's function begins; a call less for each empty compartment
        return np.int64(0)
    return _call_binomial(draws.binomial, draws.bit_generator, np.float64(p), np.int64(n), draws.workspace)


@njit
def poisson(draws: Any, rate: Any) -> Any:
    """``Generator.poisson(rate)`` of one element: int64, or `REFUSED`."""
    if not (rate >= 0.0 and rate <= _MAX_RATE):
        return np.int64(REFUSED)
    if rate == 0.0:
        return np.int64(0)
    return _call_poisson(draws.poisson, draws.bit_generator, np.float64(rate))
