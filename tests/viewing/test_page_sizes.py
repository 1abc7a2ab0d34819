"""The viewer's page in a browser: photos of the largest and the smallest sizes."""

from __future__ import annotations

import numpy as np
from PIL import Image
from stub_page_server import PageServer, paint

NEAREST = 1


def test_a_large_photo(visit, tmp_path):
    server = PageServer([paint(tmp_path / "large.jpg", (4000, 3000), blocks=40)])
    try:
        viewer = visit(server=server)
        assert viewer.difference() <= 1
        assert viewer.state()["scale"] < 0.2
        viewer.point_at(500, 400)
        for _ in range(24):
            viewer.mouse.wheel(0, -100)
        viewer.wait(lambda: viewer.state()["scale"] > 8)
        viewer.settle()
        assert viewer.difference() <= 1
        assert viewer.text("#psnr") == ""  # there is no truth
        for _ in range(30):
            viewer.mouse.wheel(0, 100)
        viewer.wait(lambda: viewer.state()["fit"])
        canvas, seen = viewer.settle()["canvas"], viewer.state()["visible"]
        assert canvas["width"] == seen["width"] or canvas["height"] == seen["height"]
        assert len(viewer.page.locator(".cell").all()) == 4
    finally:
        server.close()


def test_a_photo_of_one_pixel(visit, tmp_path):
    server = PageServer([paint(tmp_path / "dot.png", (1, 1)), paint(tmp_path / "line.png", (3000, 2))])
    try:
        viewer = visit(server=server)
        assert viewer.difference() <= 1
        viewer.press("]")
        viewer.wait(lambda: viewer.state()["photo"] == 1)
        state = viewer.settle()
        assert state["scale"] == 0.5  # its height is one pixel
        assert viewer.difference() <= 1
        viewer.press("+")
        viewer.settle()
        assert viewer.difference() <= 1
    finally:
        server.close()


def test_beyond_what_a_canvas_counts_to(visit, tmp_path):
    """The place of a pixel among 17 million is no number of 32 bits; what is drawn is the same."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 17000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "wide.png")
    server = PageServer([tmp_path / "wide.png"])
    try:
        viewer = visit(server=server, viewport={"width": 701, "height": 500})
        viewer.press("s")
        viewer.page.select_option("#right", str(NEAREST))
        viewer.page.locator("#divider").press("Home")
        viewer.page.evaluate("document.activeElement.blur()")
        viewer.press("1")
        viewer.page.evaluate(
            """for (let i = 0; i < 99; i += 1) document.body.dispatchEvent(
                new KeyboardEvent("keydown", {key: "ArrowRight", shiftKey: true, bubbles: true}))"""
        )
        for _ in range(20):
            viewer.press("+")
        state = viewer.settle()
        assert state["scale"] == 1024
        assert state["x"] > 2**24
        for _ in range(4):
            viewer.press("ArrowLeft")
            viewer.settle()
            shown, want = viewer.picture("#canvas"), server.render(viewer.visible())[..., :3]
            assert np.array_equal(shown, want)
    finally:
        server.close()
