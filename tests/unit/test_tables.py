"""Parameter tables: what is read, what is refused and how, and what follows from helper columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import finished_run, make_plan, small_config, write_config
from pyarrow import csv

from mosaic_mpi.config import load_config
from mosaic_mpi.errors import InputError
from mosaic_mpi.export import export_samples
from mosaic_mpi.tables import load_table

TWO = ("ETH", "KEN")


@pytest.fixture
def base(tmp_path: Path) -> Mapping[str, Any]:
    return load_config(write_config(tmp_path, small_config(TWO))).values


def write(folder: Path, columns: dict[str, Any], kind: str = "parquet") -> str:
    path = folder / f"samples.{kind}"
    table = pa.table(columns)
    if kind == "csv":
        csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return str(path)


def problems(folder: Path, base: Mapping[str, Any], columns: dict[str, Any], kind: str = "parquet") -> list[str]:
    with pytest.raises(InputError) as caught:
        load_table(write(folder, columns, kind), base)
    assert all(problem.startswith(f"--samples {folder}") for problem in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_both_formats_are_read_and_sorted_by_sim(tmp_path: Path, base: Mapping[str, Any], kind: str) -> None:
    columns = {"sim": [7, 2, 5], "rho": [0.1, 0.2, 1 / 3], "theta_j_KEN": [0.4, 0.5, 0.6]}
    sims, table = load_table(write(tmp_path, columns, kind), base)
    assert sims.tolist() == [2, 5, 7]
    assert table.names == ("rho", "theta_j_KEN")
    assert table.values.tolist() == [[0.2, 0.5], [1 / 3, 0.6], [0.1, 0.4]]


def test_format_is_told_by_content_and_not_by_name(tmp_path: Path, base: Mapping[str, Any]) -> None:
    path = Path(write(tmp_path, {"sim": [1], "rho": [0.1]}))
    path.rename(tmp_path / "table.csv")
    assert load_table(str(tmp_path / "table.csv"), base)[0].tolist() == [1]


def test_a_draw_overrides_what_the_table_gives_and_leaves_the_rest(tmp_path: Path, base: Mapping[str, Any]) -> None:
    columns = {"sim": [1], "rho": [0.1], "theta_j_KEN": [0.4], "N_j_initial_ETH": [12.0]}
    drawn = load_table(write(tmp_path, columns), base)[1].draw(0, 1)
    assert drawn.values.tolist() == [0.1, 0.4, 12.0]
    assert drawn.overrides == {"rho": 0.1, "theta_j": [0.5, 0.4], "N_j_initial": [12, 1000]}
    assert type(drawn.overrides["N_j_initial"][0]) is int


def test_one_value_may_become_one_a_location(tmp_path: Path, base: Mapping[str, Any]) -> None:
    assert base["alpha_1"] == 0.5
    drawn = load_table(write(tmp_path, {"sim": [1], "alpha_1_KEN": [0.25]}), base)[1].draw(0, 1)
    assert drawn.overrides == {"alpha_1": [0.5, 0.25]}


@pytest.mark.parametrize("name", ["theta_j", "theta_j_ETH"])
def test_with_one_location_the_code_may_be_left_out(tmp_path: Path, name: str) -> None:
    one = load_config(write_config(tmp_path)).values
    table = load_table(write(tmp_path, {"sim": [1], name: [0.25]}), one)[1]
    assert table.names == (name,)
    assert table.draw(0, 1).overrides == {"theta_j": [0.25]}


@pytest.mark.parametrize("column", ["iter", "seed_sim", "seed_iter", "likelihood"])
def test_columns_of_an_export_that_are_no_parameters_are_passed_over(
    tmp_path: Path, base: Mapping[str, Any], column: str
) -> None:
    assert load_table(write(tmp_path, {"sim": [1], column: [None]}), base)[1].names == ()


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no sim": ({"rho": [0.1]}, ('no column "sim"',)),
    "no rows": ({"sim": pa.array([], pa.int64())}, ("sim", "found no whole numbers")),
    "sim is text": ({"sim": ["a"]}, ("sim", "found no whole numbers")),
    "sim from 0": ({"sim": [0, 1]}, ("sim", "0 in row 1", "whole numbers from 1")),
    "sim with a fraction": ({"sim": [1.0, 1.5]}, ("sim", "1.5 in row 2")),
    "sim missing": ({"sim": [1, None]}, ("sim", "nothing in row 2")),
    "sim twice": ({"sim": [3, 1, 3]}, ("sim", "1 ids more than once (3)")),
    "unknown name": ({"sim": [1], "rho_death": [0.1]}, ("rho_death:", "did you mean rho_deaths?")),
    "unknown location": ({"sim": [1], "theta_j_EHT": [0.1]}, ("theta_j_EHT", "did you mean theta_j_ETH?")),
    "location of a global": ({"sim": [1], "rho_ETH": [0.1]}, ("rho_ETH", "not a parameter")),
    "one for all locations": ({"sim": [1], "theta_j": [0.1]}, ("theta_j", "one value a location", "theta_j_ETH")),
    "text": ({"sim": [1], "rho": ["x"]}, ("rho", "found string", "numbers")),
    "true": ({"sim": [1], "rho": [True]}, ("rho", "found bool", "numbers")),
    "missing value": ({"sim": [1, 2], "rho": [0.1, None]}, ("rho", "nothing in row 2", "[0, 1]")),
    "infinite": ({"sim": [1], "kappa": [np.inf]}, ("kappa", "inf in row 1")),
    "out of bounds": ({"sim": [1, 2], "rho": [0.1, 1.1]}, ("rho", "1.1 in row 2", "[0, 1]")),
    "bound itself": ({"sim": [1], "decay_days_short": [0.0]}, ("decay_days_short", "0 in row 1", "(0, inf)")),
    "fraction": ({"sim": [1], "I_j_initial_ETH": [1.5]}, ("I_j_initial_ETH", "1.5 in row 1", "whole numbers")),
    "given twice": ({"sim": [1], "alpha_1": [0.1], "alpha_1_KEN": [0.2]}, ("alpha_1", "given twice")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_column_found_and_expected(tmp_path: Path, base: Mapping[str, Any], case: str) -> None:
    columns, parts = REFUSED[case]
    found = problems(tmp_path, base, columns)
    assert any(all(part in problem for part in parts) for problem in found), found


def test_every_problem_is_told_at_once(tmp_path: Path, base: Mapping[str, Any]) -> None:
    columns = {"sim": [1, 1], "rho": [2.0, 0.1], "tau": [1.0, 1.0], "theta_j": [0.1, 0.1]}
    assert len(problems(tmp_path, base, columns)) == 4


def test_many_bad_cells_are_counted(tmp_path: Path, base: Mapping[str, Any]) -> None:
    columns = {"sim": list(range(1, 21)), "rho": [5.0] * 20}
    assert "and 15 more" in problems(tmp_path, base, columns)[0]


def test_a_column_named_twice_is_refused(tmp_path: Path, base: Mapping[str, Any]) -> None:
    (tmp_path / "samples.csv").write_text("sim,rho,rho\n1,0.1,0.2\n")
    with pytest.raises(InputError, match="named twice: rho"):
        load_table(str(tmp_path / "samples.csv"), base)


def test_a_global_given_by_a_location_parameters_config_is_refused(tmp_path: Path) -> None:
    by_location = load_config(write_config(tmp_path, small_config(TWO, alpha_1=[0.1, 0.2]))).values
    assert "alpha_1_ISO" in problems(tmp_path, by_location, {"sim": [1], "alpha_1": [0.5]})[0]


@pytest.mark.parametrize("content", [None, b"", b"PAR1rubbish", b"sim,rho\n1,2,3\n"])
def test_what_is_no_table_is_named(tmp_path: Path, base: Mapping[str, Any], content: bytes | None) -> None:
    path = tmp_path / "samples"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"--samples .*samples: (no such file|neither a Parquet nor a CSV)"):
        load_table(str(path), base)


@pytest.mark.parametrize("sim", [2**60 + 1, 1e300], ids=["int", "float"])
def test_an_id_beyond_all_numbers_is_refused(tmp_path: Path, base: Mapping[str, Any], sim: float) -> None:
    assert "sim" in problems(tmp_path, base, {"sim": [sim]})[0]


def test_a_ratio_that_would_be_divided_by_cannot_be_zero(tmp_path: Path, base: Mapping[str, Any]) -> None:
    assert "zeta_ratio" in problems(tmp_path, base, {"sim": [1], "zeta_ratio": [0.0]})[0]


DERIVED = {
    "beta from its total and share": (
        {"beta_j0_tot_ETH": 0.4, "p_beta_ETH": 0.25, "beta_j0_tot_KEN": 0.8, "p_beta_KEN": 0.5},
        {"beta_j0_hum": [0.25 * 0.4, 0.5 * 0.8], "beta_j0_env": [0.75 * 0.4, 0.5 * 0.8]},
    ),
    "the share alone, at its own location": (
        {"p_beta_KEN": 0.25},
        {"beta_j0_hum": [0.5, 0.125], "beta_j0_env": [0.5, 0.375]},
    ),
    "decay from its spread": ({"decay_days_spread": 30.0}, {"decay_days_long": 46.0}),
    "decay from spread and short": ({"decay_days_spread": 30.0, "decay_days_short": 8.0}, {"decay_days_long": 38.0}),
    "zeta_2 from the ratio": ({"zeta_ratio": 4.0}, {"zeta_2": 0.125}),
    "zeta_2 from both": ({"zeta_ratio": 4.0, "zeta_1": 2.0}, {"zeta_2": 0.5}),
    "what is given stays": ({"zeta_ratio": 4.0, "zeta_2": 7.0}, {"zeta_2": 7.0}),
    "no helper, nothing derived": ({"zeta_1": 2.0}, {"zeta_2": None, "beta_j0_hum": None, "decay_days_long": None}),
}


@pytest.mark.parametrize("case", DERIVED)
def test_helper_columns_set_what_the_engine_reads(tmp_path: Path, base: Mapping[str, Any], case: str) -> None:
    given, expected = DERIVED[case]
    table = load_table(write(tmp_path, {"sim": [1], **{name: [value] for name, value in given.items()}}), base)[1]
    overrides = table.draw(0, 1).overrides
    assert {key: overrides.get(key) for key in expected} == expected
    assert table.draw(0, 1).values.tolist() == list(given.values())


def test_an_exported_table_runs_the_same_parameters(tmp_path: Path) -> None:
    config = small_config(TWO)
    plan = make_plan(tmp_path, n_simulations=5, config=config, save=())
    finished_run(tmp_path / "run.h5", plan)
    export_samples(str(tmp_path / "run.h5"), str(tmp_path / "samples.parquet"))
    again = make_plan(tmp_path, n_simulations=5, config=config, save=(), samples=str(tmp_path / "samples.parquet"))
    assert again.source.names == plan.source.names
    for row in range(5):
        drawn, original = again.source.draw(row, row + 1), plan.source.draw(row, row + 1)
        assert drawn.values.tobytes() == original.values.tobytes()
        assert {key: drawn.overrides[key] for key in original.overrides} == original.overrides


def test_the_digest_follows_ids_names_and_values_not_the_order_of_rows(
    tmp_path: Path, base: Mapping[str, Any]
) -> None:
    def digest(columns: dict[str, Any]) -> str:
        return load_table(write(tmp_path, columns), base)[1].digest

    first = digest({"sim": [1, 2], "rho": [0.1, 0.2]})
    assert digest({"sim": [2, 1], "rho": [0.2, 0.1]}) == first
    others = [
        {"sim": [1, 3], "rho": [0.1, 0.2]},
        {"sim": [1, 2], "rho": [0.1, 0.3]},
        {"sim": [1, 2], "sigma": [0.1, 0.2]},
    ]
    assert first not in {digest(columns) for columns in others}


def test_shares_that_make_no_whole_are_refused(tmp_path: Path) -> None:
    config = load_config(None, ["ETH", "KEN"])
    path = tmp_path / "table.csv"
    path.write_text("sim,prop_S_initial_ETH\n1,0.5\n2,0.9\n")
    with pytest.raises(InputError, match=r"prop_\*_initial_ETH: the six shares sum to: found 1\.4"):
        load_table(str(path), config.values)


def test_a_table_with_other_separators_is_recognised(tmp_path: Path) -> None:
    config = load_config(None, ["ETH", "KEN"])
    path = tmp_path / "table.csv"
    path.write_text("sim;rho\n1;0.5\n")
    with pytest.raises(InputError, match="separated by ';', expected commas"):
        load_table(str(path), config.values)
    path.write_text("sim, rho\n1, 0.5\n")
    assert load_table(str(path), config.values)[1].names == ("rho",)
