"""Changes one line of the engine at a time, in a copy, and tells what notices: digest, self-check, random search.

    python tests/engine/mutants.py FOLDER N

JSON: mutation to [file, digest is another, what the self-check says, after how many of N random iterations a search
finds a difference]. A changed component takes the place of the engine's own in this process; the loop stays as it is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from outside_the_loop import OUTSIDE_THE_LOOP
from search import FOUND, search  # first, since it sees to one thread

from mosaic_mpi import compiled_engine, engine
from mosaic_mpi.compiled import self_check

MUTATIONS = {
    "Susceptible: births follow the day after": (
        "susceptible.py",
        "model.params.b_jt[tick]",
        "model.params.b_jt[tick - 1]",
    ),
    "Exposed: some do not die": ("exposed.py", "E_next -= non_disease_deaths", "E_next -= non_disease_deaths // 2"),
    "Recovered: the dead wane too": ("recovered.py", "binomial(R - non_disease_deaths,", "binomial(R,"),
    "Infectious: threshold met counts": ("infectious.py", "(Ireported > (", "(Ireported >= 0 * ("),
    "Infectious: cases rounded down": (
        "infectious.py",
        "np.round(model.params.sigma * progressing)",
        "np.floor(model.params.sigma * progressing)",
    ),
    "Infectious: reports by the other share": (
        "infectious.py",
        "infected_fraction < model.params.epidemic_threshold, ",
        "infected_fraction > model.params.epidemic_threshold, ",
    ),
    "Infectious: asymptomatic recover as symptomatic": (
        "infectious.py",
        "binomial(Ia_next, self._gamma_2_prob)",
        "binomial(Ia_next, self._gamma_1_prob)",
    ),
    "Vaccinated: second doses are not limited": (
        "vaccinated.py",
        "np.minimum(new_second_doses_delivered, V1_next)",
        "np.minimum(new_second_doses_delivered, V1_next + 1)",
    ),
    "Vaccinated: shares of one more": (
        "vaccinated.py",
        "np.maximum(available_pop, 1, ",
        "np.maximum(available_pop, 10**7, ",
    ),
    "Census: V2 is forgotten": ("census.py", '"R", "V1", "V2"]:\n            if', '"R", "V1"]:\n            if'),
    "scorer: a missed case costs more": ("calc_model_likelihood.py", "* np.log(1e6)", "* np.log(1e7)"),
    "HumanToHuman: no power": ("humantohuman.py", "np.power(effective_i, model.params.alpha_1)", "effective_i"),
    "HumanToHuman: negative rates stay": ("humantohuman.py", "np.maximum(rate, 0.0)", "np.maximum(rate, -1e-9)"),
    "EnvToHuman: everybody is at home": ("envtohuman.py", "np.round(local_frac * S_next)", "np.round(S_next * 1.0)"),
    "Environmental: the asymptomatic shed more": (
        "environmental.py",
        "poisson(model.params.zeta_2 * Iasym)",
        "poisson(model.params.zeta_1 * Iasym)",
    ),
    "Environmental: a share of decay is lost": (
        "environmental.py",
        "W_next -= decay",
        "W_next -= decay * np.float32(0.9999999)",
    ),
    "Infectious: deaths of cholera follow the day after": (
        "infectious.py",
        "t_factor = tick /",
        "t_factor = (tick + 1) /",
    ),
    "Infectious: deaths are reported like cases": (
        "infectious.py",
        "model.params.rho_deaths\n",
        "model.params.rho\n",
    ),
    "Infectious: cases are reported like deaths": (
        "infectious.py",
        "new_symptomatic[idx_probe], model.params.rho)",
        "new_symptomatic[idx_probe], model.params.rho_deaths)",
    ),
    "Vaccinated: first doses take like second": (
        "vaccinated.py",
        "np.round(model.params.phi_1 *",
        "np.round(model.params.phi_2 *",
    ),
    "Vaccinated: second doses take like first": (
        "vaccinated.py",
        "np.round(model.params.phi_2 *",
        "np.round(model.params.phi_1 *",
    ),
    "Vaccinated: first doses are not limited": (
        "vaccinated.py",
        "np.minimum(new_first_doses_delivered, available_pop)",
        "np.minimum(new_first_doses_delivered, available_pop + 1)",
    ),
    "Vaccinated: protection by two doses is lost like by one": (
        "vaccinated.py",
        "binomial(V2_next, self._omega_2_prob)",
        "binomial(V2_next, self._omega_1_prob)",
    ),
    "HumanToHuman: travellers stay away": ("humantohuman.py", "local_i + immigrating_i", "local_i"),
    "HumanToHuman: the ways are turned round": (
        "humantohuman.py",
        "model.patches.pi_ij.T).T.sum(axis=0)",
        "model.patches.pi_ij.T).sum(axis=0)",
    ),
    "HumanToHuman: the other exponent": (
        "humantohuman.py",
        "np.power(N, model.params.alpha_2)",
        "np.power(N, model.params.alpha_1)",
    ),
    "HumanToHuman: powers of float64": (
        "humantohuman.py",
        "np.power(effective_i, model.params.alpha_1)",
        "np.power(effective_i, np.float64(model.params.alpha_1))",
    ),
    "EnvToHuman: tomorrow's suitability": (
        "envtohuman.py",
        "= model.patches.beta_jt_env[tick]",
        "= model.patches.beta_jt_env[tick - 1]",
    ),
    "EnvToHuman: in another order": ("envtohuman.py", "seasonal / denominator", "seasonal * (1 / denominator)"),
    "Environmental: more decays than there is": (
        "environmental.py",
        "delta_jt[tick] * W), W)",
        "delta_jt[tick] * W), W + 1)",
    ),
    "DerivedValues: hazard of nobody": ("derivedvalues.py", "(1.0 - tau_i) * S.T", "(1.0 - 2 * tau_i) * S.T"),
    "Infectious: an ulp in a constant": (
        "infectious.py",
        "* (1 + model.params.mu_j_slope",
        "* (np.float32(1.0000001) + model.params.mu_j_slope",
    ),
    "set-up: other seasons": ("utils.py", "2 * np.pi * t / p", "2 * np.pi * (t + 1) / p"),
    "set-up: other limits": ("params.py", "params.rho <= 1.0", "params.rho <= 0.9"),
    "model: a phase is skipped on the first day": ("model.py", "phase(self, tick)", "tick and phase(self, tick)"),
    "Analyzer: writes of what it scores": ("analyzer.py", "nticks - 1", "nticks - 2"),
    "Recorder: as the engine has it, but for a blank": ("recorder.py", "import gzip", "import gzip "),
    "package: a name more": ("__init__.py", '"Analyzer",', '"Analyzer", "Analyzer",'),
    "log: of everything": ("logsetup.py", 'setup_logging("WARNING"', 'setup_logging("DEBUG"'),
    "scenario: another year": ("scenario.py", "populations.year == 2023", "populations.year == 2022"),
    "laser-core: frames begin with ones": (
        "laserframe.py",
        "np.full((length, self._capacity), default, ",
        "np.full((length, self._capacity), default + 1, ",
    ),
    "laser-core: nothing is given": ("propertyset.py", "return key in self.__dict__", "return False"),
    "laser-core: another seed": ("random.py", "default_rng(_seed)", "default_rng(_seed + 1)"),
}


SEARCH_SEED = 7
compiled_engine._CHECK_SECONDS = 3600.0  # a search takes longer than the self-check, and this machine may be busy


class Noticed(NamedTuple):
    """What notices a mutation."""

    file: str
    by_digest: bool
    by_self_check: str | None
    by_search: int | None


def mutated(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of one of the engine's files with a line of it changed."""
    (source,) = [path for path in engine.sources() if path.name == file]
    code = "".join(line for line in source.read_text().splitlines(True) if not line.lstrip().startswith("#"))
    assert old in code, f"{file}: {old}"
    copy = folder / file
    copy.write_text(code.replace(old, new, 1))
    return copy


def module_of(copy: Path) -> ModuleType:
    """A changed file, imported beside the engine's own."""
    spec = importlib.util.spec_from_file_location(f"mutant_{copy.stem}", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def in_place(copy: Path) -> Iterator[None]:
    """Put a changed component, or the changed loop over them, where stock and set-up take it from."""
    owner, name, changed = engine.metapop, "", None
    if copy.name == "model.py":
        owner, name, changed = engine, "metapop", module_of(copy)
    elif copy.name not in OUTSIDE_THE_LOOP:
        module = module_of(copy)
        (name,) = [name for name in engine._COMPONENTS if hasattr(module, name)]
        changed = getattr(module, name)
    before = getattr(owner, name, None)
    try:
        if name:
            setattr(owner, name, changed)
        yield
    finally:
        if name:
            setattr(owner, name, before)


_OF_BOTH = frozenset({"analyzer.py", "derivedvalues.py", "recorder.py"})
"""Components that the compiled loop leaves to the engine, or that are idle: no search would find anything."""


def noticed(folder: Path, n_iterations: int, file: str, old: str, new: str) -> Noticed:
    """What notices a change that is put in place."""
    copy = mutated(folder, file, old, new)
    files = [copy if path.name == file else path for path in engine.sources()]
    is_other = engine.digest(files) not in engine._KNOWN
    with in_place(copy):
        said = compiled_engine.in_child(lambda: self_check.difference(compiled_engine.advance))
        is_sought = file not in OUTSIDE_THE_LOOP | _OF_BOTH
        found = compiled_engine.in_child(lambda: searched(n_iterations)) if is_sought else None
    return Noticed(file, is_other, said, None if found is None else int(found))


def searched(n_iterations: int) -> str | None:
    """After how many iterations a search finds a difference."""
    try:
        search(n_iterations, SEARCH_SEED, shrink=False)
    except AssertionError:
        return str(FOUND["iterations"])
    return None


def main() -> None:
    folder, n_iterations = Path(sys.argv[1]), int(sys.argv[2])
    assert compiled_engine.advance is not None, compiled_engine.reason
    print(json.dumps({name: noticed(folder, n_iterations, *mutation) for name, mutation in MUTATIONS.items()}))


main()
