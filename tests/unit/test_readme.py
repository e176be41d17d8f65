"""What the README says of the results file is what the code makes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np

from mosaic_mpi.layout import TABLES, Table
from mosaic_mpi.standing import Standing, as_line, as_rows
from mosaic_mpi.summary import Summary

README = Path(__file__).parents[2] / "README.md"


def row(table: Table) -> str:
    lengths = {"n_simulations": "n"}
    shape = ", ".join(lengths.get(str(length), str(length)) for length in table.shape)
    kind = np.dtype(table.dtype)
    dtype = f"text of {kind.itemsize} bytes" if kind.kind == "S" else kind.name
    return f"| `{table.name}` | ({shape}) | {dtype} | {table.unit} |"


def test_every_dataset_is_in_the_table() -> None:
    lines = README.read_text().splitlines()
    missing = [row(table) for table in TABLES if row(table) not in lines]
    assert not missing, "\n".join(missing)


def test_every_option_is_known_to_the_program() -> None:
    from mosaic_mpi.cli import _parser

    known = set()
    for action in _parser()._subparsers._group_actions:  # type: ignore[union-attr]
        for parser in action.choices.values():  # type: ignore[union-attr]
            known |= {option for entry in parser._actions for option in entry.option_strings}
    words = {word.strip("`,;:.()") for word in README.read_text().replace("`", " ").split()}
    slurm = {"--array=1-10", "--cpus-per-task=16", "--ntasks-per-node=1", "--cpus-per-task=120"}
    foreign = {*slurm, "--iterations", "--seed", "--longest", "--oversubscribe", "--mpirun", '--oversubscribe"'}
    options = {word for word in words if word.startswith("--") and word not in foreign}
    assert options <= known, options - known


def test_every_key_of_status_is_told_of() -> None:
    told = set()
    for line in README.read_text().splitlines():
        if line.startswith("| `"):
            told |= set(re.findall(r"`(\w+)`", line.split("|")[1]))
    keys = {field.name for field in fields(Summary)}
    assert keys <= told, keys - told


def test_the_line_of_the_log_is_the_programs() -> None:
    (shown,) = [line for line in README.read_text().splitlines() if line.startswith("progress at=")]
    standing = Standing("running", 10_000, 4320, 1, 12.3, 461.0, 351.0, 4, 4, 480, 480, -1234.57, 0.2)
    assert [pair.partition("=")[0] for pair in shown.split()] == [
        pair.partition("=")[0] for pair in as_line(standing).split()
    ]
    assert shown.split()[2:] == as_line(standing).split()[2:]


def test_the_picture_of_the_display_is_of_this_program() -> None:
    picture = (README.parent / "docs" / "display.svg").read_text().replace("&#160;", " ")
    standing = Standing("running", 40, 15, 0, 0.4, 60.0, 36.0, 1, 1, 2, 2, -8534.6, 1.0)
    assert [row.label for row in as_rows(standing) if row.label not in picture] == []
    assert set(re.findall(r"https?://[^\s\"']+", picture)) == {"http://www.w3.org/2000/svg"}
