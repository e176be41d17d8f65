"""Dask distributed: a LocalCluster of single-threaded worker processes, futures taken as they complete.

No dashboard, no memory limit (its workers would pause near it). Each worker is prepared by `Client.run`.
"""

import contextlib
from collections.abc import Iterator

import work
from dask.distributed import Client, LocalCluster, as_completed


@contextlib.contextmanager
def peer() -> Iterator[work.Mapper]:
    cluster = LocalCluster(
        n_workers=work.order().n_slots,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        memory_limit=None,
    )
    with cluster, Client(cluster) as client:
        if not work.order().n_empty:
            client.run(_prepare)

        def mapper(function: object, items: object) -> Iterator[object]:
            futures = client.map(function, list(items), pure=False)
            return (result for _, result in as_completed(futures, with_results=True))

        yield mapper


def _prepare() -> None:
    work.prepare()


if __name__ == "__main__":
    work.serve(peer)
