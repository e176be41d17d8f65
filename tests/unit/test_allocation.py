"""Slots follow cores: every core used once, whatever the launcher's layout."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from mosaic_mpi.allocation import DIRECTS_ONLY_ABOVE, allocate, hidden_cores
from mosaic_mpi.messages import Hello


def rank(cores: Sequence[int], host: str = "a", n_node_cores: int = 8, quota: float = math.inf) -> Hello:
    return Hello(host, tuple(cores), n_node_cores, quota, "")


def unbound(n_ranks: int, n_cores: int, host: str = "a", **more: float) -> list[Hello]:
    return [rank(range(n_cores), host, n_cores, **more) for _ in range(n_ranks)]


LAYOUTS: dict[str, tuple[list[Hello], list[int]]] = {
    "no launcher": (unbound(1, 2), [2]),
    "as many ranks as cores": (unbound(4, 4), [1, 1, 1, 1]),
    "one rank a node": (unbound(1, 16) + unbound(1, 16, "b"), [16, 16]),
    "two ranks on four cores": (unbound(2, 4), [2, 2]),
    "three ranks on four cores: rank 0 gets no more than others": (unbound(3, 4), [1, 2, 1]),
    "more ranks than cores: rank 0 only directs": (unbound(3, 2), [0, 1, 1]),
    "bound to a core each": ([rank([0]), rank([1]), rank([2])], [1, 1, 1]),
    "bound to one and the same core": ([rank([3]), rank([3])], [0, 1]),
    "bound to disjoint sets": ([rank([0, 1]), rank([2, 3, 4])], [2, 3]),
    "one within the other": ([rank([0, 1]), rank([0])], [1, 1]),
    "uneven nodes": (unbound(1, 2) + unbound(2, 8, "b"), [2, 4, 4]),
    "a quota below the cores": (unbound(1, 8, quota=2.5), [2]),
    "a quota below one": (unbound(1, 8, quota=0.5), [1]),
    "the classic layout: rank 0 only directs": (
        [rank([core], f"h{core // 40}", 40) for core in range(40)],
        [0] + [1] * 39,
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    hellos, expected = LAYOUTS[layout]
    assert allocate(hellos, None) == expected


def test_wishes_are_followed() -> None:
    assert allocate(unbound(3, 2), 5) == [5, 5, 5]


@pytest.mark.parametrize("n_others", [DIRECTS_ONLY_ABOVE, DIRECTS_ONLY_ABOVE + 1])
def test_rank_0_directs_only_when_one_core_matters_little(n_others: int) -> None:
    hellos = [rank([0], "a"), *(rank([core], "b", 64) for core in range(n_others))]
    assert allocate(hellos, None)[0] == (1 if n_others <= DIRECTS_ONLY_ABOVE else 0)


def test_a_rank_0_with_several_cores_simulates_however_many_there_are() -> None:
    assert allocate(unbound(1, 4) + unbound(1, 120, "b"), None) == [4, 120]


@pytest.mark.parametrize("seed", range(60))
def test_every_core_is_used_once_and_only_by_ranks_that_may(seed: int) -> None:
    dice = random.Random(seed)
    hellos = []
    for host in range(dice.randint(1, 3)):
        n_cores = dice.randint(1, 12)
        quota = dice.choice((math.inf, math.inf, float(dice.randint(1, 12))))
        for _ in range(dice.randint(1, 6)):
            mask = range(n_cores) if dice.random() < 0.5 else dice.sample(range(n_cores), dice.randint(1, n_cores))
            hellos.append(rank(sorted(mask), f"h{host}", n_cores, quota))
    dice.shuffle(hellos)
    slots = allocate(hellos, None)
    assert len(slots) == len(hellos)
    assert sum(slots) >= 1
    for host in {hello.host for hello in hellos}:
        ranks = [index for index, hello in enumerate(hellos) if hello.host == host]
        cores = {core for index in ranks for core in hellos[index].cores}
        total = sum(slots[index] for index in ranks)
        assert total == min(len(cores), hellos[ranks[0]].quota_cores)
        for chosen in range(1, 2 ** len(ranks)):  # Hall: no group of ranks has more slots than cores between them
            group = [index for bit, index in enumerate(ranks) if chosen >> bit & 1]
            assert sum(slots[index] for index in group) <= len({c for index in group for c in hellos[index].cores})


def test_a_mask_that_hides_most_of_the_node_is_told_with_the_remedy() -> None:
    note = hidden_cores([rank([0], "a", 64), rank([0], "b", 64)], None)
    assert "a lets us use 1 of 64 cores" in note
    assert "1 hosts more" in note
    assert "--bind-to none" in note
    assert "--cpus-per-task" in note


def test_nothing_is_said_when_the_masks_together_cover_the_node_or_the_user_chose() -> None:
    assert hidden_cores([rank([core], "a", 4) for core in range(4)], None) == ""
    assert hidden_cores([rank([0], "a", 64)], 4) == ""
