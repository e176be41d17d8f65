"""Reading priors: every distribution, and every problem in one message."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from mosaic_mpi.mosaic.priors import InputProblems, Prior, Priors


def entry(distribution: object, **parameters: object) -> dict[str, Any]:
    return {"distribution": distribution, "parameters": parameters}


def document(**priors: object) -> dict[str, Any]:
    return {"metadata": {"version": "1.2"}, "parameters_global": priors, "parameters_location": {}}


@pytest.mark.parametrize(
    ("given", "prior"),
    [
        (entry("beta", shape1=2, shape2=3.5), Prior("beta", (2.0, 3.5))),
        (entry("gamma", shape=2, rate=3), Prior("gamma", (2.0, 3.0))),
        (entry("lognormal", meanlog=-1, sdlog=0), Prior("lognormal", (-1.0, 0.0))),
        (entry("normal", mean=-1, sd=0), Prior("normal", (-1.0, 0.0))),
        (
            entry("truncnorm", mean=1, sd=1, a=0, b="Inf"),
            Prior("truncated_normal", (1.0, 1.0, 0.0, math.inf)),
        ),
        (
            entry("truncnorm", mean=1, sd=1, a="-Inf", b=2),
            Prior("truncated_normal", (1.0, 1.0, -math.inf, 2.0)),
        ),
        (entry("uniform", min=-1, max=1), Prior("uniform", (-1.0, 1.0))),
        (entry("gompertz", b=1, eta=0.01), Prior("gompertz", (1.0, 0.01))),
        (entry("fixed", value=7), Prior("fixed", (7.0,))),
        (entry("frozen", value=7), Prior("fixed", (7.0,))),
        (entry("failed"), Prior("failed", ())),
        ({"distribution": "failed"}, Prior("failed", ())),
    ],
)
def test_every_distribution_is_read(given: dict[str, Any], prior: Prior) -> None:
    assert Priors.from_json(document(x=given)).parameters_global == {"x": prior}


def test_moments_of_a_lognormal_are_taken_to_the_log_scale() -> None:
    (prior,) = Priors.from_json(document(x=entry("lognormal", mean=2, sd=1))).parameters_global.values()
    meanlog, sdlog = prior.arguments
    assert math.exp(meanlog + sdlog**2 / 2.0) == pytest.approx(2.0)
    assert 2.0 * math.sqrt(math.expm1(sdlog**2)) == pytest.approx(1.0)


def test_order_of_the_file_and_locations_are_kept() -> None:
    given = document(b=entry("failed"), a=entry("failed"))
    given["parameters_location"] = {"p": {"location": {"KEN": entry("fixed", value=1)}}}
    priors = Priors.from_json(given)
    assert list(priors.parameters_global) == ["b", "a"]
    assert priors.parameters_location == {"p": {"KEN": Prior("fixed", (1.0,))}}
    assert priors.version == "1.2"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (entry("beta", shape1=0, shape2=1), "x.parameters.shape1: found 0, expected a finite number above 0"),
        (entry("beta", shape1=1), "x.parameters.shape2: found nothing, expected a finite number above 0"),
        (entry("gamma", shape=1, rate="1"), "x.parameters.rate: found '1', expected"),
        (entry("normal", mean="Inf", sd=1), "x.parameters.mean: found 'Inf', expected a finite number"),
        (entry("normal", mean=0, sd=-1), "x.parameters.sd: found -1, expected a finite number of at least 0"),
        (entry("normal", mean=True, sd=1), "x.parameters.mean: found True, expected a finite number"),
        (entry("truncnorm", mean=0, sd=1, a=2, b=1), "x.parameters.b: found 1.0, expected a number above a"),
        (entry("uniform", min=2, max=1), "x.parameters.max: found 1.0, expected a number of at least min"),
        (entry("cauchy"), "x.distribution: found 'cauchy', expected one of beta, gamma"),
        (None, "x.distribution: found nothing, expected one of"),
        ({"distribution": "beta"}, "x.parameters: found nothing, expected an object"),
    ],
)
def test_a_problem_names_key_found_and_expected(given: object, problem: str) -> None:
    with pytest.raises(InputProblems) as caught:
        Priors.from_json(document(x=given))
    assert any(text.startswith(f"parameters_global.{problem}") for text in caught.value.problems)


def test_all_problems_come_at_once() -> None:
    given = document(x=entry("beta", shape1=-1, shape2=-1), y=entry("none"))
    given["parameters_location"] = {"p": {}, "q": {"location": {"KEN": entry("fixed")}}}
    with pytest.raises(InputProblems, match="shape2") as caught:
        Priors.from_json(given)
    assert [text.split(":")[0] for text in caught.value.problems] == [
        "parameters_global.x.parameters.shape1",
        "parameters_global.x.parameters.shape2",
        "parameters_global.y.distribution",
        "parameters_location.p.location",
        "parameters_location.q.location.KEN.parameters.value",
    ]


def test_a_file_without_priors_names_both_sections() -> None:
    with pytest.raises(InputProblems) as caught:
        Priors.from_json({})
    assert [text.split(":")[0] for text in caught.value.problems] == [
        "parameters_global",
        "parameters_location",
    ]


def test_problems_travel_between_processes() -> None:
    problems = pickle.loads(pickle.dumps(InputProblems("priors", ["a: found 1, expected 2"])))
    assert problems.problems == ["a: found 1, expected 2"]
    assert str(problems) == "priors: a: found 1, expected 2"


def test_priors_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "priors.json"
    path.write_text(json.dumps(document(x=entry("fixed", value=1))))
    assert Priors.read(path).parameters_global == {"x": Prior("fixed", (1.0,))}


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "priors.json"
    path.write_text("{")
    with pytest.raises(InputProblems, match=r"priors\.json: found no valid JSON"):
        Priors.read(path)
