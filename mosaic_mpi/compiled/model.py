"""A prepared model that is advanced by the compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mosaic_mpi.compiled.draws import Drawing
from mosaic_mpi.compiled.inputs import Inputs
from mosaic_mpi.compiled.loop import state_of
from mosaic_mpi.prepared_model import PreparedModel

Advance = Callable[..., bool]
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

    Where the engine would raise, the engine's own components run, and it does.

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
        self._begin(seed)
        model = self._model
        self.was_compiled = self._compiled(self._drawing.by(model.prng), model.params.nticks, *self._state)
        if not self.was_compiled:
            return super().run(seed)
        self._end(model)
        return model.results
