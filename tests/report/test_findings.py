"""Parameters and time series in the report, against numbers computed another way."""

from __future__ import annotations

from pathlib import Path

import made_runs
import numpy as np
import pytest
from helpers import begin, make_plan, small_config

from mosaic_mpi.plan import Channel
from mosaic_mpi.records import compress
from mosaic_mpi.report import bands, parameter_shifts
from mosaic_mpi.report.snapshot import take
from mosaic_mpi.results import Results
from mosaic_mpi.store import Store


def test_the_informed_parameter_comes_first(tmp_path: Path) -> None:
    path = str(tmp_path / "run.h5")
    plan = make_plan(tmp_path, 2000, 1, save=(), config=small_config(("ETH", "KEN")))
    names = list(plan.source.names)
    moved = names.index("beta_j0_hum_KEN")
    store = Store(path, plan)
    begin(store)
    made_runs.add(store, plan, range(2000))
    values = Results(path).table("parameters/values")
    scores = (values[:, moved] - values[:, moved].mean()) / values[:, moved].std()
    store.end_start(1)
    store.close()
    weights = np.exp(-2.0 * np.square(scores - 1.0))
    weights /= weights.sum()
    found = parameter_shifts.gather(Results(path), np.arange(2000), weights)
    assert found is not None
    first = found.parameters[0]
    assert (first.name, first.key, first.location) == ("beta_j0_hum_KEN", "beta_j0_hum", "KEN")
    assert [parameter.name for parameter in found.informed] == ["beta_j0_hum_KEN"]
    assert first.shift == pytest.approx(float(weights @ scores), rel=1e-2)
    assert first.narrowing < 1
    order = np.argsort(values[:, moved])
    steps = np.abs(np.cumsum(weights[order]) - np.arange(1, 2001) / 2000)
    assert first.distance == pytest.approx(steps.max(), abs=2e-3)
    assert first.posterior[1] == pytest.approx(
        np.interp(0.5, np.cumsum(weights[order]), values[order, moved]), rel=0.02
    )
    columns = [parameter.column for parameter in found.parameters[:3]]
    prior, posterior = found.correlations(columns)
    chosen = [names.index(parameter.name) for parameter in found.parameters[:3]]
    assert prior == pytest.approx(np.corrcoef(values[:, chosen].T), abs=1e-9)
    expected = np.cov(values[:, chosen].T, aweights=weights, ddof=0)
    deviations = np.sqrt(np.diag(expected))
    assert posterior == pytest.approx(expected / np.outer(deviations, deviations), abs=5e-3)


def test_names_are_split_at_known_locations_only() -> None:
    assert parameter_shifts.split_name("beta_j0_hum_ETH", ["ETH"]) == ("beta_j0_hum", "ETH")
    assert parameter_shifts.split_name("phi_1", ["ETH"]) == ("phi_1", "")


def test_weighted_quantiles_of_equal_weights_are_order_statistics() -> None:
    values = np.random.default_rng(2).normal(size=(200, 3))
    found = parameter_shifts.weighted_quantiles(values, np.full(200, 1 / 200), [0.05, 0.5, 0.95])
    assert found == pytest.approx(np.sort(values, axis=0)[[9, 99, 189]])


@pytest.mark.parametrize("n_days", [60, 300])
def test_bands_are_those_of_the_weighted_simulations(tmp_path: Path, n_days: int) -> None:
    """Simulation i says i cases a day in ETH and twice as many in KEN; two of them have all weight."""
    observed = [[7.0] * n_days, [None] * n_days]
    observed[0][5], observed[0][40] = 1e6, None  # type: ignore[call-overload]
    config = small_config(("ETH", "KEN"), n_days, reported_cases=observed)
    plan = make_plan(tmp_path, 10, 2, config=config)
    channel = Channel("reported_cases", ("location", "time"), (2, n_days), "<i4")
    plan = type(plan)(**{**vars(plan), "save": ("reported_cases",), "channels": (channel,)})
    path = str(tmp_path / "run.h5")
    store = Store(path, plan)
    begin(store)
    records = np.zeros(10, plan.slot_plan().record_dtype)
    days = np.ones((2, 1, n_days), np.int32)
    chunks = [compress(days * np.array([[row + 1], [2 * row + 2]], np.int32)) for row in range(10)]
    records["row"], records["series_bytes"] = np.arange(10), [[len(chunk)] for chunk in chunks]
    store.add(records, [memoryview(b"".join(chunks))], 0, store.host_row("here"), np.ones(10, np.int32))
    store.commit()
    weights = np.zeros(10)
    weights[[3, 7]] = 0.5
    snapshot = take(path)
    (found,) = bands.gather(snapshot.results, snapshot.completed.row, weights)
    store.close()
    assert found.n_simulations == 2
    assert found.n_days_each == (1 if n_days == 60 else 7)
    assert found.quantiles[0] == pytest.approx(np.broadcast_to([[4.0], [8.0]], found.quantiles[0].shape))
    assert found.quantiles[-1] == pytest.approx(np.broadcast_to([[8.0], [16.0]], found.quantiles[0].shape))
    assert found.observed is not None
    assert found.observed_totals is not None
    assert found.covered is not None
    assert np.isnan(found.observed[1]).all()
    scored = n_days - 30 - 1  # the burn-in, and a day without an observation
    assert found.observed_totals.tolist() == [7.0 * scored, 0.0]
    assert found.totals[[0, -1], 0].tolist() == [4.0 * scored, 8.0 * scored]
    assert found.covered[0] == 1.0
    assert np.isnan(found.covered[1])
