"""Runs the engine directly, in a fresh process, on a config handed over the way MOSAIC does.

Written independently of mosaic_mpi, from the description of MOSAIC's reticulate path: vectors as lists, matrices
float64 in Fortran order (location x day), plain numbers for one location. Reads a JSON description from standard
input; writes every channel of one iteration, and the scorer's value, to an .npz file.
"""

import json
import sys
from pathlib import Path

import numpy as np

LISTS = {
    *("psi_star_a", "psi_star_b", "psi_star_z", "psi_star_k", "beta_j0_tot", "p_beta"),
    *(f"prop_{name}_initial" for name in ("S", "E", "I", "R", "V1", "V2")),
    *("mu_j_baseline", "mu_j_slope", "mu_j_epidemic_factor"),
}


def cell(value):
    return np.nan if value is None or value == "NA" else float(value)


def cut(config, keep):
    n_all = len(config["location_name"])
    result = {}
    for key, value in config.items():
        if key == "epidemic_peaks":
            continue
        if isinstance(value, list) and len(value) == n_all and key != "nu_jt_sources":
            value = [value[index] for index in keep]
            if isinstance(value[0], list):
                value = np.asfortranarray([[cell(entry) for entry in row] for row in value], dtype=np.float64)
            elif len(value) == 1 and key not in LISTS:
                value = value[0]
        result[key] = value
    return result


def dispersion(x, w, k_min, k_max=1e5):
    """The scorer's dispersion of an unweighted series, with sums in extended precision as R has them."""
    x = x[np.isfinite(x)].astype(np.longdouble)
    mean = float(x.sum() / len(x))
    variance = float(((x - mean) ** 2).sum() / (len(x) - 1))
    return np.inf if mean <= 0 or variance <= mean else min(max(mean**2 / (variance - mean), k_min), k_max)


def main():
    order = json.load(sys.stdin)
    from laser.cholera import calc_model_likelihood as scoring
    from laser.cholera.metapop.model import run_model

    config = json.loads(Path(order["config"]).read_text())
    keep = [config["location_name"].index(iso) for iso in order["locations"]]
    for key, value in order["parameters"].items():
        if isinstance(config[key], list):
            config[key] = list(config[key])
            for index, number in zip(keep, value, strict=True):
                config[key][index] = number
        else:
            config[key] = value
    handed = cut(config, keep)
    handed |= {"seed": order["seed"], "calc_likelihood": False}
    results = run_model(handed).results
    channels = {name: np.array(array) for name, array in vars(results).items()}
    pairs = [("reported_cases", handed), ("reported_cases", channels)]
    pairs += [("reported_deaths", handed), ("reported_deaths", channels)]
    burn_in = 30  # MOSAIC's default
    scoring.nb_size_from_obs_weighted = dispersion
    score = scoring.calc_model_likelihood(*(source[name][:, burn_in:] for name, source in pairs))
    np.savez(order["output"], likelihood=score, **channels)


main()
