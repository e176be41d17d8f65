"""Results that wait for a commit, and the columns of the file's tables that they become."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COPIED = ("likelihood", "elapsed_s", "finished_at", "slot", "n_stock", "checksum")
"""Fields of a record that are stored as they come."""


@dataclass(frozen=True)
class Batch:
    """Results that came together.

    Parameters
    ----------
    records : ndarray of `records.record_dtype`, shape (n,)
        Each row once.
    ranks, hosts : ndarray of int64, shape (n,)
        Where they ran; hosts by their rows in ``hosts/name``.
    attempts : ndarray of int32, shape (n,)
        Attempts that each took.
    start : int
        Where their series begin in the spool.
    """

    records: NDArray[np.void]
    ranks: NDArray[np.int64]
    hosts: NDArray[np.int64]
    attempts: NDArray[np.int32]
    start: int

    def series_offsets(self) -> NDArray[np.int64]:
        """Where each channel of each result begins, ``ndarray of int64, shape (n, n_channels)``."""
        sizes: NDArray[np.int64] = self.records["series_bytes"]
        ends = self.start + np.cumsum(sizes.ravel()).reshape(sizes.shape)
        offsets: NDArray[np.int64] = ends - sizes
        return offsets


def columns_of(
    batches: Sequence[Batch], start_row: int, n_committed: int, has_spool: bool
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Return what is to be written of some batches.

    Parameters
    ----------
    batches : sequence of Batch
        At least one; no row twice.
    start_row : int
        Row of this start in ``starts/*``.
    n_committed : int
        Results that were committed before.
    has_spool : bool
        Whether their series are in a spool.

    Returns
    -------
    rows : ndarray of int64, shape (n,)
        Ascending.
    columns : dict
        By table, one entry a row; all but the status.
    """
    records = np.frombuffer(
        b"".join([batch.records.view(np.uint8).data for batch in batches]), batches[0].records.dtype
    )
    order = np.argsort(records["row"], kind="stable")
    records = records[order]

    def joined(columns: Iterable[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(list(columns))[order]

    columns = {
        **{f"simulations/{name}": records[name] for name in _COPIED},
        "simulations/rank": joined(batch.ranks for batch in batches),
        "simulations/host": joined(batch.hosts for batch in batches),
        "simulations/start": np.full(len(records), start_row, np.int32),
        "simulations/attempts": joined(batch.attempts for batch in batches),
        "simulations/commit": (n_committed + 1 + order).astype(np.int32),
        "iterations/likelihood": records["iteration_likelihood"],
        "parameters/values": records["parameters"],
    }
    if has_spool:
        columns["series/bytes"] = records["series_bytes"]
        columns["series/offset"] = joined(batch.series_offsets() for batch in batches)
    return records["row"], columns
