"""What the README says of the results file is what the code makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mosaic_mpi.layout import TABLES, Table

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
    foreign = {*slurm, "--oversubscribe", "--mpirun", '--oversubscribe"'}
    options = {word for word in words if word.startswith("--") and word not in foreign}
    assert options <= known, options - known
