"""MPI's world in which few processes play all ranks but rank 0, for `virtual_cluster.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mosaic_mpi.comm import MPIComm
from mosaic_mpi.messages import Message, decode, encode

_KINDS = 16
"""A tag is a message's kind, and 16 times the rank's place among those that its process plays."""


class PlayedComm(MPIComm):
    """Process p > 0 of P + 1 plays the ranks p, p + P, p + 2 P, ….

    Parameters
    ----------
    launcher : Launcher
        See `MPIComm`.
    n_ranks : int
        Played ranks.
    """

    def __init__(self, launcher: Any, n_ranks: int) -> None:
        super().__init__(launcher)
        self.n_players = self.size - 1
        self.size = 1 + n_ranks

    @property
    def n_played(self) -> int:
        """Ranks that this process plays."""
        return len(range(self.rank, self.size, self.n_players))

    def send(self, to: int, message: Message) -> None:
        """See `Comm.send`; from rank 0 to a played rank."""
        if to == self.rank:
            super().send(to, message)
            return
        place, process = divmod(to - 1, self.n_players)
        self._send(process + 1, message, place)

    def send_as(self, place: int, message: Message) -> None:
        """Send to rank 0 as one of the played ranks."""
        self._send(0, message, place)

    def _send(self, process: int, message: Message, place: int) -> None:
        data = encode(message)
        request = self._world.Isend([data, self._mpi.BYTE], dest=process, tag=message.kind + _KINDS * place)
        self._sending.append((process, request, data))

    @property
    def n_unsent(self) -> int:
        """Messages that the other side has not taken yet, as far as this one has looked."""
        return len(self._sending)

    def _take(self) -> tuple[int, Message] | None:
        status = self._mpi.Status()
        found = self._world.Improbe(status=status)
        if found is None:
            return None
        data = bytearray(status.Get_count(self._mpi.BYTE))
        found.Recv([data, self._mpi.BYTE])
        place, kind = divmod(status.Get_tag(), _KINDS)
        source = status.Get_source()
        return (1 + place * self.n_players + source - 1 if self.rank == 0 else place), decode(kind, data)


def peak_resident_bytes() -> int:
    """Largest resident memory of this process so far (VmHWM): pages that it shares with others count wholly."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
