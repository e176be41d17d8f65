"""Ray: an actor a slot that prepares itself in its constructor, and an ActorPool over them, unordered."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import work
from ray.util import ActorPool


@ray.remote(num_cpus=1)
class Slot:
    def __init__(self, path: str) -> None:
        os.environ[work.VARIABLE] = path
        if not work.order().n_empty:
            work.prepare()

    def call(self, function: Callable[[int], Any], item: int) -> Any:
        return function(item)


@contextlib.contextmanager
def peer() -> Iterator[work.Mapper]:
    ray.init(
        num_cpus=work.order().n_slots,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(work.__file__).parent), **_threads()}},
    )
    try:
        slots = [Slot.remote(os.environ[work.VARIABLE]) for _ in range(work.order().n_slots)]
        pool = ActorPool(slots)

        def mapper(function: Callable[[int], Any], items: Any) -> Iterator[Any]:
            if work.order().n_empty:  # all at once, so that no slot waits for the pool
                yield from ray.get([slots[item % len(slots)].call.remote(function, item) for item in items])
            else:
                yield from pool.map_unordered(lambda slot, item: slot.call.remote(function, item), list(items))

        yield mapper
    finally:
        ray.shutdown()


def _threads() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}


if __name__ == "__main__":
    work.serve(peer)
