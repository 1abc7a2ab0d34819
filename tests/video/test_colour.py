"""Colours by the formulas of H.273 in float64, and there and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

av = pytest.importorskip("av")
from video_files import PATCHES, bars, components, make_clip, picture_frame, rgb_of  # noqa: E402

from liif_fast.video import colour  # noqa: E402
from liif_fast.video.kinds import Colours, VideoError  # noqa: E402
from liif_fast.video.source import open_source  # noqa: E402

FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv444p16le"]
SEEN = np.concatenate([PATCHES, np.random.default_rng(0).random((30, 3))])
SIZE = 16 * len(SEEN), 32


def planes(frame) -> list[np.ndarray]:
    return [p.astype(float) for p in colour._planes(frame)]


def middles(plane: np.ndarray) -> np.ndarray:
    """A value for each bar."""
    step = plane.shape[1] // len(SEEN)
    return plane[plane.shape[0] // 2, step // 2 :: step].astype(float)


def bits_of(pixel_format: str) -> int:
    return av.VideoFormat(pixel_format).components[0].bits


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_flat_patches_by_the_formulas(pixel_format, matrix, full_range):
    bits, colours = bits_of(pixel_format), Colours(matrix, 1, 1, full_range)
    top = 255 if bits == 8 else 65535
    unit = 1 if bits == 8 else 65535 / (2**bits - 1)
    exact = components(SEEN, matrix, full_range, bits)
    codes = np.clip(np.rint(exact), 0, 2**bits - 1)
    rgb = colour.to_rgb(picture_frame(bars(SIZE, SEEN), pixel_format, matrix, full_range), colours, bits)
    assert rgb.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert rgb.shape == (SIZE[1], SIZE[0], 3)
    want = np.clip(rgb_of(codes, matrix, full_range, bits), 0, 1) * top
    got = np.stack([middles(rgb[..., i]) for i in range(3)], 1)
    assert np.abs(got - want).max() <= max(0.55, 0.05 * unit)

    back = colour.from_rgb(rgb, pixel_format, colours)
    told = np.stack([middles(p) for p in planes(back)], 1)
    allowed = 0 if bits > 8 and bits < 16 else 1  # 8 bits of R'G'B' hold not all codes; 16 are as many
    inside = ((rgb_of(codes, matrix, full_range, bits) >= 0) & (rgb_of(codes, matrix, full_range, bits) <= 1)).all(1)
    assert np.abs(told - codes)[inside].max() <= allowed

    source = np.rint(bars(SIZE, SEEN) * top).astype(rgb.dtype)
    made = np.stack([middles(p) for p in planes(colour.from_rgb(source, pixel_format, colours))], 1)
    exact = components(np.rint(SEEN * top) / top, matrix, full_range, bits).clip(0, 2**bits - 1)
    assert np.abs(made - exact).max() <= 0.55


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_slopes(pixel_format, across):
    """Chroma that is halved lies left, and nothing shifts."""
    slope = np.linspace(0.2, 0.8, 64)
    rgb = np.stack([np.tile(slope, (64, 1)), np.full((64, 64), 0.5), np.tile(1 - slope, (64, 1))], 2)
    rgb = rgb if across else rgb.transpose(1, 0, 2)
    bits, colours = bits_of(pixel_format), Colours(1)
    top = 255 if bits == 8 else 65535
    frame = picture_frame(rgb, pixel_format, 1)
    told = colour.to_rgb(colour.place_chroma(frame, "left"), colours, bits) / top
    assert np.abs(told - rgb)[4:-4, 4:-4].max() <= 2 / 255 if bits == 8 else 4 / (2**bits - 1)
    made = colour.from_rgb(np.rint(rgb * top).astype(np.uint8 if bits == 8 else np.uint16), pixel_format, colours)
    for a, b in zip(planes(frame), planes(made), strict=True):
        assert np.abs(a - b)[4:-4, 4:-4].max() <= 1


def test_where_chroma_lies_is_read(tmp_path):
    slope = np.linspace(0.2, 0.8, 64)
    rgb = np.stack([np.tile(slope, (48, 1)), np.full((48, 64), 0.5), np.tile(1 - slope, (48, 1))], 2)

    def first(name, **how):
        with av.open(str(make_clip(tmp_path / name, 1, pictures=[rgb], matrix=6, **how))) as container:
            return next(container.decode(video=0))

    left = first("left.mkv")
    assert colour.tells_chroma_place(left)
    assert np.abs(colour.to_rgb(left, Colours(6), 8) / 255 - rgb)[4:-4, 4:-4].max() <= 2 / 255
    assert not colour.tells_chroma_place(first("middle.mkv", options={"qp": "0", "x264-params": "chromaloc=1"}))
    untold = first("untold.mkv", codec="ffv1")
    assert not colour.tells_chroma_place(untold)
    assert np.abs(colour.to_rgb(untold, Colours(6), 8) / 255 - rgb)[4:-4, 4:-4].max() > 2 / 255
    with open_source(tmp_path / "untold.mkv") as source:
        assert np.abs(next(source.frames()).pixels / 255 - rgb)[4:-4, 4:-4].max() <= 2 / 255


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_bars_through_a_file_and_back(tmp_path, pixel_format, matrix, full_range):
    """Decode, x1, encode without loss: every patch within 1, and the tags say the same."""
    size = 16 * len(PATCHES), 32
    how = {"pixel_format": pixel_format, "size": size, "primaries": 1, "transfer": 1}
    clip = make_clip(tmp_path / "a.mkv", 1, matrix=matrix, full_range=full_range, pictures=[bars(size)], **how)
    with open_source(clip) as source:
        colours, bits, before = source.facts.colours, source.facts.bits, next(source.frames()).pixels
    assert colours == Colours(matrix, 1, 1, full_range)
    with av.open(str(tmp_path / "b.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=size[0], height=size[1])
        stream.pix_fmt = pixel_format
        colour.tags(colours, stream.codec_context)
        out.mux(stream.encode(colour.from_rgb(before, pixel_format, colours)))
        out.mux(stream.encode())
    with open_source(tmp_path / "b.mkv") as source:
        assert source.facts.colours == colours
        after = next(source.frames()).pixels
    unit = 1 if bits == 8 else 65535 / (2**bits - 1)
    # saturated patches are clipped by less than a code; of what is then no code's colour, one is off by up to 1.43
    saturated = (PATCHES == 1).any(1)
    off = np.abs(after.astype(float) - before)[16, 8::16].max(1) / unit
    assert off.max() <= (1 if bits == 8 else 1.43)
    assert off[~saturated].max() <= 1
    exact = 255 / unit if bits == 8 else 65535
    assert np.abs(before[16, 8::16] - PATCHES * exact).max() <= (1.5 if full_range else 2) * unit


@pytest.mark.parametrize(
    "name", ["rgb24", "bgr24", "bgr0", "rgba", "gbrp", "gbrp10le", "gbrp12le", "gbrp16le", "rgb48le"]
)
def test_rgb_formats_are_exact(name):
    bits = bits_of(name)
    codes = np.random.default_rng(0).integers(0, 2**bits, (20, 31, 3))
    rgb = np.rint(codes * ((255 if bits == 8 else 65535) / (2**bits - 1))).astype(np.uint8 if bits == 8 else np.uint16)
    frame = colour.from_rgb(rgb, name, Colours(0, full_range=True))
    assert (frame.format.name, frame.colorspace, frame.color_range) == (name, 0, 2)
    assert np.array_equal(colour.to_rgb(frame, Colours(0, full_range=True), bits), rgb)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("name", ["gray", "gray10le", "gray16le"])
def test_grey(name, full_range):
    bits, colours = bits_of(name), Colours(1, full_range=full_range)
    white = 255 if bits == 8 else 65535
    rgb = np.repeat(np.linspace(0, white, 64).round().astype(np.uint8 if bits == 8 else np.uint16)[None], 8, 0)
    rgb = np.repeat(rgb[..., None], 3, 2)
    frame = colour.from_rgb(rgb, name, colours)
    exact = components(rgb[0] / white, 1, full_range, bits)[:, 0]
    assert np.abs(planes(frame)[0][0] - exact).max() <= 0.51
    back = colour.to_rgb(frame, colours, bits)
    assert np.abs(back.astype(float) - rgb).max() <= (1 if bits in (8, 16) else 65535 / 1023)
    assert (back[..., 0] == back[..., 2]).all()


def test_depths_change():
    rgb = np.round(bars((320, 32)) * 65535).astype(np.uint16)
    for name, colours in (
        ("yuv420p", Colours(1)),
        ("yuv444p", Colours(6, full_range=True)),
        ("rgb24", Colours(0, 2, 2, True)),
    ):
        back = colour.to_rgb(colour.from_rgb(rgb, name, colours), colours, 8)
        assert back.dtype == np.uint8
        assert np.abs(back - rgb / 257)[:, 8].max() <= 2
    back = colour.to_rgb(colour.from_rgb((rgb // 257).astype(np.uint8), "yuv444p10le", Colours(1)), Colours(1), 10)
    assert np.abs(back / 257 - rgb // 257).max() <= 1


def test_tags():
    frame = colour.from_rgb(np.zeros((8, 8, 3), np.uint8), "yuv420p", Colours(9, 9, 16))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (9, 9, 16, 1)
    assert colour.output_colours(Colours(0, full_range=True), "yuv420p") == Colours(1, 1, 13, False)
    assert colour.output_colours(Colours(0, 12, 16, True), "yuv420p10le") == Colours(1, 12, 16, False)
    assert colour.output_colours(Colours(6, 5, 6), "gbrp") == Colours(0, 5, 6, True)
    assert colour.output_colours(Colours(6), "yuvj420p").full_range
    assert "BT.709" in colour.output_note(Colours(0, full_range=True), "yuv420p")
    assert colour.output_note(Colours(6), "yuv420p") is None
    assert colour.output_note(Colours(6), "gbrp") is None


def test_what_is_not_told():
    assert colour.resolved(Colours(), "yuv420p", (720, 576), False)[0] == Colours(6)
    assert colour.resolved(Colours(), "yuv420p", (720, 577), False)[0] == Colours(1)
    assert colour.resolved(Colours(), "yuv420p", (1280, 100), False)[0] == Colours(1)
    assert colour.resolved(Colours(5), "yuvj420p", (64, 48), False) == (Colours(5, full_range=True), [])
    found, notes = colour.resolved(Colours(), "gray", (64, 48), False)
    assert (found.full_range, len(notes)) == (True, 1)
    assert len(colour.resolved(Colours(0), "gbrp", (64, 48))[1]) == 1


@pytest.mark.parametrize("name", ["xyz12le", "gbrpf32le", "bayer_rggb8", "yuv444p10msble", "yuv9"])
def test_formats_that_are_not_read(name):
    with pytest.raises(VideoError, match=f"pixel format {name}"):
        colour.kind(name)


def test_palettes_are_not_written():
    with pytest.raises(VideoError, match="pixel format pal8"):
        colour.from_rgb(np.zeros((8, 8, 3), np.uint8), "pal8", Colours(6))


@pytest.mark.parametrize(
    "name", ["nv12", "p010le", "yuyv422", "y210le", "yuv420p10be", "yuv411p", "yuvj444p", "0rgb", "xv30le"]
)
def test_other_layouts(name):
    holds = colour.kind(name)
    rgb = np.round(255 * bars((320, 32))).astype(np.uint8)
    rgb = rgb if holds.bits == 8 else rgb * np.uint16(257)
    colours = Colours(1, full_range=name.startswith("yuvj")) if holds.name == "yuv" else Colours(0, full_range=True)
    frame = colour.from_rgb(rgb, name, colours)
    assert frame.format.name == name
    back = colour.to_rgb(frame, colours, holds.bits)
    unit = 1 if holds.bits == 8 else 65535 / (2**holds.bits - 1)
    assert np.abs(back.astype(float) - rgb)[16, 8::16].max() <= (1 if holds.bits == 8 else 1.43) * unit


def test_a_fork_in_another_thread():
    """Python frees in the child what the parent's other threads kept for themselves, and all at its end."""
    program = """if True:
        import os, sys, threading
        import numpy as np
        from liif_fast.video import colour
        from liif_fast.video.kinds import Colours
        frame = colour.from_rgb(np.zeros((540, 960, 3), np.uint8), "yuv420p", Colours(6, 6, 6))
        colour.to_rgb(frame, Colours(6, 6, 6), 8)
        def run():
            if (child := os.fork()) == 0:
                return
            os.waitpid(child, 0)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(20)
        os._exit(thread.is_alive())
    """
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
