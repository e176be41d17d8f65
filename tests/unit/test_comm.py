"""Messages on their way: let go of once they are sent, whoever else does not receive."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

from mosaic_mpi.comm import MPIComm


class Request:
    """A message on its way to somebody who receives it, or does not."""

    def __init__(self, is_received: bool) -> None:
        self.is_received, self.n_asked = is_received, 0

    def Test(self) -> bool:
        self.n_asked += 1
        return self.is_received


def comm_with(requests: list[Request]) -> MPIComm:
    comm = object.__new__(MPIComm)
    guard: Any = contextlib.nullcontext()
    comm._tolerating_loss = guard
    comm._sending = deque((rank, request, b"") for rank, request in enumerate(requests))
    return comm


def left(comm: MPIComm) -> list[Request]:
    return [request for _, request, _ in comm._sending]


def test_what_was_sent_is_let_go_of_at_once() -> None:
    comm = comm_with([Request(True) for _ in range(1000)])
    comm._forget_sent()
    assert not left(comm)


def test_who_does_not_receive_keeps_no_other_message_alive() -> None:
    deaf = [Request(False) for _ in range(40)]
    comm = comm_with([*deaf, *(Request(True) for _ in range(1000))])
    for _ in range(4):
        comm._forget_sent()
    assert set(left(comm)) == set(deaf)


def test_of_many_under_way_few_are_asked_at_a_time_but_each_in_its_turn() -> None:
    deaf = [Request(False) for _ in range(1000)]
    comm = comm_with(deaf)
    comm._forget_sent()
    assert sum(request.n_asked for request in deaf) < 50
    for _ in range(100):
        comm._forget_sent()
    assert all(request.n_asked for request in deaf)
    deaf[500].is_received = True
    for _ in range(100):
        comm._forget_sent()
    assert len(left(comm)) == 999


def test_nothing_under_way_is_nothing_to_do() -> None:
    comm = comm_with([])
    comm._forget_sent()
    assert not left(comm)
