"""Which loop over ticks each rank runs, as their slots say when they start; and what of that a person is told.

Knows hosts by name only. Decides whether a run that was asked for the compiled loop may begin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mosaic_mpi.engine_choice import COMPILED, STOCK, Verdict
from mosaic_mpi.error_kinds import by_kind
from mosaic_mpi.errors import LaunchError
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.ranks import Ranks

_MAX_KINDS = 3
_MAX_NAMED = 4
_PATIENCE_SECONDS, _TIMEOUTS = 600.0, 2.0
"""So long at least, and so many times as long as a rank may be silent, slots may take to say which loop they run:
longer than they wait for another process that compiles and for the check, and than a silent rank is waited for."""
_MAX_REASON = 110
"""Of several reasons; so many kinds with so many hosts and such reasons fit into ``starts/engine``."""


class Loops:
    """The loops of a run's ranks.

    Parameters
    ----------
    plan : SlotPlan
        Tells what was asked for, and whether any ticks are run at all.
    hosts : sequence of str
        Host of each rank.
    told : str
        What was told already, of a single rank.
    rank_timeout_s : float
        A rank that is silent for so long is given up.
    """

    def __init__(self, plan: SlotPlan, hosts: Sequence[str], told: str = "", rank_timeout_s: float = 0.0) -> None:
        self._hosts, self.told = hosts, told
        self._patience_s = max(_PATIENCE_SECONDS, _TIMEOUTS * rank_timeout_s)
        self._is_expected, self._must_compile = plan.simulator == "laser", plan.engine == COMPILED
        self._verdicts: dict[int, Verdict] = {}
        self._is_known = np.zeros(len(hosts), bool)
        self._is_settled = not self._is_expected

    def learn(self, rank: int, verdict: Verdict) -> None:
        """A rank's slots have told which loop they run."""
        self._verdicts[rank] = verdict
        self._is_known[rank] = True
        self._is_settled = False

    def is_refused(self, rank: int) -> bool:
        """Whether the run will not begin because of this rank, which has said so already."""
        return self._must_compile and not self.told and self._is_stock(rank)

    def _is_stock(self, rank: int) -> bool:
        return rank in self._verdicts and self._verdicts[rank].kind == STOCK

    def may_begin(self, ranks: Ranks, waited_s: float = 0.0) -> bool:
        """Whether anything may be handed out: who asked for the compiled loop waits until every rank has it.

        Parameters
        ----------
        ranks : Ranks
            Those that are gone are not waited for.
        waited_s : float
            Seconds that were waited so far.

        Raises
        ------
        LaunchError
            Some have not, or do not say so although they live: their slots hang as they start.
        """
        if not self._must_compile or not self._is_expected or self.told:
            return True  # a rank that loses it later is done without, as one whose slots do not start
        if not self._are_all_known(ranks):
            if waited_s > self._patience_s:
                raise LaunchError(self._who_is_waited_for(ranks))
            return False
        if not any(map(self._is_stock, self._verdicts)):
            return True
        found = self._by_host(self._kinds())
        raise LaunchError(
            f"--engine compiled is not to be had everywhere: {found}; --engine auto takes the stock loop there"
        )

    def news(self, ranks: Ranks, at_the_end: bool = False) -> str:
        """Return what is to be told now that was not told yet; empty if nothing.

        Parameters
        ----------
        ranks : Ranks
            Those that are gone are not waited for.
        at_the_end : bool
            Whether to wait for nobody.
        """
        if self._is_settled or not (at_the_end or self._are_all_known(ranks)):
            return ""
        self._is_settled, before = True, self.told
        kinds = self._kinds()
        self.told = self._by_host(kinds) if len(kinds) > 1 else str(self._verdicts[kinds[0][0]]) if kinds else ""
        return self.told if self.told != before else ""

    def _who_is_waited_for(self, ranks: Ranks) -> str:
        silent = np.flatnonzero(~ranks.is_known | (~self._is_known & (ranks.n_slots > 0))).tolist()
        hosts = self._some_hosts(silent)
        return (
            f"--engine compiled: no slot on {hosts} has said within {self._patience_s:.0f} s which loop it runs; "
            "--engine auto begins without them"
        )

    def _are_all_known(self, ranks: Ranks) -> bool:
        return ranks.are_all_known and bool((self._is_known | (ranks.n_slots == 0)).all())

    def _kinds(self) -> list[list[int]]:
        """Ranks of equal verdicts; those of the engine's own loop come first, then those that have to say why."""
        kinds = by_kind((verdict.kind, verdict.reason, rank) for rank, verdict in sorted(self._verdicts.items()))
        kinds.sort(key=lambda ranks: (not self._is_stock(ranks[0]), not self._verdicts[ranks[0]].reason, len(ranks)))
        return kinds

    def _by_host(self, kinds: Sequence[Sequence[int]]) -> str:
        told = [self._of_kind(ranks) for ranks in kinds[:_MAX_KINDS]]
        left = [rank for ranks in kinds[_MAX_KINDS:] for rank in ranks]
        for loop in (STOCK, COMPILED):
            if n_hosts := len({self._hosts[rank] for rank in left if self._verdicts[rank].kind == loop}):
                told.append(f"{loop} on {n_hosts} more hosts")
        return "; ".join(told)

    def _of_kind(self, ranks: Sequence[int]) -> str:
        verdict = self._verdicts[ranks[0]]
        reason = verdict.reason if len(verdict.reason) <= _MAX_REASON else f"{verdict.reason[:_MAX_REASON]} …"
        return f"{verdict.kind} on {self._some_hosts(ranks)}" + (f" ({reason})" if reason else "")

    def _some_hosts(self, ranks: Sequence[int]) -> str:
        hosts = list(dict.fromkeys(self._hosts[rank] for rank in ranks))
        more = f" and {len(hosts) - _MAX_NAMED} more hosts" if len(hosts) > _MAX_NAMED else ""
        return f"{', '.join(hosts[:_MAX_NAMED])}{more}"
