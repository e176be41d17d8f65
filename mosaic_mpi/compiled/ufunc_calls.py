"""Powers, exponentials and maxima: the inner loops of NumPy's ufuncs, called by address.

Numba's and the C library's functions differ from NumPy's in the last bit, and NumPy's own differ by processor: the
loop that a ufunc object points to is the one that NumPy itself calls here. The layout of that object and the
signature of its loops are part of NumPy's C interface (PyUFuncObject, PyUFuncGenericFunction).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from mosaic_mpi.compiled.njit import intrinsic, njit


class Call(NamedTuple):
    """A call of a loop with the same arrays every time, for compiled code: addresses.

    Parameters
    ----------
    function : int
        The loop.
    pointers, length, strides : int
        Its arguments: where the arrays begin, their elements, bytes from one element to the next.
    data : int
        What NumPy hands to the loop besides.
    """

    function: Any
    pointers: Any
    length: Any
    strides: Any
    data: Any


class UfuncCalls:
    """Calls of ufuncs, and the memory that they need."""

    def __init__(self) -> None:
        self._kept: list[NDArray[Any]] = []

    def prepare(self, ufunc: np.ufunc, *arrays: NDArray[Any]) -> Call:
        """Prepare ``ufunc(*arrays[:-1], out=arrays[-1])``.

        Parameters
        ----------
        ufunc : numpy.ufunc
            Without conversion of types.
        *arrays : ndarray, shape (n,)
            Inputs and output, contiguous; an input of shape () stands for a number. That decides which path NumPy's
            power takes for exponents like 0.5.

        Raises
        ------
        LookupError
            The ufunc object does not look as expected.
        """
        pointers = np.array([array.ctypes.data for array in arrays], np.int64)
        length = np.array([arrays[-1].size], np.int64)
        strides = np.array([array.itemsize if array.ndim else 0 for array in arrays], np.int64)
        self._kept += [*arrays, pointers, length, strides]
        function, data = _find_loop(ufunc, [array.dtype for array in arrays])
        return Call(function, pointers.ctypes.data, length.ctypes.data, strides.ctypes.data, data)


class _UfuncHead(ctypes.Structure):
    """The first fields of PyUFuncObject, after those of every Python object."""

    _fields_ = (
        ("n_in", ctypes.c_int),
        ("n_out", ctypes.c_int),
        ("n_arguments", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("n_types", ctypes.c_int),
    )


def _find_loop(ufunc: np.ufunc, dtypes: list[np.dtype[Any]]) -> tuple[int, int]:
    """Address of the loop for some types, and of its data."""
    head = _UfuncHead.from_address(id(ufunc) + object.__basicsize__)
    found = (head.n_in, head.n_out, head.n_arguments, head.n_types)
    if found != (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes):
        raise LookupError(f"{ufunc} is not laid out as NumPy's C interface says")
    *given, returned = (dtype.char for dtype in dtypes)
    index = ufunc.types.index(f"{''.join(given)}->{returned}")
    function = head.functions[index]
    if not function:
        raise LookupError(f"{ufunc} has no loop for {given}")
    return function, (head.data[index] or 0) if head.data else 0


_POINTER = ir.IntType(8).as_pointer()


@intrinsic
def _call(typing: Any, function: Any, pointers: Any, length: Any, strides: Any, data: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function, *addresses = values
        kind = ir.FunctionType(ir.VoidType(), [_POINTER] * 4)
        arguments = [builder.inttoptr(address, _POINTER) for address in addresses]
        builder.call(builder.inttoptr(function, kind.as_pointer()), arguments)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate


@njit
def run(call: Any) -> None:
    """Run a prepared call: its output is written."""
    _call(call.function, call.pointers, call.length, call.strides, call.data)
