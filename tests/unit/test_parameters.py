"""The default prior: pure in sim_id, and distributed as documented."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from helpers import few_parameters, small_config, write_config
from numpy.typing import NDArray

from mosaic_mpi.catalogue import PARAMETERS
from mosaic_mpi.config import load_config
from mosaic_mpi.parameters import REAL_SPREAD, SPREAD, DefaultPrior

N_DRAWS = 4000
QUANTILE_ERROR = 5 * 1.2533 / math.sqrt(N_DRAWS)
"""Five standard errors of a median of N_DRAWS standard normal numbers."""


def values_of(folder: Path, **changes: Any) -> Mapping[str, Any]:
    return load_config(write_config(folder, small_config(("ETH", "KEN"), **changes))).values


@pytest.fixture(scope="module")
def bundled() -> DefaultPrior:
    return DefaultPrior(load_config(None, ("ETH", "KEN")).values)


def draws(prior: DefaultPrior) -> NDArray[np.float64]:
    return np.array([prior.draw(sim_id - 1, sim_id).values for sim_id in range(1, N_DRAWS + 1)])


def test_a_draw_follows_from_sim_id_alone(bundled: DefaultPrior) -> None:
    in_order = {sim_id: bundled.draw(sim_id - 1, sim_id) for sim_id in range(1, 40)}
    shuffled = list(in_order)
    random.Random(0).shuffle(shuffled)
    another = DefaultPrior(load_config(None, ("ETH", "KEN")).values)
    for sim_id in shuffled:
        again = another.draw(0, sim_id)
        assert again.values.tobytes() == in_order[sim_id].values.tobytes()
        assert again.overrides == in_order[sim_id].overrides


def test_draws_differ_between_simulations_and_do_not_touch_global_generators(bundled: DefaultPrior) -> None:
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    first, second = bundled.draw(0, 1).values, bundled.draw(1, 2).values
    assert (first != second).mean() > 0.5  # all but what stays as it is
    assert (random.random(), np.random.random()) == expected


def test_a_known_draw(tmp_path: Path) -> None:
    """Guards the numbers themselves: they must not change without a new PRIOR_VERSION."""
    prior = DefaultPrior(load_config(write_config(tmp_path, few_parameters())).values)
    found = dict(zip(prior.names, prior.draw(0, 1).values, strict=True))
    uniform = random.Random(1).random
    factor = {name: math.exp(0.5 * NormalDist().inv_cdf(uniform())) for name in prior.names}
    short = 16 * factor["decay_days_short"]
    drawn = {
        "decay_days_short": short,
        "decay_days_long": short + 184 * factor["decay_days_long"],
        "decay_shape_1": 0.5 * factor["decay_shape_1"],
        "decay_shape_2": 0.5 * factor["decay_shape_2"],
    }
    assert {name: found[name] for name in drawn} == pytest.approx(drawn, rel=1e-14)
    assert {found[name] for name in found.keys() - drawn.keys()} == {0.0, 1.0}


def test_names_and_values_cover_every_override(bundled: DefaultPrior) -> None:
    drawn = bundled.draw(0, 1)
    stored = dict(zip(bundled.names, drawn.values, strict=True))
    base = load_config(None, ("ETH", "KEN")).values
    for key, value in drawn.overrides.items():
        for iso, number in zip(("ETH", "KEN"), value, strict=True) if isinstance(value, list) else [("", value)]:
            name = f"{key}_{iso}" if iso else key
            if name in stored:
                assert stored[name] == number
            else:
                assert number == base[key][("ETH", "KEN").index(iso)]


def test_rates_are_lognormal_probabilities_logitnormal_and_real_numbers_normal(bundled: DefaultPrior) -> None:
    base = load_config(None, ("ETH", "KEN")).values
    columns = draws(bundled)
    checked = set()
    for name, column in zip(bundled.names, columns.T, strict=True):
        key = name if name in PARAMETERS else name.rpartition("_")[0]
        if key == "decay_days_long":
            continue
        value = base[key] if name == key else base[key][("ETH", "KEN").index(name[-3:])]
        if value in (0, 1):
            continue
        match PARAMETERS[key].scale:
            case "rate":
                z = (np.log(column) - math.log(value)) / SPREAD
            case "probability":
                z = (np.log(column / (1 - column)) - math.log(value / (1 - value))) / SPREAD
            case "real":
                z = (column - value) / (REAL_SPREAD * abs(value))
        checked.add(PARAMETERS[key].scale)
        assert abs(np.median(z)) < QUANTILE_ERROR, name
        assert abs(z.mean()) < 5 / math.sqrt(N_DRAWS), name
        assert abs(z.std() - 1) < 5 / math.sqrt(2 * N_DRAWS), name
        assert abs((np.abs(z) < 1.96).mean() - 0.95) < 5 * math.sqrt(0.95 * 0.05 / N_DRAWS), name
        assert all(map(PARAMETERS[key].accepts, column)), name
    assert checked == {"rate", "probability", "real"}


def test_parameters_vary_independently(bundled: DefaultPrior) -> None:
    columns = draws(bundled)
    keep = [i for i, name in enumerate(bundled.names) if name != "decay_days_long" and columns[:, i].std() > 0]
    correlation = np.corrcoef(np.argsort(np.argsort(columns[:, keep], axis=0), axis=0), rowvar=False)
    n = len(keep)
    assert n > 40
    assert np.abs(correlation[~np.eye(n, dtype=bool)]).max() < 5.5 / math.sqrt(N_DRAWS)


@pytest.mark.parametrize(
    ("name", "value", "varies"),
    [
        ("rho", 0.0, False),
        ("rho", 1.0, False),
        ("rho", 0.3, True),
        ("iota", 0.0, False),
        ("iota", 1.0, True),
        ("chi_endemic", 1.0, False),
        ("zeta_1", 1e8, True),
    ],
)
def test_zeros_and_ones_stay_as_they_are(tmp_path: Path, name: str, value: float, varies: bool) -> None:
    prior = DefaultPrior(values_of(tmp_path, **{name: value}))
    found = [prior.draw(0, sim_id).values[prior.names.index(name)] for sim_id in (1, 2)]
    assert (found[0] != found[1]) == varies
    assert (found == [value, value]) != varies


def test_a_zero_at_one_location_stays_there(tmp_path: Path) -> None:
    prior = DefaultPrior(values_of(tmp_path, a_1_j=[0.0, -2.0], tau_i=[0.5, 1.0]))
    overrides = prior.draw(0, 1).overrides
    assert overrides["a_1_j"][0] == 0.0
    assert overrides["a_1_j"][1] != -2.0
    assert overrides["tau_i"][1] == 1.0


def test_counts_delays_and_helpers_stay_as_they_are(bundled: DefaultPrior) -> None:
    keys = bundled.draw(0, 1).overrides.keys()
    fixed = {name for name, parameter in PARAMETERS.items() if parameter.scale is None}
    assert {"N_j_initial", "delta_reporting_deaths", "beta_j0_tot", "p_beta"} <= fixed
    assert not keys & fixed


@pytest.mark.parametrize(("short", "long"), [(16, 200), (16, 16), (100, 101)])
def test_slow_decay_is_never_faster_than_fast_decay(tmp_path: Path, short: int, long: int) -> None:
    prior = DefaultPrior(values_of(tmp_path, decay_days_short=short, decay_days_long=long))
    columns = draws(prior)
    shorts, longs = (columns[:, prior.names.index(f"decay_days_{what}")] for what in ("short", "long"))
    assert (longs >= shorts).all()
    assert len(np.unique(shorts)) == N_DRAWS
    if long > short:
        assert np.median(np.log((longs - shorts) / (long - short))) == pytest.approx(0, abs=0.5 * QUANTILE_ERROR)


def test_a_subset_of_locations_is_another_run(bundled: DefaultPrior) -> None:
    """Draws go by position, not by name: the results file stores values, so nothing depends on it."""
    one = DefaultPrior(load_config(None, ("KEN",)).values)
    assert set(one.names) < set(bundled.names)
    place = "theta_j_KEN"
    assert one.draw(0, 1).values[one.names.index(place)] != bundled.draw(0, 1).values[bundled.names.index(place)]
