"""The viewer's page in a browser: what is on the screen, on screens and in windows of all kinds."""

from __future__ import annotations

import math

import numpy as np
import pytest

BICUBIC, NEAREST, RED, GREEN, TRUTH = range(5)
FRAMES = """async () => {
    let frames = 0;
    const draw = window.requestAnimationFrame, wait = window.setTimeout;
    window.requestAnimationFrame = (call) => { frames += 1; return draw(call); };
    window.setTimeout = (call, ms) => { frames += 1; return wait(call, ms); };
    await new Promise((tell) => wait(tell, 300));
    return frames;
}"""


@pytest.mark.parametrize("method", [BICUBIC, NEAREST, GREEN, TRUTH])
@pytest.mark.parametrize("steps", [0, 5, 11])
def test_the_screen_shows_the_render(viewer, method, steps):
    viewer.page.select_option("#left", str(method))
    viewer.press("Tab")
    for _ in range(steps):
        viewer.page.click("#in")
    state = viewer.settle()
    assert viewer.difference() <= 1
    split = round(state["split"] * state["canvas"]["width"])
    view, shown = viewer.visible(), viewer.picture("#canvas")
    want = viewer.server.render(view)[..., :3]
    x, y = view.x - state["x"], view.y - state["y"]
    error = np.abs(shown[y : y + view.height, split : x + view.width].astype(int) - want[:, split - x :])
    assert error.max() <= 1


def test_a_dense_screen_gets_its_own_pixels(visit):
    viewer = visit(device_scale_factor=2)
    state = viewer.state()
    assert state["canvas"]["ratio"] == 2
    box = viewer.page.locator("#canvas").bounding_box()
    assert state["canvas"]["width"] == 2 * box["width"]
    viewer.point_at(200, 100)
    point = [(state[name] + n) / state["scale"] for name, n in [("x", 400), ("y", 200)]]
    for _ in range(12):
        viewer.mouse.wheel(0, -200)  # Chromium halves it where it emulates such a screen
    viewer.wait(lambda: viewer.state()["scale"] > 7 * state["scale"])
    now = viewer.settle()
    for n, name, want in zip(point, ["x", "y"], [400, 200], strict=True):
        assert abs(n * now["scale"] - now[name] - want) <= 0.5 + 1e-6
    assert viewer.difference() <= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light(visit, scheme):
    viewer = visit(color_scheme=scheme)
    colour = "Number(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])"
    first = viewer.page.evaluate(colour)
    assert (first > 128) == (scheme == "light")
    viewer.page.click("#theme")
    assert (viewer.page.evaluate(colour) > 128) != (first > 128)
    viewer.page.click("#theme")
    assert viewer.page.evaluate(colour) == first


@pytest.mark.parametrize("width", [360, 700, 1600])
def test_nothing_is_cut_off(visit, width):
    viewer = visit(viewport={"width": width, "height": 740})
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
    for button in viewer.page.locator("header button, header select").all():
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    canvas = viewer.state()["canvas"]
    assert canvas["width"] >= min(width, 700) * 0.7
    assert canvas["height"] >= 250
    assert viewer.difference() <= 1


def test_a_low_window_scrolls(visit):
    viewer = visit(viewport={"width": 640, "height": 360})
    assert viewer.state()["canvas"]["height"] >= 200
    viewer.page.locator("#position").scroll_into_view_if_needed()
    assert viewer.page.evaluate("document.querySelector('#position').getBoundingClientRect().bottom <= innerHeight")


@pytest.mark.parametrize("width", [360, 430, 560, 700])
def test_the_canvas_keeps_its_size_whatever_is_said(visit, width):
    viewer = visit(viewport={"width": width, "height": 740})
    size = viewer.state()["canvas"]
    viewer.point_at(90, 70)
    viewer.wait(lambda: "…" not in viewer.text("#psnr"))
    line = "second.png: " + "is damaged, " * 20
    viewer.page.route("**/photo?photo=1", lambda route: route.fulfill(status=400, body=line))
    viewer.press("]")
    viewer.wait(lambda: viewer.text("#status") == line.strip())
    viewer.settle()
    assert viewer.state()["canvas"] == size
    assert viewer.text("#status") == line.strip()  # a view drawn anew would have cleared it
    viewer.complaints.clear()  # the browser's own, about the answer


def test_nothing_is_left_beside_a_picture_that_is_smaller(viewer):
    viewer.press("1")
    viewer.point_at(300, 200)
    for _ in range(12):  # tiles of one scale, stretched to the next one, may end beyond it
        before = viewer.state()["scale"]
        viewer.mouse.wheel(0, -52)
        viewer.wait(lambda before=before: viewer.state()["scale"] != before)
        state = viewer.settle()
        shown = viewer.picture("#canvas", "RGBA")[..., 3].copy()
        view = viewer.visible()
        x, y = view.x - state["x"], view.y - state["y"]
        assert (shown[y : y + view.height, x : x + view.width] == 255).all()
        shown[y : y + view.height, x : x + view.width] = 0
        assert shown.max() == 0


def test_another_size_of_the_window(viewer):
    viewer.page.set_viewport_size({"width": 900, "height": 500})
    viewer.wait(lambda: viewer.state()["canvas"]["width"] > 700)
    state = viewer.settle()
    assert state["fit"]
    assert viewer.difference() <= 1
    viewer.press("1")
    for _ in range(10):
        viewer.press("+")
    state = viewer.settle()
    centre = [(state[n] + state["canvas"][size] / 2) / state["scale"] for n, size in [("x", "width"), ("y", "height")]]
    viewer.page.set_viewport_size({"width": 640, "height": 700})
    viewer.wait(lambda: viewer.state()["canvas"]["width"] < 700)
    now = viewer.settle()
    assert now["scale"] == state["scale"]
    for n, name, size in zip(centre, ["x", "y"], ["width", "height"], strict=True):
        assert abs(n * now["scale"] - now[name] - now["canvas"][size] / 2) <= 1
    assert viewer.difference() <= 1


def test_two_fingers_zoom_and_one_moves(visit):
    viewer = visit(has_touch=True)
    for _ in range(4):
        viewer.press("+")
    start = viewer.settle()
    left, top = viewer.box()
    client = viewer.context.new_cdp_session(viewer.page)

    def touch(kind: str, *fingers: tuple[float, float]) -> None:
        points = [{"x": left + x, "y": top + y, "id": i} for i, (x, y) in enumerate(fingers)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (150, 200), (250, 200))
    for n in range(1, 11):
        touch("touchMove", (150 - 5 * n, 200 - n), (250 + 5 * n, 200 - n))
    touch("touchEnd")
    state = viewer.settle()
    assert state["scale"] / start["scale"] == pytest.approx(2, rel=0.02)
    point = [(start["x"] + 200) / start["scale"], (start["y"] + 200) / start["scale"]]
    assert abs(point[0] * state["scale"] - state["x"] - 200) <= 1
    assert abs(point[1] * state["scale"] - state["y"] - 190) <= 1
    touch("touchStart", (150, 200))
    touch("touchMove", (140, 195))
    touch("touchMove", (110, 180))
    touch("touchEnd")
    now = viewer.settle()
    assert (now["x"] - state["x"], now["y"] - state["y"]) == (40, 20)
    assert viewer.difference() <= 1


def test_the_strip_shows_all_methods_at_the_pointer(viewer):
    for _ in range(4):
        viewer.press("+")
    viewer.settle()
    viewer.point_at(220, 160)
    viewer.wait(lambda: viewer.state()["pointer"])
    state = viewer.settle()
    assert viewer.page.locator(".cell b").all_inner_texts() == ["bicubic", "nearest", "red", "green", "truth"]
    for method in range(5):
        shown = viewer.picture(f".cell:nth-child({method + 1}) canvas")
        height, width = shown.shape[:2]
        view = viewer.visible(method)
        x, y = state["x"] + 220 - width // 2 - view.x, state["y"] + 160 - height // 2 - view.y
        want = viewer.server.render(view)[y : y + height, x : x + width, :3]
        assert np.abs(want.astype(int) - shown).max() <= 1
        colour = viewer.text(f".cell:nth-child({method + 1}) span").strip()
        assert colour == "#" + bytes(shown[height // 2, width // 2].tolist()).hex()


def test_a_strip_that_is_folded_away_asks_for_nothing(viewer):
    viewer.press("s")
    assert not viewer.page.locator("#strip").is_visible()
    viewer.settle()
    before = len(viewer.server.asked)
    viewer.press("+")
    viewer.settle()
    assert {view.method for view in viewer.server.asked[before:]} <= {BICUBIC, RED}
    assert viewer.difference() <= 1
    viewer.page.click("#fold")
    viewer.settle()
    assert {view.method for view in viewer.server.asked[before:]} == {BICUBIC, NEAREST, RED, GREEN, TRUTH}


def test_position_and_scale_are_said(viewer):
    viewer.press("1")
    for _ in range(10):
        viewer.press("+")
    viewer.settle()
    viewer.point_at(100, 50)
    viewer.wait(lambda: viewer.state()["pointer"])
    state = viewer.settle()
    assert viewer.text("#scale") == "×32.0"
    want = [f"{(state[name] + n + 0.5) / 32:.2f}" for name, n in [("x", 100), ("y", 50)]]
    assert viewer.text("#position") == ", ".join(want)


def test_psnr_of_the_visible_part(viewer):
    for _ in range(3):
        viewer.press("+")
    viewer.settle()
    psnr = [viewer.server.psnr(viewer.visible(method)) for method in (BICUBIC, RED)]
    viewer.wait(lambda: viewer.text("#psnr") == f"PSNR {psnr[0]:.2f} | {psnr[1]:.2f} dB")
    viewer.page.select_option("#right", str(TRUTH))
    viewer.wait(lambda: viewer.text("#psnr") == f"PSNR {psnr[0]:.2f} | ∞ dB")


def test_psnr_is_not_asked_for_where_no_pixel_can_be_compared(visit):
    viewer = visit(viewport={"width": 700, "height": 420})
    for _ in range(24):
        viewer.press("+")
    state = viewer.settle()
    assert state["scale"] == 1024
    assert state["canvas"]["height"] < 512  # a pixel of the truth is larger
    seen = set()
    for _ in range(16):
        viewer.press("ArrowDown")
        state = viewer.settle()
        low, high = (n / 512 - 0.5 for n in (state["y"], state["y"] + state["canvas"]["height"]))
        if math.ceil(low) > math.floor(high):
            assert viewer.text("#psnr") == "PSNR – | – dB"
        else:
            assert viewer.text("#psnr") != "PSNR – | – dB"
        seen.add(viewer.text("#psnr") == "PSNR – | – dB")
    assert seen == {True, False}


def test_never_a_blank_while_models_work(viewer):
    with viewer.server.held():
        viewer.press("]")
        viewer.wait(lambda: viewer.state()["photo"] == 1)
        viewer.wait(lambda: viewer.difference(right=BICUBIC) <= 1)
    viewer.settle()
    assert viewer.difference() <= 1
    with viewer.server.held():
        viewer.press("+")
        viewer.wait(lambda: viewer.difference(left=BICUBIC, right=RED) <= 5)  # the model's own tiles, stretched
        assert viewer.difference(right=RED) > 0.2
    viewer.settle()
    assert viewer.difference() <= 0.2


def test_a_page_at_rest_does_nothing(viewer):
    viewer.wait(lambda: "…" not in viewer.text("#psnr"))
    viewer.settle()
    before = len(viewer.asked)
    assert viewer.page.evaluate(FRAMES) == 0
    assert len(viewer.asked) == before


def test_a_clear_photo_lies_over_a_board(viewer):
    viewer.page.select_option("#photo", "2")
    viewer.wait(lambda: viewer.state()["photo"] == 2)
    state = viewer.settle()
    assert viewer.page.locator("#board").is_visible()
    shown = viewer.picture("#canvas", "RGBA")
    view = viewer.visible(BICUBIC)
    x, y = view.x - state["x"], view.y - state["y"]
    split = round(state["split"] * state["canvas"]["width"])
    want = viewer.server.render(view)[:, : split - x]
    got = shown[y : y + view.height, x:split]
    assert np.abs(got[..., 3].astype(int) - want[..., 3]).max() <= 1  # nothing shines through
    solid = want[..., 3] > 200
    assert np.abs(got[solid].astype(int) - want[solid]).max() <= 2
