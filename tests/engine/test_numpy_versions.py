"""The compiled loop and versions of NumPy and Numba: what it takes for granted of them, and the oldest ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from helpers import CI

HERE = Path(__file__).parent
OLDEST = os.environ.get("MOSAIC_MPI_TEST_OLDEST")


def dependencies() -> dict[str, str]:
    """What pyproject.toml asks for, by package."""
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]
    return {re.split(r"[<>=]", text)[0]: text for text in project["dependencies"]}


def test_every_numpy_that_may_be_installed_is_known() -> None:
    bounds = re.fullmatch(r"numpy>=2\.(\d+)\.\d+,<2\.(\d+)", dependencies()["numpy"])
    assert bounds is not None
    ask = "from mosaic_mpi import compiled_engine; print(*compiled_engine._NUMPYS)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.split() == [f"2.{minor}" for minor in range(*map(int, bounds.groups()))]


def header(name: str) -> str:
    """One of NumPy's own headers, without comments."""
    text = (Path(np.get_include()) / "numpy" / name).read_text()
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def test_the_ufunc_object_is_laid_out_as_its_header_says() -> None:
    from mosaic_mpi.compiled.ufunc_calls import _UfuncHead

    body = re.search(r"struct _tagPyUFuncObject \{(.*?)\} PyUFuncObject", header("ufuncobject.h"), re.DOTALL)
    assert body is not None
    declared = re.findall(r"(\w+)\s*(?=[,;])", body[1].replace("PyObject_HEAD", ""))
    assert declared[:7] == ["nin", "nout", "nargs", "identity", "functions", "data", "ntypes"]
    assert len(_UfuncHead._fields_) == 7
    loop = re.search(r"\(\*PyUFuncGenericFunction\)\s*\((.*?)\);", header("ufuncobject.h"), re.DOTALL)
    assert loop is not None
    kinds = [re.sub(r"\w+$", "", word.strip()).replace(" ", "") for word in loop[1].split(",")]
    assert kinds == ["char**", "npy_intpconst*", "npy_intpconst*", "void*"]


def test_draws_are_declared_as_they_are_called() -> None:
    text = re.sub(r"\s+", " ", header("random/distributions.h"))
    assert "int64_t random_binomial(bitgen_t *bitgen_state, double p, int64_t n, binomial_t *binomial);" in text
    assert re.search(r"\b\w+ random_poisson\(bitgen_t \*bitgen_state, double lam\);", text)
    fields = re.search(r"typedef struct s_binomial_t \{(.*?)\} binomial_t;", text)
    assert fields is not None
    n_fields = len(re.findall(r"[,;]", fields[1]))
    from mosaic_mpi.compiled.draws import _WORKSPACE_BYTES

    assert 0 < 8 * n_fields <= _WORKSPACE_BYTES


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pyproject.toml names no oldest versions for this Python")
@pytest.mark.timeout(400)
def test_the_oldest_numpy_and_numba_give_the_engines_numbers() -> None:
    if OLDEST is None:
        (pytest.fail if CI else pytest.skip)(
            "MOSAIC_MPI_TEST_OLDEST is not set: scripts/test has such an environment"
        )
    command = [OLDEST, "-W", "ignore", str(HERE / "search.py"), "--iterations", "100", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=390)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["versions"].split(", Python")[0] in ("NumPy 2.0.2, Numba 0.60.0", "NumPy 2.1.3, Numba 0.61.0")
    assert found["compiled"] > 60
