"""The command ``video``: what it says, wrong uses, pipes, Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import command
import numpy as np
import pytest

av = pytest.importorskip("av")
from nearest_video import held, pictures  # noqa: E402
from video_files import make_clip  # noqa: E402

import liif_fast  # noqa: E402
from liif_fast.cli import common, spellings  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_matrix_units")


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_clip(tmp_path / "clip.mp4", frames=6, audio=True)


@pytest.fixture
def run(model_file, capsys):
    def call(*arguments):
        return command.outcome(capsys, "video", *arguments, "-m", model_file, "--device", "cpu")

    return call


def test_a_video(run, clip, model_file):
    code, out, err = run("clip.mp4", "-o", "large.mkv", "-s", "2", "--codec", "ffv1")
    assert code == 0
    assert re.fullmatch(r"large.mkv: 64x48 -> 128x96, 6 frames at \d+\.\d a second in \d+ s(; .*)?\n", out)
    assert all(line.startswith("liif-fast: note: clip.mp4: ") for line in err.splitlines())
    model = liif_fast.load(model_file)
    want = list(model.stream(iter(pictures(clip)), scale=2))
    for large, expected in zip(pictures(Path("large.mkv")), want, strict=True):
        assert np.abs(large.astype(int) - expected).max() <= 2  # FFmpeg's own way to RGB in `pictures` rounds
    assert held(Path("large.mkv"), "audio").packets == held(clip, "audio").packets


def test_what_did_not_change_is_told(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    still = np.full((48, 64, 3), 0.5)
    make_clip(tmp_path / "still.mp4", frames=5, pictures=[still])
    code, out, _ = run("still.mp4", "-o", "o.mp4", "-s", "2")
    assert code == 0
    assert "4 of 5 frames" in out
    assert out.endswith("unchanged, not computed again\n")


def test_json(run, clip):
    code, out, _ = run("clip.mp4", "-o", "o.mp4", "--size", "x96", "--json")
    told = json.loads(out)
    assert (code, told["out_size"], told["frames"], told["output"]) == (0, [128, 96], 6, "o.mp4")
    assert told["frames_per_second"] > 0


def test_a_window_and_a_part_of_the_time(run, clip):
    code, out, _ = run("-i", "clip.mp4", "-o", "o.mp4", "--window", "-0.5,8,32x24", "--size", "64x48", "--end", "0.1")
    assert code == 0
    assert out.startswith("o.mp4: 64x48 -> 64x48, 3 frames")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("clip.mp4 -s 2", "-o OUT: a file for the result is wanted"),
        ("clip.mp4 new.mp4 -s 2", "new.mp4: no such file; if this is to be the result, -o new.mp4"),
        ("clip.mp4 clip.mp4 -o o.mp4 -s 2", "IN: one video is wanted, got 2"),
        ("-o o.mp4 -s 2", "IN: one video is wanted, got 0"),
        ("clip.mp4 -o o.mp4", "--scale or --size is wanted"),
        ("clip.mp4 -o o.mp4 -s 0", "--scale 0: a number above 0 is wanted"),
        ("clip.mp4 -o o.mp4 -s 2 --size 1080p", "not allowed with argument"),
        ("gone.mp4 -o o.mp4 -s 2", "gone.mp4: no such file"),
        ("folder -o o.mp4 -s 2", "folder: is a folder; give one video"),
        ("photo.png -o o.mp4 -s 2", "photo.png: is a picture: liif-fast upscale photo.png"),
        ("clip.mp4 -o o.mp4 -s 2 --window 1,2,3", "LEFT,TOP,WIDTHxHEIGHT in pixels is wanted"),
        ("clip.mp4 -o o.mp4 -s 2 --start 3 --end 2", "--end 2: a time behind --start 3 is wanted"),
        ("clip.mp4 -o o.mp4 -s 2 --end soon", "soon: seconds or [HOURS:]MINUTES:SECONDS are wanted"),
        ("clip.mp4 -o o.mp4 -s 2 --crf -1", "--crf"),
        ("clip.mp4 -o o.mp4 -s 2 --tile big", "--tile big: auto, 0 or a number of pixels is wanted"),
        ("clip.mp4 -o o.mp4 -s 2 --input-size 4x4", "--input-size: is for raw frames on standard input: -i -"),
        ("- -o o.mp4 -s 2 --resume", "--resume: what came on standard input does not come again"),
        ("clip.mp4 -o - -s 2 --json", "--json: standard output takes the frames"),
        ("clip.mp4 -o - -s 2 --resume", "--resume: what went to standard output is gone"),
    ],
)
def test_wrong_uses(run, clip, monkeypatch, arguments, words):
    monkeypatch.setattr(common, "load", lambda *_: pytest.fail("the model is loaded"))
    Path("folder").mkdir()
    command.photo("photo.png")
    before = sorted(Path().iterdir())
    code, out, err = run(*arguments.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("clip.mp4 -o there.mp4 -s 2", "there.mp4 exists: give --overwrite or another output"),
        ("clip.mp4 -o clip.mp4 -s 2 --overwrite", "clip.mp4: is the input itself"),
        ("clip.mp4 -o o.mp4 -s 2 --codec xyz", "--codec xyz: no such video encoder"),
        ("clip.mp4 -o o.mp4 --size 65x48", "--size 65x48: with chroma at half the size both sides are even"),
        ("there.mp4 -o o.mp4 -s 2", "there.mp4"),
        ("photo.mp4 -o o.mp4 -s 2", "photo.mp4"),
        ("sound.mp4 -o o.mp4 -s 2", "sound.mp4"),
    ],
)
def test_what_cannot_be_done(run, clip, monkeypatch, arguments, words):
    monkeypatch.setattr(common, "load", lambda *_: pytest.fail("the model is loaded"))
    Path("there.mp4").write_bytes(b"no video")
    Path("photo.mp4").write_bytes(b"")
    with av.open("sound.mp4", "w") as out, av.open(str(clip)) as source:
        sound = out.add_stream_from_template(source.streams.audio[0], opaque=True)
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                out.mux(packet)
    before = sorted(Path().iterdir())
    code, out, err = run(*arguments.split())
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert words in err
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("start", [(), ("upscale",)])
def test_a_video_without_the_command(capsys, clip, start):
    code, out, err = command.outcome(capsys, *start, "clip.mp4", "-s", "2")
    assert (code, out) == (1, "")
    assert "enlarge a video: liif-fast video clip.mp4 -o OUT.mp4" in err


def test_without_pyav(run, clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    code, out, err = run("clip.mp4", "-o", "o.mp4", "-s", "2")
    assert (out, err.count("\n")) == ("", 1)
    assert "pip install" in err
    assert code in (1, 2)


def _process(*arguments, **how):
    env = {**os.environ, "PYTHONPATH": str(Path(liif_fast.__file__).parents[1])}
    given = [sys.executable, "-m", "liif_fast", "video", *map(str, arguments), "--device", "cpu"]
    return subprocess.Popen(given, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)


def test_raw_frames_through_pipes(tmp_path, model_file):
    frames = np.random.default_rng(0).integers(0, 256, (3, 10, 14, 3), dtype=np.uint8)
    with _process(
        "-i", "-", "--input-size", "14x10", "-o", "-", "--output-format", "rgb24", "-s", 2, "-m", model_file,
        "--dtype", "float32", stdin=subprocess.PIPE,
    ) as running:  # fmt: skip
        out, err = running.communicate(frames.tobytes(), timeout=120)
    assert running.returncode == 0, err
    want = liif_fast.load(model_file).stream(iter(frames), scale=2)
    assert np.array_equal(np.frombuffer(out, np.uint8).reshape(3, 20, 28, 3), np.stack(list(want)))
    assert b"-: 14x10 -> 28x20, 3 frames at" in err


def test_standard_input_is_closed(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    code, out, err = run("-", "-o", "o.mp4", "-s", "2")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "standard input is closed; write frames to it" in err


def test_y4m_to_a_file(tmp_path, model_file):
    head = b"YUV4MPEG2 W16 H8 F24:1 Ip A1:1 C420jpeg\n"
    data = head + 4 * (b"FRAME\n" + bytes(16 * 8) + 2 * bytes([128]) * 32)
    with _process("-", "-o", tmp_path / "o.mp4", "-s", 2, "-m", model_file, stdin=subprocess.PIPE) as running:
        _, err = running.communicate(data, timeout=120)
    assert running.returncode == 0, err
    assert held(tmp_path / "o.mp4").times == [i / 24 for i in range(4)]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_parts_alone(tmp_path, model_file, number, code):
    clip = make_clip(tmp_path / "clip.mp4", frames=700, size=(64, 48), options={"crf": "30", "preset": "ultrafast"})
    out = tmp_path / "o.mp4"
    given = (clip, "-o", out, "-s", 2, "-m", model_file)
    with _process(*given, "--preset", "ultrafast") as running:
        while not (tmp_path / "o.mp4.parts" / "000000.mkv").exists():
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
        running.send_signal(number)
        _, err = running.communicate(timeout=60)
    assert running.returncode == code, err
    assert b"frames are kept in" in err
    assert b"--resume goes on from there" in err
    assert not out.exists()
    assert all(path.suffix != ".tmp" for path in (tmp_path / "o.mp4.parts").iterdir())


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("8,0,704x480", (0, 8, 480, 704)),
        ("-0.5, .25, 720.5 x 480", (0.25, -0.5, 480, 720.5)),
        ("+1,2,3*4", (2, 1, 4, 3)),
    ],
)
def test_windows_as_they_are_written(text, want):
    assert spellings.window(text) == want


@pytest.mark.parametrize(("text", "want"), [("90", 90), ("1:30.5", 90.5), ("1:00:00", 3600), (".5s", 0.5)])
def test_times_as_they_are_written(text, want):
    assert spellings.seconds(text) == want


@pytest.mark.parametrize("text", ["0", "1/0", "fast", "-3"])
def test_rates_that_are_none(text):
    with pytest.raises(spellings.argparse.ArgumentTypeError, match="frames a second are wanted"):
        spellings.rate(text)


def test_frames_a_second_are_told(monkeypatch, capsys):
    from liif_fast.cli import reporting

    monkeypatch.setattr(reporting, "FIRST_LINE", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with reporting.Progress("frame") as bar:
        bar.to(0, 10, "clip.mp4")
        bar._begun -= 4
        bar._next = 0
        bar.to(4, 10, "clip.mp4")
    assert "40.0 % of 10 frames in 4 s, 1 a second, about 6 s left" in sys.stderr.getvalue()
