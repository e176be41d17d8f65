"""A prepared model that is advanced by the compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mosaic_mpi.compiled.draws import Drawing
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.loop import state_of
from mosaic_mpi.prepared_model import PreparedModel

Advance = Callable[..., int]
"""`mosaic_mpi.compiled.loop.advance`, compiled."""


def loop_arguments(model: Any) -> tuple[Any, ...]:
    """Return arguments of the types that the loop is called with, of a model that is set up; not to be run.

    Raises
    ------
    UnsupportedError
        The loop was not made for such a model.
    """
    return (Drawing().by(model.prng), model.params.nticks, *state_of(Inputs(model)))


class CompiledModel(PreparedModel):
    """A prepared model whose ticks are compiled.

    Where the engine would raise, its own components do that tick, and it does: without all ticks before it, which
    take its own loop eighty times as long with one country. Should they not raise, they run the whole iteration.

    Parameters
    ----------
    advance : callable
        The compiled loop.
    model, reseed, view, derived
        See `PreparedModel`.

    Raises
    ------
    UnsupportedError
        The loop was not made for such a model.
    """

    def __init__(
        self, advance: Advance, model: Any, reseed: Callable[[int], Any], view: Callable[[Any], Any], derived: bool
    ) -> None:
        super().__init__(model, reseed, view, derived)
        self._compiled, self._drawing, self._inputs = advance, Drawing(), Inputs(model)
        self._state = state_of(self._inputs)

    def run(self, seed: int) -> Any:
        """See `PreparedModel.run`."""
        n_ticks = self._model.params.nticks
        n_done = self._run_ticks(seed, n_ticks)
        self.was_compiled = n_done == n_ticks
        if not self.was_compiled:
            self._try_as_the_engine(seed, n_done)
            return super().run(seed)
        self._end(self._model)
        return self._model.results

    def _run_ticks(self, seed: int, n_ticks: int) -> int:
        """Run the first ticks of an iteration; see `loop.advance`."""
        self._begin(seed)
        return self._compiled(self._drawing.by(self._model.prng), n_ticks, *self._state)

    def _try_as_the_engine(self, seed: int, tick: int) -> None:
        """Have the engine's own components do one tick, those before it repeated, and raise what they raise."""
        if self._run_ticks(seed, tick) == tick:
            for phase in self._phases:
                phase(self._model, tick)
