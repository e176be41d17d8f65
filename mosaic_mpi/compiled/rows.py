"""Rows of arrays, for compiled code that is handed their addresses.

An array as an argument is nine numbers to compiled code; with the hundred arrays of a model that made it slow to
compile and slow to call. What an address leaves open is settled elsewhere: `inputs.py` looks at type, shape and order
once, and keeps the arrays alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from numba import types
from numba.np.arrayobj import populate_array

from mosaic_mpi.compiled.njit import intrinsic

Ints: TypeAlias = int
"""Address of a contiguous array of int32, shape (n_rows, n) or (n,)."""
Floats: TypeAlias = int
"""Of float32."""
Doubles: TypeAlias = int
"""Of float64."""
Longs: TypeAlias = int
"""Of int64."""
Octets: TypeAlias = int
"""Of uint8."""


def _rows_of(dtype: Any) -> Callable[..., Any]:
    """Make what gives ``row(address, number, n)``: a row of an array of this type, ``shape (n,)``."""

    def row(typing: Any, address: Any, number: Any, n: Any) -> Any:
        kind = types.Array(dtype, 1, "C")

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            address, number, n = values
            size = context.get_constant(types.intp, dtype.bitwidth // 8)
            begin = builder.add(address, builder.mul(builder.mul(number, n), size))
            array = context.make_array(kind)(context, builder)
            data = builder.inttoptr(begin, array.data.type)
            populate_array(array, data=data, shape=[n], strides=[size], itemsize=size, meminfo=None)
            return array._getvalue()

        return kind(types.intp, types.intp, types.intp), generate

    return intrinsic(row)


ints, floats, doubles = _rows_of(types.int32), _rows_of(types.float32), _rows_of(types.float64)
longs, octets = _rows_of(types.int64), _rows_of(types.uint8)
