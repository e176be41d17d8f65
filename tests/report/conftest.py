"""A real browser for the report's tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import CI

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window; in CI it must be there."""
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        assert not CI, "chromium is missing (apt-get install chromium)"
        pytest.skip("chromium is missing (apt-get install chromium)")
    if not CI:
        pytest.importorskip("playwright", reason="playwright is missing (pip install playwright)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()
