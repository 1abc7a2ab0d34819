"""The command as hands type it: without -o, without its name, sizes and numbers as people write them, mistakes."""

from __future__ import annotations

import os

import command
import numpy as np
import pytest
import torch
from PIL import Image

from liif_fast.cli import arguments, common, main, spellings
from liif_fast.images.photo import Photo, middle

pytestmark = pytest.mark.usefixtures("no_matrix_units")


@pytest.fixture
def said(model_file, capsys, tmp_path, monkeypatch):
    """said(*arguments) -> (exit code, stdout, stderr) of ``liif-fast ARGUMENTS`` beside photo.png, 14 x 10."""
    command.photo(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)

    return lambda *arguments: command.outcome(capsys, *arguments, "-m", model_file)


def size_of(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize(
    ("arguments", "name", "size"),
    [
        ("-s 2", "photo_x2", (28, 20)),
        ("-s 4x", "photo_x4", (56, 40)),
        ("-s x3", "photo_x3", (42, 30)),
        ("-s ×3", "photo_x3", (42, 30)),
        ("-s 2,5", "photo_x2.5", (35, 25)),
        ("-s 150%", "photo_x1.5", (21, 15)),
        ("-s 0.5", "photo_x0.5", (7, 5)),
        ("", "photo_x4", (56, 40)),
        ("--size 30x20", "photo_30x20", (30, 20)),
        ("--size 30*20", "photo_30x20", (30, 20)),
        ("--size 30×20", "photo_30x20", (30, 20)),
        ("--size 30:20", "photo_30x20", (30, 20)),
        ("--size 30 20", "photo_30x20", (30, 20)),
        ("--size 28x", "photo_28x", (28, 20)),
        ("--size x30", "photo_x30", (42, 30)),
        ("--size 30p", "photo_x30", (42, 30)),
        ("--fit 30x30", "photo_fit30x30", (30, 21)),
        ("--fit 100 20", "photo_fit100x20", (28, 20)),
        ("--fill 30x30", "photo_fill30x30", (30, 30)),
        ("--fill 28x20", "photo_fill28x20", (28, 20)),
        ("-s 2 --suffix .big", "photo.big", (28, 20)),
        ("-s 2 --dtype fp32 --device cpu", "photo_x2", (28, 20)),
        ("-s 2 --dtype bf16", "photo_x2", (28, 20)),
        ("-s 2 --dtype half", "photo_x2", (28, 20)),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_beside_the_input_by_the_size_that_was_meant(said, tmp_path, arguments, name, size, named):
    code, stdout, stderr = said(*(["upscale"] if named else []), "photo.png", *arguments.split())
    assert code == 0, stderr
    assert size_of(tmp_path / f"{name}.png") == size
    assert f"{name}.png: 14x10 -> {size[0]}x{size[1]}" in stdout
    assert ("note: x4, as neither --scale nor" in stderr) is (arguments == "")


def test_options_first_and_another_format(said, tmp_path):
    assert said("-s", "2", "--format", "jpg", "photo.png")[0] == 0
    assert size_of(tmp_path / "photo_x2.jpg") == (28, 20)


def test_files_and_folders_and_a_second_run(said, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/a.png", "in/deep/b.png", "in/c_x2.png"):
        command.photo(tmp_path / name)
    assert said("in", "photo.png", "-r", "-s", "2")[0] == 0
    made = {"in/a_x2.png", "in/deep/b_x2.png", "in/c_x2_x2.png", "photo_x2.png"}
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    assert there == {"photo.png", "in/a.png", "in/deep/b.png", "in/c_x2.png", *made}
    code, _, stderr = said("in", "photo.png", "-r", "-s", "2")  # nothing is enlarged again
    assert code == 1
    assert "note: 3 files passed over: results of the other inputs" in stderr
    assert stderr.count("exists: give --overwrite, --skip-existing, --suffix or another output") == 4
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")} == there
    command.photo(tmp_path / "photo.png", seed=1)
    before = (tmp_path / "photo_x2.png").read_bytes()
    assert said("photo.png", "photo_x2.png", "-s", "2", "--overwrite")[0] == 0
    assert (tmp_path / "photo_x2.png").read_bytes() != before
    assert not (tmp_path / "photo_x2_x2.png").exists()
    assert said("photo_x2.png", "-s", "2")[0] == 0  # asked for by itself
    assert size_of(tmp_path / "photo_x2_x2.png") == (56, 40)


def test_in_place_needs_no_output(said, tmp_path):
    assert said("photo.png", "-s", "2", "--in-place")[0] == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["photo.png"]
    assert size_of(tmp_path / "photo.png") == (28, 20)


def test_fill_is_the_middle_of_what_covers(said, tmp_path):
    assert said("photo.png", "--size", "42x30", "-o", "whole.png")[0] == 0
    assert said("photo.png", "--fill", "30x30", "-o", "wide.png")[0] == 0
    assert said("photo.png", "--fill", "42x20", "-o", "high.png")[0] == 0
    whole, wide, high = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("whole", "wide", "high"))
    assert np.array_equal(wide, whole[:, 6:36])
    assert np.array_equal(high, whole[5:25])
    alpha = np.arange(12, dtype=np.uint8).reshape(3, 4)
    cut = middle(Photo(np.repeat(alpha[..., None], 3, -1), alpha, text={"a": "b"}), (1, 2))
    assert (cut.alpha.tolist(), cut.pixels[..., 0].tolist(), cut.text) == ([[5, 6]], [[5, 6]], {"a": "b"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("photo.png -s two", "--scale two: a factor for both sides is wanted, e.g. 2, 2.5, x4 or 200%"),
        ("photo.png -s 1,000", "--scale 1,000: 1.000 or 1000? Write it without a comma"),
        ("photo.png -s 0", "--scale 0: a number above 0 is wanted"),
        ("photo.png --size 1920", "--size 1920: WIDTHxHEIGHT in pixels is wanted, e.g. 1920x1080, 1920x, x1080, 1080p "
         "or 4k; 1920x for the width, x1920 for the height"),
        ("photo.png --size 0x0", "--size 0x0: WIDTHxHEIGHT in pixels is wanted"),
        ("photo.png --size 2x2x2", "--size 2x2x2: WIDTHxHEIGHT in pixels is wanted"),
        ("photo.png --fit 100x", "--fit 100x: both sides are wanted, e.g. 1920x1080; for one --size 100x"),
        ("photo.png --fit 9x9 -s 2", "--scale not allowed with argument --fit"),
        ("photo.png -s 2 --dtype fp8", "--dtype invalid choice: 'fp8'"),
        ("photo.png -s 2 --sufix _big", "--sufix: no such option; --suffix?"),
        ("photo.png -s 2 --frobnicate", "--frobnicate: no such option"),
        ("upscal photo.png -s 2", "upscal: no such command or file; upscale?"),
        ("foto", "foto: no such command or file: one of upscale, video, view, eval, compare, train, tune, export, "
            "models, info, completion, doctor, or image files"),
        ("doctor photo.png", "photo.png: is one argument too many"),
        ("eval --scle 2", "--scle: no such option; --scale?"),
        ("", "image files or a command are wanted: liif-fast photo.jpg -s 2"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_with_the_right_word(capsys, tmp_path, monkeypatch, arguments, words):
    command.photo(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = command.outcome(capsys, *arguments.split())
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert f"error: {words}" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_file_that_is_not_there_and_one_named_like_a_command(said, tmp_path):
    code, _, stderr = said("missing.png", "-s", "2")
    assert (code, stderr) == (1, "liif-fast: error: missing.png: no such file or folder; check the name\n")
    os.rename(tmp_path / "photo.png", tmp_path / "eval")
    assert said("./eval", "-s", "2", "--format", "png")[0] == 0
    assert size_of(tmp_path / "eval_x2.png") == (28, 20)


def test_help_of_a_command(capsys):
    assert command.outcome(capsys, "help", "train") == command.outcome(capsys, "train", "--help")
    assert command.outcome(capsys, "help") == command.outcome(capsys, "--help")
    assert command.outcome(capsys, "-V") == command.outcome(capsys, "--version")


@pytest.mark.parametrize(
    ("text", "want"),
    [("4k", (3840, None)), ("8K", (7680, None)), ("1080p", (None, 1080)), ("1920 X 1080", (1920, 1080)),
     ("1920px x 1080px", (1920, 1080)), ("800X", (800, None))],
)  # fmt: skip
def test_sizes(text, want):
    assert spellings.size(text) == want


@pytest.mark.parametrize(("text", "want"), [("4k", (3840, 2160)), ("720p", (1280, 720)), ("3×4", (3, 4))])
def test_boxes(text, want):
    assert spellings.both_sides(text) == want


def test_gpu_is_what_torch_finds(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    with pytest.raises(main.UsageError, match="--device gpu: torch finds none"):
        common.device("gpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cpu"))
    assert common.device("gpu") == torch.device("cpu")


def test_files_before_and_behind_options():
    args = arguments.parsed(["a.png", "-s", "2", "b.png", "--json", "c.png"])
    assert (args.inputs, args.scale) == (["a.png", "b.png", "c.png"], 2.0)
    assert arguments.parsed(["info", "a.png", "--json", "b.png"]).files == ["a.png", "b.png"]
