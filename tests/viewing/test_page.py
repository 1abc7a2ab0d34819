"""The viewer's page in a browser: moving about."""

from __future__ import annotations

import math

import numpy as np
import pytest

BICUBIC, NEAREST, RED, GREEN, TRUTH = range(5)


def under(state: dict, x: float, y: float) -> tuple[float, float]:
    """The photo's point at a place of the canvas."""
    return (state["x"] + x) / state["scale"], (state["y"] + y) / state["scale"]


def away(state: dict, point: tuple[float, float], x: float, y: float) -> float:
    """Pixels of the canvas between a point of the photo and a place."""
    return max(
        abs(point[0] * state["scale"] - state["x"] - x),
        abs(point[1] * state["scale"] - state["y"] - y),
    )


def zoom_in(viewer, scale: int) -> dict:
    """To a scale of whole octaves, about the middle."""
    viewer.press("1")
    for _ in range(round(2 * math.log2(scale))):
        viewer.press("+")
    return viewer.settle()


def test_it_begins_with_the_whole_photo(visit, server):
    before = len(server.asked)
    viewer = visit()
    state = viewer.state()
    assert (state["photo"], state["left"], state["right"], state["fit"]) == (0, BICUBIC, RED, True)
    canvas, seen = state["canvas"], state["visible"]
    assert state["scale"] == min(canvas["width"] / 96, canvas["height"] / 72)
    assert (seen["x"], seen["y"]) == (0, 0)
    assert canvas["width"] == seen["width"] or canvas["height"] == seen["height"]
    assert viewer.difference() <= 1
    views = [view for view in server.asked[before:] if view.method == BICUBIC and view.scale == state["scale"]]
    area = sum(view.width * view.height for view in views)
    assert area <= seen["width"] * seen["height"]  # the window's size was known before anything was asked for
    assert viewer.page.title() == "photo.png – liif-fast view"
    assert (viewer.text("#left-name"), viewer.text("#right-name")) == ("bicubic", "red")


def test_the_wheel_zooms_about_the_pointer(viewer):
    start = zoom_in(viewer, 16)
    viewer.point_at(437, 123)
    point = under(start, 437, 123)
    for turn in [-100] * 9 + [100] * 4 + [-3] * 40 + [120] * 3:
        viewer.mouse.wheel(0, turn)
    viewer.wait(lambda: viewer.state()["level"] == pytest.approx(4 + 260 / 400))
    state = viewer.settle()
    assert abs(math.log2(state["scale"] / start["scale"]) - 260 / 400) <= 1 / 128 + 1e-9
    assert away(state, point, 437, 123) <= 0.5 + 1e-6
    assert viewer.difference() <= 1


def test_the_pixel_under_the_pointer_stays(viewer):
    viewer.page.select_option("#right", str(NEAREST))
    start = zoom_in(viewer, 16)
    x = int((np.ceil((start["x"] + 500) / 16) + 0.5) * 16) - start["x"]  # the middle of a pixel of the photo
    y = int((np.ceil((start["y"] + 200) / 16) + 0.5) * 16) - start["y"]
    viewer.point_at(x, y)
    before = viewer.shot()[y, x]
    for _ in range(6):
        viewer.mouse.wheel(0, -100)
    viewer.wait(lambda: viewer.state()["scale"] > 40)
    viewer.settle()
    assert viewer.shot()[y, x].tolist() == before.tolist()
    assert viewer.text("#colours > :nth-child(2)").strip() == "#" + bytes(before.tolist()).hex()


def test_the_wheel_stops_at_the_whole_photo_and_at_the_largest_scale(viewer):
    viewer.point_at(300, 200)
    whole = viewer.state()["scale"]
    for _ in range(60):
        viewer.mouse.wheel(0, -200)
    viewer.wait(lambda: viewer.state()["scale"] == 1024)
    viewer.settle()
    assert viewer.difference() <= 1
    for _ in range(60):
        viewer.mouse.wheel(0, 200)
    viewer.wait(lambda: viewer.state()["scale"] == min(whole, 1))


def test_dragging_moves_by_whole_pixels(viewer):
    start = zoom_in(viewer, 16)
    viewer.point_at(400, 250)
    viewer.mouse.down()
    viewer.point_at(370, 210)
    viewer.point_at(301, 187)
    viewer.mouse.up()
    viewer.point_at(500, 300)
    state = viewer.settle()
    assert (state["x"] - start["x"], state["y"] - start["y"]) == (99, 63)
    assert viewer.difference() <= 1


def test_dragging_stops_at_the_border(viewer):
    zoom_in(viewer, 16)
    for _ in range(3):
        viewer.point_at(20, 20)
        viewer.mouse.down()
        viewer.point_at(600, 400)
        viewer.mouse.up()
    state = viewer.settle()
    assert (state["x"], state["y"]) == (0, 0)
    assert viewer.difference() <= 1


@pytest.mark.parametrize("way", ["wheel", "key"])
def test_what_moves_the_view_within_a_drag_is_not_undone(viewer, way):
    zoom_in(viewer, 16)
    viewer.point_at(300, 200)
    viewer.mouse.down()
    viewer.point_at(310, 205)
    before = viewer.state()
    if way == "wheel":
        viewer.mouse.wheel(0, -100)
    else:
        viewer.press("ArrowRight")
    viewer.wait(lambda: viewer.state()["x"] != before["x"])
    moved = viewer.state()
    viewer.point_at(320, 215)
    viewer.wait(lambda: viewer.state()["x"] != moved["x"])
    viewer.mouse.up()
    state = viewer.settle()
    assert (state["x"], state["y"]) == (moved["x"] - 10, moved["y"] - 10)
    assert viewer.difference() <= 1


def test_a_double_click_zooms(viewer):
    start = zoom_in(viewer, 8)
    left, top = viewer.box()
    viewer.mouse.dblclick(left + 200, top + 150)
    state = viewer.settle()
    assert state["scale"] == 2 * start["scale"]
    assert away(state, under(start, 200, 150), 200, 150) <= 0.5 + 1e-6


def test_half_a_view_further_asks_for_half_a_view(viewer):
    viewer.press("s")
    viewer.page.select_option("#left", str(RED))
    viewer.page.locator("#divider").press("End")
    viewer.page.evaluate("document.activeElement.blur()")
    zoom_in(viewer, 32)
    before = len(viewer.server.asked)
    viewer.press("Shift+ArrowRight")
    state = viewer.settle()
    new = viewer.server.asked[before:]
    assert {view.method for view in new} == {BICUBIC, RED}
    area = sum(view.width * view.height for view in new if view.method == RED)
    assert area == pytest.approx(state["canvas"]["width"] * state["canvas"]["height"] / 2, rel=0.02)
    assert viewer.difference() <= 1
    before = len(viewer.server.asked)
    viewer.press("Shift+ArrowLeft")
    viewer.settle()
    assert viewer.server.asked[before:] == []


def test_a_view_asks_for_its_own_pixels_once(viewer):
    viewer.press("s")
    before = len(viewer.server.asked)
    state = zoom_in(viewer, 32)
    views = [view for view in viewer.server.asked[before:] if view.scale == 32]
    assert len(views) == len(set(views))
    assert {view.scale for view in viewer.server.asked[before:]} <= {1, 32} | {2 ** (n / 2) for n in range(10)}
    area = sum(view.width * view.height for view in views if view.method == BICUBIC)
    canvas = state["canvas"]
    assert area <= canvas["width"] * canvas["height"] * 1.01


def test_keys(viewer):
    start = zoom_in(viewer, 16)
    canvas = start["canvas"]
    for key, axis, sign in [("Right", "x", 1), ("Left", "x", -1), ("Down", "y", 1), ("Up", "y", -1)]:
        old = viewer.state()
        viewer.press(f"Arrow{key}")
        step = round(canvas["width" if axis == "x" else "height"] / 10)
        assert viewer.state()[axis] == old[axis] + sign * step
    viewer.press("-")
    assert viewer.state()["scale"] == pytest.approx(16 / 2**0.5)
    viewer.press("1")
    assert viewer.state()["scale"] == 1
    viewer.press("0")
    assert viewer.state()["fit"]
    viewer.press(" ")
    state = viewer.settle()
    assert (state["left"], state["right"]) == (RED, BICUBIC)
    assert viewer.difference() <= 1
    viewer.press("?")
    viewer.page.locator("#keys").wait_for(state="visible")
    viewer.press("Escape")


def test_buttons_do_what_keys_do_and_give_the_keys_back(viewer):
    viewer.page.click("#one")
    assert viewer.state()["scale"] == 1
    viewer.page.click("#in")
    viewer.page.click("#in")
    assert viewer.state()["scale"] == 2
    viewer.page.click("#out")
    viewer.page.click("#fit")
    assert viewer.state()["fit"]
    viewer.page.click("#swap")
    viewer.press(" ")  # not the button a second time: both swaps
    viewer.press("1")
    state = viewer.settle()
    assert (state["left"], state["right"], state["scale"]) == (BICUBIC, RED, 1)


def test_keys_stay_with_a_list_that_has_the_focus(viewer):
    viewer.page.focus("#left")
    viewer.press("1")
    viewer.press("ArrowDown")
    state = viewer.settle()
    assert state["fit"]
    assert state["left"] == NEAREST


def test_all_controls_are_reached_by_tab(viewer):
    wanted = {"photo", "left", "swap", "right", "out", "in", "fit", "one", "save", "copy", "fold", "theme", "help"}
    seen = set()
    for _ in range(20):
        viewer.press("Tab")
        seen.add(viewer.page.evaluate("document.activeElement.id"))
    assert wanted | {"divider"} <= seen


def test_the_divider_by_mouse_and_by_keys(viewer):
    viewer.press("1")
    left, top = viewer.box()
    canvas = viewer.state()["canvas"]
    middle = canvas["width"] / 2
    viewer.mouse.move(left + middle, top + 40)
    viewer.mouse.down()
    viewer.mouse.move(left + middle - 30, top + 60, steps=3)
    viewer.mouse.up()
    assert viewer.state()["split"] == pytest.approx((middle - 30) / canvas["width"], abs=1e-3)
    viewer.settle()
    assert viewer.difference() <= 1
    slider = viewer.page.get_by_role("slider")
    slider.press("Home")
    assert viewer.state()["split"] == 0
    slider.press("Shift+ArrowRight")
    slider.press("ArrowRight")
    viewer.settle()
    assert slider.get_attribute("aria-valuenow") == "11"


def test_two_models(viewer):
    viewer.page.select_option("#left", str(GREEN))
    state = viewer.settle()
    assert (state["left"], state["right"]) == (GREEN, RED)
    assert viewer.difference() <= 1
    assert viewer.text("#left-name") == "green"


def test_photos_by_keys_and_by_the_list(viewer):
    viewer.press("]")
    viewer.wait(lambda: viewer.state()["photo"] == 1)
    viewer.settle()
    assert viewer.difference() <= 1
    assert viewer.text("#notes") == "a note"
    viewer.press("PageUp")
    viewer.wait(lambda: viewer.state()["photo"] == 0)
    assert viewer.text("#notes") == ""
    viewer.page.select_option("#photo", "2")
    viewer.wait(lambda: viewer.state()["photo"] == 2)
    viewer.settle()
    assert viewer.page.locator("#board").is_visible()
