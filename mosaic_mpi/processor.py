"""What of a host decides last bits: features of its processor that NumPy uses, and its C library.

Knows hosts by what their ranks say of themselves. `environment.use_baseline_processor` makes them agree.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Sequence
from typing import Any

from mosaic_mpi.messages import Hello


def processor() -> str:
    """Features that this process's NumPy uses, and the C library: equal texts give equal numbers."""
    core: Any = importlib.import_module("numpy._core._multiarray_umath")
    features = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    return " ".join((platform.machine(), *features, *platform.libc_ver()))


def differing_hosts(hellos: Sequence[Hello]) -> str | None:
    """Name the hosts whose processor or C library is not that of most, for a person; None where all agree."""
    kinds: dict[str, list[str]] = {}
    for hello in hellos:
        hosts = kinds.setdefault(hello.processor, [])
        if hello.host not in hosts:
            hosts.append(hello.host)
    if len(kinds) < 2:
        return None
    groups = sorted(kinds.items(), key=lambda kind: len(kind[1]))
    told = "; ".join(f"{_named(hosts)}: {kind}" for kind, hosts in groups)
    return (
        f"hosts differ in processor or C library, and with them the last bits of some numbers ({told}); "
        "--cpu-features baseline makes them agree"
    )


def _named(hosts: list[str]) -> str:
    more = f" and {len(hosts) - 4} more" if len(hosts) > 4 else ""
    return ", ".join(hosts[:4]) + more
