"""The plan: what belongs to it, how two differ, and the part that slots get."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import VERSIONS, make_plan, small_config, write_config

from mosaic_mpi.errors import InputError
from mosaic_mpi.plan import MAX_SEED, Channel, RunPlan, SlotPlan, rows_of, spans
from mosaic_mpi.plan_differences import differences
from mosaic_mpi.plan_inputs import PlanOptions, load_plan

TWO = ("ETH", "KEN")


def load(path: str, versions: Mapping[str, str] = VERSIONS, **options: Any) -> RunPlan:
    return load_plan(PlanOptions(config=path, **options), versions)


def table(folder: Path, sims: list[int], **columns: list[float]) -> str:
    path = folder / "samples.parquet"
    pq.write_table(pa.table({"sim": sims, **columns}), path)
    return str(path)


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    return write_config(tmp_path, small_config(TWO))


def test_defaults(config_file: str) -> None:
    plan = load(config_file)
    assert (plan.n_simulations, plan.n_iterations, plan.save) == (100, 3, ())
    assert plan.sim_ids == range(1, 101)


def test_the_identity_is_json_and_has_everything_that_decides_the_numbers(config_file: str) -> None:
    identity = load(config_file, n_iterations=2, save=("a",), simulator="fake:x").identity
    assert json.loads(json.dumps(identity)) == identity
    expected = {"config", "locations", "parameters", "n_iterations", "save", "simulator", "version of laser-cholera"}
    assert expected <= set(identity)


def test_formatting_key_order_and_compression_do_not_matter(tmp_path: Path) -> None:
    config = small_config(TWO)
    turned = dict(reversed(config.items()))
    (tmp_path / "other.json").write_text(json.dumps(turned, indent=7))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(json.dumps(config).encode()))
    first = load(write_config(tmp_path, config))
    for name in ("other.json", "packed.gz"):
        assert load(str(tmp_path / name)).fingerprint == first.fingerprint


def test_the_number_of_simulations_does_not_matter(config_file: str) -> None:
    assert load(config_file, n_simulations=5).fingerprint == load(config_file, n_simulations=6).fingerprint


def test_null_and_na_are_the_same_plan(tmp_path: Path) -> None:
    plans = [load(write_config(tmp_path, small_config(reported_cases=[[missing] * 8]))) for missing in (None, "NA")]
    assert plans[0].fingerprint == plans[1].fingerprint


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "a number": ({"rho": 0.25}, {}, ("config rho", "0.5 in the file", "0.25 now")),
    "one location's number": ({"theta_j": [0.5, 0.75]}, {}, ("config theta_j", "[0.5, 0.5]", "[0.5, 0.75]")),
    "one cell of a matrix": (
        {"psi_jt": [[1.0] * 8, [1.0] * 7 + [2.0]]},
        {},
        ("config psi_jt[1][7]", "1.0 in the file", "2.0 now"),
    ),
    "an observation gone": ({"reported_cases": [[None] + [1.0] * 7] * 2}, {}, ("reported_cases[0][0]", "nan now")),
    "more observations": ({"reported_cases": [[1.0] * 9] * 2}, {}, ("reported_cases: shape", "(2, 8)", "(2, 9)")),
    "a key of its own": ({"weight_cases": 2}, {}, ("config weight_cases", "nothing in the file", "2 now")),
    "dates": (
        {"date_start": "2023-02-02", "date_stop": "2023-02-09"},
        {},
        ("date_start", "2023-02-01", "2023-02-02"),
    ),
    "locations": ({}, {"locations": ("KEN",)}, ("locations", '["ETH", "KEN"]', '["KEN"]')),
    "iterations": ({}, {"n_iterations": 4}, ("n_iterations", "3 in the file", "4 now")),
    "channels": ({}, {"save": ("W",)}, ("save", "[] in the file", '["W"] now')),
    "simulator": ({}, {"simulator": "fake:"}, ("simulator", "laser in the file", "fake: now")),
    "engine": ({}, {"versions": {"laser-cholera": "0.17"}}, ("laser-cholera", "0.16.1 in the file", "0.17 now")),
}


@pytest.mark.parametrize("case", CHANGES)
def test_each_difference_is_named_with_both_values(tmp_path: Path, case: str) -> None:
    changes, options, parts = CHANGES[case]
    config = small_config(TWO, psi_jt=[[1.0] * 8] * 2, reported_cases=[[1.0] * 8] * 2)
    stored = load(write_config(tmp_path, config))
    now = load(write_config(tmp_path, config | changes, "now.json"), **options)
    assert now.fingerprint != stored.fingerprint
    found = differences(stored.identity, stored.config.text, now)
    assert any(all(part in line for part in parts) for line in found), found


def test_an_observation_where_there_was_none_is_a_difference_too(tmp_path: Path) -> None:
    with_hole = small_config(reported_cases=[[None] + [1.0] * 7])
    without = small_config(reported_cases=[[3.0] + [1.0] * 7])
    stored = load(write_config(tmp_path, with_hole))
    now = load(write_config(tmp_path, without, "now.json"))
    found = differences(stored.identity, stored.config.text, now)
    assert len(found) == 1
    assert "reported_cases[0][0]: nan in the file, 3.0 now" in found[0]


def test_all_differences_are_named(tmp_path: Path) -> None:
    stored = load(write_config(tmp_path, small_config(TWO)))
    now = load(write_config(tmp_path, small_config(TWO, rho=0.1, sigma=0.2), "now.json"), n_iterations=7, save=("W",))
    assert len(differences(stored.identity, stored.config.text, now)) == 4


def test_the_same_plan_has_no_differences(tmp_path: Path) -> None:
    path = write_config(tmp_path, small_config(reported_cases=[[None] * 8]))
    plan = load(path)
    assert differences(plan.identity, plan.config.text, load(path, n_simulations=7)) == []


def test_another_table_is_another_plan(tmp_path: Path, config_file: str) -> None:
    first = load(config_file, samples=table(tmp_path, [1, 2], rho=[0.1, 0.2]))
    second = load(config_file, samples=table(tmp_path, [1, 2], rho=[0.1, 0.3]))
    prior = load(config_file)
    assert len({plan.fingerprint for plan in (first, second, prior)}) == 3
    assert any("default-prior" in line for line in differences(first.identity, first.config.text, prior))


# ---- counts and seeds -------------------------------------------------------------------------------


def test_seeds_follow_the_formula(tmp_path: Path, config_file: str) -> None:
    plan = load(config_file, samples=table(tmp_path, [4, 1, 9], rho=[0.1, 0.2, 0.3]), n_iterations=5)
    assert plan.seeds(slice(0, 3)).tolist() == [[(sim_id - 1) * 5 + j for j in range(1, 6)] for sim_id in (1, 4, 9)]
    assert plan.seeds(slice(1, 2)).dtype == np.int32
    assert load(config_file).seeds(slice(99, 100)).tolist() == [[298, 299, 300]]


def test_seeds_stop_at_2_31(tmp_path: Path, config_file: str) -> None:
    last = MAX_SEED // 3
    plan = load(config_file, n_simulations=last)
    assert plan.seeds(slice(last - 1, last))[0, 2] == 3 * last <= 2**31 - 1
    with pytest.raises(InputError, match=f"sim_id up to {last + 1}: seeds reach {3 * last + 3}, at most 2147483647"):
        load(config_file, n_simulations=last + 1)
    with pytest.raises(InputError, match="at most 2147483647"):
        load(config_file, samples=table(tmp_path, [2**30], rho=[0.1]))


def test_a_table_gives_the_count_and_may_be_cut_but_not_stretched(tmp_path: Path, config_file: str) -> None:
    samples = table(tmp_path, [5, 3, 4], rho=[0.5, 0.3, 0.4])
    assert load(config_file, samples=samples).n_simulations == 3
    assert list(load(config_file, samples=samples, n_simulations=2).sim_ids) == [3, 4]
    with pytest.raises(InputError, match=r"--n-simulations 4: --samples .* has only 3 rows"):
        load(config_file, samples=samples, n_simulations=4)


def test_a_piece_has_its_ids_of_the_plan_and_the_plans_fingerprint(config_file: str) -> None:
    whole = load(config_file, n_simulations=1000)
    for total in (1000, None):
        piece = load(config_file, n_simulations=total, simulations=(901, 1000))
        assert piece.fingerprint == whole.fingerprint
        assert piece.sim_ids == range(901, 1001)
        assert piece.extent == "100 simulations (901 to 1000)"
        assert piece.source.draw(0, 901).values.tobytes() == whole.source.draw(900, 901).values.tobytes()
        assert piece.seeds(slice(0, 100)).tobytes() == whole.seeds(slice(900, 1000)).tobytes()
    with pytest.raises(InputError, match="--simulations 900-1100: the plan has simulations 1 to 1000"):
        load(config_file, n_simulations=1000, simulations=(900, 1100))


def test_the_control_files_count_bounds_a_piece_too(tmp_path: Path, config_file: str) -> None:
    (tmp_path / "control.json").write_text(json.dumps({"calibration": {"n_simulations": 50}}))
    control = str(tmp_path / "control.json")
    assert load(config_file, control=control, simulations=(50, 50)).sim_ids == range(50, 51)
    with pytest.raises(InputError, match="--simulations 51: the plan has simulations 1 to 50"):
        load(config_file, control=control, simulations=(51, 51))


def test_a_piece_of_a_table_has_its_rows_and_the_digest_of_all(tmp_path: Path, config_file: str) -> None:
    samples = table(tmp_path, [50, 3, 40, 9], rho=[0.5, 0.3, 0.4, 0.9])
    whole = load(config_file, samples=samples)
    piece = load(config_file, samples=samples, simulations=(4, 40))
    assert piece.fingerprint == whole.fingerprint
    assert list(piece.sim_ids) == [9, 40]
    assert [piece.source.draw(row, 0).overrides for row in (0, 1)] == [{"rho": 0.9}, {"rho": 0.4}]
    copy = SlotPlan.from_buffer(memoryview(piece.slot_plan().to_bytes()))
    assert copy.source.draw(1, 40).overrides == {"rho": 0.4}
    with pytest.raises(InputError, match=r"--simulations 10-39: --samples .* has none of them; .* between 3 and 50"):
        load(config_file, samples=samples, simulations=(10, 39))
    with pytest.raises(InputError, match=r"--simulations 40-50: .* has none of them; .* between 3 and 9"):
        load(config_file, samples=samples, n_simulations=2, simulations=(40, 50))


def test_rows_are_found_by_id() -> None:
    wanted = np.array([1, 3, 4, 9, 10])
    assert rows_of(range(3, 10), wanted).tolist() == [-1, 0, 1, 6, -1]
    assert rows_of(np.array([3, 9]), wanted).tolist() == [-1, 0, -1, 1, -1]


def test_ids_are_named_in_spans() -> None:
    assert spans(np.array([1, 2, 3, 7, 9, 10])) == "1-3, 7, 9-10"
    assert spans(np.arange(1, 100, 2)) == "1, 3, 5, 7, 9, 11, 13, 15 and 42 more"


def test_a_longer_run_of_the_same_table_extends_a_shorter_one(tmp_path: Path, config_file: str) -> None:
    samples = table(tmp_path, [5, 3, 4], rho=[0.5, 0.3, 0.4])
    plans = [load(config_file, samples=samples, n_simulations=n) for n in (2, 3)]
    assert plans[0].fingerprint == plans[1].fingerprint


# ---- channels ---------------------------------------------------------------------------------------

KINDS = {"reported_cases": Channel("reported_cases", ("location", "time"), (2, 8), "<i4")}


def test_an_unknown_channel_gets_its_neighbour_and_all_are_told(config_file: str) -> None:
    with pytest.raises(InputError) as caught:
        load(config_file, save=("reported_case", "xyz")).with_channels(KINDS)
    assert "--save reported_case: not an output channel" in caught.value.problems[0]
    assert "did you mean reported_cases?" in caught.value.problems[0]
    assert "it has reported_cases" in caught.value.problems[1]


def test_a_channel_named_twice_is_refused(config_file: str) -> None:
    with pytest.raises(InputError, match="--save W: named twice"):
        load(config_file, save=("W", "W"))


def test_a_channel_beyond_hdf5s_chunk_limit_is_refused(config_file: str) -> None:
    huge = {"W": Channel("W", ("location", "time"), (2**15, 2**14), "<f8")}
    with pytest.raises(InputError, match=r"--save W: one simulation takes 12\.0 GiB, at most 4 GiB"):
        load(config_file, save=("W",)).with_channels(huge)


# ---- what slots get ---------------------------------------------------------------------------------


def test_the_slot_plan_travels_whole(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, config=small_config(TWO), n_simulations=4).slot_plan()
    copy = SlotPlan.from_buffer(memoryview(plan.to_bytes()))
    assert (copy.sim_ids, copy.n_iterations, copy.channels, copy.simulator) == (
        *(plan.sim_ids, plan.n_iterations, plan.channels, plan.simulator),
    )
    assert copy.values.keys() == plan.values.keys()
    for key, value in plan.values.items():
        assert np.array_equal(copy.values[key], value), key
    assert copy.source.draw(2, 3).values.tobytes() == plan.source.draw(2, 3).values.tobytes()
    assert copy.record_dtype == plan.record_dtype


def test_arrays_are_read_only_views_of_the_block_in_fortran_order(tmp_path: Path, config_file: str) -> None:
    plan = load(config_file, samples=table(tmp_path, [1, 2, 3], rho=[0.1, 0.2, 0.3]))
    block = plan.slot_plan().to_bytes()
    copy = SlotPlan.from_buffer(memoryview(block))
    whole = np.frombuffer(block, np.uint8)
    for array in (copy.values["psi_jt"], copy.source.values, copy.sim_ids):
        assert np.shares_memory(array, whole)
        assert not array.flags.writeable
        assert array.ctypes.data % array.itemsize == 0
    assert copy.values["psi_jt"].flags.f_contiguous
    assert copy.source.draw(1, 2).overrides == {"rho": 0.2}


def test_a_range_of_ids_takes_no_space(config_file: str) -> None:
    short, long = (len(load(config_file, n_simulations=n).slot_plan().to_bytes()) for n in (10, 10**8))
    assert abs(long - short) < 100
