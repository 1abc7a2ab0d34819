"""Files that are no video, cut off, damaged, or not to be read without wrong pictures: one line for each."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

av = pytest.importorskip("av")
from video_files import cut, make_clip  # noqa: E402
from video_reading import frames, refused, remuxed, write  # noqa: E402

from liif_fast.video.kinds import VideoError  # noqa: E402
from liif_fast.video.source import open_source  # noqa: E402


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
    clip = make_clip(tmp_path / "a.mkv", 3, audio=True)
    assert "has no frames" in refused(remuxed(clip, tmp_path / "b.mkv", lambda packet, index: False))


def test_an_unknown_codec(tmp_path):
    data = make_clip(tmp_path / "a.mkv").read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_XXXXX/ISO/AVC")
    assert "codec is unknown" in refused(write(tmp_path / "b.mkv", data))


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
    good = int(text.split(" good frame")[0].split()[-1])
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


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.flv", "b.ts", "b.avi"])
def test_a_video_that_ends_before_its_sound(tmp_path, name):
    clip = make_clip(tmp_path / "a.mkv", 60, audio=True)
    assert len(frames(remuxed(clip, tmp_path / name, lambda packet, index: index < 20))) == 20


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_what_matroska_leaves_out(tmp_path, kind):
    """A block that cannot be read, and all up to the next cluster, is skipped by FFmpeg, which only logs it."""
    path = make_clip(tmp_path / "a.mkv", frames=300, audio=True)
    with av.open(str(path)) as container:
        places = [p.pos for p in container.demux() if p.size and p.stream.type == kind]
    data = bytearray(path.read_bytes())
    at = places[len(places) // 4]
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    level = av.logging.get_level()
    text = refused(path)
    assert re.search(r"is damaged between [23]\.\d+ and \d", text)
    assert "-c:v ffv1" in text
    with open_source(path) as source:
        assert len(list(source.frames(end=1.0))) == 25
    assert av.logging.get_level() == level
