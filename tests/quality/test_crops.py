"""The crops of a comparison: where they are, their figures, and the sheet of pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from liif_fast.images import sheet
from liif_fast.quality import compare, crops, metrics
from liif_fast.quality.compare import Method
from liif_fast.quality.evaluate import bicubic


def planted(image, places):
    """The image with squares of 8x8 whose colours are ``step`` brighter, as (top, left, step)."""
    image = image.clone()
    for top, left, step in places:
        image[..., top : top + 8, left : left + 8] += step
    return image


def test_crops_are_where_the_methods_differ():
    hr = torch.rand(1, 3, 90, 120) * 0.5
    other = planted(hr, [(20, 30, 0.2), (60, 80, 0.3), (22, 85, 0.1)])
    found = crops.find("a", {"one": hr, "two": other}, hr, 2, "benchmark", 3, side=24)
    assert len(found) == 3
    for crop, (top, left) in zip(found, [(60, 80), (20, 30), (22, 85)], strict=True):  # the brighter, the earlier
        assert crop.size == (24, 24)
        assert crop.place[0] <= top
        assert crop.place[0] + 24 >= top + 8
        assert crop.place[1] <= left
        assert crop.place[1] + 24 >= left + 8
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    # luma's variance of two values: a quarter of the squared difference; 219 levels; 8-bit rounding below a level
    want = (219 * 0.3) ** 2 / 4 * 64 / 24**2
    assert found[0].score == pytest.approx(want, rel=0.03)


def test_crops_do_not_overlap_and_keep_off_the_border():
    differences = torch.zeros(50, 60, dtype=torch.float64)
    differences[:6, :6] = 100  # a corner, out of reach
    differences[20:30, 20:30] = 1
    found = crops.windows(differences, (16, 16), 6, 10)
    assert found[0][2] == pytest.approx(100 / 256)
    for top, left, mean in found:
        assert 6 <= top <= 50 - 6 - 16
        assert 6 <= left <= 60 - 6 - 16
        assert mean == pytest.approx(differences[top : top + 16, left : left + 16].mean().item(), abs=1e-12)
    for i, (top, left, _) in enumerate(found):
        assert all(abs(top - t) >= 16 or abs(left - x) >= 16 for t, x, _ in found[:i])
    assert 1 < len(found) <= 4  # 38x48 has room for two rows of two or three
    assert crops.windows(differences, (38, 48), 6, 2) == [(6, 6, pytest.approx(100 / (38 * 48)))]


def test_best_crops_of_a_folder(tmp_path):
    """One of an image where there are enough images, else two; the strongest of all."""
    for i in range(3):
        Image.new("RGB", (230, 110), (90, 90, 90)).save(tmp_path / f"{i}.png")

    def images_of(n_crops):
        strength = iter([0.1, 0.3, 0.2])

        def patchy(image, size):
            step = next(strength)
            return planted(bicubic(image, size), [(8, 8, step), (36, 200, 0.9 * step)])

        result = compare.compare([Method("patchy", patchy)], [tmp_path], [2], n_crops=n_crops)
        return [crop.image for crop in result.crops.get((tmp_path.name, 2), ())]

    assert images_of(0) == []
    assert images_of(2) == ["1", "2"]
    assert images_of(3) == ["1", "2", "0"]
    assert images_of(5) == ["1", "1", "2", "2", "0"]


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_figures_of_a_crop(protocol):
    """Of its own pixels alone: those of an image that differs everywhere else are the same."""
    hr = torch.rand(1, 3, 80, 90)
    other = (hr + 0.1 * torch.rand_like(hr)).clamp(0, 1)
    (crop,) = crops.find("a", {"one": hr, "two": other}, hr, 3, protocol, 1, side=30)
    (top, left), (h, w) = crop.place, crop.size
    part = (..., slice(top, top + h), slice(left, left + w))
    if protocol == "div2k":
        mse = (hr[part].double() - other[part].double()).square().mean()
    else:
        weights = torch.tensor({"benchmark": [65.738, 129.057, 25.064], "y": [65.481, 128.553, 24.966]}[protocol])
        whole = {"benchmark": 256, "y": 255}[protocol]
        y = [((x[part] * 255 + 0.5).floor() / 255 if protocol == "y" else x[part]).double() for x in (hr, other)]
        y = [(x * (weights.double() / whole).view(3, 1, 1)).sum(1) for x in y]
        if protocol == "y":
            y = [((x * 255 + 16) + 0.5).floor() / 255 for x in y]
        mse = (y[0] - y[1]).square().mean()
    assert crop.figures["two"][0] == pytest.approx(-10 * mse.log10().item(), abs=1e-6)
    assert crop.figures["one"] == (float("inf"), 1.0)
    assert crop.to_json()["figures"][0] == {"method": "one", "psnr": None, "ssim": 1.0}
    elsewhere = torch.rand_like(hr)
    elsewhere[part] = other[part]
    if protocol != "benchmark":  # torchmetrics' SSIM, which sees no other pixels either
        assert crops._figures(elsewhere, hr, (top, left), (h, w), 3, protocol) == pytest.approx(crop.figures["two"])


def test_picture_of_crops():
    hr = torch.rand(1, 3, 60, 70)
    made = {"one": hr.roll(1, 2), "two": hr.roll(2, 3)}
    (crop,) = crops.find("a", made, hr, 2, "benchmark", 1, side=24)
    picture = np.asarray(crops.figure([("Set x2", crop)]))
    (top, left), (h, w) = crop.place, crop.size
    zoom = 192 // 24
    for image in (hr, *made.values()):
        want = (image[0, :, top : top + h, left : left + w] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        want = want.repeat(zoom, 0).repeat(zoom, 1)
        corners = np.argwhere((picture == want[0, 0]).all(-1))
        assert any(np.array_equal(picture[y : y + 192, x : x + 192], want) for y, x in corners)


def test_sheet():
    """Pictures where they belong, words under them and above them, nothing over a picture."""
    red, blue = torch.zeros(3, 20, 30), torch.zeros(3, 12, 10)
    red[0], blue[2] = 1, 1
    assert sheet.grid([[red, blue], [blue]]).size == (4 + 30 + 4 + 10 + 4, 4 + 20 + 4 + 12 + 4)
    picture = np.asarray(sheet.grid([[red, blue]], captions=[["under red", "under\nblue"]], titles=["above"]))
    places = {}
    for name, colour, (h, w) in (("red", [255, 0, 0], (20, 30)), ("blue", [0, 0, 255], (12, 10))):
        at = np.argwhere((picture == colour).all(-1))
        assert len(at) == h * w
        places[name] = (at.min(0), at.max(0))
        assert tuple(at.max(0) - at.min(0) + 1) == (h, w)
    ink = (picture != 255).any(-1)
    ink[places["red"][0][0] : places["red"][1][0] + 1] = False
    assert ink[: places["red"][0][0]].any()  # the title
    below = ink[places["red"][1][0] + 1 :]
    assert below[:, : places["blue"][0][1]].any()
    assert below[:, places["blue"][0][1] :].any()
    gap = below[:, places["blue"][0][1] - 4 : places["blue"][0][1]]
    assert not gap.any()  # the caption of the first, wider than its picture, ends before the second's
