"""jobs/mosaic_inputs.R and jobs/mosaic_resume.R under R: every number survives, and run_MOSAIC is called as it asks.

MOSAIC itself is not run: a stand-in of it returns lists of the same R types and checks what it is called with. So is
arrow where it is not installed; R then sees what pyarrow read.
"""

from __future__ import annotations

import gzip
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Cli
from rtools import HERE, JOBS, Rscript, install

from mosaic_mpi.config import load_config
from mosaic_mpi.control import LikelihoodSettings, load_control
from mosaic_mpi.mosaic.priors import Priors, number
from mosaic_mpi.shards import SAMPLES

ISO = {"one": ["ETH"], "two": ["ETH", "KEN"]}
SETTINGS = """mosaic_control_defaults(
  calibration = list(n_simulations = 60, n_iterations = 2),
  sampling = list(sample_rho = FALSE, sample_kappa = FALSE),
  likelihood = list(weight_wis = 0.1 + 0.2, nb_k_min_cases = 1 / 3, deaths_score_start = as.Date("2023-02-10"),
                    weights_time = NULL, burn_in_days = 5))"""


def edited(script: str, changes: dict[str, str], folder: Path) -> Path:
    """A script as a user would edit it: lines that begin so get another value."""
    text = (JOBS / script).read_text()
    head, rest = text.split("# ---- to here", 1)
    lines = head.splitlines()
    for name, value in changes.items():
        start = next(index for index, line in enumerate(lines) if line.startswith(f"{name} <- "))
        stop = start + 1
        while lines[stop : stop + 1] and lines[stop].startswith((" ", ")")):
            stop += 1
        lines[start:stop] = [f"{name} <- {value}"]
    path = folder / script
    path.write_text("\n".join(lines) + "\n# ---- to here" + rest)
    return path


def make_inputs(rscript: Rscript, stand_ins: dict[str, str], folder: Path, iso: list[str], control: str) -> str:
    codes = ", ".join(f'"{code}"' for code in iso)
    changes = {"iso": f"c({codes})", "folder": f'"{folder / "inputs"}"', "control": control}
    done = rscript(edited("mosaic_inputs.R", changes, folder), **stand_ins)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=ISO)
def inputs(
    request: pytest.FixtureRequest,
    rscript: Rscript,
    stand_ins: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(rscript, stand_ins, folder, ISO[request.param], f"MOSAIC::{SETTINGS}")
    return folder / "inputs"


def numbers_in_r(rscript: Rscript, folder: Path) -> dict[str, float]:
    """Every number of inputs.rds by its path, as R prints it in hexadecimal."""
    done = rscript(HERE / "dump_numbers.R", folder / "inputs.rds")
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        path, text = line.split("\t")
        found[path] = math.nan if text in ("NA", "NaN") else float.fromhex(text)
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(entry, f"{path}/{key}")
    elif value is not None and not isinstance(value, bool):
        yield path, value


def test_every_number_of_the_json_is_the_one_in_r(inputs: Path, rscript: Rscript) -> None:
    known = numbers_in_r(rscript, inputs)
    files = {"config": "config.json.gz", "priors": "priors.json", "control": "control.json"}
    n_compared = 0
    for name, file in files.items():
        data = (inputs / file).read_bytes()
        document = json.loads(gzip.decompress(data) if file.endswith("gz") else data)
        found = dict(leaves(document, f"/{name}"))
        expected = {path: value for path, value in known.items() if path.startswith(f"/{name}/")}
        for path, value in expected.items():
            here = number(found[path])
            if math.isnan(value):
                assert found[path] in ("NA", "NaN"), path
            else:
                assert here is not None, path
                assert here.hex() == value.hex(), path
            n_compared += 1
        strangers = [path for path, value in found.items() if path not in expected and number(value) is not None]
        assert strangers in ([], [path for path in strangers if path.startswith("/priors") and path.endswith("/b")])
    assert n_compared > 500


def test_the_config_read_is_the_one_in_r(inputs: Path, rscript: Rscript) -> None:
    known = numbers_in_r(rscript, inputs)
    config = load_config(str(inputs / "config.json.gz"))
    raw = json.loads(gzip.decompress((inputs / "config.json.gz").read_bytes()))
    assert config.n_ticks == 40
    n_matrices = 0
    for key, value in config.values.items():
        if isinstance(value, np.ndarray):
            n_matrices += 1
            assert isinstance(raw[key][0], list), f"{key}: a matrix stays one with a single row"
            expected = [[known[f"/config/{key}/{row}/{day}"] for day in range(40)] for row in range(len(value))]
            assert np.array(expected).tobytes() == np.ascontiguousarray(value).tobytes(), key
        elif isinstance(value, list) and isinstance(value[0], int | float):
            one = len(value) == 1
            paths = [f"/config/{key}" if one else f"/config/{key}/{index}" for index in range(len(value))]
            assert [float(entry).hex() for entry in value] == [known[path].hex() for path in paths], key
        elif isinstance(value, int | float):
            assert float(value).hex() == known[f"/config/{key}"].hex(), key
    assert n_matrices == 10
    assert config.values["metadata"]["note"] == 'quotes " and é'
    assert config.values["epidemic_peaks"][0]["iso_code"] == config.locations[0]


def test_the_priors_read_are_the_ones_in_r(inputs: Path, rscript: Rscript) -> None:
    known = numbers_in_r(rscript, inputs)
    priors = Priors.read(inputs / "priors.json")
    found = priors.parameters_global
    names = {"phi_1": ("shape1", "shape2"), "gamma_1": ("meanlog", "sdlog"), "kappa": ("value",)}
    names |= {"decay_days_short": ("mean", "sd", "a", "b")}
    for name, parts in names.items():
        expected = [known[f"/priors/parameters_global/{name}/parameters/{part}"].hex() for part in parts]
        assert [value.hex() for value in found[name].arguments] == expected, name
    assert found["decay_days_short"].arguments[3] == math.inf
    assert found["rho"].method == "failed"
    for by_location in priors.parameters_location.values():
        assert list(by_location) == list(load_config(str(inputs / "config.json.gz")).locations)
    assert priors.parameters_location["psi_star_a"]["ETH"].arguments[2:] == (-math.inf, math.inf)


def test_the_control_read_is_the_one_in_r(inputs: Path) -> None:
    control = load_control(str(inputs / "control.json"))
    assert control.flags.pinned == {"alpha_2", "rho", "kappa"}
    assert (control.n_simulations, control.n_iterations) == (60, 2)
    assert control.likelihood == LikelihoodSettings(
        weight_wis=0.1 + 0.2, nb_k_min_cases=1 / 3, deaths_score_start="2023-02-10", burn_in_days=5
    )


def test_a_control_list_that_leaves_settings_out_gets_the_defaults(
    rscript: Rscript, stand_ins: dict[str, str], tmp_path: Path
) -> None:
    said = make_inputs(rscript, stand_ins, tmp_path, ["ETH"], "list(likelihood = list(weight_wis = 0.1))")
    control = load_control(str(tmp_path / "inputs" / "control.json"))
    assert control.likelihood == LikelihoodSettings(weight_wis=0.1)
    assert "--n-simulations" in said, "without a number of its own, the command has to give one"


# ---- and back ---------------------------------------------------------------------------------------


def tables_for_r(samples: Path, output: Path) -> str:
    """What the stand-in of arrow gives back."""
    tables = {path.name: pq.read_table(path).to_pydict() for path in samples.glob("sim_*.parquet")}
    output.write_text(json.dumps(tables))
    return str(output)


def resume(
    rscript: Rscript, stand_ins: dict[str, str], folder: Path, changes: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    script = edited("mosaic_resume.R", changes or {}, folder)
    variables = {
        "STAND_IN_TABLES": tables_for_r(folder / "out" / SAMPLES, folder / "tables.json"),
        "STAND_IN_CALL": str(folder / "call.rds"),
    }
    return rscript(script, folder / "inputs", folder / "out", **variables, **stand_ins)


@pytest.fixture
def exported(inputs: Path, tmp_path: Path, cli: Cli) -> Path:
    """A run of what mosaic_inputs.R wrote (made-up simulations), exported as it says."""
    shutil.copytree(inputs, tmp_path / "inputs")
    names = {"config": "config.json.gz", "priors": "priors.json", "control": "control.json"}
    options = [word for name, file in names.items() for word in (f"--{name}", f"inputs/{file}")]
    ran = cli("run", *options, "--output", "run.h5")
    assert ran.returncode == 0, ran.stderr
    done = cli("export", "run.h5", "--mosaic", "out", "--control", "inputs/control.json")
    assert done.returncode == 0, done.stderr
    provenance = {"likelihood_provenance": {"engine": "R", "impl_version": "R/v0.22.21"}}
    (tmp_path / "out" / "1_inputs" / "environment.json").write_text(json.dumps(provenance))  # made up: has none
    return tmp_path


def test_resume_hands_everything_to_run_mosaic(exported: Path, rscript: Rscript, stand_ins: dict[str, str]) -> None:
    done = resume(rscript, stand_ins, exported)
    assert done.returncode == 0, done.stderr
    assert "60 shards" in done.stderr
    assert "likelihood finite in 60" in done.stderr
    code = f"""
      called <- readRDS("{exported / "call.rds"}"); given <- readRDS("{exported / "inputs" / "inputs.rds"}")
      stopifnot(identical(called$config, given$config), identical(called$priors, given$priors),
                called$control$calibration$n_simulations == 60, called$control$calibration$n_iterations == 2,
                called$control$likelihood$weight_wis == 0.1 + 0.2, called$dir_output == "{exported / "out"}")
    """
    checked = rscript("-e", code)
    assert checked.returncode == 0, checked.stderr


def test_resume_says_how_many_simulations_r_runs_itself(
    exported: Path, rscript: Rscript, stand_ins: dict[str, str]
) -> None:
    for sim in (3, 9):
        (exported / "out" / SAMPLES / f"sim_{sim:07d}.parquet").unlink()
    done = resume(rscript, stand_ins, exported)
    assert done.returncode == 0, done.stderr
    assert "2 of 60 simulations have no shard" in done.stderr


def spoil(path: Path, **columns: list[float | None]) -> None:
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), table.field(name), pa.array(values, pa.float64()))
    pq.write_table(table, path)


def test_resume_refuses_shards_that_are_not_in_order(
    exported: Path, rscript: Rscript, stand_ins: dict[str, str]
) -> None:
    samples = exported / "out" / SAMPLES
    first = sorted(samples.glob("*.parquet"))[0]
    good = first.read_bytes()
    population = next(name for name in pq.read_schema(first).names if name.startswith("N_j_initial"))
    troubles: dict[str, dict[str, list[float | None]]] = {
        "is of simulation 2": {"sim": [2.0]},
        "locations": {population: [5.0]},
        "at least 50": {"likelihood": [None]},
    }
    for path in sorted(samples.glob("*.parquet"))[:11]:
        spoil(path, likelihood=[None])
    assert "at least 50" in resume(rscript, stand_ins, exported).stderr
    for expected, columns in troubles.items():
        first.write_bytes(good)
        spoil(first, **columns)
        done = resume(rscript, stand_ins, exported)
        assert done.returncode != 0
        assert expected in done.stderr
    assert not (exported / "call.rds").exists()


def test_resume_refuses_a_mosaic_with_an_engine_of_its_own(
    exported: Path, rscript: Rscript, stand_ins: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = tmp_path_factory.mktemp("newer")
    source = tmp_path_factory.mktemp("source") / "MOSAIC"
    shutil.copytree(HERE / "MOSAIC", source)
    description = source / "DESCRIPTION"
    description.write_text(description.read_text().replace("0.64.2", "0.70.0"))
    install(library, source)
    done = resume(rscript, {"R_LIBS": f"{library}:{stand_ins['R_LIBS']}"}, exported)
    assert done.returncode != 0
    assert "engine of its own" in done.stderr
