"""A bare loop of run_model: what a core can do at best, for `efficiency.py`.

Reads the simulations of one loop from the command line, and prints its start, end and log-likelihoods as JSON. The
config is handed over as mosaic_mpi does it, prepared once, and each iteration is scored by the engine's scorer.
"""

import json
import os
import sys
import time

os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})
os.environ["NUMBA_THREADING_LAYER"] = "workqueue"


def main() -> None:
    order = json.loads(sys.argv[1])
    from laser.cholera import calc_model_likelihood as scoring
    from laser.cholera.metapop.model import run_model

    from mosaic_mpi.config import engine_values, load_config
    from mosaic_mpi.control import LikelihoodSettings
    from mosaic_mpi.likelihood import Likelihood, dispersion
    from mosaic_mpi.parameters import DefaultPrior

    config = load_config(None, order["locations"])
    prior = DefaultPrior(config.values)
    base = engine_values(config.values)
    base.pop("epidemic_peaks", None)
    base |= {"calc_likelihood": False, "quiet": True}
    scoring.nb_size_from_obs_weighted = dispersion
    likelihood = Likelihood(config.values, LikelihoodSettings(), scoring.calc_model_likelihood)
    sys.stdin.readline()  # both loops begin together
    began, likelihoods = time.time(), {}
    for sim_id in order["sim_ids"]:
        parameters = engine_values(prior.draw(sim_id - 1, sim_id).overrides)
        scores = []
        for iteration in range(1, order["n_iterations"] + 1):
            seed = (sim_id - 1) * order["n_iterations"] + iteration
            results = run_model({**base, **parameters, "seed": seed}).results
            scores.append(likelihood.score(results.reported_cases, results.reported_deaths))
        likelihoods[sim_id] = scores
    print(json.dumps({"began": began, "ended": time.time(), "likelihoods": likelihoods}))


main()
