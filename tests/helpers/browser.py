"""A real browser without a screen, by Playwright: Debian's chromium, or the one that LIIF_FAST_BROWSER names."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_fast.viewing.view import View

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


class Viewer:
    """The viewer's page of a server, in a window of its own.

    Attributes:
        complaints: what the page wrote to the console as an error or a warning. asked: addresses it asked for.
    """

    def __init__(self, browser: Any, server: Any, **options: Any) -> None:
        self.server = server
        self.context = browser.new_context(**{"viewport": {"width": 800, "height": 600}, **options})
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(server.address)
        self.press, self.mouse = self.page.keyboard.press, self.page.mouse

    def state(self) -> dict:
        return self.page.evaluate("liifView.state()")

    def stats(self) -> dict:
        return self.page.evaluate("liifView.stats()")

    def settle(self) -> dict:
        """When all is sharp; returns the state."""
        self.page.evaluate("liifView.settled()")
        return self.state()

    def wait(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        """Until a condition holds. (Playwright's wait_for_function evaluates text, which the page's policy forbids.)"""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            self.page.wait_for_timeout(20)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def box(self) -> tuple[float, float]:
        """Left and top of the canvas in the window."""
        box = self.page.locator("#canvas").bounding_box()
        return box["x"], box["y"]

    def point_at(self, x: float, y: float) -> None:
        """The mouse to a place on the canvas."""
        left, top = self.box()
        self.mouse.move(left + x, top + y)

    def shot(self) -> np.ndarray:
        """(height, width, 3): the canvas as it is on the screen, without what lies over it."""
        self.page.evaluate("document.documentElement.classList.add('bare')")
        image = np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
        self.page.evaluate("document.documentElement.classList.remove('bare')")
        (left, top), canvas = self.box(), self.state()["canvas"]
        left, top = round(left * canvas["ratio"]), round(top * canvas["ratio"])
        return image[top : top + canvas["height"], left : left + canvas["width"]]

    def picture(self, selector: str, mode: str = "RGB") -> np.ndarray:
        """(height, width, channels): what was drawn on a canvas."""
        url = self.page.locator(selector).evaluate("canvas => canvas.toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert(mode))

    def visible(self, method: int | None = None) -> View:
        """The visible part; of the right method if none is given."""
        state = self.state()
        part = state["visible"]
        return View(state["photo"], state["right"] if method is None else method, state["scale"], **part)

    def difference(self, left: int | None = None, right: int | None = None) -> float:
        """Mean difference, in 1/255, between what is on the screen and what should be: the renders of two methods."""
        state, shot = self.state(), self.shot().astype(float)
        split = round(state["split"] * state["canvas"]["width"])
        total, count = 0.0, 0
        for name, given, low, high in [("left", left, 0, split - 2), ("right", right, split + 2, shot.shape[1])]:
            view = self.visible(state[name] if given is None else given)
            x, y = view.x - state["x"], view.y - state["y"]
            low, high = max(low, x), min(high, x + view.width)
            if high <= low:
                continue
            want = self.server.render(view)[:, low - x : high - x, :3]
            total += np.abs(want - shot[y : y + view.height, low:high]).sum()
            count += want.size
        return total / count

    def close(self) -> None:
        """A page that complained, or asked somebody else, fails."""
        self.context.close()
        assert self.complaints == []
        own = (self.server.address, "data:", f"blob:{self.server.address}")
        assert [url for url in self.asked if not url.startswith(own)] == []
