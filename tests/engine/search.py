"""Looks for a config over which the compiled loop and `run_model` differ: in any bit, or in what they raise.

    python tests/engine/search.py --iterations 10000            # prints its seed; --seed repeats a search
    python tests/engine/search.py --iterations 200 --mosaic 20  # of them over MOSAIC's draws

Runs until so many iterations were compared. A difference is shrunk to the smallest config that shows it, and the exit
code is 1. `NPY_DISABLE_CPU_FEATURES` and the like in the environment count. The last line is JSON: versions, the
seed, iterations and how many the loop ran, of these how many were of which kind, and what the engine raised.
"""

from __future__ import annotations

import argparse
import collections
import json
import platform
import re
import secrets
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from mosaic_mpi import environment  # noqa: E402

environment.use_one_thread()

import numba  # noqa: E402
import numpy as np  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from kinds import kinds  # noqa: E402

from mosaic_mpi import compiled_engine, engine  # noqa: E402
from mosaic_mpi.compiled import self_check  # noqa: E402
from mosaic_mpi.compiled.self_check import differing  # noqa: E402
from mosaic_mpi.control import LikelihoodSettings  # noqa: E402
from mosaic_mpi.likelihood import Likelihood  # noqa: E402

FOUND: collections.Counter[str] = collections.Counter()
"""Iterations, and those that the loop ran."""
KINDS: collections.Counter[str] = collections.Counter()
"""Of those that the loop ran."""
RAISED: collections.Counter[str] = collections.Counter()
"""Errors of the engine, numbers left out."""


def outcome(values: dict[str, Any], advance: Any, seeds: list[int]) -> Any:
    """Of each seed, a copy of the results and the generator's end state, or the error; stock without a loop."""
    try:
        if advance is None:
            iterations: Any = engine.StockIterations(values)
        else:
            iterations = engine.prepare(values, ("spatial_hazard",), advance)
    except Exception as error:
        for number in seeds:
            yield number, (type(error).__name__, str(error))
        return
    for number in seeds:
        try:
            results = iterations.run(number)
        except Exception as error:
            yield number, (type(error).__name__, str(error))
        else:
            if iterations.was_compiled:
                FOUND["compiled"] += 1
                KINDS.update(kinds(values, results))
            yield number, (results, iterations.generator.bit_generator.state)
    iterations.close()


def compare(values: dict[str, Any], seeds: list[int]) -> None:
    """Run both and hold one against the other."""
    pairs = zip(outcome(values, None, seeds), outcome(values, compiled_engine.advance, seeds), strict=True)
    for (number, expected), (_, found) in pairs:
        FOUND["iterations"] += 1
        if isinstance(expected[1], str):
            RAISED[re.sub(r"[\d.]+", "#", f"{expected[0]}: {expected[1]}")[:50]] += 1
            assert found == expected, f"seed {number}: {found} instead of {expected}"
            continue
        assert not isinstance(found[1], str), f"seed {number}: {found} raised by the compiled loop alone"
        wrong = differing(expected[0], found[0])
        assert not wrong, f"seed {number}: channels differ: {wrong}"
        assert expected[1] == found[1], f"seed {number}: the generator's state differs"


def score(values: dict[str, Any], results: Any, prepare: Any = None) -> str:
    """The likelihood, to the last bit; by the engine's scorer, or by what is made of it."""
    likelihood = Likelihood(values, LikelihoodSettings(), engine.score, prepare)
    return float(likelihood.score(results.reported_cases, results.reported_deaths)).hex()


def search(n_iterations: int, number: int, longest: bool = False, shrink: bool = True) -> None:
    """Compare so many iterations of configs that hypothesis makes up, two a config."""
    from strategies import long_sizes, sizes

    for part, (share, size) in enumerate(long_sizes if longest else sizes):
        search_sizes(size, max(round(share * n_iterations / 2), 1), 8 * number + part, shrink)


def search_sizes(size: st.SearchStrategy[tuple[int, int]], n_configs: int, number: int, shrink: bool) -> None:
    """Compare iterations of so many configs of some locations and days."""
    from strategies import configs

    @seed(number)
    @settings(
        max_examples=n_configs,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
    )
    @given(configs(size), st.integers(0, 2**31 - 2))
    def both_agree(values: dict[str, Any], first: int) -> None:
        compare(values, [first, first + 1])

    both_agree()


def over_mosaic(n_simulations: int, shared: Path, locations: list[str] | None, first: int) -> None:
    """Compare three iterations of each of so many draws of MOSAIC's priors, over its whole config, and score them."""
    from mosaic_mpi.config import engine_values, load_config
    from mosaic_mpi.mosaic.priors import Priors
    from mosaic_mpi.mosaic.sampling_flags import SamplingFlags
    from mosaic_mpi.mosaic.source import MosaicPrior

    base = load_config(str(shared / "data/config_default.json.gz"), locations).values
    prior = MosaicPrior(Priors.read(shared / "data/priors_default.json"), SamplingFlags(), base)
    for sim_id in range(first, first + n_simulations):
        overrides = prior.draw(sim_id - 1, sim_id).overrides
        assert "psi_jt" in overrides
        values = {**engine_values(base), **engine_values(overrides)}
        if not values.get("epidemic_peaks"):  # the engine asks for columns even where there is no peak
            values.pop("epidemic_peaks", None)
        scored = {**base, **overrides}
        seeds = [3 * (sim_id - 1) + j for j in (1, 2, 3)]
        compare_scored(values, scored, seeds)


def compare_scored(values: dict[str, Any], observed: dict[str, Any], seeds: list[int]) -> None:
    """As `compare`, and the likelihoods."""
    compare(values, seeds)
    stock, compiled = engine.StockIterations(values), engine.prepare(values, (), compiled_engine.advance)
    found = score(observed, compiled.run(seeds[0]), engine.prepare_scorer)
    assert found == score(observed, stock.run(seeds[0]))
    FOUND["likelihoods"] += 1


def check() -> str | None:
    """The self-check of the loop at hand."""
    return self_check.difference(compiled_engine.advance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--trust", action="store_true", help="look at an engine and a NumPy that are not known, too")
    parser.add_argument("--longest", action="store_true", help="windows of 1000 to 4000 days")
    parser.add_argument("--mosaic", type=int, default=0, metavar="N", help="simulations over MOSAIC's draws besides")
    parser.add_argument("--shared", type=Path, help="where MOSAIC's config and priors are")
    parser.add_argument("--locations", default="ETH", help="of MOSAIC's draws; all: every one")
    options = parser.parse_args()
    number = secrets.randbits(32) if options.seed is None else options.seed
    print(f"seed {number}", flush=True)
    if options.trust:
        engine.caution, (compiled_engine.advance, _) = None, compiled_engine.build_loop()
        assert compiled_engine.in_child(check) is None, check()
    assert compiled_engine.advance is not None, compiled_engine.reason
    began = time.process_time()
    if options.iterations:
        search(options.iterations, number, options.longest)
    if options.mosaic:
        chosen = None if options.locations == "all" else options.locations.split(",")
        over_mosaic(options.mosaic, options.shared, chosen, number % 10_000 + 1)
    versions = f"NumPy {np.__version__}, Numba {numba.__version__}, Python {platform.python_version()}"
    counts = {**FOUND, "kinds": dict(sorted(KINDS.items())), "raised": dict(RAISED.most_common())}
    print(
        json.dumps({"versions": versions, "seed": number, **counts, "cpu_s": round(time.process_time() - began, 1)})
    )


if __name__ == "__main__":
    main()
