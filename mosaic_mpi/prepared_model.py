"""A model of the engine that is set up once and then run with one seed after another.

Owns what spares an iteration work without touching a formula: the engine's own components run, on the engine's own
arrays, with the engine's own generator, in the engine's order. Imports nothing of the engine: `engine.py` hands its
objects in, after it has seen that the engine is the one that this was made for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_IDLE = frozenset({"Analyzer", "Recorder", "Parameters"})
"""Components that do nothing at all while likelihood and output are off."""
_LAST_TICK = frozenset({"DerivedValues"})
"""Components that act on the last tick alone, draw nothing, and fill channels that no other component reads."""
DERIVED_CHANNELS = frozenset({"spatial_hazard", "coupling"})
"""What they fill."""


class PreparedModel:
    """A model whose set-up, which does not depend on the seed, is made once.

    A component keeps what it changes in the arrays of the model's two frames, and nowhere else: with these as they
    were after set-up, and the generator seeded anew, the model is a new one.

    Parameters
    ----------
    model : laser.cholera.metapop.model.Model
        With its components, and not yet run.
    reseed : callable
        The engine's: seed to generator.
    view : callable
        The engine's: model to its results.
    derived : bool
        Whether the channels in `DERIVED_CHANNELS` are wanted; else they stay as set-up leaves them.
    """

    def __init__(self, model: Any, reseed: Callable[[int], Any], view: Callable[[Any], Any], derived: bool) -> None:
        self._model, self._reseed = model, reseed
        named = [(type(phase).__name__, phase) for phase in model.phases]
        self._phases = [phase for name, phase in named if name not in _IDLE | _LAST_TICK]
        self._last = [phase for name, phase in named if name in _LAST_TICK and derived]
        self._initial = [content for frame in _frames(model) for content in _contents(frame)]
        for frame in _frames(model):
            _attach(frame)
        self._is_single = len(model.params.location_name) == 1
        self._view = view
        self.was_compiled = False

    def run(self, seed: int) -> Any:
        """Run one iteration.

        Parameters
        ----------
        seed : int
            The engine's seed.

        Returns
        -------
        laser.cholera.metapop.model.RInterface
            Views of the channels, ``[location, time]`` each; the next call overwrites what they show.
        """
        self._begin(seed)
        model = self._model
        if self._is_single:
            model.prng = SingleDraws(model.prng)
        with short_reductions():
            self._advance(model)
        return model.results

    def _begin(self, seed: int) -> None:
        """Make the model a new one, its generator seeded."""
        model = self._model
        for array, initial in self._initial:
            array[...] = initial
        model.params.seed = seed
        model.prng = self._reseed(seed)
        model.results = self._view(model)

    def _advance(self, model: Any) -> None:
        phases = self._phases
        for tick in range(model.params.nticks):
            for phase in phases:
                phase(model, tick)
        self._end(model)

    def _end(self, model: Any) -> None:
        """What is done on the last tick alone."""
        for phase in self._last:
            phase(model, model.params.nticks - 1)

    @property
    def generator(self) -> Any:
        """The generator of the latest iteration, in the state in which it ended."""
        return self._model.prng

    def close(self) -> None:
        """Give the memory back at once: a model and its components point at each other."""
        for part in (*self._model.instances, self._model):
            vars(part).clear()


def _frames(model: Any) -> tuple[Any, Any]:
    return model.people, model.patches


def _contents(frame: Any) -> Iterator[tuple[NDArray[Any], NDArray[Any] | int]]:
    """Each array of a frame, and a copy of what is in it (0 for nothing but zeros, which most are)."""
    for array in vars(frame).values():
        if isinstance(array, np.ndarray):
            bits = array.view(f"u{array.itemsize}")  # as a number, -0.0 would pass for 0
            yield array, array.copy() if bits.any() else 0


def _attach(frame: Any) -> None:
    """Keep the views that a frame makes anew, in Python, whenever one of its properties is read.

    They are the same views of the same memory for as long as no row is added, which no component does.
    """
    vars(frame).update({name: getattr(frame, name) for name in frame._properties})


class SingleDraws:
    """A generator's draws for one location, by NumPy's functions of plain numbers.

    NumPy draws a number by the same function of the same stream whether its arguments are numbers or arrays, but
    checks arrays at several times the cost of the draw. `single_draws_agree` compares them. What NumPy refuses is
    handed over again as it came, so that the error says what the engine's users know.

    Parameters
    ----------
    generator : numpy.random.Generator
        Whose stream is drawn from.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._binomial, self._poisson = generator.binomial, generator.poisson
        self.bit_generator = generator.bit_generator

    def binomial(self, n: NDArray[Any], p: Any) -> NDArray[np.int64]:
        """``generator.binomial(n, p)`` for n of shape (1,) and p of one element: ndarray of int64, shape (1,)."""
        try:
            return self._binomial(n.item(), p.item(), 1)
        except ValueError:
            return self._binomial(n, p)

    def poisson(self, lam: NDArray[Any]) -> NDArray[np.int64]:
        """``generator.poisson(lam)`` for lam of shape (1,): ndarray of int64, shape (1,)."""
        try:
            return self._poisson(lam.item(), 1)
        except ValueError:
            return self._poisson(lam)


_TRIED_N = (0, 1, 2, 7, 30, 1000, 123_456, 2**31 - 1)
_TRIED_P = (0.0, 1e-12, 1e-5, 0.003, 0.2, 0.5, 0.71, 0.999, 1.0)
_TRIED_RATES = (0.0, 1e-9, 0.3, 5.0, 9.999, 10.0, 47.11, 1e4, 3e9)


def single_draws_agree() -> bool:
    """Whether `SingleDraws` and this NumPy's arrays give the same numbers and leave the same stream behind."""
    whole = np.random.default_rng(20240930)
    single = SingleDraws(np.random.default_rng(20240930))
    pairs = [(np.array([n], np.int32), np.array([p], np.float32)) for n in _TRIED_N for p in _TRIED_P]
    pairs += [(n, p[0]) for n, p in pairs]  # the engine hands over NumPy's scalars too
    rates = [np.array([rate]) for rate in _TRIED_RATES]
    same = [_is_same(whole.binomial(*pair), single.binomial(*pair)) for pair in pairs for _ in range(2)]
    same += [_is_same(whole.poisson(rate), single.poisson(rate)) for rate in rates for _ in range(4)]
    return all(same) and bool(whole.bit_generator.state == single.bit_generator.state)


def _is_same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


_numpy_all, _numpy_any = np.all, np.any
_and, _or = np.logical_and.reduce, np.logical_or.reduce


def _all(array: Any, *rest: Any, **options: Any) -> Any:
    if rest or options or type(array) is not np.ndarray:
        return _numpy_all(array, *rest, **options)
    return _and(array, None, bool)


def _any(array: Any, *rest: Any, **options: Any) -> Any:
    if rest or options or type(array) is not np.ndarray:
        return _numpy_any(array, *rest, **options)
    return _or(array, None, bool)


@contextlib.contextmanager
def short_reductions() -> Iterator[None]:
    """Have ``np.all(array)`` and ``np.any(array)`` go straight to the ufunc that they end in.

    Components and generators check their arguments by them, forty times a tick; on the way NumPy looks at every
    argument that was not given. No number comes of them but the same true or false.
    """
    vars(np).update(all=_all, any=_any)
    try:
        yield
    finally:
        vars(np).update(all=_numpy_all, any=_numpy_any)
