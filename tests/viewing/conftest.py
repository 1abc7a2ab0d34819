"""Small photos, a server of them, and windows of a browser on it."""

from __future__ import annotations

import browser as browsers
import pytest
from desks import HEIGHT, WIDTH, smooth
from stub_page_server import PageServer, paint


@pytest.fixture
def file(tmp_path):
    smooth((WIDTH, HEIGHT)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def truth(tmp_path):
    smooth((4 * WIDTH, 4 * HEIGHT)).save(tmp_path / "truth.png")
    return tmp_path / "truth.png"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Photos of 96x72 and 60x80, one with alpha; two models; truths."""
    folder = tmp_path_factory.mktemp("photos")
    photos = [paint(folder / "photo.png", (96, 72)), paint(folder / "second.png", (60, 80))]
    photos.append(paint(folder / "clear.png", (64, 48), mode="RGBA"))
    truths = [
        paint(folder / f"truth{i}.png", size, blocks=4) for i, size in enumerate([(192, 144), (120, 160), (128, 96)])
    ]
    server = PageServer(photos, truths)
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser():
    with browsers.started() as browser:
        yield browser


@pytest.fixture
def visit(browser, server):
    """visit(**options of the window) -> Viewer of the page, when all is there."""
    opened = []

    def visit(server=server, **options) -> browsers.Viewer:
        opened.append(browsers.Viewer(browser, server, **options))
        opened[-1].settle()
        return opened[-1]

    yield visit
    for viewer in opened:
        viewer.close()
    server.refused.clear()


@pytest.fixture
def viewer(visit):
    return visit()
