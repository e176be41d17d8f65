"""Order of the draws, fallbacks and columns, on invented priors small enough to follow by hand."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import VERSIONS, small_config, write_config

from mosaic_mpi.mosaic.priors import InputProblems, Priors
from mosaic_mpi.mosaic.rrandom import RRandom
from mosaic_mpi.mosaic.sampler import DrawFailed, MosaicSampler, SamplingFlags
from mosaic_mpi.plan_inputs import PlanOptions, load_plan

INITIAL = ["prop_V1_initial", "prop_V2_initial", "prop_E_initial", "prop_I_initial", "prop_R_initial"]
FAILED = {"distribution": "failed"}


def entry(distribution: str, **parameters: object) -> dict[str, Any]:
    return {"distribution": distribution, "parameters": parameters}


def everywhere(prior: dict[str, Any]) -> dict[str, Any]:
    return {"location": dict.fromkeys(("ETH", "KEN", "UGA"), prior)}


def priors_document() -> dict[str, Any]:
    by_location = {
        "beta_j0_tot": entry("lognormal", meanlog=-11, sdlog=1),
        "p_beta": entry("beta", shape1=2, shape2=3),
        "prop_S_initial": entry("beta", shape1=9, shape2=1),
        **{name: entry("beta", shape1=1, shape2=99) for name in INITIAL},
        "CFR_target": entry("lognormal", meanlog=-4, sdlog=0.5),
        "psi_star_a": entry("truncnorm", mean=1, sd=1, a=0, b="Inf"),
        "psi_star_b": entry("normal", mean=0, sd=1),
        "psi_star_z": entry("beta", shape1=2, shape2=1),
        "psi_star_k": entry("truncnorm", mean=0, sd=2, a=-3, b=3),
    }
    return {
        "metadata": {},
        "parameters_global": {
            "alpha_2": entry("beta", shape1=7, shape2=7),
            "gamma_1": entry("gamma", shape=2, rate=20),
            "rho": entry("uniform", min=0.2, max=0.4),
            "rho_deaths": entry("fixed", value=0.5),
            "chi_epidemic": entry("frozen", value=0.8),
            "zeta_1": entry("lognormal", meanlog=20, sdlog=1),
            "zeta_2": entry("lognormal", meanlog=10, sdlog=1),
            "zeta_ratio": entry("gompertz", b=1, eta=0.01),
            "decay_days_short": entry("truncnorm", mean=16, sd=7, a=0.01, b=60),
            "decay_days_spread": entry("normal", mean=100, sd=1),
            "delta_reporting_cases": entry("truncnorm", mean=1, sd=1.5, a=0, b=7),
        },
        "parameters_location": {name: everywhere(prior) for name, prior in by_location.items()},
    }


def config(*locations: str) -> dict[str, Any]:
    n = len(locations)
    return {
        "seed": 123,
        "location_name": list(locations),
        "N_j_initial": [1000 * (i + 1) for i in range(n)],
        **{f"{name}_j_initial": [0] * n for name in ("S", "E", "I", "R", "V1", "V2")},
        "gamma_1": 0.1,
        "alpha_1": 0.25,
        "alpha_2": 0.5,
        "zeta_1": 3e8,
        "zeta_2": 4e6,
        "zeta_ratio": 75,
        "beta_j0_tot": [2e-5] * n,
        "p_beta": [0.3] * n,
        "beta_j0_hum": [6e-6] * n,
        "psi_star_a": [1] * n,
        "psi_star_k": [2] * n,
        "decay_days_short": 16,
        "decay_days_spread": 184,
        "delta_reporting_cases": 0,
        **{f"prop_{name}_initial": [0] * n for name in ("S", "E", "I", "R", "V1", "V2")},
        "psi_jt": [[0.1, 0.2, "NA", 0.4, 0.5]] * n,
        "b_jt": [[0.1] * 5] * n,
    }


def sampler(document: dict[str, Any], *locations: str, pinned: tuple[str, ...] = ("alpha_2",)) -> MosaicSampler:
    flags = SamplingFlags(frozenset(pinned))
    return MosaicSampler(Priors.from_json(document), config(*locations), flags)


def test_draws_come_in_the_order_of_the_file_then_of_the_locations() -> None:
    drawn = sampler(priors_document(), "KEN", "ETH").draw(5)
    stream = RRandom(5)
    assert drawn["gamma_1"] == stream.gamma(2, 20)
    assert drawn["rho"] == stream.uniform(0.2, 0.4)
    assert drawn["zeta_1"] == stream.lognormal(20, 1)
    stream.lognormal(10, 1)  # zeta_2, thrown away
    assert drawn["zeta_ratio"] == stream.gompertz(1, 0.01)
    assert drawn["decay_days_short"] == stream.truncated_normal(16, 7, 0.01, 60)
    assert drawn["decay_days_spread"] == stream.normal(100, 1)
    assert drawn["delta_reporting_cases"] == round(stream.truncated_normal(1, 1.5, 0, 7))
    assert drawn["beta_j0_tot"] == [stream.lognormal(-11, 1) for _ in range(2)]
    assert drawn["p_beta"] == [stream.beta(2, 3) for _ in range(2)]
    assert drawn["CFR_target"] == [stream.lognormal(-4, 0.5) for _ in range(2)]
    assert drawn["psi_star_a"] == [stream.truncated_normal(1, 1, 0, math.inf) for _ in range(2)]
    assert drawn["psi_star_b"] == [stream.normal(0, 1) for _ in range(2)]
    assert drawn["psi_star_z"] == [stream.beta(2, 1) for _ in range(2)]
    assert drawn["psi_star_k"] == [stream.truncated_normal(0, 2, -3, 3) for _ in range(2)]
    for name in INITIAL:
        assert drawn[name] == [stream.beta(1, 99) for _ in range(2)]


def test_derived_values_follow_from_the_draws() -> None:
    drawn: Any = sampler(priors_document(), "ETH").draw(1)
    p, total = drawn["p_beta"][0], drawn["beta_j0_tot"][0]
    assert drawn["beta_j0_hum"] == [p * total]
    assert drawn["beta_j0_env"] == [(1.0 - p) * total]
    assert drawn["zeta_2"] == drawn["zeta_1"] / drawn["zeta_ratio"]
    assert drawn["decay_days_long"] == drawn["decay_days_short"] + drawn["decay_days_spread"]
    factor = (1.0 - math.exp(-drawn["gamma_1"])) * drawn["rho"] / (0.5 * 0.8)
    assert drawn["mu_j_baseline"] == [drawn["CFR_target"][0] * factor]
    assert drawn["rho_deaths"] == 0.5
    assert drawn["seed"] == 1


def test_counts_are_whole_and_sum_to_the_population() -> None:
    drawn: Any = sampler(priors_document(), "ETH", "KEN", "UGA").draw(2)
    counts = [drawn[f"{name}_j_initial"] for name in ("S", "E", "I", "R", "V1", "V2")]
    assert all(type(count) is int for row in counts for count in row)
    assert [sum(column) for column in zip(*counts, strict=True)] == [1000, 2000, 3000]


def test_one_location_draws_the_same_globals_as_many() -> None:
    one, many = sampler(priors_document(), "ETH").draw(9), sampler(priors_document(), "ETH", "KEN").draw(9)
    names = priors_document()["parameters_global"].keys() - {"alpha_2"}
    assert {name: one[name] for name in names} == {name: many[name] for name in names}


def test_a_draw_does_not_depend_on_the_ones_before() -> None:
    drawn = sampler(priors_document(), "ETH")
    first = drawn.row(4).tolist()
    drawn.draw(5)
    assert drawn.row(4).tolist() == first
    assert drawn.row_of(drawn.draw(4)).tolist() == first


def test_a_pinned_parameter_is_neither_drawn_nor_returned() -> None:
    drawn = sampler(priors_document(), "ETH", pinned=("alpha_2", "gamma_1")).draw(5)
    assert "alpha_2" not in drawn
    assert "gamma_1" not in drawn
    assert drawn["rho"] == RRandom(5).uniform(0.2, 0.4)


def test_a_parameter_derived_from_pinned_ones_is_left_alone() -> None:
    drawn: Any = sampler(priors_document(), "ETH", pinned=("beta_j0_tot", "p_beta", "mu_j_baseline")).draw(5)
    assert "beta_j0_hum" not in drawn
    assert "mu_j_baseline" not in drawn
    assert len(drawn["CFR_target"]) == 1


def test_a_pinned_input_of_a_derived_parameter_comes_from_the_config() -> None:
    drawn: Any = sampler(priors_document(), "ETH", pinned=("p_beta",)).draw(5)
    assert drawn["beta_j0_hum"] == [0.3 * drawn["beta_j0_tot"][0]]


def test_a_failed_location_prior_falls_back_without_moving_the_stream() -> None:
    document = priors_document()
    document["parameters_location"]["beta_j0_tot"]["location"]["ETH"] = FAILED
    drawn: Any = sampler(document, "ETH", "KEN").draw(5)
    whole: Any = sampler(priors_document(), "ETH", "KEN").draw(5)
    assert drawn["beta_j0_tot"] == [2e-5, whole["beta_j0_tot"][0]]


def test_a_failed_prior_of_a_parameter_the_config_lacks_stays_missing() -> None:
    document = priors_document()
    document["parameters_location"]["CFR_target"] = everywhere(FAILED)
    drawn: Any = sampler(document, "ETH").draw(5)
    assert math.isnan(drawn["CFR_target"][0])
    assert math.isnan(drawn["mu_j_baseline"][0])


def test_the_fallback_beyond_a_scalar_of_the_config_is_missing() -> None:
    document = priors_document()
    document["parameters_location"]["alpha_1"] = everywhere(FAILED)
    first, second = sampler(document, "ETH", "KEN").draw(5)["alpha_1"]  # type: ignore[misc]
    assert first == 0.25
    assert math.isnan(second)


@pytest.mark.parametrize("name", ["gamma_1", "delta_reporting_cases"])
def test_a_failed_global_prior_has_no_fallback(name: str) -> None:
    document = priors_document()
    document["parameters_global"][name] = FAILED
    assert math.isnan(sampler(document, "ETH").draw(5)[name])  # type: ignore[arg-type]


def test_a_missing_initial_proportion_fails_the_simulation() -> None:
    document = priors_document()
    document["parameters_location"]["prop_E_initial"]["location"]["KEN"] = FAILED
    with pytest.raises(DrawFailed, match="simulation 8: prop_E_initial of KEN: found nan"):
        sampler(document, "ETH", "KEN").draw(8)


def test_without_initial_conditions_the_counts_of_the_config_stay() -> None:
    drawn = sampler(priors_document(), "ETH", pinned=("initial_conditions",)).draw(5)
    assert not {"S_j_initial", "prop_S_initial"} & drawn.keys()


def test_proportions_the_config_lacks_are_not_added() -> None:
    base = config("ETH")
    del base["prop_S_initial"]
    drawn = MosaicSampler(Priors.from_json(priors_document()), base).draw(5)
    assert "prop_S_initial" not in drawn
    assert "S_j_initial" in drawn


def test_suitability_is_calibrated_from_the_base_series() -> None:
    psi: Any = sampler(priors_document(), "ETH", "KEN").draw(5)["psi_jt"]
    assert psi.shape == (2, 5)
    assert psi.dtype == np.float64
    assert psi.flags.f_contiguous
    assert ((psi > 0.0) & (psi < 1.0)).all()


def test_pinned_calibration_comes_from_the_config_or_is_neutral() -> None:
    pinned = ("psi_star_a", "psi_star_z", "psi_star_k")
    drawn: Any = sampler(priors_document(), "ETH", pinned=pinned).draw(5)
    odds = math.exp(-(math.log(0.1 / 0.9) + drawn["psi_star_b"][0]))
    assert drawn["psi_jt"][0, 0] == drawn["psi_jt"][0, 2] == 1.0 / (1.0 + odds)


def test_suitability_stays_where_nothing_of_it_is_drawn() -> None:
    pinned = ("psi_star_a", "psi_star_b", "psi_star_z", "psi_star_k")
    assert "psi_jt" not in sampler(priors_document(), "ETH", pinned=pinned).draw(5)


def test_clamps_come_last_and_nothing_is_derived_again() -> None:
    document = priors_document()
    document["parameters_location"]["beta_j0_tot"] = everywhere(entry("fixed", value=-2.0))
    drawn: Any = sampler(document, "ETH").draw(5)
    assert drawn["beta_j0_tot"] == [1e-10]
    assert drawn["beta_j0_hum"] == [0.0]


def test_pinned_values_outside_the_clamps_are_clamped() -> None:
    base = config("ETH") | {"tau_i": [1.5]}
    assert MosaicSampler(Priors.from_json(priors_document()), base).draw(5)["tau_i"] == [1.0]


def test_the_config_is_not_changed() -> None:
    base = config("ETH", "KEN")
    before = copy.deepcopy(base)
    MosaicSampler(Priors.from_json(priors_document()), base).draw(5)
    assert base == before


def test_vectors_of_length_one_may_be_scalars() -> None:
    lists = config("ETH")
    flat = {key: value[0] if isinstance(value, list) else value for key, value in lists.items()}
    priors = Priors.from_json(priors_document())
    assert MosaicSampler(priors, flat).row(3).tolist() == MosaicSampler(priors, lists).row(3).tolist()


def test_columns_of_several_locations_have_a_suffix_unless_scalar_in_the_config() -> None:
    columns = sampler(priors_document(), "ETH", "KEN").columns()
    assert columns[:3] == ("N_j_initial_ETH", "N_j_initial_KEN", "S_j_initial_ETH")
    assert {"alpha_1", "gamma_1", "p_beta_KEN"} <= set(columns)
    assert not {"seed", "psi_jt", "b_jt", "CFR_target_ETH"} & set(columns)


def test_columns_of_one_location_leave_two_parameters_bare() -> None:
    columns = sampler(priors_document(), "ETH").columns()
    assert columns[:2] == ("N_j_initial", "S_j_initial_ETH")
    assert {"alpha_1", "gamma_1", "p_beta_ETH"} <= set(columns)


def test_a_scalar_column_records_the_first_location() -> None:
    document = priors_document()
    document["parameters_location"]["alpha_1"] = everywhere(entry("beta", shape1=2, shape2=5))
    drawn = sampler(document, "ETH", "KEN")
    row = dict(zip(drawn.columns(), drawn.row(3).tolist(), strict=True))
    assert row["alpha_1"] == drawn.draw(3)["alpha_1"][0]  # type: ignore[index]
    assert row["alpha_2"] == 0.5
    assert drawn.row(3).dtype == np.float64


def test_every_problem_of_priors_and_config_comes_at_once() -> None:
    document = priors_document()
    del document["parameters_location"]["p_beta"]["location"]["KEN"]
    del document["parameters_location"]["prop_R_initial"]
    base = config("ETH", "KEN") | {"N_j_initial": [1000, 1.5], "psi_jt": [[0.1]]}
    del base["zeta_ratio"]
    with pytest.raises(InputProblems) as caught:
        MosaicSampler(Priors.from_json(document), base, SamplingFlags(frozenset(["zeta_ratio"])))
    assert [text.split(": found")[0] for text in caught.value.problems] == [
        "config.N_j_initial[1]",
        "parameters_location.p_beta.location",
        "parameters_location.prop_R_initial.location",
        "config.zeta_ratio",
        "config.psi_jt",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"location_name": []}, "config.location_name: found"),
        ({"location_name": ["ETH", "ETH"]}, "config.location_name: found a location twice"),
        ({"N_j_initial": [1]}, "config.N_j_initial: found 1 values, expected 2"),
        ({"psi_jt": None}, "config.psi_jt: found NoneType, expected 2 rows"),
        ({"psi_jt": [[0.1], [0.1, 0.2]]}, "config.psi_jt: found rows of several lengths"),
    ],
)
def test_a_problem_of_the_config_names_the_key(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputProblems) as caught:
        MosaicSampler(Priors.from_json(priors_document()), config("ETH", "KEN") | change)
    assert any(text.startswith(problem) for text in caught.value.problems)


def test_flags_of_a_control_file_override_the_defaults() -> None:
    flags = SamplingFlags.from_control({"sampling": {"sample_iota": False, "ic_moment_match": False}})
    assert flags.pinned == {"alpha_2", "iota"}
    assert SamplingFlags.from_control({"sampling": {"sample_alpha_2": True}}).pinned == frozenset()
    assert SamplingFlags.from_control({}) == SamplingFlags()
    assert flags.draws("no_flag_of_its_own")


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"sample_iota": "yes"}, "sampling.sample_iota: found 'yes', expected true or false"),
        (
            {"sample_iotta": False},
            "sampling.sample_iotta: found an unknown flag, expected one of sample_a_1_j",
        ),
        ({"iota": False}, "sampling.iota: found an unknown flag"),
        ({"ic_moment_match": True}, "sampling.ic_moment_match: found true, expected false"),
        ([], "sampling: found [], expected an object"),
    ],
)
def test_wrong_flags_are_named(section: object, problem: str) -> None:
    with pytest.raises(InputProblems) as caught:
        SamplingFlags.from_control({"sampling": section})
    assert [text[: len(problem)] for text in caught.value.problems] == [problem]


def test_a_prior_under_a_mistyped_name_is_named() -> None:
    from mosaic_mpi.mosaic.sampler import _misspelt

    document = {
        "parameters_global": {"epsilonn": {"distribution": "fixed", "parameters": {"value": 1}}},
        "parameters_location": {"something_else": {"location": {}}},
    }
    problems = _misspelt(Priors.from_json(document))
    assert problems == ["parameters_global.epsilonn: not a parameter of MOSAIC; did you mean epsilon?"]


# ---- pieces of a plan -------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [False, True], ids=["priors", "a table over priors"])
def test_a_piece_of_a_plan_has_the_draws_and_the_identity_of_the_whole(tmp_path: Path, samples: bool) -> None:
    priors = tmp_path / "priors.json"
    priors.write_text(json.dumps(priors_document()))
    (tmp_path / "t.csv").write_text("sim,rho\n" + "\n".join(f"{2 * row},{row / 10}" for row in range(1, 9)))
    options: dict[str, Any] = {
        "config": write_config(tmp_path, small_config(("ETH", "KEN", "UGA"))),
        "priors": str(priors),
        "samples": str(tmp_path / "t.csv") if samples else None,
        "n_simulations": 8,
    }
    whole = load_plan(PlanOptions(**options), VERSIONS)
    piece = load_plan(PlanOptions(**options, simulations=(4, 7)), VERSIONS)
    assert (piece.fingerprint, piece.identity) == (whole.fingerprint, whole.identity)
    assert list(piece.sim_ids) == ([4, 6] if samples else [4, 5, 6, 7])
    for row, sim_id in enumerate(map(int, piece.sim_ids)):
        found = piece.source.draw(row, sim_id)
        expected = whole.source.draw(list(whole.sim_ids).index(sim_id), sim_id)
        assert found.values.tobytes() == expected.values.tobytes()
        assert repr(found.overrides) == repr(expected.overrides)
