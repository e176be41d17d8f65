"""The README's five lines that plot observed against simulated cases do so, for a run of the real engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mosaic_mpi

README = Path(__file__).parents[2] / "README.md"


def block() -> str:
    """The README's code that imports matplotlib."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [code for code in blocks if "matplotlib" in code]
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the run that the README speaks of."""
    what = ("--locations", "ETH", "--n-simulations", "3", "--n-iterations", "2", "--save", "reported_cases")
    command = [sys.executable, "-m", "mosaic_mpi", "run", *what, "--output", "run.h5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_plot_in_the_readme(folder: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    assert len(block().strip().splitlines()) == 5
    pyplot.close("all")
    exec(compile(block(), str(README), "exec"), {})
    axes = pyplot.gca()
    run = mosaic_mpi.open("run.h5")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *("simulated, 90 %", "simulated, median", "observed"),
    ]
    median, observed = axes.get_lines()
    simulated = run.channel("reported_cases").sel(location="ETH").values
    assert np.array_equal(median.get_ydata(), np.quantile(simulated, 0.5, axis=(0, 1)))
    given = run.config["reported_cases"][run.config["location_name"].index("ETH")]
    expected = np.array([cell if isinstance(cell, int | float) else np.nan for cell in given], float)
    assert np.array_equal(observed.get_ydata(), expected, equal_nan=True)
    assert np.array_equal(observed.get_xdata(), median.get_xdata())
    pyplot.savefig(folder / "plot.png")
    pixels = pyplot.imread(folder / "plot.png")
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10, "not blank"
    pyplot.close("all")
