"""The viewer's page in a browser: what it asks for, and what it does with answers of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

BICUBIC, NEAREST, RED, GREEN, TRUTH = range(5)
LARGE = {"width": 1400, "height": 1000}  # a view of many tiles
REFUSALS = "Failed to load resource"  # Chromium says that itself


def accept(viewer) -> None:
    """The browser's own complaints about answers that are errors are as they should be."""
    assert viewer.complaints
    assert all(text.startswith(REFUSALS) for text in viewer.complaints)
    viewer.complaints.clear()


def test_what_is_not_looked_at_any_more_is_given_up(visit):
    viewer = visit(viewport=LARGE)
    server = viewer.server
    viewer.point_at(200, 150)
    with server.held():
        before, gone = len(server.asked), len(server.gone)
        for _ in range(8):
            viewer.mouse.wheel(0, -100)
        viewer.wait(lambda: sum(view.method == RED for view in server.asked[before:]) >= 4)
        asked = {view for view in server.asked[before:] if view.method == RED}
        for _ in range(8):
            viewer.mouse.wheel(0, 100)
        viewer.wait(lambda: asked <= set(server.gone[gone:]))
    state = viewer.settle()
    assert state["scale"] not in {view.scale for view in asked}
    assert viewer.stats()["aborted"] >= len(asked)
    assert viewer.difference() <= 1


def test_scales_that_pass_by_are_not_asked_for(viewer):
    before = len(viewer.server.asked)
    viewer.point_at(200, 150)
    start = viewer.state()["level"]
    viewer.page.evaluate(  # in one go: no pause between them, however busy the machine is
        """for (let i = 0; i < 24; i += 1) canvas.dispatchEvent(
            new WheelEvent("wheel", {deltaY: -40, clientX: 300, clientY: 200, bubbles: true, cancelable: true}))"""
    )
    viewer.wait(lambda: viewer.state()["level"] > start + 2.3)
    state = viewer.settle()
    assert {view.scale for view in viewer.server.asked[before:]} == {state["scale"]}


def test_models_leave_connections_to_what_is_quick(visit):
    viewer = visit(viewport=LARGE)
    before = len(viewer.server.asked)

    def held() -> int:
        return sum(view.method in {RED, GREEN} for view in viewer.server.asked[before:])

    with viewer.server.held():
        viewer.press("+")
        viewer.press("+")
        viewer.wait(lambda: held() == 4)
        viewer.page.wait_for_timeout(200)
        assert held() == 4
        viewer.page.evaluate("document.querySelector('#left').focus()")
        got = viewer.stats()["got"]
        viewer.press("ArrowDown")
        viewer.wait(lambda: viewer.stats()["got"] > got)
        assert viewer.state()["left"] == NEAREST


def test_the_nearest_come_first(visit):
    viewer = visit(viewport=LARGE)
    viewer.press("s")
    for _ in range(6):
        viewer.press("+")
    viewer.settle()
    viewer.point_at(60, 60)
    viewer.wait(lambda: viewer.state()["pointer"])
    viewer.settle()
    before = len(viewer.server.asked)
    viewer.page.select_option("#left", str(GREEN))
    state = viewer.settle()
    asked = [view for view in viewer.server.asked[before:] if view.method == GREEN]
    far = [np.hypot(v.x + v.width / 2 - state["x"] - 60, v.y + v.height / 2 - state["y"] - 60) for v in asked]
    assert len(far) >= 8
    assert np.mean(far[:4]) < np.mean(far[-4:])


def test_a_tile_that_was_dropped_is_asked_for_again(viewer):
    server = viewer.server
    viewer.press("s")
    viewer.press("+")
    viewer.settle()
    server.refused[GREEN] = 503
    viewer.page.select_option("#left", str(GREEN))
    before = len(server.asked)
    viewer.wait(lambda: sum(view.method == GREEN for view in server.asked[before:]) > 12)
    assert viewer.text("#status") == ""
    server.refused.clear()
    viewer.settle()
    assert viewer.difference() <= 1
    accept(viewer)


def test_a_failure_is_said_in_one_line_and_tried_again_when_the_view_moves(viewer):
    server = viewer.server
    viewer.press("s")
    viewer.press("+")
    viewer.settle()
    server.refused[GREEN] = 500
    viewer.page.select_option("#left", str(GREEN))
    viewer.wait(lambda: viewer.text("#status") == "refused by the test")
    viewer.page.wait_for_timeout(400)
    before = len(server.asked)
    viewer.page.wait_for_timeout(400)
    assert len(server.asked) == before  # not again and again
    server.refused.clear()
    viewer.press("1")
    viewer.settle()
    assert viewer.text("#status") == ""
    assert viewer.difference() <= 1
    accept(viewer)


def test_a_photo_that_cannot_be_read_leaves_the_one_before(viewer):
    viewer.page.route("**/photo?photo=1", lambda route: route.fulfill(status=400, body="second.png: is damaged\n"))
    viewer.press("]")
    viewer.wait(lambda: viewer.text("#status") == "second.png: is damaged")
    assert viewer.state()["photo"] == 0
    assert viewer.page.locator("#photo").input_value() == "0"
    viewer.settle()
    assert viewer.difference() <= 1
    accept(viewer)


@pytest.mark.parametrize("columns", [None, 1234])
def test_save(viewer, tmp_path, columns):
    for _ in range(5):
        viewer.press("+")
    viewer.settle()
    viewer.page.click("#save")
    if columns:
        viewer.page.fill("#save-width", str(columns))
        viewer.page.select_option("#save-method", str(GREEN))
    view = viewer.visible(GREEN if columns else RED)
    with viewer.page.expect_download() as download:
        viewer.page.click("#save-file")
    download.value.save_as(tmp_path / "saved.png")
    assert download.value.suggested_filename == "photo_view.png"
    size = (round(view.height * (columns or view.width) / view.width), columns or view.width)
    with Image.open(tmp_path / "saved.png") as image:
        saved = np.asarray(image)
    assert np.array_equal(saved, viewer.server.render(view, size))
    viewer.page.locator("#saving").wait_for(state="hidden")
    assert viewer.text("#status") == "saved photo_view.png"


def test_a_size_that_cannot_be_is_not_asked_for(viewer):
    viewer.page.click("#save")
    for width in ("", "0", "-3", "2.5", "999999999"):
        viewer.page.fill("#save-width", width)
        viewer.page.click("#save-file")
        viewer.page.click("#save-copy")
        assert not viewer.page.locator("#save-width").evaluate("input => input.checkValidity()")
    viewer.press("Escape")
    assert not [url for url in viewer.asked if "/save" in url or "/command" in url]


def test_an_error_of_a_save_is_said(viewer):
    viewer.page.route("**/save?*", lambda route: route.fulfill(status=503, body="another save is under way\n"))
    viewer.page.click("#save")
    viewer.page.click("#save-file")
    viewer.wait(lambda: viewer.text("#save-status") == "another save is under way")
    assert viewer.text("#status") == "another save is under way"
    accept(viewer)


def test_copy_command(viewer):
    viewer.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for _ in range(5):
        viewer.press("+")
    viewer.settle()
    view = viewer.visible(RED)
    viewer.page.click("#copy")
    viewer.wait(lambda: viewer.text("#save-status") == "copied")
    want = viewer.server.command(view, (view.height, view.width))
    assert viewer.page.locator("#command").input_value() == want
    assert viewer.page.evaluate("navigator.clipboard.readText()") == want
    viewer.page.fill("#save-width", "640")
    assert viewer.page.locator("#command").input_value() == ""  # that of another size
    viewer.page.click("#save-copy")
    want = viewer.server.command(view, (round(view.height * 640 / view.width), 640))
    viewer.wait(lambda: viewer.page.locator("#command").input_value() == want)
    viewer.page.select_option("#save-method", str(BICUBIC))
    assert viewer.page.locator("#save-copy").is_disabled()


def test_a_command_that_comes_too_late_is_not_shown(viewer):
    held = []
    viewer.page.route("**/command?*", lambda route: held.append(route))
    viewer.page.click("#copy")
    viewer.wait(lambda: held)
    viewer.page.fill("#save-width", "77")
    with viewer.page.expect_response("**/command?*"):
        held[0].continue_()
    viewer.page.wait_for_timeout(100)
    assert viewer.page.locator("#command").input_value() == ""
    assert viewer.text("#save-status") == ""


def test_a_command_is_selected_where_the_clipboard_is_closed(viewer):
    viewer.page.evaluate("void (navigator.clipboard.writeText = async () => { throw new Error('closed'); })")
    viewer.page.evaluate("void (document.execCommand = () => false)")
    viewer.page.click("#copy")
    viewer.wait(lambda: viewer.text("#save-status") == "the line is selected: copy it")
    field = viewer.page.locator("#command")
    assert field.evaluate("f => f.value.slice(f.selectionStart, f.selectionEnd)") == field.input_value() != ""


def test_tiles_that_are_kept_have_a_bound(visit):
    viewer = visit(device_scale_factor=3, reduced_motion="reduce")
    viewer.press("s")
    viewer.page.select_option("#left", str(NEAREST))
    viewer.page.locator("#divider").press("End")
    viewer.page.evaluate("document.activeElement.blur()")
    stats = viewer.stats()
    while stats["kept"] == stats["got"]:
        assert stats["bytes"] <= 96 * 2**20
        viewer.press("+")
        viewer.settle()
        stats = viewer.stats()
    assert 80 * 2**20 < stats["bytes"] <= 96 * 2**20
    assert viewer.difference() <= 1
