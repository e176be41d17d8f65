"""How many slots each rank gets.

Pure: from what the ranks said of their hosts to numbers.
"""

from __future__ import annotations

import math
from collections import defaultdict

from mosaic_mpi.messages import Hello

DIRECTS_ONLY_ABOVE = 32
"""With more slots elsewhere than this, a rank 0 with a single core does not simulate: it only directs."""


def allocate(hellos: list[Hello], requested: int | None) -> list[int]:
    """Share out slots so that every core that a node's ranks may use has one, and none has two.

    Parameters
    ----------
    hellos : list of Hello
        By rank.
    requested : int or None
        Slots of every rank, by the user's wish; None to follow the cores.

    Returns
    -------
    list of int
        Slots of each rank; some may have none, all together at least one.
    """
    if requested is not None:
        return [requested] * len(hellos)
    slots = [0] * len(hellos)
    nodes: defaultdict[str, list[int]] = defaultdict(list)
    for rank, hello in enumerate(hellos):
        nodes[hello.host].append(rank)
    for ranks in nodes.values():
        _fill_node(hellos, ranks, slots)
    others = sum(slots[1:])
    if slots[0] == 1 and others > DIRECTS_ONLY_ABOVE:
        slots[0] = 0
    if not any(slots):
        slots[-1] = 1
    return slots


def _fill_node(hellos: list[Hello], ranks: list[int], slots: list[int]) -> None:
    """Deal a node's cores to the ranks that may use them, those that have fewest first."""
    allowance = _quota(hellos, ranks)
    cores = sorted({core for rank in ranks for core in hellos[rank].cores})
    for core in cores[:allowance]:
        able = [rank for rank in ranks if core in hellos[rank].cores]
        chosen = min(able, key=lambda rank: (slots[rank], rank == 0, rank))  # rank 0 last: it directs too
        slots[chosen] += 1


def _quota(hellos: list[Hello], ranks: list[int]) -> int:
    quota = min(hellos[rank].quota_cores for rank in ranks)
    return 10**9 if math.isinf(quota) else max(int(quota), 1)


def hidden_cores(hellos: list[Hello], requested: int | None) -> str:
    """Say which cores no rank may use, and what to pass; an empty string when that is fine."""
    used: defaultdict[str, set[int]] = defaultdict(set)
    for hello in hellos:
        used[hello.host].update(hello.cores)
    hosts = {hello.host: hello for hello in hellos}
    short = [
        f"{host} lets us use {len(used[host])} of {hello.n_node_cores} cores"
        for host, hello in hosts.items()
        if len(used[host]) <= hello.n_node_cores // 2
    ]
    if not short or requested is not None:
        return ""
    return (
        f"{short[0]}{f' (and {len(short) - 1} hosts more)' if len(short) > 1 else ''}; if all of the node is "
        "yours, pass mpirun --bind-to none, or srun --cpus-per-task=CORES"
    )
