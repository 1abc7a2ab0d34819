"""Animations frame by frame and TIFF files page by page: pixels, times and number of plays, read and written."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from image_bytes import exif, profile
from PIL import Image

from liif_fast.images import files as images
from liif_fast.images.files import ImageError, Photo
from liif_fast.images.frames import frames_of
from liif_fast.images.frames_writing import write_frames

RNG = np.random.default_rng(7)
COLOURS = RNG.integers(0, 256, (6, 3), dtype=np.uint8)
TIMES = [50, 100, 70, 1000, 90]
FORMATS = ("gif", "png", "webp", "avif")


def frames(alpha: bool = True) -> list[Image.Image]:
    """Five frames of six colours, each with a hole in another place."""
    found = []
    for i in range(len(TIMES)):
        pixels = np.full((20, 30, 4), 255, np.uint8)
        pixels[..., :3] = COLOURS[(np.add.outer(np.arange(20), np.arange(30)) // 5 + i) % 6]
        pixels[3 * i : 3 * i + 4, 5:15, 3] = 0
        found.append(Image.fromarray(pixels if alpha else np.ascontiguousarray(pixels[..., :3])))
    return found


def animation(path, pictures, **options):
    how = {"disposal": 2} if path.suffix == ".gif" else {"lossless": True} if path.suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **{"duration": TIMES, **how, **options})
    return path


def shown(path) -> tuple[list[np.ndarray], list[float], int | None]:
    """What Pillow makes of a file: RGBA of each frame, 0 where nothing is seen; the times; the loops that it says."""
    pictures, times = [], []
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            rgba = np.array(image.convert("RGBA"))
            rgba[rgba[..., 3] == 0] = 0
            pictures.append(rgba)
            times.append(image.info.get("duration"))
        return pictures, times, image.info.get("loop")


def copied(source, target, **options) -> list[str]:
    photo = images.read(source)
    found = frames_of(photo, source, images.output_format(target))
    assert found is not None
    assert not [note for note in photo.notes if "only the first" in note]
    return write_frames(target, found, len(found), found.plays, **options)


@pytest.mark.parametrize("alpha", [True, False], ids=["alpha", "opaque"])
@pytest.mark.parametrize("target", ["gif", "png", "webp"])
@pytest.mark.parametrize("source", ["gif", "png", "webp"])
def test_frames_and_times_are_kept(tmp_path, source, target, alpha):
    path = animation(tmp_path / f"a.{source}", frames(alpha), loop=3)
    copied(path, tmp_path / f"b.{target}", quality=100)
    (before, times, loop), (after, written, looped) = shown(path), shown(tmp_path / f"b.{target}")
    assert written == times == TIMES
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(b, a)
    if target == "gif":  # covered where no frame has holes, so that no viewer flickers
        with Image.open(tmp_path / "b.gif") as image:
            assert image.disposal_method == (2 if alpha else 1)
    plays = loop + (source == "gif")  # GIF counts the repetitions
    assert looped == plays - (target == "gif")


@pytest.mark.parametrize(("source", "target"), [("avif", "png"), ("gif", "avif")])
def test_avif_sequences(tmp_path, source, target):
    path = animation(tmp_path / f"a.{source}", frames(False), loop=0)
    assert [n for n in copied(path, tmp_path / f"b.{target}") if "shown for ever" in n] == []
    (before, times, _), (after, written, _) = shown(path), shown(tmp_path / f"b.{target}")
    assert written == times == TIMES
    for a, b in zip(before, after, strict=True):
        assert np.abs(a.astype(int) - b).max() <= (0 if target == "png" else 12)  # lossy; another frame differs by 200
    once = animation(tmp_path / "once.gif", frames(False))
    assert "AVIF is shown for ever here, not 1 time" in copied(once, tmp_path / "once.avif")


@pytest.mark.parametrize(("plays", "gif", "png"), [(0, 0, 0), (1, None, 1), (2, 1, 2)])
def test_how_often_it_is_shown(tmp_path, plays, gif, png):
    photos = [Photo(np.full((3, 4, 3), 80 * i, np.uint8), milliseconds=40) for i in range(3)]
    for suffix, wanted in (("gif", gif), ("png", png), ("webp", png)):
        path = tmp_path / f"x.{suffix}"
        write_frames(path, photos, 3, plays)
        assert shown(path)[2] == wanted
        assert frames_of(images.read(path), path, "GIF").plays == plays


def test_a_gif_shown_more_often_than_webp_can_say(tmp_path):
    path = animation(tmp_path / "a.gif", frames(), loop=65535)
    copied(path, tmp_path / "a.webp")
    assert shown(tmp_path / "a.webp")[2] == 65535


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_a_gif_s_frames_are_what_a_viewer_shows(tmp_path, disposal):
    """A small square moves over a first picture; what stays of it is for the disposal to say."""
    base = Image.fromarray(np.full((8, 8), 1, np.uint8), "P")
    base.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    data = [_block(base, 0, 0, 1)]
    for at in (1, 4):
        square = Image.fromarray(np.full((2, 2), 2, np.uint8), "P")
        square.putpalette(base.getpalette())
        data.append(_block(square, at, at, disposal))
    screen = b"GIF89a" + bytes([8, 0, 8, 0, 0, 0, 0])
    (tmp_path / "x.gif").write_bytes(screen + b"".join(data) + b";")
    red, green = (200, 10, 10, 255), (10, 200, 10, 255)
    want = np.empty((3, 8, 8, 4), np.uint8)
    want[:] = red
    want[1, 1:3, 1:3] = want[2, 4:6, 4:6] = green
    if disposal < 2:
        want[2, 1:3, 1:3] = green
    elif disposal == 2:
        want[2, 1:3, 1:3] = 0
    path = tmp_path / "x.gif"
    found = frames_of(images.read(path), path, "GIF")
    for photo, picture in zip(found, want, strict=True):
        alpha = np.full((8, 8), 255, np.uint8) if photo.alpha is None else photo.alpha
        np.testing.assert_array_equal(alpha, picture[..., 3])
        np.testing.assert_array_equal(photo.pixels[alpha > 0], picture[alpha > 0, :3])


def test_a_gif_s_frame_that_names_no_disposal_stays(tmp_path):
    """Whatever the frame before it named."""
    square = Image.fromarray(np.full((2, 2), 2, np.uint8), "P")
    square.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    places = [(0, 2), (2, 0), (4, 1), (6, 1)]
    data = [_block(square, at, 0, disposal) for at, disposal in places]
    path = tmp_path / "x.gif"
    path.write_bytes(b"GIF89a" + bytes([8, 0, 2, 0, 0, 0, 0]) + b"".join(data) + b";")
    found = list(frames_of(images.read(path), path, "GIF"))
    for photo, seen in zip(found, ((0,), (2,), (2, 4), (2, 4, 6)), strict=True):
        assert np.flatnonzero(photo.alpha[0]).tolist() == [x + i for x in seen for i in (0, 1)]


def _block(image: Image.Image, x: int, y: int, disposal: int) -> bytes:
    """A frame of a GIF, with index 3 transparent and a palette of its own."""
    memory = io.BytesIO()
    image.save(memory, "GIF", optimize=False)
    data = memory.getvalue()
    size = 3 << (data[10] & 7) + 1
    at = data.index(b",", 13 + size)
    control = b"!\xf9\x04" + bytes([disposal << 2 | 1, 5, 0, 3, 0])
    place = bytes([x, 0, y, 0]) + data[at + 5 : at + 9]
    return control + b"," + place + bytes([0x80 | data[10] & 7]) + data[13 : 13 + size] + data[at + 10 : -1]


def test_a_still_picture_before_the_animation_is_no_frame(tmp_path):
    path = animation(tmp_path / "a.png", frames(False), default_image=True, duration=TIMES[1:])
    photo = images.read(path)
    found = frames_of(photo, path, "PNG")
    assert photo.notes == ["the still picture that stands for the animation (APNG) is dropped"]
    assert [each.milliseconds for each in found] == TIMES[1:]
    np.testing.assert_array_equal(next(iter(found)).pixels, np.asarray(frames(False)[1]))


def test_an_animation_of_one_frame_behind_a_still_picture(tmp_path):
    path = animation(tmp_path / "a.png", frames(False)[:2], default_image=True, duration=TIMES[1:2])
    photo = images.read(path)
    assert frames_of(photo, path, "PNG") is None
    assert photo.notes == ["the file holds several frames or pages: only the first is read"]  # it is not dropped


def test_orientation_is_applied_to_each_frame(tmp_path):
    path = animation(tmp_path / "a.png", frames(), exif=exif(6))
    found = frames_of(images.read(path), path, "PNG")
    for photo, picture in zip(found, frames(), strict=True):
        np.testing.assert_array_equal(photo.pixels, np.rot90(np.asarray(picture)[..., :3], -1))
        np.testing.assert_array_equal(photo.alpha, np.rot90(np.asarray(picture)[..., 3], -1))


def test_pages_of_more_than_a_tiff_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("liif_fast.images.frames_writing.TIFF_BYTES", 100)
    page = Photo(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ImageError, match=r"x\.tif: the pages are too large for one TIFF \(4 GB\); give a smaller size"):
        write_frames(tmp_path / "x.tif", [page] * 3, 3, None)
    assert list(tmp_path.iterdir()) == []


def test_what_holds_one_picture_says_what_holds_all(tmp_path):
    path = animation(tmp_path / "a.gif", frames(False))
    photo = images.read(path)
    assert frames_of(photo, path, "JPEG") is None
    assert photo.notes == [
        "the file holds 5 frames, JPEG one: the first is written; gif, webp, png (as APNG) and avif keep all"
    ]
    with pytest.raises(ImageError, match=r"x\.jpg: JPEG holds one picture, 2 were given; use gif, webp, png"):
        write_frames(tmp_path / "x.jpg", [photo, photo], 2, 0)
    with pytest.raises(ImageError, match=r"x\.png: PNG holds one picture, 2 were given; use tif"):
        write_frames(tmp_path / "x.png", [photo, photo], 2, None)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "one.gif")
    assert frames_of(images.read(tmp_path / "one.gif"), tmp_path / "one.gif", "GIF") is None


def test_what_gif_and_webp_cannot_hold_is_said(tmp_path):
    photo = Photo(np.zeros((4, 4, 3), np.uint8), exif=exif(1), milliseconds=33.3)
    notes = write_frames(tmp_path / "x.gif", [photo, photo], 2, 0)
    assert any("256 colours" in note for note in notes)
    assert "GIF cannot hold this image's EXIF: dropped" in notes
    assert "GIF holds times in hundredths of a second: some are rounded" in notes
    assert shown(tmp_path / "x.gif")[1] == [30, 40]  # together as long as before
    assert write_frames(tmp_path / "x.webp", [photo, photo], 2, 0) == [
        "WEBP holds times in milliseconds here: some are rounded"
    ]
    deep = Photo(np.zeros((4, 4, 1), np.uint16))
    assert "16 bits per channel are written as 8" in write_frames(tmp_path / "y.png", [deep, deep], 2, 0)[0]
    long = replace(photo, milliseconds=70001.5)
    write_frames(tmp_path / "long.png", [long, photo], 2, 0)
    assert shown(tmp_path / "long.png")[1] == pytest.approx([70000, 33.3])


def test_pages_are_read_and_written_each_as_it_is(tmp_path):
    rgb, grey = (RNG.integers(0, 256, s, dtype=np.uint8) for s in ((6, 8, 3), (5, 4)))
    deep = RNG.integers(0, 65536, (3, 7), dtype=np.uint16)
    pages = [Image.fromarray(rgb), Image.fromarray(grey), Image.fromarray(deep)]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], icc_profile=profile(b"RGB "), dpi=(300, 300))
    photo = images.read(path)
    found = frames_of(photo, path, "TIFF")
    assert len(found) == 3
    assert found.plays is None
    notes = write_frames(tmp_path / "b.tif", found, 3, None)
    assert [note for note in notes if "page 2: ICC profile dropped: it is for RGB" in note]
    back = frames_of(images.read(tmp_path / "b.tif"), tmp_path / "b.tif", "TIFF")
    for page, want in zip(back, (rgb, grey[..., None], deep[..., None]), strict=True):
        np.testing.assert_array_equal(page.pixels, want)
        assert page.dpi == (300, 300)
    assert next(iter(back)).icc == profile(b"RGB ")
    photo = images.read(path)
    assert frames_of(photo, path, "PNG") is None
    assert "the file holds 3 pages, PNG one: the first is written; tif keeps all" in photo.notes


def test_each_picture_is_made_when_the_one_before_it_is_written(tmp_path):
    side, count = 600, 12

    def made():
        for i in range(count):
            yield Photo(np.full((side, side, 3), i, np.uint8), milliseconds=10)

    for name, plays in (("x.gif", 0), ("x.png", 0), ("x.tif", None)):
        tracemalloc.start()
        write_frames(tmp_path / name, made(), count, plays)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * side * side * 3, name  # of twelve
    order: list[str] = []

    def seen():
        for photo in made():
            order.append("made")
            yield photo

    write_frames(tmp_path / "x.webp", seen(), count, 0)
    assert len(order) == count


def test_an_error_while_pictures_are_made_is_that_error_and_leaves_nothing(tmp_path):
    def made():
        yield Photo(np.zeros((4, 4, 3), np.uint8))
        raise RuntimeError("out of luck")

    for name, plays in (("x.gif", 0), ("x.png", 0), ("x.webp", 0), ("x.avif", 0), ("x.tif", None)):
        with pytest.raises(RuntimeError, match="out of luck"):
            write_frames(tmp_path / name, made(), 2, plays)
    small = [Photo(np.zeros((4, n, 3), np.uint8)) for n in (4, 5)]
    with pytest.raises(ImageError, match="frames of one size are wanted"):
        write_frames(tmp_path / "x.gif", small, 2, 0)
    mixed = [small[0], Photo(small[0].pixels, np.zeros((4, 4), np.uint8))]
    with pytest.raises(ImageError, match="alpha in all frames or in none is wanted"):
        write_frames(tmp_path / "x.webp", mixed, 2, 0)
    assert list(tmp_path.iterdir()) == []
