"""Which error texts are of one kind: those that differ in numbers only, such as a simulation's id or an address."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import TypeVar

_NUMBER = re.compile(r"\b0x[0-9a-fA-F]+|\d+")

Entry = TypeVar("Entry")


def kind_of(cause: str, text: str) -> Hashable:
    """Return what is equal for failed attempts of one kind."""
    return cause, _NUMBER.sub("#", text)


def by_kind(entries: Iterable[tuple[str, str, Entry]]) -> list[list[Entry]]:
    """Group what has a cause and a text: kinds and their members in the order in which they come."""
    kinds: dict[Hashable, list[Entry]] = {}
    for cause, text, entry in entries:
        kinds.setdefault(kind_of(cause, text), []).append(entry)
    return list(kinds.values())
