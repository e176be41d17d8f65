"""Whether two runs agree: every kind of difference is found, sized, placed and named."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Cli, add_rows, begin, finished_run, make_plan, simulate, small_config, write_config

import mosaic_mpi
from mosaic_mpi import layout
from mosaic_mpi.compare import Comparison, Quantity, as_json, as_text, compare
from mosaic_mpi.errors import InputError
from mosaic_mpi.export import export_samples
from mosaic_mpi.plan import RunPlan
from mosaic_mpi.records import compress, decompress
from mosaic_mpi.store import Store

TWO = small_config(("ETH", "KEN"), n_days=10)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str]:
    """Two files of the same run of twenty simulations of two countries."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        finished_run(tmp_path / f"{name}.h5", make_plan(tmp_path, 20, config=TWO))
    return str(tmp_path / "a.h5"), str(tmp_path / "b.h5")


def quantity(comparison: Comparison, name: str) -> Quantity:
    return next(entry for entry in comparison.quantities if entry.name == name)


def change(path: str, name: str, place: tuple[int, ...], value: float) -> None:
    with h5py.File(path, "r+", locking=False) as file:
        file[name][place] = value


def test_a_run_is_identical_to_its_like(paths: tuple[str, str]) -> None:
    found = compare(*paths)
    assert found.is_identical
    assert (found.exit_code, found.plan, found.n_common) == (0, [], 20)
    assert {entry.name: entry.n_compared for entry in found.quantities} == {
        "status": 20,
        "likelihood": 20,
        "parameters": 20 * len(mosaic_mpi.open(paths[0]).parameter_names),
        "likelihood of iterations": 40,
        "fake": 20 * 2 * 2 * 10,
    }
    assert as_text(found).splitlines()[0] == f"{paths[0]} and {paths[1]} are identical"


def test_folded_or_not_is_the_same(tmp_path: Path, paths: tuple[str, str]) -> None:
    finished_run(tmp_path / "c.h5", make_plan(tmp_path, 20, config=TWO), fold=False)
    assert compare(paths[0], str(tmp_path / "c.h5")).is_identical


def test_a_parameter_one_ulp_away_is_found_and_named(paths: tuple[str, str]) -> None:
    results = mosaic_mpi.open(paths[1])
    name = results.parameter_names[4]
    value = float(results.table("parameters/values")[12, 4])
    change(paths[1], "parameters/values", (12, 4), math.nextafter(value, math.inf))
    found = compare(*paths)
    assert (found.is_identical, found.exit_code) == (False, 3)
    parameters = quantity(found, "parameters")
    assert parameters.n_differing == 1
    assert parameters.ulps is not None
    assert (parameters.ulps.value, dict(parameters.ulps.where)) == (1, {"sim_id": 13, "parameter": name})
    assert (parameters.ulps.first, parameters.ulps.second) == (value, math.nextafter(value, math.inf))
    assert [entry.name for entry in found.quantities if not entry.is_identical] == ["parameters"]
    text = as_text(found)
    assert f"largest in units in the last place: 1 ({value!r} and " in text
    assert f"at sim_id 13, parameter {name}" in text


def test_likelihoods_are_compared_by_simulation_and_by_iteration(paths: tuple[str, str]) -> None:
    change(paths[0], "simulations/likelihood", (3,), math.nan)
    change(paths[1], "simulations/likelihood", (3,), math.nan)
    change(paths[1], "simulations/likelihood", (7,), 5.0)
    change(paths[1], "iterations/likelihood", (8, 1), math.nan)
    found = compare(*paths)
    likelihood, iterations = quantity(found, "likelihood"), quantity(found, "likelihood of iterations")
    assert (likelihood.n_differing, iterations.n_differing) == (1, 1), "NaN equals NaN"
    assert likelihood.absolute is not None
    assert dict(likelihood.absolute.where) == {"sim_id": 8}
    assert likelihood.absolute.second == 5.0
    assert iterations.absolute is not None
    assert (iterations.absolute.value, dict(iterations.absolute.where)) == (math.inf, {"sim_id": 9, "iteration": 2})
    said = json.loads(as_json(found))
    assert next(entry for entry in said["quantities"] if entry["name"] == "likelihood of iterations")["absolute"] == {
        "value": "Infinity",
        "first": iterations.absolute.first,
        "second": "NaN",
        "where": {"sim_id": 9, "iteration": 2},
    }


def run_with_another_cell(path: Path, plan: RunPlan) -> None:
    """A finished run whose simulation 6 has another number in one cell."""
    records, series = simulate(plan, range(20))
    records = records.copy()
    ends = np.cumsum(records["series_bytes"][:, 0])
    parts = [series[end - size : end] for end, size in zip(ends, records["series_bytes"][:, 0], strict=True)]
    values = decompress(parts[5], (2, 2, 10), "<i4").copy()
    values[1, 1, 6] += 4
    parts[5] = compress(values)
    records["series_bytes"][5, 0] = len(parts[5])
    store = Store(str(path), plan)
    begin(store)
    store.add(records, [memoryview(b"".join(parts))], 0, store.host_row("here"), np.ones(20, np.int32))
    store.end_start(layout.COMPLETE)
    assert store.fold(lambda: None) is None
    store.close()


def test_a_cell_of_a_channel_is_placed(tmp_path: Path, paths: tuple[str, str]) -> None:
    run_with_another_cell(tmp_path / "c.h5", make_plan(tmp_path, 20, config=TWO))
    found = compare(paths[0], str(tmp_path / "c.h5"))
    fake = quantity(found, "fake")
    assert (fake.n_compared, fake.n_differing) == (800, 1)
    assert fake.absolute is not None
    assert fake.absolute.value == 4
    assert dict(fake.absolute.where) == {"sim_id": 6, "iteration": 2, "location": "KEN", "day": "2023-02-07"}


def test_differences_of_plans_are_named_with_both_values(tmp_path: Path, paths: tuple[str, str]) -> None:
    config = small_config(("ETH", "KEN"), n_days=10, rho=0.25)
    other = str(tmp_path / "other.h5")
    finished_run(Path(other), make_plan(tmp_path, 20, n_iterations=3, save=(), config=config))
    found = compare(paths[0], other)
    assert f"n_iterations: 2 in {paths[0]}, 3 in {other}" in (found.plan or [])
    assert any(line.startswith("config rho: 0.5 in ") and " 0.25 in " in line for line in found.plan or [])
    assert "2 and 3 iterations a simulation" in quantity(found, "likelihood of iterations").note
    assert quantity(found, "fake").note == f"only {paths[0]} has it"
    assert found.exit_code == 3


def test_simulations_of_one_alone_and_other_statuses(tmp_path: Path, paths: tuple[str, str]) -> None:
    store = Store(str(tmp_path / "c.h5"), plan := make_plan(tmp_path, 24, config=TWO))
    begin(store)
    add_rows(store, plan, range(5))
    store.add_failure(6, 3, "killed", "no", True)
    store.end_start(layout.STOPPED)
    store.close()
    found = compare(paths[0], str(tmp_path / "c.h5"))
    assert (found.n_common, found.n_only_first, found.n_only_second, found.only_second) == (
        20,
        0,
        4,
        [21, 22, 23, 24],
    )
    status = quantity(found, "status")
    assert (status.n_compared, status.n_differing) == (20, 15)
    assert "simulation 7 completed and failed" in status.note
    assert quantity(found, "likelihood").n_compared == 5
    assert "4 only in" in as_text(found)
    assert found.exit_code == 3


# ---- tables and shards ------------------------------------------------------------------------------


def table_of(paths: tuple[str, str], folder: Path) -> Path:
    export_samples(paths[0], str(folder / "samples.parquet"))
    return folder / "samples.parquet"


def test_a_run_agrees_with_its_own_table(tmp_path: Path, paths: tuple[str, str]) -> None:
    found = compare(paths[0], str(table_of(paths, tmp_path)))
    assert found.is_identical
    assert (found.plan, found.n_common) == (None, 20)
    assert [entry.name for entry in found.quantities] == ["likelihood", "parameters"]


def test_a_table_may_come_in_any_order_and_with_mosaics_further_columns(
    tmp_path: Path, paths: tuple[str, str]
) -> None:
    path = table_of(paths, tmp_path)
    table = pq.read_table(path)
    shuffled = table.take(np.random.default_rng(1).permutation(20))
    extra = pa.array([True] * 20)
    shuffled = shuffled.append_column("is_finite", extra).append_column("weight_all", pa.array([0.5] * 20))
    pq.write_table(shuffled, path)
    assert compare(str(path), paths[0]).is_identical


def test_a_likelihood_within_the_tolerance_is_told_and_not_forgiven(tmp_path: Path, paths: tuple[str, str]) -> None:
    path = table_of(paths, tmp_path)
    table = pq.read_table(path)
    for factor, within in ((1 + 1e-9, True), (1 + 1e-3, False)):
        values = table["likelihood"].to_numpy() * np.where(np.arange(20) == 4, factor, 1.0)
        pq.write_table(table.set_column(4, "likelihood", pa.array(values)), path)
        found = compare(paths[0], str(path))
        likelihood = quantity(found, "likelihood")
        assert (likelihood.n_differing, likelihood.tolerance, found.exit_code) == (1, 1e-6, 3)
        assert likelihood.is_within_tolerance is within
        assert ("are within 1e-06" if within else "are not within 1e-06") in as_text(found)


def test_columns_of_one_alone_are_named(tmp_path: Path, paths: tuple[str, str]) -> None:
    path = table_of(paths, tmp_path)
    table = pq.read_table(path)
    dropped = table.column_names[6]
    pq.write_table(table.drop_columns([dropped]).append_column("surplus", table["likelihood"]), path)
    note = quantity(compare(paths[0], str(path)), "parameters").note
    assert f"only {paths[0]} has {dropped}" in note
    assert f"only {path} has surplus" in note


def write_shards(samples: Path, table: pa.Table) -> None:
    samples.mkdir(parents=True)
    for row in range(table.num_rows):
        pq.write_table(table.slice(row, 1), samples / f"sim_{int(table['sim'][row].as_py()):07d}.parquet")


@pytest.mark.parametrize("folder", ["out/2_calibration/samples", "out"])
def test_a_directory_of_shards(tmp_path: Path, paths: tuple[str, str], folder: str) -> None:
    write_shards(tmp_path / folder, pq.read_table(table_of(paths, tmp_path)))
    assert compare(paths[0], str(tmp_path / "out")).is_identical
    (tmp_path / folder / "sim_0000007.parquet").unlink()
    found = compare(paths[0], str(tmp_path / "out"))
    assert (found.n_only_first, found.only_first, found.exit_code) == (1, [7], 3)
    assert not any(entry.n_differing for entry in found.quantities)


def test_a_real_shard_of_mosaic_can_be_read(shared: Path, tmp_path: Path, paths: tuple[str, str]) -> None:
    samples = tmp_path / "out"
    samples.mkdir()
    source = shared / "mosaic" / "examples" / "sim_0000001_laser_ETH_niter3.parquet"
    (samples / "sim_0000001.parquet").write_bytes(source.read_bytes())
    found = compare(str(samples), paths[0])
    assert (found.n_common, found.n_only_second) == (1, 19)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing", None, "no such file"),
        ("text.txt", b"hello", "neither a results file nor a Parquet file"),
        ("damaged.parquet", b"PAR1 and no more", "damaged, or not a Parquet file"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, paths: tuple[str, str], name: str, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected):
        compare(paths[0], str(tmp_path / name))


def test_tables_that_make_no_sense_are_refused(tmp_path: Path, paths: tuple[str, str]) -> None:
    table = pq.read_table(table_of(paths, tmp_path))
    cases = {
        "no column sim": table.drop_columns(["sim"]),
        "more than once": pa.concat_tables([table, table]),
        "whole numbers": table.set_column(0, "sim", pa.array(np.arange(20) + 0.5)),
        "rho.*found string": table.set_column(table.column_names.index("rho"), "rho", pa.array(["x"] * 20)),
    }
    for expected, bad in cases.items():
        pq.write_table(bad, tmp_path / "bad.parquet")
        with pytest.raises(InputError, match=expected):
            compare(paths[0], str(tmp_path / "bad.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no shards"):
        compare(paths[0], str(tmp_path / "empty"))


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """A table of 160 MB, whose values are never in memory together."""
    n, names = 400_000, [f"p_{index}" for index in range(50)]
    path = tmp_path / "big.parquet"
    schema = pa.schema([(name, pa.float64()) for name in ("sim", "likelihood", *names)])
    with pq.ParquetWriter(path, schema, compression="NONE", use_dictionary=False) as writer:
        for first in range(0, n, 20_000):
            values = np.arange(first, first + 20_000, dtype=float)
            writer.write_table(pa.table([values + 1, *[values] * 51], schema=schema))
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    found = compare(str(path), str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.is_identical
    assert peak < 100 << 20
    assert pa.total_allocated_bytes() - before < 60 << 20


# ---- the command ------------------------------------------------------------------------------------


def test_the_command_and_its_exit_codes(cli: Cli) -> None:
    config = write_config(cli.folder)
    for name, n in (("a", "6"), ("b", "6"), ("c", "7")):
        counts = ("--n-simulations", n, "--n-iterations", "1", "--save", "fake")
        assert cli("run", *counts, "--config", config, "--output", f"{name}.h5").returncode == 0
    same, other, bad = cli("compare", "a.h5", "b.h5"), cli("compare", "a.h5", "c.h5"), cli("compare", "a.h5", "x.h5")
    assert (same.returncode, other.returncode, bad.returncode) == (0, 3, 2)
    assert same.stdout.startswith("a.h5 and b.h5 are identical\n")
    assert other.stdout.startswith("a.h5 and c.h5 differ\n")
    assert "1 only in c.h5: 7" in other.stdout
    assert "x.h5: no such file" in bad.stderr
    said = json.loads(cli("compare", "a.h5", "c.h5", "--json").stdout)
    assert (said["is_identical"], said["only_second"]) == (False, [7])
