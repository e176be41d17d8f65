"""Lines on a terminal keep within it, whatever its width and whatever letters it knows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mosaic_mpi.display import render
from mosaic_mpi.standing import Row

ROWS = [
    Row("progress", "43.2 %", 0.432),
    Row("rate", "12.3 simulations/s"),
    Row("file", "Fälle/run.h5"),
    Row("errors", "3 x exception: ValueError: rho = \N{MINUS SIGN}1 is out of bounds", is_worrying=True),
]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("width", [1, 5, 13, 20, 25, 60, 200])
def test_no_line_is_wider_than_the_terminal(encoding: str, width: int) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    console = Console(file=stream, force_terminal=True, color_system=None, width=width, markup=False, highlight=False)
    console.print(render(ROWS, console))
    stream.seek(0)
    lines = stream.read().splitlines()
    assert len(lines) == len(ROWS)
    assert max(map(len, lines)) <= width
    if width >= 60:
        assert lines[2].rstrip().endswith("Fälle/run.h5" if encoding != "ascii" else r"F\xe4lle/run.h5")
