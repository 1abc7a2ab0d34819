"""What a page is given: pixels of ``upscale``, PSNR at the truth's resolution, files, the commands that make them."""

from __future__ import annotations

import io
import math
import tracemalloc

import numpy as np
import pytest
import torch
from desks import BICUBIC, HEIGHT, MODEL, NEAREST, TRUTH, WIDTH, desk_of, drawn, nothing, smooth, whole
from PIL import Image, ImageCms

from liif_fast.images.files import ImageError
from liif_fast.quality.metrics import psnr
from liif_fast.viewing.desk import ENTRY
from liif_fast.viewing.view import View, ViewError, extent, least_scale


@pytest.mark.parametrize("scale", [2, 3, 1, 0.5, 4.3])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_the_pixels_of_upscale(tiny, tmp_path, scale, mode):
    model, file = tiny().eval(), tmp_path / "photo.png"
    smooth((WIDTH, HEIGHT), mode).save(file)
    desk = desk_of(model, file)
    view = View(0, MODEL, scale, *(0, 0), extent(WIDTH, scale), extent(HEIGHT, scale))
    got = drawn(desk, view)
    want = model.upscale(Image.open(file), size=(view.height, view.width), window=view.window())
    want = np.asarray(want.convert("RGBA")).astype(int)
    assert np.abs(got[..., 3].astype(int) - want[..., 3]).max() <= 1
    assert np.abs(got[..., :3].astype(int) - want[..., :3])[want[..., 3] > 0].max() <= 1


def test_a_scale_that_rounds_beyond_a_whole_number_of_pixels(tiny, tmp_path):
    """As a page's scale at which the photo fits does: it is not reduced to one pixel more than ``upscale`` does."""
    n, k = 58, 30
    assert n * (k / n) > k
    noise = np.random.default_rng(0).integers(0, 256, (n, n, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    model = tiny().eval()
    view = View(0, MODEL, k / n, 0, 0, k, k)
    got = drawn(desk_of(model, tmp_path / "photo.png"), view)[..., :3].astype(int)
    want = np.asarray(model.upscale(Image.fromarray(noise), size=(k, k), window=view.window())).astype(int)
    assert np.abs(got - want).max() <= 1


@pytest.mark.parametrize("method", [BICUBIC, NEAREST, MODEL])
@pytest.mark.parametrize("scale", [3, 2.3, 0.7])
def test_tiles_are_parts_of_the_whole(tiny, file, method, scale):
    desk = desk_of(tiny().eval(), file)
    all_of_it = whole(desk, scale, method).astype(int)
    for x, y, width, height in ((0, 0, 9, 7), (11, 5, 13, 14), (extent(WIDTH, scale) - 5, 3, 5, 5)):
        part = drawn(desk, View(0, method, scale, x, y, width, height))
        assert np.abs(part - all_of_it[y : y + height, x : x + width]).max() <= 1  # a rounding that turns over


def test_what_was_drawn_is_kept_within_its_room(tiny, file, monkeypatch):
    desk = desk_of(tiny().eval(), file, tiles=3 * (400 + ENTRY))
    layer = desk._layer(MODEL)
    seen, draw = [], layer.draw
    monkeypatch.setattr(layer, "draw", lambda place: (seen.append(place), draw(place))[1])
    views = [View(0, MODEL, 2, x, 0, 10, 10) for x in (0, 10, 20, 30)]
    for view in (*views[:3], *views[:3], views[3], views[0], views[3]):
        desk.tile(view)
        assert desk._drawn.held <= 3 * (400 + ENTRY)
    assert len(seen) == 5, "the first one had gone"


def test_tiles_of_one_pixel_are_counted_by_what_they_take(tiny, file, monkeypatch):
    desk = desk_of(tiny().eval(), file, tiles=1 << 20)
    pixel = np.zeros((1, 1, 4), np.uint8)
    monkeypatch.setattr(desk._layer(MODEL), "draw", lambda place: pixel.copy())
    views = [View(0, MODEL, 100, x, y, 1, 1) for y in range(20) for x in range(1000, 1100)]
    tracemalloc.start()
    for view in views:
        desk.tile(view)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(desk._drawn._things) == (1 << 20) // (ENTRY + 4)
    assert taken <= 1 << 20


def test_sixteen_bits_are_shown_in_eight(tiny, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    desk = desk_of(tiny().eval(), tmp_path / "deep.png")
    assert desk.photo(0)["notes"] == ["shown in 8 bits; saved views of a model have as many as the photo"]
    got = whole(desk, 1, NEAREST)
    assert np.array_equal(got[..., 0], (pixels.astype(int) + 128) // 257)
    saved = Image.open(io.BytesIO(desk.save(View(0, MODEL, 2, 0, 0, 20, 20), (20, 20), nothing)))
    assert saved.mode.startswith("I;16")


def test_a_wide_colour_space_is_said(tiny, tmp_path):
    image = smooth((WIDTH, HEIGHT))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = srgb.replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be"))
    image.save(tmp_path / "photo.png", icc_profile=other)
    assert "colour space is not sRGB" in desk_of(tiny(), tmp_path / "photo.png").photo(0)["notes"][-1]
    image.save(tmp_path / "photo.png", icc_profile=srgb)
    assert desk_of(tiny(), tmp_path / "photo.png").photo(0)["notes"] == []


# --- several photos ---


def test_of_another_photo_nothing_is_kept_but_tiles(tiny, tmp_path):
    files = [tmp_path / f"{name}.png" for name in "ab"]
    for seed, file in enumerate(files):
        smooth((WIDTH, HEIGHT + seed), seed=seed).save(file)
    desk = desk_of(tiny().eval(), *files)
    assert [photo["name"] for photo in desk.state()["photos"]] == ["a.png", "b.png"]
    first = [drawn(desk, View(photo, MODEL, 2, 0, 0, 20, 20)) for photo in (0, 1)]
    one = desk._features.held
    again = [drawn(desk, View(photo, MODEL, 2, 10, 0, 20, 20)) for photo in (0, 1, 0)]
    assert desk._features.held <= one
    assert not np.array_equal(first[0], first[1])
    assert np.array_equal(again[0], again[2])
    assert (desk.photo(1)["height"], desk.photo(0)["height"]) == (HEIGHT + 1, HEIGHT)


def test_a_file_that_has_been_replaced(tiny, tmp_path, monkeypatch):
    """When it is read again nothing of the old one is shown beside the new one, or compared with it."""
    files = [tmp_path / f"{name}.png" for name in "ab"]
    for file in files:
        smooth((WIDTH, HEIGHT)).save(file)
    desk = desk_of(tiny().eval(), *files, truths=files)
    view = View(0, MODEL, 2, 0, 0, 20, 20)
    before = drawn(desk, view)
    drawn(desk, view._replace(photo=1))
    assert np.array_equal(drawn(desk, view), before)
    smooth((WIDTH, HEIGHT), seed=1).save(files[0])
    drawn(desk, view._replace(photo=1))
    assert not np.array_equal(drawn(desk, view), before)

    monkeypatch.setattr("liif_fast.viewing.desk.BLOCK", 16)
    pauses = []

    def replaced() -> None:
        pauses.append(1)
        if len(pauses) == 3:
            smooth((WIDTH // 2, HEIGHT // 2)).save(files[0])
            desk.photo(1)

    with pytest.raises(ViewError, match=r"^photo: its file, or the truth's, is another than before; ask again$"):
        desk.psnr(View(0, BICUBIC, 1, 0, 0, WIDTH, HEIGHT), replaced)


def test_a_photo_that_cannot_be_read(tiny, file, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        desk_of(tiny(), broken)
    desk = desk_of(tiny().eval(), file, broken)
    with pytest.raises(ImageError, match=r"broken\.png"):
        desk.photo(1)
    assert len(desk.tile(View(0, MODEL, 2, 0, 0, 5, 5))) == 100


# --- views that cannot be ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photo": 1}, r"^photo: 0 to 0 is wanted, got 1$"),
        ({"photo": -1}, r"^photo: 0 to 0 is wanted, got -1$"),
        ({"method": 3}, r"^method: 0 to 2 is wanted, got 3$"),
        ({"scale": 1024.5}, r"^scale: 0\.0333333 to 1024 is wanted, got 1024\.5$"),
        ({"scale": math.nan}, r"^scale: .* got nan$"),
        ({"scale": 0.01}, r"^scale: .* got 0\.01$"),
        ({"x": -1}, r"^view: x and y from 0"),
        ({"width": 0}, r"^view: x and y from 0"),
        ({"width": 81}, r"^view: at this scale the photo has 80x60 pixels, and these are beyond$"),
        ({"y": 51}, r"^view: at this scale the photo has 80x60 pixels"),
    ],
)
def test_refused(tiny, file, change, message):
    desk = desk_of(tiny().eval(), file)
    view = View(0, MODEL, 2, 0, 0, 10, 10)
    desk.tile(view)
    with pytest.raises(ViewError, match=message):
        desk.tile(view._replace(**change))


def test_the_least_scale_is_one(tiny, file):
    desk = desk_of(tiny().eval(), file)
    least = least_scale((HEIGHT, WIDTH))
    assert desk.tile(View(0, MODEL, least, 0, 0, 1, 1))
    assert desk.tile(View(0, BICUBIC, least, 0, 0, 1, 1))


def test_any_thread_gets_what_is_at_hand(tiny, file, truth):
    """Interpolation of the photo that is open, while its features are being made."""
    desk = desk_of(tiny().eval(), file, file, truths=[truth, truth])
    for method in (BICUBIC, NEAREST, TRUTH):
        view = View(0, method, 2.5, 11, 7, 60, 50)
        assert desk.tile_at_once(view) == desk.tile(view)
    assert desk.photo_at_once(0) == desk.photo(0)
    for other in (View(0, MODEL, 2, 0, 0, 5, 5), View(1, BICUBIC, 2, 0, 0, 5, 5), View(0, 9, 2, 0, 0, 5, 5)):
        assert desk.tile_at_once(other) is None
    assert desk.photo_at_once(1) is None
    with pytest.raises(ViewError, match="these are beyond"):
        desk.tile_at_once(View(0, BICUBIC, 2, 0, 0, 81, 5))


# --- ground truth ---


@pytest.mark.parametrize("method", [BICUBIC, NEAREST, MODEL])
def test_psnr_of_the_whole_photo(tiny, file, truth, method):
    model = tiny().eval()
    desk = desk_of(model, file, truths=[truth])
    ways = {
        BICUBIC: lambda image: image.resize((4 * WIDTH, 4 * HEIGHT), Image.Resampling.BICUBIC),
        NEAREST: lambda image: image.resize((4 * WIDTH, 4 * HEIGHT), Image.Resampling.NEAREST),
        MODEL: lambda image: model.upscale(image, scale=4),
    }
    got, want = (
        torch.from_numpy(np.array(image)).permute(2, 0, 1).double() / 255
        for image in (ways[method](Image.open(file)), Image.open(truth))
    )
    mse = (got - want).square().mean().item()
    for scale in (4, 1.7):  # whatever the view's scale
        view = View(0, method, scale, 0, 0, extent(WIDTH, scale), extent(HEIGHT, scale))
        assert desk.psnr(view, nothing) == pytest.approx(-10 * math.log10(mse), abs=0.01)
    assert psnr(got, want, "div2k") != pytest.approx(-10 * math.log10(mse), abs=1e-6), "that leaves a border out"


def test_psnr_of_the_visible_part(tiny, file, truth, monkeypatch):
    monkeypatch.setattr("liif_fast.viewing.desk.BLOCK", 16)
    model = tiny().eval()
    desk = desk_of(model, file, truths=[truth])
    made = np.asarray(model.upscale(Image.open(file), scale=4)).astype(float)
    difference = made - np.asarray(Image.open(truth))
    # columns 10 to 30 of the view at scale 2 are 20 to 60 of the truth
    part = difference[10:44, 20:60]
    got = desk.psnr(View(0, MODEL, 2, 10, 5, 20, 17), nothing)
    assert got == pytest.approx(10 * math.log10(255**2 / np.square(part).mean()), abs=0.01)


def test_psnr_of_the_truth_itself_and_between_its_pixels(tiny, file, truth):
    desk = desk_of(tiny().eval(), file, truths=[truth])
    assert desk.psnr(View(0, TRUTH, 2, 0, 0, 80, 60), nothing) == math.inf
    with pytest.raises(ViewError, match="the centre of no pixel"):
        desk.psnr(View(0, MODEL, 100, 0, 0, 5, 5), nothing)
    with pytest.raises(ViewError, match="no ground truth"):
        desk_of(tiny(), file).psnr(View(0, MODEL, 2, 0, 0, 5, 5), nothing)


def test_pauses_between_blocks_and_what_they_raise(tiny, file, truth, monkeypatch):
    monkeypatch.setattr("liif_fast.viewing.desk.BLOCK", 32)
    desk = desk_of(tiny().eval(), file, truths=[truth])
    seen = []
    desk.psnr(View(0, MODEL, 1, 0, 0, WIDTH, HEIGHT), lambda: seen.append(1))
    assert len(seen) == 4 * 5

    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    for work in (
        lambda: desk.psnr(View(0, MODEL, 1, 0, 0, WIDTH, HEIGHT), enough),
        lambda: desk.save(View(0, MODEL, 1, 0, 0, WIDTH, HEIGHT), (60, 80), enough),
    ):
        with pytest.raises(Enough):
            work()


@pytest.mark.parametrize("size", [(WIDTH - 1, HEIGHT), (4 * WIDTH, 5 * HEIGHT), (HEIGHT * 4, WIDTH * 4)])
def test_a_truth_that_is_none(tiny, file, tmp_path, size):
    smooth(size).save(tmp_path / "other.png")
    with pytest.raises(ImageError, match=rf"other\.png: {size[0]}x{size[1]} is no ground truth of a photo of 40x30"):
        desk_of(tiny(), file, truths=[tmp_path / "other.png"])
    with pytest.raises(ValueError, match="one for each of 1 photos"):
        desk_of(tiny(), file, truths=[file, file])


def test_a_truth_that_lost_its_last_rows_in_the_reduction(tiny, file, tmp_path):
    smooth((4 * WIDTH + 3, 4 * HEIGHT + 2)).save(tmp_path / "truth.png")
    desk = desk_of(tiny(), file, truths=[tmp_path / "truth.png"])
    assert desk.photo(0)["truth"] == {"width": 163, "height": 122}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_transparent_picture_is_not_compared(tiny, file, truth, mode):
    smooth((WIDTH, HEIGHT), "RGBA" if mode == "RGB" else "RGB").save(file)  # the one or the other
    smooth((4 * WIDTH, 4 * HEIGHT), mode).save(truth)
    desk = desk_of(tiny().eval(), file, truths=[truth])
    assert desk.photo(0)["truth"] is None  # so that nobody asks
    with pytest.raises(ViewError, match="transparent pictures are not compared"):
        desk.psnr(View(0, MODEL, 2, 0, 0, 10, 10), nothing)
