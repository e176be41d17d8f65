"""Make the README's table of faults from pytest's reports of repeated tests.

    for i in $(seq 20); do bash scripts/test tests/mpi tests/loop -m fault --junitxml=reports/$i.xml; done
    python tests/fault_table.py reports/*.xml

A test says with the mark ``fault`` what it does to a run; under which launcher is its parameter; how many simulations
were completed before, and are lost or were run again after, is counted from the results file.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_ORDER = ("none", "openmpi", "openmpi-ulfm", "mpich", "debian-openmpi", "srun-mpich", "srun-debian-openmpi")


@dataclass
class Cell:
    """What is known of one fault under one launcher."""

    n_times: int = 0
    n_failed: int = 0
    n_lost: int = 0
    n_again: int = 0

    def add(self, properties: dict[str, str], failed: bool) -> None:
        """Take in one test."""
        self.n_times += int(properties.get("kills", 1))
        self.n_failed += failed
        if "lost" in properties:
            self.n_lost += int(properties["lost"])
            self.n_again += int(properties["again"])

    def __str__(self) -> str:
        trouble = {"lost": self.n_lost, "run again": self.n_again, "tests failed": self.n_failed}
        told = "".join(f", {count} {what}" for what, count in trouble.items() if count)
        return f"{self.n_times}{told}"


Cells = dict[tuple[str, str], Cell]


def read(paths: Iterable[Path]) -> Cells:
    """Read pytest's JUnit reports; skipped tests and those without a fault are passed over."""
    cells: Cells = defaultdict(Cell)
    for path in paths:
        for case in ElementTree.parse(path).iter("testcase"):
            properties = {entry.get("name", ""): entry.get("value", "") for entry in case.iter("property")}
            if "fault" in properties and case.find("skipped") is None:
                failed = case.find("failure") is not None or case.find("error") is not None
                cells[properties["fault"], properties["launcher"]].add(properties, failed)
    return cells


def table(cells: Cells) -> str:
    """Return a table in Markdown, a row a fault and a column a launcher, with the sums below.

    A cell says how often a fault was tried, and what was lost or run again, unless that is nothing.
    """
    found = {launcher for _, launcher in cells}
    launchers = [name for name in _ORDER if name in found] + sorted(found - set(_ORDER))
    lines = ["| fault | " + " | ".join(launchers) + " |", "|" + "---|" * (len(launchers) + 1)]
    for fault in sorted({fault for fault, _ in cells}):
        row = [str(cells[fault, launcher]) if (fault, launcher) in cells else "" for launcher in launchers]
        lines.append(f"| {fault} | " + " | ".join(row) + " |")
    total = Cell()
    for cell in cells.values():
        total.n_times, total.n_failed = total.n_times + cell.n_times, total.n_failed + cell.n_failed
        total.n_lost, total.n_again = total.n_lost + cell.n_lost, total.n_again + cell.n_again
    lines.append(
        f"\nIn all {total.n_times} faults: {total.n_lost} completed simulations lost, {total.n_again} run again, "
        f"{total.n_failed} tests failed."
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Make the table of faults from pytest's JUnit reports.")
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT.xml")
    print(table(read(parser.parse_args(arguments).reports)))


if __name__ == "__main__":
    main()
