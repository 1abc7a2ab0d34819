"""The page in a browser with the real server and real, small models: on the screen is what ``upscale`` makes."""

from __future__ import annotations

import io
import shlex
import threading

import numpy as np
import pytest
import torch
from browser import Viewer
from PIL import Image
from served import served
from stub_page_server import PAGE, paint

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.viewing import interpolation
from liif_fast.viewing.desk import Desk, Shown
from liif_fast.viewing.view import View

BICUBIC, NEAREST, FIRST, SECOND, TRUTH = range(5)


class Recording(Desk):
    """Which tiles it drew, and the first model's only while it may."""

    def __init__(self, *given, **options) -> None:
        super().__init__(*given, **options)
        self.asked: list[View] = []
        self.free = threading.Event()
        self.free.set()

    def tile(self, view: View) -> bytes:
        self.asked.append(view)
        if view.method == FIRST:
            assert self.free.wait(30)
        return super().tile(view)


class Site:
    """A server, and what its views should look like, without what it keeps."""

    def __init__(self, port: int, desk: Recording) -> None:
        self.address, self.desk = f"http://127.0.0.1:{port}/", desk

    def render(self, view: View) -> np.ndarray:
        size, window = (view.height, view.width), view.window()
        if FIRST <= view.method <= SECOND and self.desk.models:
            model = self.desk.models[view.method - FIRST].model
            return np.asarray(model.upscale(Image.open(self.desk.photos[view.photo]), size=size, window=window))
        truth = view.method == TRUTH
        image = Image.open((self.desk.truths if truth else self.desk.photos)[view.photo])
        zoom = image.width / Image.open(self.desk.photos[view.photo]).width
        top, left, height, width = (n * zoom for n in window)
        box = left, top, min(left + width, image.width), min(top + height, image.height)
        if view.method == NEAREST:
            return interpolation.nearest(image, box, size)
        return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC, box))


def model(folder, seed: int) -> liif_fast.LIIF:
    """Untrained, with colours."""
    torch.manual_seed(seed)
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    made = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}})
    with torch.no_grad():
        made.imnet.layers[-1].weight *= 8
    made.save(folder / f"model{seed}.safetensors")
    return made.eval()


def opened(folder, photos, truths=(), **options):
    files = [str(folder / f"model{seed}.safetensors") for seed in (0, 1)]
    shown = [Shown(f"model{i}", model(folder, i), torch.float32, "", ("-m", files[i])) for i in (0, 1)]
    desk = Recording(photos, shown, truths, **options)
    return served(photos, desk=desk, page=PAGE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    photo = paint(folder / "photo.png", (96, 72))
    truth = paint(folder / "truth.png", (384, 288), blocks=4)
    with opened(folder, [photo], [truth]) as found:
        yield Site(found.port, found.desk)


@pytest.fixture
def viewer(browser, site):
    viewer = Viewer(browser, site)
    viewer.settle()
    yield viewer
    viewer.close()


def wheel(viewer, turns: int) -> dict:
    """A turn is a quarter of an octave; outwards as far as it goes."""
    level = viewer.state()["level"] + turns / 4
    for _ in range(abs(turns)):
        viewer.mouse.wheel(0, -100 if turns > 0 else 100)

    def arrived() -> bool:
        state = viewer.state()
        return abs(state["level"] - level) < 1e-6 or (turns < 0 and (state["fit"] or state["scale"] == 1))

    viewer.wait(arrived)
    return viewer.settle()


def test_every_method_at_every_scale(viewer):
    viewer.point_at(330, 210)
    for turns in (0, 9, 15, -20):
        wheel(viewer, turns)
        for left, right in ((BICUBIC, FIRST), (SECOND, NEAREST), (TRUTH, SECOND)):
            viewer.page.select_option("#left", str(left))
            viewer.page.select_option("#right", str(right))
            viewer.settle()
            assert viewer.difference() <= 1


def test_the_wheel_keeps_the_point_and_the_pixels_are_upscales(viewer):
    viewer.press("1")
    start = viewer.settle()
    viewer.point_at(500, 200)
    point = (start["x"] + 500) / start["scale"], (start["y"] + 200) / start["scale"]
    state = wheel(viewer, 24)
    assert state["scale"] > 40
    inside = min(max(point[0], 0), 96), min(max(point[1], 0), 72)
    if inside == point:
        assert abs(point[0] * state["scale"] - state["x"] - 500) <= 0.5 + 1e-6
        assert abs(point[1] * state["scale"] - state["y"] - 200) <= 0.5 + 1e-6
    assert viewer.difference() <= 1


def test_half_a_view_further_is_half_a_view_drawn(viewer):
    viewer.press("s")
    viewer.page.select_option("#left", str(FIRST))
    viewer.page.select_option("#right", str(FIRST))
    viewer.page.evaluate("document.activeElement.blur()")
    viewer.point_at(300, 200)
    wheel(viewer, 14)
    before = len(viewer.server.desk.asked)
    viewer.press("Shift+ArrowRight")
    state = viewer.settle()
    new = [view for view in viewer.server.desk.asked[before:] if view.method == FIRST]
    area = sum(view.width * view.height for view in new)
    assert area == pytest.approx(state["canvas"]["width"] * state["canvas"]["height"] / 2, rel=0.02)
    assert viewer.difference() <= 1


def test_psnr_of_both_sides(viewer):
    desk = viewer.server.desk
    viewer.point_at(300, 200)
    wheel(viewer, 6)
    want = [Desk(desk.photos, desk.models, desk.truths).psnr(viewer.visible(m), lambda: None) for m in (BICUBIC, FIRST)]
    viewer.wait(lambda: viewer.text("#psnr") == f"PSNR {want[0]:.2f} | {want[1]:.2f} dB")


def test_the_copied_command_makes_the_saved_file(viewer, tmp_path, monkeypatch):
    viewer.point_at(250, 190)
    wheel(viewer, 11)
    viewer.page.click("#save")
    viewer.page.fill("#save-width", "333")
    viewer.page.click("#save-copy")
    viewer.wait(lambda: viewer.page.locator("#command").input_value())
    words = shlex.split(viewer.page.locator("#command").input_value())
    with viewer.page.expect_download() as download:
        viewer.page.click("#save-file")
    download.value.save_as(tmp_path / "saved.png")
    monkeypatch.chdir(tmp_path)
    assert words[0] == "liif-fast"
    assert cli.main(words[1:]) == 0
    made = (tmp_path / "photo_view.png").read_bytes()
    assert made == (tmp_path / "saved.png").read_bytes()
    assert Image.open(io.BytesIO(made)).width == 333


def test_a_view_that_was_left_is_not_drawn(viewer):
    desk = viewer.server.desk
    viewer.press("s")
    viewer.point_at(200, 150)
    viewer.settle()
    desk.free.clear()
    try:
        before, level = len(desk.asked), viewer.state()["level"]
        for _ in range(9):
            viewer.mouse.wheel(0, -100)
        viewer.wait(lambda: viewer.state()["level"] == pytest.approx(level + 9 / 4))
        left = viewer.state()["scale"]
        viewer.wait(lambda: any(view.method == FIRST for view in desk.asked[before:]))
        for _ in range(9):
            viewer.mouse.wheel(0, 100)
        viewer.wait(lambda: viewer.state()["scale"] != left and viewer.stats()["aborted"] >= 1)
        viewer.page.wait_for_timeout(200)  # the server hears of it
    finally:
        desk.free.set()
    viewer.settle()
    drawn = [view for view in desk.asked[before:] if view.method == FIRST and view.scale == left]
    assert len(drawn) <= 1, "the one that was being drawn"
    assert viewer.difference() <= 1


def test_a_large_photo_within_its_memory(browser, tmp_path):
    photo = paint(tmp_path / "large.png", (4000, 3000), blocks=40)
    with opened(tmp_path, [photo], memory=24 << 20, tiles=4 << 20) as found:
        viewer = Viewer(browser, Site(found.port, found.desk))
        viewer.press("s")
        viewer.settle()
        assert viewer.state()["scale"] < 0.25
        viewer.point_at(400, 300)
        for turns in (14, 12):
            wheel(viewer, turns)
            assert viewer.difference() <= 1
            for room in (found.desk._features, found.desk._drawn):
                assert room.held <= room.size
        assert viewer.state()["scale"] > 8
        viewer.close()
