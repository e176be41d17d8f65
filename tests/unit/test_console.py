"""What cannot be said does not end a run."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = "from mosaic_mpi.console import say, complain; [say('x' * 1000) for _ in range(200)]; complain('done')"


def test_a_full_log_is_no_error() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30
        )
    assert done.returncode == 0
    assert done.stderr == "done\n"


def test_nor_is_a_closed_pipe_or_none_at_all() -> None:
    for command in (f'"{sys.executable}" -c "$0" | head -c 10', f'"{sys.executable}" -c "$0" >&- 2>&-'):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command, SCRIPT], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
