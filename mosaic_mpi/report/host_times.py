"""How long simulations take, host by host, so that a slow one stands out. Pure NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOW = 1.25
"""A host is called slow when its median exceeds the usual host's so many times …"""
_ENOUGH = 5
"""… over so many simulations."""
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class HostTimes:
    """Simulation times by host, the slowest first.

    Parameters
    ----------
    host : ndarray of int64, shape (n_hosts,)
        Hosts with a completed simulation.
    n : ndarray of int64, shape (n_hosts,)
        Completed simulations of each.
    quantiles : ndarray of float64, shape (n_hosts, 5)
        5, 25, 50, 75 and 95 % of the time of a simulation, seconds.
    median_s : float
        Of all simulations; NaN without any.
    slow : ndarray of bool, shape (n_hosts,)
        Hosts that stand out.
    """

    host: NDArray[np.int64]
    n: NDArray[np.int64]
    quantiles: NDArray[np.float64]
    median_s: float
    slow: NDArray[np.bool_]


def by_host(host: NDArray[np.int64], elapsed_s: NDArray[np.float64]) -> HostTimes:
    """Sort simulation times by host.

    Parameters
    ----------
    host : ndarray of int64, shape (n,)
        Where each simulation ran.
    elapsed_s : ndarray of float64, shape (n,)
        Seconds in its slot.
    """
    order = np.lexsort((elapsed_s, host))
    hosts, first, n = np.unique(host[order], return_index=True, return_counts=True)
    quantiles = _quantiles(elapsed_s[order], first, n) if len(hosts) else np.empty((0, len(_LEVELS)))
    median = float(np.median(elapsed_s)) if len(elapsed_s) else float("nan")
    # Against the other hosts, not against all simulations: a fast host has more of them.
    usual = float(np.median(quantiles[:, 2])) if len(hosts) else float("nan")
    slow = (quantiles[:, 2] > SLOW * usual) & (n >= _ENOUGH)
    slowest = np.argsort(-quantiles[:, 2], kind="stable")
    return HostTimes(hosts[slowest], n[slowest], quantiles[slowest], median, slow[slowest])


def _quantiles(ordered: NDArray[np.float64], first: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quantiles of every host at once, interpolated as NumPy does it, so that all of the page agrees."""
    place = np.outer(n - 1, _LEVELS)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, (n - 1)[:, None])
    low, high = ordered[first[:, None] + below], ordered[first[:, None] + above]
    found: NDArray[np.float64] = low + (high - low) * (place - below)
    return found
