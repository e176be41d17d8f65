"""Reads JSON as written by people and by R."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(text: str) -> Any:
    """Parse JSON; a whole number beyond all doubles becomes infinite, which checks of ranges then name.

    Raises
    ------
    json.JSONDecodeError
        It is not JSON.
    """
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> float:
    if len(digits) > 300:
        return math.copysign(math.inf, -1.0 if digits.startswith("-") else 1.0)
    return int(digits)
