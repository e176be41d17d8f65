"""A Slurm job array on a throw-away cluster on this machine: an element for some simulations each, one core each.

The cluster's own start does not count: sites have theirs. Its empty unit of work is an element that runs `true`.
"""

import chunk
import os
import subprocess
import sys
import time
from pathlib import Path

import work

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "mpi"))
from slurm_cluster import SlurmCluster


def main() -> None:
    cluster = SlurmCluster()
    try:
        began = time.time()
        if work.order().n_empty:
            _run(cluster, ["true"] * work.order().n_empty)
            work.answer(empty_s=time.time() - began)
            return
        script = f"{sys.executable} {Path(chunk.__file__).resolve()}"
        _run(cluster, [f"{script} element-{i} {' '.join(map(str, ids))}" for i, ids in enumerate(work.chunks())])
        work.answer(results=chunk.results(), began=began)
    finally:
        cluster.stop()


def _run(cluster: SlurmCluster, commands: list[str]) -> None:
    """Submit an array of commands, and wait for its end."""
    (work.folder() / "commands.txt").write_text("\n".join(commands))
    script = work.folder() / "element.sh"
    script.write_text('#!/bin/bash\neval "$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" commands.txt)"\n')
    array = f"--array=0-{len(commands) - 1}%{work.order().n_slots}"
    subprocess.run(
        ["sbatch", "--wait", "--quiet", array, "--ntasks=1", "--output=element-%a.log", str(script)],
        cwd=work.folder(),
        env={**os.environ, **cluster.variables},
        check=True,
    )


if __name__ == "__main__":
    main()
