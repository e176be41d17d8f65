"""HyperQueue: its LocalCluster, and a task for some simulations each, since every task is a process of its own.

Results come through files, as its documentation does it. Its empty unit of work is the program `true`, which starts
sooner than a Python function.
"""

import chunk
import shutil
import sys
import time
from pathlib import Path

import work
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main() -> None:
    with LocalCluster(str(work.folder()), WorkerConfig(cores=work.order().n_slots)) as cluster:
        client = cluster.client()
        if not work.order().n_empty:
            job = Job(default_workdir=work.folder())
            script = str(Path(chunk.__file__).resolve())
            for index, ids in enumerate(work.chunks()):
                job.program([sys.executable, script, f"task-{index}", *map(str, ids)])
            client.wait_for_jobs([client.submit(job)])
            work.answer(results=chunk.results())
            return
        _run_empty(client, 10 * work.order().n_slots)
        work.answer(empty_s=_run_empty(client, work.order().n_empty))


def _run_empty(client: object, n: int) -> float:
    began = time.perf_counter()
    job = Job(default_workdir=work.folder())
    for _ in range(n):
        job.program([shutil.which("true")], stdout=None, stderr=None)
    client.wait_for_jobs([client.submit(job)])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
