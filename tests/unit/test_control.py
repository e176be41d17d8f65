"""MOSAIC's control settings: what is read, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mosaic_mpi.control import Control, LikelihoodSettings, load_control
from mosaic_mpi.errors import InputError


def written(folder: Path, document: Any) -> str:
    path = folder / "control.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_without_a_file_the_defaults_are_mosaics() -> None:
    control = load_control(None)
    assert control == Control()
    assert control.likelihood == LikelihoodSettings(burn_in_days=30, nb_k_min_cases=3.0)
    assert (control.n_iterations, control.n_simulations) == (3, None)
    assert control.flags.pinned == {"alpha_2"}


def test_settings_are_read_and_the_rest_keeps_its_default(tmp_path: Path) -> None:
    likelihood = {"burn_in_days": 0, "weight_wis": 0.1, "deaths_score_start": "2023-09-15", "weights_time": None}
    calibration = {"n_simulations": 20000, "n_iterations": 5, "batch_size_adaptive": 500}
    document = {"calibration": calibration, "sampling": {"sample_rho": False}, "likelihood": likelihood, "io": {}}
    control = load_control(written(tmp_path, document))
    assert (control.n_simulations, control.n_iterations) == (20000, 5)
    assert control.flags.pinned == {"alpha_2", "rho"}
    assert control.likelihood == LikelihoodSettings(burn_in_days=0, weight_wis=0.1, deaths_score_start="2023-09-15")


def test_mosaics_own_file_has_them_one_level_deeper(tmp_path: Path) -> None:
    document = {"control": {"likelihood": {"burn_in_days": 5}, "calibration": {"n_iterations": 7}}}
    control = load_control(written(tmp_path, document))
    assert (control.likelihood.burn_in_days, control.n_iterations) == (5, 7)


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_nothing_is_written_in_several_ways(nothing: object, tmp_path: Path) -> None:
    document = {"likelihood": {"weights_time": nothing}, "calibration": {"n_simulations": nothing}}
    assert load_control(written(tmp_path, document)) == Control()


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    likelihood = {
        "burn_in_day": 3,
        "burn_in_days": 2.5,
        "weight_cases": "much",
        "deaths_score_start": "soon",
        "weights_location": [0, 0],
    }
    document = {"likelihood": likelihood, "calibration": {"n_iterations": 0}, "sampling": {"sample_rh": True}}
    with pytest.raises(InputError) as caught:
        load_control(written(tmp_path, document))
    text = str(caught.value)
    for expected in (
        "likelihood.burn_in_day: not a setting of the likelihood; did you mean burn_in_days?",
        "likelihood.burn_in_days: found 2.5, expected a whole number",
        "likelihood.weight_cases: found 'much'",
        "likelihood.deaths_score_start: found 'soon'",
        "likelihood.weights_location: expected numbers of at least 0, not all of them 0",
        "calibration.n_iterations: found 0",
        "sampling.sample_rh",
    ):
        assert expected in text


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.json", "cannot be read"), (tmp_path / "bad.json", "not JSON")):
        if "bad" in path.name:
            path.write_text("{")
        with pytest.raises(InputError, match=reason):
            load_control(str(path))
