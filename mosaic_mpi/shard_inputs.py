"""MOSAIC's 1_inputs: what `run_MOSAIC(resume = TRUE)` checks shards against, and whether it may have them at all.

Owns the contents of control.json and environment.json. Writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mosaic_mpi import fake
from mosaic_mpi.control import LikelihoodSettings, load_control
from mosaic_mpi.errors import InputError
from mosaic_mpi.results import Results

INPUTS = Path("1_inputs")
LIKELIHOOD_PROVENANCE = {"engine": "R", "impl_version": "R/v0.22.21"}
"""MOSAIC's name for the local backend's likelihoods, to which ours are equal within 1e-9."""
FLAGS = (
    *("iota", "epsilon", "gamma_1", "gamma_2", "rho", "mobility_gamma", "mobility_omega", "alpha_1", "alpha_2"),
    *("omega_1", "omega_2", "phi_1", "phi_2", "sigma", "kappa", "chi_endemic", "chi_epidemic", "rho_deaths"),
    *("delta_reporting_cases", "delta_reporting_deaths", "decay_days_short", "decay_days_spread"),
    *("decay_shape_1", "decay_shape_2", "zeta_1", "zeta_ratio", "beta_j0_tot", "p_beta", "tau_i", "theta_j"),
    *("mu_j_baseline", "mu_j_slope", "mu_j_epidemic_factor", "epidemic_threshold"),
    *("a_1_j", "a_2_j", "b_1_j", "b_2_j", "psi_star_a", "psi_star_b", "psi_star_z", "psi_star_k"),
    "initial_conditions",
)
"""Parameters with a sampling flag in MOSAIC's order, which its check of control.json compares too."""


def check_exportable(results: Results) -> None:
    """Refuse results whose parameters are not those that MOSAIC would draw again.

    Raises
    ------
    InputError
        And what to do instead.
    """
    identity = results.header.identity
    simulator = identity["simulator"]
    if "sampler" not in identity or "under the table" in identity:
        raise InputError(
            f"{results.path}: its parameters are not draws of MOSAIC's priors but: {identity['parameters']}. MOSAIC "
            "draws the parameters of each posterior member again from its seed, so its ensemble and predictions "
            "would belong to other parameters than these; run with --priors and without --samples, or use "
            "export --samples"
        )
    if simulator != "laser" and simulator != fake.simulator_name():
        raise InputError(f"{results.path}: simulated by the stand-in {simulator}, not by laser-cholera")


def input_files(results: Results, control: str | None) -> dict[str, dict[str, Any]]:
    """Contents of the files of 1_inputs, by name."""
    found = {}
    if control is not None:
        found["control.json"] = _control(results, control)
    if results.header.identity["simulator"] == "laser":
        found["environment.json"] = _environment(results.header.identity)
    return found


def _environment(identity: Mapping[str, Any]) -> dict[str, Any]:
    # From 0.68 on MOSAIC has an engine of its own, and by this version it knows that these are another's.
    mosaic = identity["sampler"].removeprefix("MOSAIC ").partition(",")[0]
    return {
        "R": {"MOSAIC": mosaic},
        "python": {"pkg_laser_cholera": identity["version of laser-cholera"]},
        "likelihood_provenance": LIKELIHOOD_PROVENANCE,
    }


def _control(results: Results, path: str) -> dict[str, Any]:
    """MOSAIC's control.json: the settings merged with its defaults, without nulls; the sections it compares."""
    control, identity = load_control(path), results.header.identity
    asked = {
        "calibration.n_iterations": (control.n_iterations, identity["n_iterations"]),
        "sampling, not sampled": (", ".join(sorted(control.flags.pinned)), identity["not sampled"]),
        **{
            f"likelihood.{name}": (value, identity["likelihood"][name])
            for name, value in json.loads(json.dumps(asdict(control.likelihood))).items()
        },
    }
    problems = [
        f"--control {path}: {name}: found {_shown(found)}, but {results.path} was made with {_shown(made)}"
        for name, (found, made) in asked.items()
        if found != made
    ]
    if problems:
        raise InputError(problems)
    sampling = {f"sample_{name}": control.flags.draws(name) for name in FLAGS}
    return {
        "control": {
            "calibration": {"n_simulations": results.n_simulations, "n_iterations": control.n_iterations},
            "sampling": {**sampling, "ic_moment_match": False},
            "likelihood": _without_nulls(control.likelihood),
        }
    }


def _without_nulls(settings: LikelihoodSettings) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(settings).items() if value is not None}


def _plain(value: Any) -> Any:
    """Whole numbers as R writes them, without a decimal point."""
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def conflicts(folder: Path, name: str, content: Mapping[str, Any]) -> list[str]:
    """Return what MOSAIC would find different between a file that is there and the one to write."""
    path = folder / INPUTS / name
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        return [f"{path}: cannot be read as JSON: {error}; nothing was written"]
    if _compared(there) == _compared(content):
        return []
    return [f"{path}: is there, and says something else than this run; nothing was written: choose another folder"]


def _compared(document: Any) -> Any:
    """The part of control.json or environment.json that MOSAIC compares."""
    document = document if isinstance(document, dict) else {}
    if "control" not in document:
        return document.get("likelihood_provenance")
    control = document["control"]
    calibration = control.get("calibration", {})
    sections = [
        {key: value for key, value in control.get(section, {}).items() if value not in (None, {})}
        for section in ("sampling", "likelihood")
    ]
    fixed = isinstance(calibration.get("n_simulations"), (int, float))
    return [*sections, calibration.get("n_iterations"), fixed]
