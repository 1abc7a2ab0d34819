"""A video becomes a larger one: its frames, sizes, codecs, colours, and what is refused before the work."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

av = pytest.importorskip("av")
from nearest_video import Nearest, enlarge, held, pictures  # noqa: E402
from video_files import make_clip  # noqa: E402

from liif_fast.video import encoding, segments  # noqa: E402
from liif_fast.video import enlarge as enlarging  # noqa: E402
from liif_fast.video.kinds import VideoError  # noqa: E402

NOISE = np.random.default_rng(0).random((48, 64, 3))


def stream_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        names = ("name", "pix_fmt", "colorspace", "color_primaries", "color_trc", "color_range", "sample_aspect_ratio")
        return SimpleNamespace(**{name: getattr(stream, name) for name in names}), frame


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_every_frame_is_there_at_its_time(tmp_path, suffix):
    times = [0, 40, 80, 95, 120, 200, 240, 241, 300, 340, 400, 440]
    source = make_clip(tmp_path / f"in{suffix}", times=times)
    result = enlarge(source, tmp_path / f"out{suffix}", crf=1)
    assert (result.frames, result.in_size, result.out_size) == (12, (64, 48), (128, 96))
    assert held(tmp_path / f"out{suffix}").times == held(source).times
    for large, small in zip(pictures(tmp_path / f"out{suffix}"), pictures(source), strict=True):
        want = small.repeat(2, 0).repeat(2, 1).astype(float)
        assert np.abs(large - want).mean() < 4
    with av.open(str(source)) as a, av.open(str(tmp_path / f"out{suffix}")) as b:
        assert abs(a.duration - b.duration) <= 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in{suffix}", f"out{suffix}"]


@pytest.mark.parametrize(
    ("codec", "suffix", "name", "pixel_format"),
    [
        ("h264", ".mp4", "h264", "yuv420p"),
        ("libx265", ".mkv", "hevc", "yuv420p"),
        ("av1", ".webm", "libdav1d", "yuv420p"),
        ("vp9", ".webm", "libvpx-vp9", "yuv420p"),
        ("prores", ".mov", "prores", "yuv422p10le"),
        ("ffv1", ".mkv", "ffv1", "bgr0"),
    ],
)
def test_codecs(tmp_path, monkeypatch, codec, suffix, name, pixel_format):
    monkeypatch.setattr(segments, "SEGMENT", 5)
    monkeypatch.setattr(enlarging, "SEGMENT", 5)
    source = make_clip(tmp_path / "in.mkv", frames=12)
    enlarge(source, tmp_path / f"out{suffix}", codec=codec)
    stream, frame = stream_of(tmp_path / f"out{suffix}")
    assert (stream.name, stream.pix_fmt) in ((name, pixel_format), (name.replace("libvpx-", ""), pixel_format))
    assert (frame.width, frame.height) == (128, 96)
    assert len(pictures(tmp_path / f"out{suffix}")) == 12
    assert held(tmp_path / f"out{suffix}").times == held(source).times


def test_ffv1_keeps_every_value(tmp_path):
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", pictures=[NOISE])
    result = enlarge(source, tmp_path / "out.mkv", codec="ffv1")
    small, large = pictures(source), pictures(tmp_path / "out.mkv")
    assert all(np.array_equal(b, a.repeat(2, 0).repeat(2, 1)) for a, b in zip(small, large, strict=True))
    assert any("ffv1 keeps every value as RGB (bgr0)" in note for note in result.notes)


@pytest.mark.parametrize(
    ("how", "kept", "said"),
    [
        ({}, "yuv420p", "10 bits become 8, which plays everywhere; --pixel-format yuv420p10le keeps 10"),
        ({"pixel_format": "yuv420p10le"}, "yuv420p10le", None),
        ({"codec": "hevc"}, "yuv420p10le", None),
        ({"codec": "ffv1"}, "gbrp10le", "ffv1 keeps every value as RGB (gbrp10le)"),
    ],
)
def test_ten_bits(tmp_path, how, kept, said):
    source = make_clip(tmp_path / "in.mkv", frames=3, pixel_format="yuv420p10le")
    result = enlarge(source, tmp_path / "out.mkv", **how)
    assert stream_of(tmp_path / "out.mkv")[0].pix_fmt == kept
    assert [said] == [said] if said is None else any(said in note for note in result.notes)


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mp4"), ("libx264", ".mkv"), ("ffv1", ".mp4")])
def test_colours_sample_aspect_and_rotation_are_written(tmp_path, suffix, codec):
    tags = {"matrix": 1, "primaries": 1, "transfer": 1, "full_range": False}
    source = make_clip(tmp_path / "in.mp4", frames=3, sample_aspect=Fraction(8, 9), rotation=90, **tags)
    enlarge(source, tmp_path / f"out{suffix}", codec=codec, pixel_format="yuv444p")
    stream, frame = stream_of(tmp_path / f"out{suffix}")
    assert (stream.colorspace, stream.color_primaries, stream.color_trc, stream.color_range) == (1, 1, 1, 1)
    assert stream.sample_aspect_ratio == Fraction(8, 9)
    assert frame.rotation == 90


def test_sizes_are_told_as_displayed(tmp_path):
    source = make_clip(tmp_path / "in.mp4", frames=3, rotation=90)  # of 64x48 as stored
    result = enlarge(source, tmp_path / "out.mp4", size=(96, 128))
    assert (result.in_size, result.out_size) == ((48, 64), (96, 128))


def test_h265_for_apples_players(tmp_path):
    enlarge(make_clip(tmp_path / "in.mp4", frames=3), tmp_path / "out.mp4", codec="h265")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_what_raw_frames_lose_is_said(tmp_path, monkeypatch):
    class Out:
        def fileno(self):
            return file.fileno()

    source = make_clip(tmp_path / "in.mp4", frames=3, rotation=90, pixel_format="yuv420p10le")
    with (tmp_path / "out.y4m").open("wb") as file:
        monkeypatch.setattr(sys, "stdout", Out())
        result = enlarge(source, "-")
    assert any("to be shown turned by 90 degrees" in note for note in result.notes)
    assert any("have 8 bits, the video has 10: --pixel-format yuv420p10le" in note for note in result.notes)


def test_what_the_model_is_asked_for(tmp_path):
    source, model = make_clip(tmp_path / "in.mp4", frames=3), Nearest()
    enlarge(source, tmp_path / "out.mp4", model, size=(96, 48), window=(-0.5, 8, 24, 48), tile=24, reuse=False)
    (asked,) = model.asked
    assert (asked["window"], asked["tile"], asked["reuse"], asked["point"]) == ((-0.5, 8, 24, 48), 24, False, False)
    assert asked["refresh"] == segments.SEGMENT


def test_what_is_reused_is_counted(tmp_path):
    still = [np.full((48, 64, 3), 0.5)]
    result = enlarge(make_clip(tmp_path / "in.mp4", pictures=still), tmp_path / "out.mp4")
    assert (result.frames, result.frames_reused) == (12, 11)


def test_progress_tells_frames(tmp_path):
    told = []
    enlarge(make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", progress=lambda *each: told.append(each))
    assert told[0][:2] == (0, 12)
    assert told[-1][:2] == (12, 12)


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("out.xyz", {}, r"a video's suffix is wanted, one of .mp4, .* got .xyz"),
        ("out", {}, r"a video's suffix is wanted, one of .mp4, .* got none"),
        ("out.avi", {}, r"AVI keeps no times of frames; choose .mkv or .mp4"),
        ("there.mp4", {}, r"there.mp4 exists: give --overwrite or another output"),
        ("in.mp4", {"overwrite": True}, r"in.mp4: is the input itself"),
        ("folder.mp4", {}, r"folder.mp4: is a folder; give the name of a file"),
        ("none/out.mp4", {}, r"none: no such folder"),
        ("x" * 249 + ".mp4", {}, r"no file can have this name \(File name too long\); choose another output"),
        ("out.mp4", {"codec": "x999"}, r"--codec x999: no such video encoder; .*libx264"),
        ("out.mp4", {"codec": "aac"}, r"--codec aac: no such video encoder"),
        ("out.mov", {"codec": "rawvideo"}, r"--codec rawvideo: no such video encoder; .*libx264"),
        ("out.mp4", {"codec": "png"}, r"--codec png: a file of the kind mp4 cannot hold it; .*libx265$"),
        ("out.mkv", {"codec": "gif"}, r"--codec gif: a file of the kind matroska cannot hold it; .*prores_ks$"),
        ("out.mp4", {"size": (100000, 2)}, r"cannot be used with pixel format yuv420p, 100000x2 .*; change one of"),
        ("out.webm", {}, r"--codec libx264: a file of the kind webm cannot hold it; .*libsvtav1"),
        ("out.mp4", {"pixel_format": "rgb24"}, r"--pixel-format rgb24: libx264 has yuv420p"),
        ("out.mkv", {"codec": "ffv1", "crf": 3}, r"--crf 3: the codec ffv1 has none; leave it out"),
        ("out.mov", {"codec": "prores", "preset": "slow"}, r"--preset slow: the codec prores_ks has none"),
        ("out.mp4", {"preset": "quick"}, r"--codec libx264: cannot be used with preset quick.*presets: ultrafast"),
        ("out.mp4", {"scale": 300.0}, r"over the limit of 268435456 pixels"),
    ],
)
def test_what_is_refused_before_the_work(tmp_path, name, how, words):
    source = make_clip(tmp_path / "in.mp4", frames=3)
    (tmp_path / "there.mp4").write_bytes(b"precious")
    (tmp_path / "folder.mp4").mkdir()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    def never(n):
        pytest.fail("the work has begun")

    with pytest.raises(VideoError, match=words) as caught:
        enlarge(source, tmp_path / name, Nearest(never), **how)
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    source, folder = make_clip(tmp_path / "in.mp4", frames=3), tmp_path / "closed"
    folder.mkdir(mode=0o555)
    with pytest.raises(VideoError, match=r"closed: no file can be made in this folder \(Permission denied\)"):
        enlarge(source, folder / "out.mp4")


FULL = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
from nearest_video import enlarge
from liif_fast.video.kinds import VideoError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    enlarge(Path(sys.argv[1]), Path(sys.argv[2]), codec="ffv1")
except VideoError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on files")
@pytest.mark.parametrize("most", [10_000, 300_000])
def test_a_full_disk(tmp_path, most):
    """In the middle of a part, and in the whole file alone."""
    noise = [np.random.default_rng(i).random((48, 64, 3)) for i in range(130)]
    source = make_clip(tmp_path / "in.mkv", frames=130, pictures=noise, codec="ffv1", pixel_format="bgr0")
    if most > 10_000:
        enlarge(source, tmp_path / "whole.mkv", codec="ffv1")
        most = round((tmp_path / "whole.mkv").stat().st_size * 125 / 130)
        (tmp_path / "whole.mkv").unlink()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", FULL, source, tmp_path / "out.mkv", str(most)], env=env, capture_output=True, text=True
    )
    why = (
        f"{tmp_path / 'out.mkv'}: cannot be written: {os.strerror(errno.EFBIG)}; make room, or choose another output\n"
    )
    assert (done.returncode, done.stdout) == (0, why), done.stderr
    assert not (tmp_path / "out.mkv").exists()
    assert (tmp_path / "out.mkv.parts").exists() == (most > 10_000)


MEMORY = """
import resource, sys
from pathlib import Path
from nearest_video import enlarge
enlarge(Path(sys.argv[1]), Path(sys.argv[2]), scale=3.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured in another way there")
def test_memory_does_not_grow_with_the_frames(tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *sys.path])}
    most = []
    for frames in (60, 300):
        source = make_clip(tmp_path / f"{frames}.mp4", frames, (320, 180), 30, audio=True)
        given = [sys.executable, "-c", MEMORY, source, tmp_path / f"large{frames}.mp4"]
        most.append(int(subprocess.run(given, env=env, check=True, capture_output=True).stdout))
    assert most[1] <= 1.05 * most[0]


def test_an_error_of_the_encoder_ends_the_work(tmp_path, monkeypatch):
    """And leaves no thread behind."""
    source = make_clip(tmp_path / "in.mp4")

    def fail(*_):
        raise RuntimeError("no more")

    monkeypatch.setattr(encoding.colour, "from_rgb", fail)
    with pytest.raises(RuntimeError, match="no more"):
        enlarge(source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    assert not [thread for thread in threading.enumerate() if "encoder" in thread.name]
