"""The short cuts of a prepared model, each by itself; that whole runs agree is for `tests/engine`."""

from __future__ import annotations

import numpy as np
import pytest

from mosaic_mpi import prepared_model
from mosaic_mpi.prepared_model import SingleDraws, short_reductions, single_draws_agree


def test_draws_of_one_location_are_those_of_arrays() -> None:
    assert single_draws_agree()


def test_draws_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_less(self: SingleDraws, n: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.maximum(self._binomial(n.item(), p.item(), 1) - 1, 0)

    monkeypatch.setattr(SingleDraws, "binomial", one_less)
    assert not single_draws_agree()


def test_a_stream_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_more(self: SingleDraws, lam: np.ndarray) -> np.ndarray:
        found = self._poisson(lam.item(), 1)
        if lam.item() == prepared_model._TRIED_RATES[-1]:
            self._poisson(1.0)
        return found

    monkeypatch.setattr(SingleDraws, "poisson", one_more)
    assert not single_draws_agree()


@pytest.mark.parametrize("p", [np.array([np.nan], np.float32), np.array([1.1]), np.float32(-0.1)])
def test_what_numpy_refuses_is_refused_in_its_words_for_arrays(p: np.ndarray) -> None:
    with pytest.raises(ValueError) as of_arrays:  # noqa: PT011  the text is what is compared
        np.random.default_rng(1).binomial(np.array([3]), p)
    with pytest.raises(ValueError) as found:  # noqa: PT011
        SingleDraws(np.random.default_rng(1)).binomial(np.array([3]), p)
    assert str(found.value) == str(of_arrays.value)


def test_rates_that_numpy_refuses() -> None:
    draws = SingleDraws(np.random.default_rng(1))
    state = draws.bit_generator.state
    with pytest.raises(ValueError, match="lam < 0"):
        draws.poisson(np.array([-1.0]))
    assert draws.bit_generator.state == state


ARRAYS = [
    np.array([True, False]),
    np.array([True, True]),
    np.array([0.0, np.nan]),
    np.array([0, 0]),
    np.array([], bool),
    np.array(3),
    np.array([[1, 0], [1, 1]]),
    np.array([None, "text"], object),
]


@pytest.mark.parametrize("array", [*ARRAYS, [True, False], 1, np.float64(0), np.ma.masked_array([1, 0], [0, 1])])
@pytest.mark.parametrize("name", ["all", "any"])
def test_short_reductions_give_what_numpy_gives(name: str, array: object) -> None:
    expected = getattr(np, name)(array)
    with short_reductions():
        found = getattr(np, name)(array)
    assert type(found) is type(expected)
    assert found == expected or found is expected


def test_short_reductions_pass_other_arguments_on_and_end() -> None:
    before = np.all, np.any
    array = np.array([[True, False], [True, True]])
    with short_reductions():
        assert (np.all, np.any) != before
        assert np.all(array, axis=0).tolist() == [True, False]
        assert np.any(array, 1, keepdims=True).tolist() == [[True], [True]]
    with pytest.raises(ZeroDivisionError), short_reductions():
        raise ZeroDivisionError
    assert (np.all, np.any) == before
