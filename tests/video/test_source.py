"""Video files: what is known of them, their frames and times, and what is wrong with them in one line."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")
from video_files import cut, make_clip, moving  # noqa: E402

from liif_fast.video.kinds import Colours, VideoError  # noqa: E402
from liif_fast.video.source import open_source  # noqa: E402


def frames(path: Path, *how, **also) -> list:
    with open_source(path) as source:
        return list(source.frames(*how, **also))


def error(pixels: np.ndarray, want: np.ndarray) -> float:
    """The largest, from 0 to 1, where halved chroma has no edges."""
    return np.abs(pixels / (255 if pixels.dtype == np.uint8 else 65535) - want)[:14, :-2].max()


def refused(path: Path | str, **how) -> str:
    """The line of what is refused, at once or while frames are read."""
    with pytest.raises(VideoError) as caught, open_source(path, **how) as source:
        list(source.frames())
    text = str(caught.value)
    assert "\n" not in text
    assert "standard input" in text or str(path) in text
    return text


def test_facts_and_frames(tmp_path):
    clip = make_clip(
        tmp_path / "a.mp4", audio=True, subtitles=True, chapters=True, matrix=1, full_range=False, primaries=1,
        transfer=1, sample_aspect=Fraction(8, 9), rotation=90,
    )  # fmt: skip
    with open_source(clip) as source:
        facts = source.facts
        assert (facts.width, facts.height, facts.frames, facts.rate) == (64, 48, 12, 25)
        assert (facts.pixel_format, facts.bits, facts.colours) == ("yuv420p", 8, Colours(1, 1, 1, False))
        assert (facts.sample_aspect, facts.rotation, facts.notes) == (Fraction(8, 9), 90, [])
        assert [s.type for s in source.other_streams] == ["audio", "subtitle", "data"]
        found = list(source.frames())
        assert [f.pts * facts.time_base for f in found] == [Fraction(i, 25) for i in range(12)]
        assert {f.duration * facts.time_base for f in found} == {Fraction(1, 25)}
        for i, frame in enumerate(found):
            assert error(frame.pixels, moving(i)) <= 3 / 255
        again = list(source.frames())
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("name", ["a.mkv", "a.mov", "a.avi", "a.ts", "a.nut"])
def test_containers(tmp_path, name):
    found = frames(make_clip(tmp_path / name, audio=name != "a.nut"))
    assert len(found) == 12
    assert error(found[5].pixels, moving(5)) <= 3 / 255


def test_times_are_kept(tmp_path):
    times = [0, 40, 140, 200, 1000, 1001]
    for name in ("a.mkv", "a.mp4"):
        clip = make_clip(tmp_path / name, frames=6, times=times)
        with open_source(clip) as source:
            base, found = source.facts.time_base, list(source.frames())
        assert [1000 * f.pts * base for f in found] == times
        assert [1000 * f.duration * base for f in found][:-1] == [40, 100, 60, 800, 1]
        assert found[-1].duration > 0


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.avi", "a.mpg", "a.webm", "a.mjpeg.avi"])
def test_a_part_is_that_part_of_the_whole(tmp_path, name):
    codec = {"a.mpg": "mpeg2video", "a.webm": "libvpx-vp9", "a.mjpeg.avi": "mjpeg"}.get(name, "libx264")
    options = {"crf": "30", "g": "10", "bf": "3"} if codec == "libx264" else {"g": "10"}
    form = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    clip = make_clip(tmp_path / name, 50, codec=codec, pixel_format=form, options=options)
    with open_source(clip) as source:
        whole = list(source.frames())
        assert len(whole) == 50
        base, origin = source.facts.time_base, source.origin
        for start, end, skip in [
            (None, 0.4, 0), (0.8, None, 0), (0.81, 1.5, 0), (0.5, 1.5, 7), (None, None, 33), (1.96, 9, 0),
            (0.1, 0.1, 0), (5, None, 0), (None, None, 50), (None, None, 49), (0, None, 0),
        ]:  # fmt: skip
            low, high = -1 if start is None else start, 99 if end is None else end
            want = [f for f in whole if low <= float(f.pts * base - origin) + 1e-9 < high + 1e-9][skip:]
            found = list(source.frames(start, end, skip))
            assert [(f.pts, f.duration) for f in found] == [(f.pts, f.duration) for f in want], (start, end, skip)
            assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, want, strict=True))


def test_seeking_is_used(tmp_path, monkeypatch):
    from liif_fast.video import decoding

    clip = make_clip(tmp_path / "a.mkv", 100, options={"g": "10"})
    sought = []
    real = decoding._sought
    monkeypatch.setattr(decoding, "_sought", lambda *how: sought.append(real(*how)) or sought[-1])
    assert len(frames(clip, 3.0)) == 25
    assert len(frames(clip, skip=95)) == 5
    assert sought == [True, True]


def test_open_groups_of_pictures(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", 60, options={"x264-params": "open-gop=1:keyint=10:bframes=3", "crf": "20"})
    whole = frames(clip)
    for start in (0.4, 0.44, 0.36, 1.2, 1.16):
        part = frames(clip, start)
        assert len(part) == 60 - round(25 * start)
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(part, whole[-len(part) :], strict=True))


@pytest.mark.parametrize(
    ("pixel_format", "codec", "name", "bits"),
    [
        ("yuv420p10le", "libx264", "a.mkv", 10),
        ("yuv444p", "libx264", "a.mkv", 8),
        ("yuv422p10le", "prores_ks", "a.mov", 10),
        ("gbrp", "utvideo", "a.avi", 8),
        ("gbrp10le", "ffv1", "a.mkv", 10),
        ("gray", "ffv1", "a.mkv", 8),
        ("gray10le", "ffv1", "a.mkv", 10),
        ("rgb24", "png", "a.avi", 8),
        ("yuvj420p", "mjpeg", "a.mkv", 8),
    ],
)
def test_pixel_formats(tmp_path, pixel_format, codec, name, bits):
    full_range = True if "gray" in pixel_format else None
    clip = make_clip(tmp_path / name, 2, codec=codec, pixel_format=pixel_format, full_range=full_range)
    with open_source(clip) as source:
        assert source.facts.bits == bits
        pixels = next(source.frames()).pixels
    assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    want = moving(0)
    if "gray" in pixel_format:
        want = np.repeat((want @ [0.299, 0.587, 0.114])[..., None], 3, 2)
    allowed = 0.05 if codec in ("mjpeg", "prores_ks") else 2 / (2**bits - 1) + 0.004
    assert error(pixels, want) <= allowed


def test_notes(tmp_path):
    with open_source(make_clip(tmp_path / "a.mkv")) as source:
        assert source.facts.colours.matrix == 6
        assert [note for note in source.facts.notes if "BT.601" in note] == source.facts.notes
    with open_source(make_clip(tmp_path / "b.mkv", 2, (1280, 16), matrix=9, transfer=16, primaries=9)) as source:
        assert any("HDR (PQ)" in note for note in source.facts.notes)
        assert source.facts.colours[:3] == (9, 9, 16)
    with open_source(make_clip(tmp_path / "c.mkv", 2, (1280, 16))) as source:
        assert source.facts.colours.matrix == 1
    clip = make_clip(tmp_path / "d.mov", 2, codec="png", pixel_format="rgb24")
    with open_source(clip) as source:
        assert source.facts.notes == []


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_what_is_no_video(tmp_path):
    assert "no such file" in refused(tmp_path / "none.mp4")
    assert "folder" in refused(tmp_path)
    assert "is empty" in refused(write(tmp_path / "empty.mp4", b""))
    assert "not a video" in refused(write(tmp_path / "text.txt", b"hello\n" * 100))
    assert "not a video" in refused(write(tmp_path / "noise.mp4", np.random.default_rng(0).bytes(5000)))
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert "only audio" in refused(tmp_path / "sound.m4a")
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    assert "liif-fast upscale" in refused(tmp_path / "a.png")


def test_no_frames(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", 1)
    data = clip.read_bytes()
    at = data.index(b"\x1f\x43\xb6\x75")  # the first cluster
    assert "frames" in refused(write(tmp_path / "b.mkv", data[:at])) or "cut off" in refused(tmp_path / "b.mkv")


def test_a_cover_is_no_video(tmp_path):
    with (
        av.open(str(make_clip(tmp_path / "a.mp4", audio=True))) as source,
        av.open(str(tmp_path / "c.mp4"), "w") as out,
    ):
        audio = out.add_stream_from_template(source.streams.audio[0])
        cover = out.add_stream("mjpeg", rate=1, width=64, height=48)
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame(64, 48, "yuvj420p")))
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = audio
                out.mux(packet)
    assert "no video stream" in refused(tmp_path / "c.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv", "a.webm"])
def test_cut_off(tmp_path, name):
    kind = {"codec": "libvpx-vp9", "options": {"g": "10"}} if name == "a.webm" else {}
    container = {"options": {"movflags": "faststart"}} if name == "a.mp4" else None
    clip = make_clip(tmp_path / name, 60, audio=name != "a.webm", container=container, **kind)
    whole = frames(clip)
    cut(clip, 0.6)
    text = refused(clip)
    good = int(text.split(" good frames")[0].split()[-1])
    assert 10 < good < 60
    assert "--end" in text
    part = frames(clip, None, (good - 4) / 25)  # before the damage
    assert len(part) == good - 4 - (name == "a.avi")  # whose first frame is at 0.04 s
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(part, whole, strict=False))
    with pytest.raises(VideoError, match=r"ends early|cut off|damaged"):
        frames(clip, 0.5)


def test_an_mp4_without_its_index(tmp_path):
    assert "moov" in refused(cut(make_clip(tmp_path / "a.mp4"), 0.9))


def test_damage(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", 40, size=(128, 96), options={"crf": "20", "g": "10"})
    with av.open(str(clip)) as opened:
        position = [p.pos for p in opened.demux(video=0) if p.size][20]  # a keyframe
    data = bytearray(clip.read_bytes())
    data[position + 200 : position + 260] = bytes(60)
    text = refused(write(tmp_path / "b.mkv", bytes(data)))
    assert "damaged" in text
    assert "-c:v ffv1" in text


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.mp4", "libx264"), ("a.mpg", "mpeg2video")])
def test_interlaced(tmp_path, name, codec):
    assert "bwdif" in refused(make_clip(tmp_path / name, 3, (96, 64), codec=codec, interlaced=True))


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_matrices_that_are_not_linear(tmp_path, matrix):
    import video_files

    video_files.KR_KB.setdefault(matrix, (0.2627, 0.0593))
    text = refused(make_clip(tmp_path / "a.mkv", 2, pixel_format="yuv444p", matrix=matrix))
    assert f"colour matrix {matrix} (" in text


def test_a_change_of_size_in_mid_stream(tmp_path):
    parts = [make_clip(tmp_path / f"{i}.h264", 5, size) for i, size in enumerate([(64, 48), (96, 64)])]
    text = refused(write(tmp_path / "a.h264", b"".join(p.read_bytes() for p in parts)))
    assert "from 64x48 yuv420p" in text
    assert "to 96x64" in text


def test_a_mirrored_video(tmp_path):
    with av.open(str(make_clip(tmp_path / "a.mp4", 3))) as source, av.open(str(tmp_path / "b.mp4"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(0, hflip=True)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    assert "mirrored" in refused(tmp_path / "b.mp4")


def test_without_pyav(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", 2)
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from liif_fast.video.source import open_source\n"
        f"try: open_source({str(clip)!r})\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'liif-fast[video]'" in done.stdout
    assert done.stdout.count("\n") == 1
