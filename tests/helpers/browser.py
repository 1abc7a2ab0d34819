"""A real browser without a screen, by Playwright: Debian's chromium, or the one that LIIF_FAST_BROWSER names."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",  # a screenshot has the values that were drawn
)


def find() -> str:
    """The browser's path. Without one, or without Playwright, tests skip; they fail where LIIF_FAST_BROWSER is set."""
    named = os.environ.get("LIIF_FAST_BROWSER")
    path = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    missing = None
    if path is None:
        missing = f"LIIF_FAST_BROWSER={named}: no such program" if named else f"no browser: none of {', '.join(NAMES)}"
    elif importlib.util.find_spec("playwright") is None:
        missing = "no playwright: pip install playwright"
    if missing and named:
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    assert path is not None
    return path


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """Playwright's Browser."""
    path = find()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
