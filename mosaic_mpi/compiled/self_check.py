"""The compiled loop beside the engine's own: the same configs, the same seeds, every number.

Owns the configs: the engine's bundled one, cut to 90 days and changed so that every branch of every component is
taken; all countries with numbers for exponents, one country with lists.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from mosaic_mpi.compiled.model import Advance
from mosaic_mpi.config import engine_values, load_config

N_DAYS = 90
_SEEDS = (1, 20240930)


@functools.cache
def configs() -> dict[str, dict[str, Any]]:
    """Configs as slots hand them to the engine, by what they are."""
    values = _first_days()
    return {"all countries": _all_countries(values), "one country": _one_country(_only(values, "ETH"))}


def _first_days() -> dict[str, Any]:
    """The bundled config, cut to so many days."""
    config = load_config(None)
    values = {key: value for key, value in config.values.items() if key != "epidemic_peaks"}
    for key, value in values.items():
        if isinstance(value, np.ndarray):
            values[key] = np.asfortranarray(value[:, :N_DAYS])
    values["date_stop"] = config.dates[N_DAYS - 1]
    return values


def _only(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A config cut to one location."""
    n, j = len(values["location_name"]), values["location_name"].index(name)
    return {
        key: value[j : j + 1] if isinstance(value, np.ndarray | list) and len(value) == n else value
        for key, value in values.items()
    }


def _changed(values: dict[str, Any], share_ill: float, mu_j_slope: float) -> dict[str, Any]:
    """An epidemic that kills and is told of; births and deaths that differ by day, and doses by how they take."""
    susceptible = np.array(values["S_j_initial"])
    n = len(susceptible)
    season = 1 + 0.5 * np.sin(np.arange(N_DAYS))
    return {
        **values,
        "E_j_initial": (susceptible * share_ill).astype(int).tolist(),
        "I_j_initial": [int(count * share_ill) if (n + j) % 2 else 0 for j, count in enumerate(susceptible)],
        "V1_j_initial": (susceptible // 50).tolist(),
        "V2_j_initial": (susceptible // 70).tolist(),
        "b_jt": np.asfortranarray(values["b_jt"] * season),
        "d_jt": np.asfortranarray(values["d_jt"] * season[::-1]),
        "mu_j_baseline": [0.01] * n,
        "mu_j_slope": [mu_j_slope] * n,
        "mu_j_epidemic_factor": [1.5] * n,
        "phi_1": 0.81,
        "phi_2": 0.64,
    }


def _all_countries(values: dict[str, Any]) -> dict[str, Any]:
    """An epidemic in every other country, doses now and then, some rates that turn negative."""
    values = _changed(values, share_ill=5e-3, mu_j_slope=0.7)
    susceptible = np.array(values["S_j_initial"])
    values["a_1_j"] = [(-4.0 if j % 5 == 0 else 0.3) for j in range(len(susceptible))]
    values["nu_1_jt"] = _doses(susceptible, every=3, share=2e-3)
    values["nu_2_jt"] = _doses(susceptible, every=4, share=1e-3)
    values |= {"delta_reporting_cases": 2, "delta_reporting_deaths": 5, "epidemic_threshold": 1e-3}
    return engine_values(values)


def _one_country(values: dict[str, Any]) -> dict[str, Any]:
    """One location, with exponents and threshold as lists, more doses than people and hardly a reporting delay.

    So many are ill that an ulp in a rate changes a draw, and in water so clear more would decay than there is.
    """
    values = _changed(values, share_ill=0.1, mu_j_slope=-0.4)
    values |= {"mu_j_baseline": [0.1], "zeta_1": 1e-6, "zeta_2": 1e-7, "kappa": 5.0}
    values |= {"decay_days_short": 0.3, "decay_days_long": 1.0}
    susceptible = np.array(values["S_j_initial"])
    values["nu_1_jt"] = _doses(susceptible, every=7, share=0.5)
    values["nu_2_jt"] = _doses(susceptible, every=5, share=0.5)
    values["nu_jt_sources"] = ["S", "R"]
    values |= {"delta_reporting_cases": 0, "delta_reporting_deaths": 1}
    typed = engine_values(values)
    return {**typed, "alpha_1": [0.31], "alpha_2": [0.87], "epidemic_threshold": [2e-3]}


def _doses(people: Any, every: int, share: float) -> Any:
    days = np.arange(N_DAYS) % every == 0
    return np.asfortranarray(np.round(people[:, None] * days * share))


def difference(advance: Advance) -> str | None:
    """Say where the loop's numbers are not the engine's; None where all are."""
    from mosaic_mpi import engine

    for name, values in configs().items():
        stock = engine.StockIterations(values)
        compiled = engine.prepare(values, ("spatial_hazard",), advance)
        for seed in _SEEDS:
            expected = stock.run(seed)
            found = compiled.run(seed)
            if not compiled.was_compiled:
                return f"{name}, seed {seed}: it gave the iteration back"
            wrong = differing(expected, found)
            if _state(stock) != _state(compiled):
                wrong.append("the generator's state")
            if wrong:
                return f"{name}, seed {seed}: {', '.join(wrong)}"
        compiled.close()
    return None


def _state(iterations: Any) -> Any:
    return iterations.generator.bit_generator.state


def differing(expected: Any, found: Any) -> list[str]:
    """Names of the channels that differ in any bit, or in dtype or shape."""
    names = sorted(vars(expected).keys() | vars(found).keys())
    return [name for name in names if not _is_same(getattr(expected, name, None), getattr(found, name, None))]


def _is_same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return False
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
