"""What joining the iterations of a simulation costs rank 0, against inflating and deflating its series again.

    python -m mosaic_mpi run --n-simulations 1 --save reported_cases,reported_deaths --output run.h5
    python benchmarks/joining.py run.h5 [--together 1000]

Takes the series of the file's first completed simulation; medians of many rounds, in microseconds of one
core. `--together` says how many simulations come in one batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import mosaic_mpi
from mosaic_mpi.joins import Joins
from mosaic_mpi.records import compress, compress_iteration, decompress, record_dtype


def parts_of(
    channels: list[NDArray[np.generic]], n_iterations: int, n_parameters: int
) -> tuple[np.dtype[np.void], list[bytes]]:
    """What slots would send of a simulation's iterations, one each."""
    dtype = record_dtype(n_iterations, n_parameters, len(channels))
    parts = []
    for iteration in range(n_iterations):
        series = [compress_iteration(channel[iteration]) for channel in channels]
        record = np.zeros((), dtype)
        record["iteration"] = iteration + 1
        record["iteration_likelihood"][iteration] = -1000.0 - iteration
        record["series_bytes"] = [len(data) for data in series]
        parts.append(record.tobytes() + b"".join(series))
    return dtype, parts


def join(dtype: np.dtype[np.void], parts: list[bytes], together: int) -> list[bytes]:
    """What rank 0 does with those of so many simulations that come together; return the series."""
    one = b"".join(payload[: dtype.itemsize] for payload in parts)
    records = np.frombuffer(one * together, dtype).copy()
    records["row"] = np.repeat(np.arange(together), len(parts))
    series = [memoryview(payload)[dtype.itemsize :] for payload in parts] * together
    has_series = records["series_bytes"].size > 0
    return Joins(len(parts)).add(records, np.zeros(len(records), np.int64), series if has_series else [])[2]


def median_us(what: Callable[[], object], n_rounds: int) -> float:
    """Median time of a call."""
    found = []
    for _ in range(n_rounds):
        began = time.perf_counter()
        what()
        found.append(1e6 * (time.perf_counter() - began))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a results file with saved channels")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--together", type=int, default=1, help="simulations whose iterations come at once")
    options = parser.parse_args()
    run = mosaic_mpi.open(options.file)
    sim_id = int(run.completed()[0]) + 1
    channels = [run.channel(name, [sim_id]).values[0] for name in run.channels]
    n_iterations, n_parameters = len(channels[0]), len(run.parameter_names)
    dtype, parts = parts_of(channels, n_iterations, n_parameters)
    plain_dtype, plain_parts = parts_of([], n_iterations, n_parameters)
    alone = [[compress([iteration]) for iteration in channel] for channel in channels]

    def again() -> bytes:
        whole = [
            compress([decompress(data, channel.shape[1:], channel.dtype.str) for data in packed])
            for channel, packed in zip(channels, alone, strict=True)
        ]
        return b"".join(whole)

    n = options.together
    assert join(dtype, parts, n) == [again()] * n, "joined series are not those of the whole simulation"
    report = {
        "stored_bytes": len(again()),
        "n_parameters": n_parameters,
        "together": n,
        "join_us": median_us(lambda: join(dtype, parts, n), options.rounds) / n,
        "join_without_series_us": median_us(lambda: join(plain_dtype, plain_parts, n), options.rounds) / n,
        "inflate_and_deflate_us": median_us(again, options.rounds),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
