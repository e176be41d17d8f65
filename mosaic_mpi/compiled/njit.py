"""How functions of this package are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.extending import intrinsic as _intrinsic

OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "_nrt": False}
"""NumPy's rules: a division by zero is inf or NaN, sums keep their order, nothing is contracted. Nothing is allocated
either: the caller keeps all arrays alive, and counting references to hundreds of them would take most of a tick."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def njit(function: _Function) -> _Function:
    """Compile a function that only compiled ones call."""
    compiled: _Function = numba.njit(**OPTIONS)(function)
    return compiled


def intrinsic(generator: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of what generates its machine code; compiled functions call it without the first argument."""
    made: Callable[..., Any] = _intrinsic(generator)
    return made
