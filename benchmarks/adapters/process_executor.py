"""concurrent.futures.ProcessPoolExecutor: an initializer prepares each worker, a future a simulation."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

import work


@contextlib.contextmanager
def peer() -> Iterator[work.Mapper]:
    initializer = None if work.order().n_empty else work.prepare
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(work.order().n_slots, context, initializer) as executor:
        yield lambda function, items: (
            future.result() for future in as_completed([executor.submit(function, item) for item in items])
        )


if __name__ == "__main__":
    work.serve(peer)
