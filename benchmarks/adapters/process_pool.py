"""multiprocessing.Pool: an initializer prepares each worker, results come unordered, one simulation a message."""

import contextlib
import multiprocessing
from collections.abc import Iterator

import work


@contextlib.contextmanager
def peer() -> Iterator[work.Mapper]:
    initializer = None if work.order().n_empty else work.prepare
    with multiprocessing.get_context("spawn").Pool(work.order().n_slots, initializer) as pool:
        yield pool.imap_unordered


if __name__ == "__main__":
    work.serve(peer)
