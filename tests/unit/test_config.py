"""Configs: what is read, what is refused and how, and what the engine is handed."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import few_parameters, small_config, write_config

from mosaic_mpi.catalogue import LISTS_WITH_ONE_LOCATION, MATRICES, OBSERVATIONS, PARAMETERS
from mosaic_mpi.config import BUNDLED, engine_values, load_config
from mosaic_mpi.errors import InputError

THREE = ("AGO", "ETH", "KEN")


def problems(folder: Path, config: dict[str, Any], locations: tuple[str, ...] | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_config(write_config(folder, config), locations)
    return caught.value.problems


def test_the_bundled_config_is_read_whole() -> None:
    config = load_config(None)
    assert config.source == BUNDLED
    assert len(config.locations) == 40
    assert config.n_ticks == len(config.dates) == 1155
    assert (config.dates[0], config.dates[-1]) == ("2023-02-01", "2026-03-31")
    assert json.loads(config.text)["location_name"] == list(config.locations)
    assert config.values["psi_jt"].shape == (40, 1155)


def test_the_default_of_mosaic_is_read_whole(shared: Path) -> None:
    config = load_config(str(shared / "mosaic/data/config_default.json.gz"))
    assert (len(config.locations), config.n_ticks) == (40, 1398)
    assert np.isnan(config.values["reported_cases"]).any()


def test_a_small_config_passes_as_it_is(tmp_path: Path) -> None:
    assert load_config(write_config(tmp_path)).locations == ("ETH",)
    assert load_config(write_config(tmp_path, few_parameters())).n_ticks == 2


@pytest.mark.parametrize("name", ["config.json", "config.json.gz", "config"])
def test_gzip_is_recognised_by_content_under_any_name(tmp_path: Path, name: str) -> None:
    text = json.dumps(small_config())
    (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    assert load_config(str(tmp_path / name)).text == text


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(small_config()).encode())
    assert load_config(str(path)).locations == ("ETH",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        (b"", "not JSON"),
        (b'{"a": 1,', "not JSON.*line 1, column"),
        (b"[1]", "found a JSON array, expected an object"),
        (b"null", "found a JSON null"),
        (b"\xff\xfe\x00", "damaged, or not a JSON"),
        (gzip.compress(b"{}", mtime=0)[:-6], "damaged, or not a JSON"),
        (b"\x1f\x8brubbish", "cannot be read|damaged"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"(?s)config.json.*({expected})"):
        load_config(str(path))


def test_a_gzip_file_damaged_inside_is_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(json.dumps(small_config()).encode()))
    data[20:60] = b"\xff" * 40
    path = tmp_path / "config.json.gz"
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        load_config(str(path))


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="directory"):
        load_config(str(tmp_path))


PROBLEMS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "text for a number": ({"phi_1": "high"}, ("phi_1", '"high"', "a number")),
    "true is no number": ({"phi_1": True}, ("phi_1", "true", "a number")),
    "nothing": ({"rho": None}, ("rho", "nothing", "a number")),
    "NaN": ({"rho": math.nan}, ("rho", "nan", "[0, 1]")),
    "infinite": ({"kappa": math.inf}, ("kappa", "inf", "[0, inf)")),
    "above its bounds": ({"sigma": 1.5}, ("sigma", "1.5", "[0, 1]")),
    "below its bounds": ({"iota": -0.1}, ("iota", "-0.1", "[0, inf)")),
    "zero where it cannot be": ({"decay_days_short": 0}, ("decay_days_short", "0", "(0, inf)")),
    "a fraction of a day": ({"delta_reporting_cases": 1.5}, ("delta_reporting_cases", "1.5", "whole number")),
    "too few locations": ({"theta_j": [0.1]}, ("theta_j", "a list of 1", "a list of 3 numbers, one a location")),
    "a number for a list": ({"theta_j": 0.1}, ("theta_j", "0.1", "a list of 3 numbers")),
    "one bad entry": ({"theta_j": [0.1, 7, 0.1]}, ("theta_j[ETH]", "7", "[0, 1]")),
    "a fraction of a person": ({"N_j_initial": [1, 2.5, 3]}, ("N_j_initial[ETH]", "2.5", "whole number")),
    "either, wrong length": ({"alpha_1": [0.1, 0.2]}, ("alpha_1", "a list of 2", "a number or a list of 3")),
    "coordinates": ({"latitude": [1.0, "north", 2.0]}, ("latitude[ETH]", '"north"', "a number")),
    "no matrix": ({"psi_jt": 5}, ("psi_jt", "5", "3 lists of 8 numbers")),
    "a ragged matrix": ({"psi_jt": [[0.1] * 8, [0.1] * 7, [0.1] * 8]}, ("psi_jt", "a list of 3", "3 lists of 8")),
    "a matrix too short": ({"psi_jt": [[0.1] * 7] * 3}, ("psi_jt", "3 x 7 numbers", "3 x 8 (location x day)")),
    "a hole in a matrix": ({"b_jt": [[0.1] * 8, [None] + [0.1] * 7, [0.1] * 8]}, ("b_jt[1][0]", "null", "a number")),
    "observations of another place": ({"reported_cases": [[1.0] * 8] * 2}, ("reported_cases", "2 x 8", "3 x 8")),
    "a date": ({"date_start": "1 February"}, ("date_start", "1 February", "a date like 2023-02-01")),
    "a date that is a number": ({"date_stop": 20230201}, ("date_stop", "20230201", "a date like")),
    "ends before it starts": ({"date_stop": "2022-01-01"}, ("date_stop", "2022-01-01", "not before date_start")),
    "a place twice": ({"location_name": ["ETH", "KEN", "ETH"]}, ("location_name", "ETH", "each location once")),
    "places that are no names": ({"location_name": [1, 2, 3]}, ("location_name", "a list of 3", "ISO codes")),
    "no period": ({"p": 0}, ("p", "0", "whole number of days")),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_says_key_found_and_expected(tmp_path: Path, case: str) -> None:
    changes, parts = PROBLEMS[case]
    config = small_config(THREE) | changes
    found = problems(tmp_path, config)
    assert any(all(part in problem for part in parts) and "config.json" in problem for problem in found), found


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    several = ("text for a number", "above its bounds", "one bad entry", "a matrix too short", "no period")
    changes = {key: value for case in several for key, value in PROBLEMS[case][0].items()}
    found = problems(tmp_path, small_config(THREE, **changes), ("ETH", "XXX"))
    for case in several:
        assert any(problem.partition(": ")[2].startswith(PROBLEMS[case][1][0]) for problem in found), case
    assert any("--locations XXX" in problem for problem in found)
    assert len(found) == len(several) + 1


def test_missing_keys_are_named_together_and_a_typo_gets_its_neighbour(tmp_path: Path) -> None:
    found = problems(tmp_path, small_config(rho=..., psi_jt=..., gama_1=0.1, gamma_1=...))
    assert any("gamma_1: missing; did you mean gama_1?" in problem for problem in found)
    assert any("3 keys" in problem and "rho, gamma_1, psi_jt" in problem for problem in found)


def test_text_in_a_matrix_is_shown_as_found(tmp_path: Path) -> None:
    found = problems(tmp_path, small_config(reported_cases=[[1, "many", 3, 4, 5, 6, 7, 8]]))
    assert len(found) == 1
    assert "reported_cases[0][1]" in found[0]
    assert "many" in found[0]


@pytest.mark.parametrize("missing", [None, "NA"])
def test_null_and_na_mean_missing_in_observations(tmp_path: Path, missing: Any) -> None:
    rows = [[1, missing, 3, 4, 5, 6, 7, missing], [missing] * 8]
    config = load_config(write_config(tmp_path, small_config(THREE[:2], reported_cases=rows)))
    cases = config.values["reported_cases"]
    assert np.array_equal(np.isnan(cases), [[value == missing for value in row] for row in rows])
    assert cases[0, 2] == 3


@pytest.mark.parametrize("missing", [None, "NA"])
def test_they_mean_a_problem_elsewhere(tmp_path: Path, missing: Any) -> None:
    assert "psi_jt[0][0]" in problems(tmp_path, small_config(psi_jt=[[missing] + [0.5] * 7]))[0]


def test_observations_may_be_longer_or_shorter_than_the_run(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, reported_cases=[[1.0] * 5], reported_deaths=[[1.0] * 20]))
    assert config.values["reported_cases"].shape == (1, 5)
    assert config.values["reported_deaths"].shape == (1, 20)


def test_one_location_may_come_without_lists(tmp_path: Path) -> None:
    plain = small_config()
    bare = {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in plain.items()}
    assert bare["location_name"] == "ETH"
    assert bare["psi_jt"] == plain["psi_jt"][0]
    values = load_config(write_config(tmp_path, bare)).values
    expected = load_config(write_config(tmp_path, plain)).values
    assert values.keys() == expected.keys()
    for key, value in expected.items():
        assert np.array_equal(values[key], value), key


def test_a_subset_keeps_the_configs_order_and_every_keys_own_rows(tmp_path: Path) -> None:
    path = write_config(tmp_path, small_config(THREE, note="kept", name_of_place=["a", "b", "c"]))
    whole = load_config(path)
    part = load_config(path, ("KEN", "AGO"))
    assert part.locations == ("AGO", "KEN")
    assert part.values["location_name"] == ["AGO", "KEN"]
    assert part.text == whole.text
    assert part.values["note"] == "kept"
    assert part.values["name_of_place"] == ["a", "c"]
    for name, parameter in PARAMETERS.items():
        if name in whole.values and parameter.shape == "location":
            assert part.values[name] == [whole.values[name][0], whole.values[name][2]], name
    for key in (*MATRICES, *OBSERVATIONS):
        assert np.array_equal(part.values[key], whole.values[key][[0, 2]])


def test_epidemic_peaks_follow_the_locations(tmp_path: Path) -> None:
    peaks = [{"iso_code": iso, "peak_date": "2023-02-03"} for iso in ("KEN", "ETH", "KEN", "AGO")]
    config = load_config(write_config(tmp_path, small_config(THREE, epidemic_peaks=peaks)), ("KEN",))
    assert config.values["epidemic_peaks"] == [peaks[0], peaks[2]]


def test_an_unknown_location_gets_the_nearest_one(tmp_path: Path) -> None:
    assert "did you mean ETH?" in problems(tmp_path, small_config(THREE), ("EHT",))[0]


def test_an_empty_choice_of_locations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="location"):
        load_config(write_config(tmp_path, small_config(THREE)), ())


def test_matrices_are_float64_in_fortran_order_also_when_transposed_in_the_file(tmp_path: Path) -> None:
    matrix = np.arange(24.0).reshape(3, 8)
    config = small_config(
        THREE, psi_jt=matrix.tolist(), b_jt=matrix.T.tolist(), reported_cases=matrix.astype(int).tolist()
    )
    values = engine_values(load_config(write_config(tmp_path, config)).values)
    for key in ("psi_jt", "b_jt", "reported_cases"):
        assert values[key].dtype == np.float64
        assert values[key].flags.f_contiguous
        assert not values[key].flags.c_contiguous
        assert np.array_equal(values[key], matrix)


def test_with_several_locations_vectors_stay_lists(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, small_config(THREE)))
    for key, value in engine_values(config.values).items():
        if isinstance(config.values[key], list):
            assert value == config.values[key], key


def test_with_one_location_vectors_are_plain_numbers_except_those_that_mosaic_hands_over_as_lists(
    tmp_path: Path,
) -> None:
    values = engine_values(load_config(write_config(tmp_path)).values)
    vectors = {key for key in PARAMETERS if PARAMETERS[key].shape == "location" and key in values}
    assert {key for key in vectors if isinstance(values[key], list)} == LISTS_WITH_ONE_LOCATION & vectors
    assert {"psi_star_a", "beta_j0_tot", "p_beta", "prop_S_initial", "mu_j_baseline"} <= LISTS_WITH_ONE_LOCATION
    assert values["location_name"] == "ETH"
    assert values["theta_j"] == 0.5
    assert values["longitude"] == 10.0


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    values = engine_values(load_config(write_config(tmp_path)).values)
    assert type(values["N_j_initial"]) is int
    assert type(values["delta_reporting_cases"]) is int
    assert type(values["rho"]) is float
