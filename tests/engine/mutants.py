"""Changes one line of the engine at a time, in a copy, and tells what notices: the digest, the self-check.

    python tests/engine/mutants.py FOLDER      # JSON: mutation to [digest is another, what the self-check says]

A changed component takes the place of the engine's own in this process; the loop stays as it is.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from mosaic_mpi import environment

environment.use_one_thread()

from mosaic_mpi import compiled_engine, engine  # noqa: E402
from mosaic_mpi.compiled import self_check  # noqa: E402

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
}


def mutated(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of one of the engine's files with a line of it changed."""
    (source,) = [path for path in engine.sources() if path.name == file and path.parent.name == "metapop"]
    code = "".join(line for line in source.read_text().splitlines(True) if not line.lstrip().startswith("#"))
    assert old in code, f"{file}: {old}"
    copy = folder / file
    copy.write_text(code.replace(old, new, 1))
    return copy


def class_of(copy: Path) -> tuple[str, Any]:
    """The component that a changed file defines, if it does."""
    spec = importlib.util.spec_from_file_location(f"mutant_{copy.stem}", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [name for name in engine._COMPONENTS if getattr(vars(module).get(name), "__module__", "") == spec.name]
    return (found[0], getattr(module, found[0])) if found else ("", None)


def noticed(folder: Path, file: str, old: str, new: str) -> tuple[bool, str | None]:
    """Whether the digest is another, and what the self-check says, with the change in place."""
    copy = mutated(folder, file, old, new)
    files = [copy if path.name == file and path.parent.name == "metapop" else path for path in engine.sources()]
    is_other = engine.digest(files) not in engine._KNOWN
    name, component = class_of(copy) if file not in ("model.py", "utils.py", "params.py") else ("", None)
    before = getattr(engine.metapop, name, None)
    try:
        if name:
            setattr(engine.metapop, name, component)
        return is_other, compiled_engine.in_child(lambda: self_check.difference(compiled_engine.advance))
    finally:
        if name:
            setattr(engine.metapop, name, before)


def main() -> None:
    folder = Path(sys.argv[1])
    assert compiled_engine.advance is not None, compiled_engine.reason
    print(json.dumps({name: noticed(folder, *mutation) for name, mutation in MUTATIONS.items()}))


main()
