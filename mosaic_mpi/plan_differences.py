"""What differs between two plans, for a person. Knows no results file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mosaic_mpi.config import Config, parse_config
from mosaic_mpi.plan import RunPlan

WHERE = ("in the file", "now")
"""What differs between is told in these words."""


def differences(stored: Mapping[str, Any], stored_config: str, plan: RunPlan) -> list[str]:
    """Name each difference between the plan of a results file and another one, with both values.

    Parameters
    ----------
    stored : mapping
        The file's plan identity.
    stored_config : str
        The file's config text.
    plan : RunPlan
        The plan asked for now.

    Returns
    -------
    list of str
        Empty when they are the same plan.
    """

    def configs() -> tuple[Config, Config]:
        return parse_config(stored_config, plan.config.locations, "the file's config"), plan.config

    return identity_differences(stored, plan.identity, configs, WHERE)


def identity_differences(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    configs: Callable[[], tuple[Config, Config]],
    where: tuple[str, str],
) -> list[str]:
    """Name each difference between two plan identities, with both values.

    Parameters
    ----------
    first, second : mapping
        See `RunPlan.identity`.
    configs : callable
        Gives both configs, cut to their locations; asked only when these are the same.
    where : tuple of str
        Where each was found, for a person.

    Returns
    -------
    list of str
        Empty when they are the same.
    """
    found: list[str] = []
    for key in dict.fromkeys((*first, *second)):
        if first.get(key) == second.get(key):
            continue
        if key == "config" and first.get("locations") == second.get("locations"):
            found.extend(_config_differences(*configs(), where))
        elif key != "config":
            found.append(f"{key}: {_short(first.get(key))} {where[0]}, {_short(second.get(key))} {where[1]}")
    return found or (["config: differs"] if first.get("config") != second.get("config") else [])


def _config_differences(old: Config, new: Config, where: tuple[str, str]) -> list[str]:
    found = []
    for key in dict.fromkeys((*old.values, *new.values)):
        before, after = old.values.get(key), new.values.get(key)
        if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
            if before.shape != after.shape:
                found.append(f"config {key}: shape {before.shape} {where[0]}, {after.shape} {where[1]}")
            elif not np.array_equal(before, after, equal_nan=True):
                place = tuple(map(int, np.argwhere((before != after) & ~(np.isnan(before) & np.isnan(after)))[0]))
                values = f"{before[place]} {where[0]}, {after[place]} {where[1]}"
                found.append(f"config {key}[{place[0]}][{place[1]}]: {values}")
        elif before != after:
            found.append(f"config {key}: {_short(before)} {where[0]}, {_short(after)} {where[1]}")
    return found


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
