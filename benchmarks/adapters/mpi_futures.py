"""mpi4py.futures: ``mpirun -n SLOTS+1 python -m mpi4py.futures``; rank 0 directs, results come unordered."""

import contextlib
from collections.abc import Iterator

import work
from mpi4py.futures import MPIPoolExecutor


@contextlib.contextmanager
def peer() -> Iterator[work.Mapper]:
    initializer = None if work.order().n_empty else work.prepare
    with MPIPoolExecutor(work.order().n_slots, initializer=initializer) as executor:
        yield lambda function, items: executor.map(function, items, unordered=True)


if __name__ == "__main__":
    work.serve(peer)
