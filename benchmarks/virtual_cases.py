"""What the virtual cluster plays: its cases, by group. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

ALL_COUNTRIES = 40
_COUNTRIES = {1: "ETH", 3: "ETH,KEN,NGA", ALL_COUNTRIES: ""}
"""Locations of a case, as --locations takes them; empty: all of the built-in config. Three have 60 parameters."""
_DAYS = 1155


@dataclass(frozen=True)
class Case:
    """One run that is played.

    Parameters
    ----------
    n_slots, slots_per_rank : int
        Slots in all, and of each rank.
    seconds, spread : float
        Length of a simulation, and by which part of it that varies either way.
    per_slot : float
        Simulations a slot.
    n_countries : int
        Whose parameters are stored: 1, 3 or 40.
    has_series : bool
        Whether reported cases and deaths of those countries are sent and stored, too.
    is_batched : bool
        False: ranks send every result as soon as they have it, in a message of its own.
    shares_iterations : bool
        False: rank 0 hands out whole simulations to the end.
    """

    n_slots: int
    slots_per_rank: int = 120
    seconds: float = 1.0
    spread: float = 0.0
    per_slot: float = 12
    n_countries: int = 3
    has_series: bool = False
    is_batched: bool = True
    shares_iterations: bool = True

    @property
    def n_ranks(self) -> int:
        """Ranks beside rank 0."""
        return max(round(self.n_slots / self.slots_per_rank), 1)

    @property
    def n_played_slots(self) -> int:
        """As many as whole ranks have."""
        return self.n_ranks * self.slots_per_rank

    @property
    def n_simulations(self) -> int:
        """Of the run."""
        return round(self.n_played_slots * self.per_slot)

    @property
    def offered_per_s(self) -> float:
        """Results a second that slots give which never wait."""
        return self.n_played_slots / self.seconds

    @property
    def locations(self) -> str:
        """See `_COUNTRIES`."""
        return _COUNTRIES[self.n_countries]

    @property
    def n_days(self) -> int:
        """Length of the time axis of the one channel that stands for two."""
        return 2 * _DAYS


def groups() -> dict[str, list[Case]]:
    """Return all cases by the name of their group; each takes less than two minutes, most a quarter of one."""
    layouts = (120, 240, 1200, 8192)
    scalars = [Case(n) for n in layouts]
    return {
        "scalars": [*scalars, Case(100_000, per_slot=10)],
        "varied": [
            *(replace(case, spread=spread) for case in scalars[2:] for spread in (0.05, 0.3)),
            Case(100_000, per_slot=10, spread=0.3),
        ],
        "one country": [
            *(replace(case, n_countries=1, has_series=True) for case in scalars),
            Case(100_000, per_slot=6, n_countries=1, has_series=True),
        ],
        "forty countries": [
            replace(case, n_countries=ALL_COUNTRIES, has_series=True, per_slot=6 if case.n_slots < 8192 else 3)
            for case in scalars
        ],
        "one slot a rank": [*(Case(n, 1) for n in layouts), Case(960, 1, 0.01, 0.05, 300)],
        "fast": [
            Case(n, 120, 0.01, 0.05, per_slot)
            for n, per_slot in ((480, 1000), (960, 600), (1920, 500), (3840, 400), (5760, 250), (7680, 200))
        ],
        "unbatched": [
            Case(8192, is_batched=False),
            *(Case(n, 120, 0.01, 0.05, 500, is_batched=False) for n in (240, 480, 960)),
        ],
        "tail": [
            Case(8192, 128, 1.0, 0.05, 10_000 / 8192, n_countries, has_series, shares_iterations=shares)
            for n_countries, has_series in ((3, False), (ALL_COUNTRIES, True))
            for shares in (False, True)
        ],
        "million": [Case(2400, 120, 0.03, 0.05, 10**6 / 2400), Case(8160, 120, 0.03, 0.05, 10**6 / 8160)],
    }


OF_EVERY_LIBRARY = ("scalars", "one slot a rank", "fast", "million")
"""Groups in which the MPI library is the question, and not only the means."""
