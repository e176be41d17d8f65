"""Runs iterations in a fresh process, by `run_model` alone or as slots do, and writes what came of each.

    python iterations.py stock|prepared|compiled CASES OUTPUT

CASES is a pickle: name to a list of (values, seed), in the order in which one process runs them. OUTPUT is JSON: name
to, for each, the digest, dtype and shape of every channel and the state of the generator at the end, or the error.
Stock does not import mosaic_mpi; the others keep one model for as long as the values are the same object.
"""

import hashlib
import json
import os
import pickle
import sys
from pathlib import Path

os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # as in slots: with GNU OpenMP, no child of this could live

import numpy as np

ERRORS = (ValueError, AssertionError, ZeroDivisionError)


def outcome(results, generator):
    channels = {name: np.asarray(array) for name, array in vars(results).items()}
    digests = {
        name: [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(), str(array.dtype), list(array.shape)]
        for name, array in channels.items()
    }
    n_reported = int(channels["reported_cases"].sum())
    return {"channels": digests, "generator": generator.bit_generator.state, "n_reported": n_reported}


def stock(orders):
    from laser.cholera.metapop.model import run_model

    for values, seed in orders:
        try:
            model = run_model({**values, "calc_likelihood": False, "seed": seed})
            yield outcome(model.results, model.prng)
        except ERRORS as error:
            yield {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def compiled(orders):
    from mosaic_mpi import compiled_engine

    assert compiled_engine.advance is not None, compiled_engine.reason
    return prepared(orders, compiled_engine.advance)


def prepared(orders, advance=None):
    from mosaic_mpi import engine

    assert engine.caution is None, engine.caution
    current, model = None, None
    for values, seed in orders:
        try:
            if values is not current:
                if model is not None:
                    model.close()
                model, current = engine.prepare(values, ["spatial_hazard"], advance), values
            results = model.run(seed)
            assert model.was_compiled == (advance is not None)
            yield outcome(results, model.generator)
        except ERRORS as error:
            yield {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def main():
    how, cases, output = sys.argv[1:]
    run = {"stock": stock, "prepared": prepared, "compiled": compiled}[how]
    found = {name: list(run(orders)) for name, orders in pickle.loads(Path(cases).read_bytes()).items()}
    assert ("mosaic_mpi" in sys.modules) == (how != "stock")
    Path(output).write_text(json.dumps(found))


main()
