"""The scripts of examples/ do what they say, as a newcomer runs them; own_head.py has a file of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import doc_folder
import numpy as np
import pytest
from PIL import Image

import liif_fast

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES = 100
# a bitmap of 30000x30000 pixels, whose header is all there is of it
HUGE = "424d3600000000000000360000002800000030750000307500000100180000000000" + "00" * 20


def run(folder: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "path", sorted(set(EXAMPLES.glob("*.py")) - {EXAMPLES / "demo.py"}), ids=lambda path: path.name
)
def test_they_are_short_and_say_how_to_run_them(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    assert f"examples/{path.name}" in text.split('"""')[1]


def test_photo(tmp_path):
    doc_folder.picture(tmp_path / "photo.png")
    done = run(tmp_path, "photo.py", "photo.png", "large.png", "--scale", 2.5, "--model", "small-liif")
    assert (done.returncode, done.stdout) == (0, "large.png: 50x40\n"), done.stderr
    done = run(
        tmp_path,
        "photo.py",
        "photo.png",
        "part.png",
        "--size",
        9,
        12,
        "--window",
        2,
        3.5,
        6,
        8,
        "--model",
        "small-liif",
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "photo.png") as photo, Image.open(tmp_path / "part.png") as part:
        expected = liif_fast.load("small-liif").upscale(photo, size=(9, 12), window=(2, 3.5, 6, 8))
        np.testing.assert_array_equal(np.asarray(part), np.asarray(expected))


def test_folder_goes_on_behind_what_it_cannot_read(tmp_path):
    for i, name in enumerate(("a.png", "c.jpg")):
        doc_folder.picture(tmp_path / "photos" / name, seed=i)
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    Image.new("F", (4, 4)).save(tmp_path / "photos" / "a-float.tif")
    (tmp_path / "photos" / "a-huge.bmp").write_bytes(bytes.fromhex(HUGE))
    done = run(tmp_path, "folder.py", "photos", "large", "--model", "small-liif")
    assert done.returncode == 1
    assert "b.png: cannot identify image file" in done.stderr
    assert len(done.stderr.splitlines()) == 3, done.stderr  # a line for each
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == ["a.png.png", "c.jpg.png"]
    with Image.open(tmp_path / "large" / "c.jpg.png") as large:
        assert large.size == (40, 32)
    for name in ("b.png", "a-float.tif", "a-huge.bmp"):
        (tmp_path / "photos" / name).unlink()
    done = run(tmp_path, "folder.py", "photos", "large", "--model", "small-liif")
    assert (done.returncode, done.stdout) == (0, "")  # nothing is done twice


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("none", "out"), "no such folder"), ((".", "."), "give another folder"), ((".", "out"), "no pictures")],
)
def test_a_folder_that_will_not_do_is_said(tmp_path, arguments, said):
    done = run(tmp_path, "folder.py", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_video_frames(tmp_path):
    av = pytest.importorskip("av")
    doc_folder.clip(tmp_path / "clip.mp4")
    done = run(tmp_path, "video_frames.py", "clip.mp4", "large.mp4", "--scale", 1.5, "--model", "small-liif")
    assert (done.returncode, done.stdout) == (0, "large.mp4: 3 frames\n"), done.stderr
    with av.open(str(tmp_path / "large.mp4")) as video:
        shown = list(video.decode(video=0))
    assert {(frame.width, frame.height, int(frame.colorspace), int(frame.color_range)) for frame in shown} == {
        (72, 60, 1, 1)
    }
    with av.open(str(tmp_path / "clip.mp4")) as video:
        given = [frame.to_ndarray(format="rgb24").mean((0, 1)) for frame in video.decode(video=0)]
    for frame, colour in zip(shown, given, strict=True):  # each in its place and in its colour; x264 rounds
        assert np.abs(frame.to_ndarray(format="rgb24").mean((0, 1)) - colour).max() < 3
    again = run(tmp_path, "video_frames.py", "clip.mp4", "clip.mp4")
    assert again.returncode == 2
    assert "clip.mp4: is there already" in again.stderr


def test_own_encoder(tmp_path):
    doc_folder.picture(tmp_path / "photos" / "a.png", 100, 100)
    losses = []
    for steps in (1, 100):
        done = run(tmp_path, "own_encoder.py", "photos", "my.safetensors", "--steps", steps)
        assert done.returncode == 0, done.stderr
        losses.append(float(done.stdout.split()[-1]))
    assert losses[1] < losses[0] / 2  # it learns: 0.3 and more at first, below 0.1 after a hundred steps
    doc_folder.picture(tmp_path / "photo.png")
    command = ["-m", "liif_fast", "photo.png", "-s", "2", "-m", "my.safetensors", "-o", "large.png"]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    enlarge = [sys.executable, *command, "--import", str(EXAMPLES / "own_encoder.py")]
    done = subprocess.run(enlarge, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "large.png") as large:
        assert large.size == (40, 32)
