"""What every benchmark says of where it ran, and how it sums up repeated values."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

from mosaic_mpi import environment


def machine() -> dict[str, object]:
    """Return the processor's model, the number of cores, the kernel, and the versions of Python and of packages."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "n_cores": len(environment.allowed_cores()),
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": environment.versions(),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, smallest, largest and number of some values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
