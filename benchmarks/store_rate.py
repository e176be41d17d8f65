"""Rows a second that the store commits, by the size of a batch, with all that a row has.

    python benchmarks/store_rate.py

Results as they come from ranks (contiguous batches), 60 parameters and 3 iterations each; then the same with two
saved time series of one country. No MPI and no engine: this is rank 0's hand alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from mosaic_mpi import environment
from mosaic_mpi.config import load_config
from mosaic_mpi.fake import describe
from mosaic_mpi.parameters import DefaultPrior
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.store import Store

N_ROWS = 200_000


def plan_of(n_rows: int, saved: bool) -> RunPlan:
    """A plan of one country with fake channels."""
    config = load_config(None, ["ETH"])
    save = ("fake",) if saved else ()
    plan = RunPlan(
        config, DefaultPrior(config.values), range(1, n_rows + 1), 3, save, environment.engine_versions(), "fake:"
    )
    return plan.with_channels(describe("fake:size=1155", 1)) if saved else plan


def measure(batch: int, saved: bool) -> dict[str, float]:
    """Commit batches of so many rows, and time it."""
    n_rows = min(N_ROWS, batch * 2000) if not saved else min(20_000, batch * 2000)
    plan = plan_of(n_rows, saved)
    dtype = plan.slot_plan().record_dtype
    series = np.random.default_rng(1).bytes(3000) if saved else b""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "run.h5"), plan)
        store.begin_start(n_ranks=1)
        began, cpu = time.perf_counter(), time.process_time()
        for first in range(0, n_rows, batch):
            records = np.zeros(min(batch, n_rows - first), dtype)
            records["row"] = np.arange(first, first + len(records))
            records["series_bytes"] = len(series)
            attempts = np.ones(len(records), np.int32)
            store.add(records, memoryview(series * len(records)), 1, 0, attempts)
            store.commit()
        elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
        store.close()
    return {"batch": batch, "saved": saved, "rows_per_s": n_rows / elapsed, "cpu_us_per_row": 1e6 * cpu / n_rows}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    report = [measure(batch, saved) for saved in (False, True) for batch in (1, 16, 256)]
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
