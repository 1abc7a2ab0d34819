"""Video files: what is known of them, their frames and times, and what is wrong with them in one line."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")
from video_files import make_clip, moving  # noqa: E402
from video_reading import at, error, frames, refused, remuxed  # noqa: E402

from liif_fast.video.kinds import Colours  # noqa: E402
from liif_fast.video.source import open_source  # noqa: E402


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


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_a_video_behind_its_sound(tmp_path, name):
    """The last frames, which wait in the decoder, come though the video is not the file's first stream."""
    clip = make_clip(tmp_path / "clip.mp4", 20, audio=True, options={"bf": "3"})
    with av.open(str(clip)) as source, av.open(str(tmp_path / name), "w") as out:
        kinds = source.streams.audio[0], source.streams.video[0]
        streams = {each.index: out.add_stream_from_template(each, opaque=True) for each in kinds}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    assert len(frames(tmp_path / name)) == 20
    assert len(frames(tmp_path / name, 0.3)) >= 10


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


def test_times_that_do_not_rise(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", 5)
    same = remuxed(clip, tmp_path / "same.mkv", at([0, 40, 80, 80, 160]))
    with open_source(same) as source:
        found = list(source.frames())
        assert [f.pts - found[0].pts for f in found] == [0, 40, 80, 81, 160]
        assert any("do not rise" in note for note in source.facts.notes)
    assert "times go back" in refused(remuxed(clip, tmp_path / "back.mkv", at([2000, 2040, 2080, 100, 140])))


def test_times_that_are_missing(tmp_path):
    with open_source(make_clip(tmp_path / "a.h264", 5, options={"bf": "2"})) as source:
        found = list(source.frames())
        assert [f.pts * source.facts.time_base for f in found] == [Fraction(i, 25) for i in range(5)]
        assert any("times of frames are missing" in note for note in source.facts.notes)


def test_fragments(tmp_path):
    how = {"options": {"movflags": "frag_keyframe+empty_moov"}}
    clip = make_clip(tmp_path / "a.mp4", 40, options={"g": "10", "crf": "30"}, container=how)
    whole = frames(clip)
    assert len(whole) == 40
    assert [f.pts for f in frames(clip, 1.0)] == [f.pts for f in whole[25:]]


def test_transparency_is_told(tmp_path):
    with open_source(make_clip(tmp_path / "a.mkv", 2, codec="ffv1", pixel_format="yuva420p")) as source:
        assert any("transparency" in note for note in source.facts.notes)
        assert error(next(source.frames()).pixels, moving(0)) <= 3 / 255  # where alpha is 0 too
    from PIL import Image

    pictures = [Image.fromarray(np.uint8(255 * moving(i))) for i in range(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[40, 100, 70, 200])
    with open_source(tmp_path / "a.gif") as source:
        assert any("transparency" in note for note in source.facts.notes)
        found = list(source.frames())
        assert [f.duration * source.facts.time_base for f in found] == [Fraction(d, 100) for d in (4, 10, 7, 20)]


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_a_file_that_was_cut_out_of_another(tmp_path, codec, name):
    """Without decoding: its first frames refer to others that are not there."""
    options = {
        "libx264": {"x264-params": "open-gop=1:keyint=10:bframes=3", "crf": "20"},
        "libx265": {"x265-params": "open-gop=1:keyint=10:bframes=3:log-level=0"},
        "mpeg2video": {"bf": "2", "g": "10"},
    }
    clip = make_clip(tmp_path / "a.mkv", 40, codec=codec, options=options[codec])
    with av.open(str(clip)) as container:
        keys = [i for i, p in enumerate(p for p in container.demux(video=0) if p.size) if p.is_keyframe]
    part = remuxed(clip, tmp_path / name, lambda packet, index: index >= keys[1])
    with open_source(part) as source:
        found = list(source.frames())
        assert any("cut away" in note for note in source.facts.notes) == (codec != "mpeg2video")
        for skip in (1, 7, 15):
            assert [f.pts for f in source.frames(skip=skip)] == [f.pts for f in found[skip:]]
    whole = frames(clip)[-len(found) :]
    assert len(found) >= 20
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, whole, strict=True))


def test_what_frames_bring_along_and_is_not_written(tmp_path, monkeypatch):
    from liif_fast.video import container

    clip = make_clip(tmp_path / "a.mp4", frames=2)
    monkeypatch.setattr(container, "_side_data", lambda *_: ("A53_CC SPHERICAL SEI_UNREGISTERED", 0))
    with open_source(clip) as source:
        assert "not written: closed captions inside the pictures, that it is spherical" in source.facts.notes
