"""Frames on pipes: y4m and raw pixels, in and out."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

av = pytest.importorskip("av")
from video_files import make_clip, moving  # noqa: E402

from liif_fast.video.kinds import Colours, VideoError  # noqa: E402
from liif_fast.video.raw import FORMATS, RawWriter  # noqa: E402
from liif_fast.video.source import open_source  # noqa: E402

PICTURES = [np.rint(255 * moving(i, (63, 47))).astype(np.uint8) for i in range(6)]


LIMITED = Colours(6)


def written(format: str, pictures=PICTURES, colours=LIMITED, **how) -> bytes:
    out = io.BytesIO()
    height, width = pictures[0].shape[:2]
    writer = RawWriter(out, format, width, height, Fraction(30000, 1001), Fraction(8, 9), colours, **how)
    for picture in pictures:
        writer.write(picture)
    writer.close()
    return out.getvalue()


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


@pytest.fixture
def piped(monkeypatch):
    """Opens bytes as standard input."""

    def opened(data: bytes, **how):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Pipe(data)))
        return open_source("-", **how)

    return opened


def refused(opened, data: bytes, **how) -> str:
    with pytest.raises(VideoError) as caught, opened(data, **how) as source:
        list(source.frames())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rgb24_is_exact(piped):
    data = written("rgb24", colours=Colours(0, full_range=True))
    assert data == b"".join(p.tobytes() for p in PICTURES)
    with piped(data, input_size=(63, 47)) as source:
        facts = source.facts
        assert (facts.width, facts.height, facts.rate, facts.bits, facts.frames) == (63, 47, 25, 8, None)
        assert facts.colours == Colours(0, 2, 2, True)
        assert source.container is None
        found = list(source.frames())
    assert [(f.pts, f.duration) for f in found] == [(i, 1) for i in range(6)]
    assert all(np.array_equal(f.pixels, p) for f, p in zip(found, PICTURES, strict=True))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv422p", "yuv420p", "yuv420p10le", "yuv444p16le", "gray"])
def test_y4m_there_and_back(piped, pixel_format, full_range):
    pictures = [p * np.uint16(257) for p in PICTURES] if pixel_format.endswith("le") else PICTURES
    colours = Colours(6, full_range=full_range)
    data = written("y4m", pictures, colours, pixel_format=pixel_format)
    with piped(data) as source:
        facts = source.facts
        assert (facts.width, facts.height, facts.rate) == (63, 47, Fraction(30000, 1001))
        assert (facts.sample_aspect, facts.pixel_format) == (Fraction(8, 9), pixel_format)
        assert facts.colours == colours
        found = list(source.frames())
    assert len(found) == 6
    for frame, picture in zip(found, pictures, strict=True):
        want = picture / (255 if picture.dtype == np.uint8 else 65535)
        if pixel_format == "gray":
            want = np.repeat((want @ [0.299, 0.587, 0.114])[..., None], 3, 2)
        white = 255 if frame.pixels.dtype == np.uint8 else 65535
        assert np.abs(frame.pixels / white - want)[:13, :-2].max() <= 4 / 255


def test_y4m_is_what_ffmpeg_reads_and_writes(piped, tmp_path):
    path = tmp_path / "a.y4m"
    path.write_bytes(written("y4m"))
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="yuv444p") for f in container.decode(video=0)]
        stream = container.streams.video[0]
        assert (len(frames), stream.average_rate) == (6, Fraction(30000, 1001))
        assert stream.sample_aspect_ratio == Fraction(8, 9)
    clip = make_clip(tmp_path / "b.y4m", 6, (63, 47), codec="wrapped_avframe")
    with open_source(clip) as source:
        found = list(source.frames())
    assert len(found) == 6
    assert all(np.abs(f.pixels - 255 * moving(i, (63, 47)))[:13, :-2].max() <= 4 for i, f in enumerate(found))


@pytest.mark.parametrize("name", ["yuv420p", "rgb48le", "gbrp10le", "yuv422p10le"])
def test_raw_formats(piped, name):
    deep = "10" in name or "48" in name
    pictures = [p * np.uint16(257) for p in PICTURES] if deep else PICTURES
    with piped(written(name, pictures), input_size=(63, 47), input_format=name, input_rate=10) as source:
        assert source.facts.rate == 10
        found = list(source.frames())
    assert len(found) == 6
    white = 65535 if deep else 255
    for frame, picture in zip(found, pictures, strict=True):
        assert np.abs(frame.pixels / white - picture / white)[:13, :-2].max() <= 4 / 255


def test_parts(piped):
    data = written("rgb24")
    for start, end, skip, want in [
        (0.2, None, 0, [5]),
        (None, 0.1, 0, [0, 1, 2]),
        (0.04, 0.2, 2, [3, 4]),
        (None, None, 4, [4, 5]),
    ]:
        with piped(data, input_size=(63, 47)) as source:
            assert [f.pts for f in source.frames(start, end, skip)] == want
            with pytest.raises(VideoError, match="only once"):
                next(source.frames())


def test_what_is_wrong_with_a_stream(piped):
    data = written("y4m")
    assert "after 4 good frames" in refused(piped, data[: int(len(data) * 0.8)])
    assert "after 1 good frame:" in refused(piped, data[: data.index(b"FRAME", data.index(b"FRAME") + 5) + 3])
    assert "damaged after 2" in refused(piped, _spoiled(data, 2))
    assert "after 3 good frames" in refused(piped, written("rgb24")[: 63 * 47 * 3 * 3 + 7], input_size=(63, 47))
    assert "bwdif" in refused(piped, data.replace(b" Ip ", b" It "))
    assert "C410" in refused(piped, data.replace(b"C420mpeg2", b"C410"))
    assert "without a size" in refused(piped, data.replace(b" W63", b""))
    for size in (b"W-63", b"W63000000", b"W99999999999"):
        assert "no size that a frame can have" in refused(piped, data.replace(b"W63", size))
    for rate in (b"F999999999999:1", b"F1:999999999999"):
        assert "frames a second: a number from" in refused(piped, re.sub(rb"F\d+:\d+", rate, data, count=1))
    assert "holds no frames" in refused(piped, data[: data.index(b"\n") + 1])
    assert "holds no frames" in refused(piped, b"", input_size=(8, 8))
    assert "is empty" in refused(piped, b"")


def _spoiled(data: bytes, index: int) -> bytes:
    at = -1
    for _ in range(index + 1):
        at = data.index(b"FRAME", at + 1)
    return data[:at] + b"XXXXX" + data[at + 5 :]


def test_what_is_wrong_with_the_arguments(piped):
    data = written("rgb24")
    assert "--input-size" in refused(piped, data)
    assert "--input-size" in refused(piped, data, input_format="yuv420p")
    assert "--input-size" in refused(piped, data, input_rate=30)
    assert "0x4: no size" in refused(piped, data, input_size=(0, 4))
    assert "--input-rate 0" in refused(piped, data, input_size=(63, 47), input_rate=0)
    assert "--input-rate nan" in refused(piped, data, input_size=(63, 47), input_rate=float("nan"))
    assert "--input-rate -1" in refused(piped, data, input_size=(63, 47), input_rate=-1)
    assert "--input-format yuv9" in refused(piped, data, input_size=(63, 47), input_format="yuv9")
    with pytest.raises(VideoError, match="pal8: not written as y4m"):
        written("y4m", pixel_format="pal8")


def test_a_container_on_a_pipe(piped, tmp_path):
    text = refused(piped, make_clip(tmp_path / "a.mp4").read_bytes())
    assert "given as a file" in text
    assert "yuv4mpegpipe" in text


@pytest.mark.parametrize(("format", "how"), [("y4m", {}), ("rgb24", {"input_size": (63, 47)})])
def test_a_file_of_raw_frames_can_be_read_again(tmp_path, format, how):
    (tmp_path / "a").write_bytes(written(format))
    with open_source(tmp_path / "a", **how) as source:
        assert source.facts.frames == 6
        first, again = list(source.frames()), list(source.frames(skip=2))
    assert [f.pts for f in first[2:]] == [f.pts for f in again] == [2, 3, 4, 5]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first[2:], again, strict=True))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe(tmp_path):
    pipe, data = tmp_path / "pipe", written("y4m")
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_bytes(data))
    thread.start()
    with open_source(pipe) as source:
        assert len(list(source.frames())) == 6
    thread.join()


def test_a_broken_pipe_passes_up():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", 0) as out, pytest.raises(BrokenPipeError):
        RawWriter(out, "y4m", 8, 8, Fraction(25), Fraction(1), Colours(6))


def test_standard_input_of_a_process(tmp_path):
    code = (
        "from liif_fast.video.source import open_source\n"
        "with open_source('-') as source: print(sum(1 for _ in source.frames()))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=written("y4m"), capture_output=True, check=True)
    assert done.stdout.split() == [b"6"]


def test_all_formats_are_laid_out_as_ffmpeg_does(tmp_path):
    pictures = [p[:46, :60] for p in PICTURES[:2]]
    for name in FORMATS:
        deep = av.VideoFormat(name).components[0].bits > 8
        data = written(name, [p * np.uint16(257) for p in pictures] if deep else pictures)
        path = tmp_path / f"{name}.raw"
        path.write_bytes(data)
        with av.open(str(path), format="rawvideo", options={"video_size": "60x46", "pixel_format": name}) as container:
            assert sum(1 for _ in container.decode(video=0)) == 2, name
        assert not len(data) % 2, name
