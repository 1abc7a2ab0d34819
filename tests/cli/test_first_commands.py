"""What people type first, and what a patient friend would answer: a result, or one line with the cause and the cure.

Every command runs in a folder of its own with photo.png and photo2.png (14x10), folder/ (a.png, b.jpg, notes.txt,
clip.mp4, deep/c.png), anim.gif (3 frames), empty/, and files that are no pictures.
"""

from __future__ import annotations

import glob
import io
import os
import shlex
import sys

import command
import numpy as np
import pytest
from PIL import Image

from liif_fast.cli import main

pytestmark = pytest.mark.usefixtures("no_matrix_units")

# What is typed, the exit code, words of the answer, and files that are there afterwards (all that are new)
COMMANDS = """
photo.png                              | 0 | x4, as neither --scale nor --size          | photo_x4.png
photo.png -s 2                         | 0 | photo_x2.png: 14x10 -> 28x20 in            | photo_x2.png
upscale photo.png -s 2                 | 0 | 14x10 -> 28x20                             | photo_x2.png
photo.png -s x3                        | 0 | 14x10 -> 42x30                             | photo_x3.png
photo.png -s 4x                        | 0 | 14x10 -> 56x40                             | photo_x4.png
photo.png -s 2,5                       | 0 | 14x10 -> 35x25                             | photo_x2.5.png
photo.png -s 150%                      | 0 | 14x10 -> 21x15                             | photo_x1.5.png
photo.png --scale=2                    | 0 | 14x10 -> 28x20                             | photo_x2.png
photo.png -s two                       | 2 | a factor for both sides is wanted, e.g. 2  |
photo.png -s 0                         | 2 | --scale 0: a number above 0 is wanted      |
photo.png -s -2                        | 2 | --scale -2: a number above 0 is wanted     |
photo.png -s 1,000                     | 2 | 1.000 or 1000? Write it without a comma    |
photo.png --outscale 2                 | 2 | --outscale: no such option; --scale?       |
photo.png --size 30x20                 | 0 | 14x10 -> 30x20                             | photo_30x20.png
photo.png --size 30*20                 | 0 | 14x10 -> 30x20                             | photo_30x20.png
photo.png --size 30 20                 | 0 | 14x10 -> 30x20                             | photo_30x20.png
photo.png --size 30x                   | 0 | 14x10 -> 30x21                             | photo_30x.png
photo.png --size 40p                   | 0 | 14x10 -> 56x40                             | photo_x40.png
photo.png --size 30                    | 2 | 30x for the width, x30 for the height      |
photo.png --size big                   | 2 | WIDTHxHEIGHT in pixels is wanted           |
photo.png --width 30                   | 2 | --width: no such option; --size WIDTHx?    |
photo.png --fit 30x30                  | 0 | 14x10 -> 30x21                             | photo_fit30x30.png
photo.png --fill 30x30                 | 0 | 14x10 -> 30x30                             | photo_fill30x30.png
photo.png -s 2 --size 30x20            | 2 | --size not allowed with argument -s/--scale|
photo.png -s 2 -o large.png            | 0 | large.png: 14x10 -> 28x20                  | large.png
photo.png -s 2 -o large.jpg            | 0 | large.jpg: 14x10 -> 28x20                  | large.jpg
photo.png -s 2 -o out/                 | 0 | out/photo.png: 14x10 -> 28x20              | out/photo.png
photo.png -s 2 -o new/large.png        | 0 | new/large.png: 14x10 -> 28x20              | new/large.png
photo.png -s 2 -o photo.png            | 1 | is the input itself: give --suffix         |
photo.png -s 2 -o photo2.png           | 1 | photo2.png exists: give --overwrite        |
photo.png -s 2 -o large                | 0 | large/photo.png: 14x10 -> 28x20            | large/photo.png
photo.png -s 2 -o large.xyz            | 1 | none that an image can be written in; use  |
photo.png large.png -s 2               | 2 | if this is to be the result, -o large.png  |
photo.png photo2.png -s 2              | 0 | photo2_x2.png: 14x10 -> 28x20              | photo_x2.png photo2_x2.png
photo*.png -s 2                        | 0 | photo2_x2.png: 14x10 -> 28x20              | photo_x2.png photo2_x2.png
photo.png photo2.png -s 2 -o large.png | 2 | several inputs need a folder               |
folder -s 2                            | 0 | 2 skipped: 1 .mp4, 1 .txt | folder/a_x2.png folder/b_x2.jpg
folder -s 2 -o out                     | 0 | out/b.jpg: 14x10 -> 28x20                  | out/a.png out/b.jpg
folder -s 2 -o out -r                  | 0 | out/deep/c.png | out/a.png out/b.jpg out/deep/c.png
folder -s 2 -o large.png               | 2 | several inputs need a folder               |
empty -s 2                             | 1 | no images in this folder; use -r           |
nothing.png -s 2                       | 1 | no such file or folder; check the name     |
phto.png -s 2                          | 1 | no such file or folder; photo.png?         |
photo -s 2                             | 2 | no such command or file: one of upscale    |
"" -s 2                                | 2 | got an empty one                           |
text.txt -s 2                          | 1 | not an image of a known format             |
report.pdf -s 2                        | 1 | pdftoppm -r 150 -png report.pdf page       |
clip.mp4 -s 2                          | 1 | liif-fast video clip.mp4 -o OUT.mp4        |
photo.cr2 -s 2                         | 1 | a camera's raw file (CR2)                  |
https://example.com/a.png -s 2         | 2 | a web address, files are wanted; download  |
photo.png -s 2 -m nothing              | 2 | known names: edsr-baseline-liif            |
photo.png -s 2 -m photo.png            | 1 | neither safetensors nor a PyTorch file     |
photo.png -s 2 --device gpux           | 2 | --device gpux:                             |
photo.png -s 2 --gpu                   | 2 | --gpu: no such option; --device gpu?       |
photo.png -s 2 --dtype fp16            | 0 | 14x10 -> 28x20                             | photo_x2.png
photo.png -s 2 --dtype int4            | 2 | --dtype invalid choice: 'int4'             |
photo.png -s 2 --format jpeg           | 0 | photo_x2.jpg: 14x10 -> 28x20               | photo_x2.jpg
photo.png -s 2 --format gif            | 0 | GIF holds 256 colours: colours are reduced | photo_x2.gif
photo.png -s 2 --format xyz            | 2 | format 'xyz' is none that an image can be  |
photo.png -s 2 -o a.jpg --lossless     | 1 | not without loss in JPEG                   |
photo.png -s 2 --quality 200           | 2 | --quality 200: 1 to 100 is wanted          |
photo.png -s 2 --jobs 4                | 2 | --jobs: is not needed                      |
photo.png -s 2 --outpt large.png       | 2 | --outpt: no such option; --output?         |
photo.png -s 2 --tile 100x100          | 2 | auto, 0 or a number of pixels is wanted    |
photo.png -s 100000                    | 1 | over the limit of 268435456 pixels; choose |
photo.png -s 2 --dry-run               | 0 | photo.png -> photo_x2.png: 14x10 -> 28x20  |
anim.gif -s 2                          | 0 | anim_x2.gif: 14x10 -> 28x20                | anim_x2.gif
anim.gif -s 2 -o still.jpg             | 0 | the file holds 3 frames, JPEG one          | still.jpg
anim.gif -s 2 -o moving.webp           | 0 | moving.webp: 14x10 -> 28x20                | moving.webp
- -s 2 -o large.png                    | 0 | 14x10 -> 28x20                             | large.png
photo.png -s 2 --watch                 | 2 | is no folder; give folders                 |
--help                                 | 0 | enlarge image files                        |
help upscale                           | 0 | usage: liif-fast upscale                   |
version                                | 0 | liif-fast                                  |
models                                 | 0 | edsr-baseline-liif                         |
info photo.png                         | 0 | PNG, 14x10                                 |
upscale                                | 2 | required: INPUT                            |
enlarge photo.png                      | 2 | enlarge: no such command or file           |
upscael photo.png                      | 2 | no such command or file; upscale?          |
eval photo.png                         | 2 | photo.png: is one argument too many        |
train missing.yaml                     | 2 | give the name of a YAML file               |
"""
ROWS = [[cell.strip() for cell in line.split("|")] for line in COMMANDS.strip().splitlines()]
WITHOUT_MODEL = ("--help", "help", "version", "models", "info", "enlarge", "upscael", "eval", "train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("first")
    (made / "folder" / "deep").mkdir(parents=True)
    (made / "empty").mkdir()
    for name in ("photo.png", "photo2.png", "folder/a.png", "folder/b.jpg", "folder/deep/c.png"):
        command.photo(made / name)
    for name in ("text.txt", "report.pdf", "clip.mp4", "folder/notes.txt", "folder/clip.mp4"):
        (made / name).write_bytes(b"hello")
    (made / "photo.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 100)
    frames = [Image.fromarray(np.full((10, 14, 3), value, np.uint8)) for value in (0, 90, 200)]
    frames[0].save(made / "anim.gif", save_all=True, append_images=frames[1:], duration=50, loop=0)
    command.small_model(made)
    return made


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_there_are_enough():
    assert len({typed for typed, *_ in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_answer(folder, monkeypatch, capsys, row):
    typed, code, words, made = row
    monkeypatch.chdir(folder)
    photo = io.TextIOWrapper(io.BytesIO((folder / "photo.png").read_bytes()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", photo)
    arguments = [
        name for given in shlex.split(typed) for name in (sorted(glob.glob(given)) if "*." in given else [given])
    ]
    if arguments[0] not in WITHOUT_MODEL and "-m" not in arguments:
        arguments += ["-m", "small.safetensors"]
    before = files(folder)
    try:
        found = main.main(arguments)
    except SystemExit as stop:
        found = stop.code
    out, err = capsys.readouterr()
    after = files(folder)
    for name in after.keys() - before.keys():
        os.remove(name)
        for parent in list((folder / name).parents)[: name.count(os.sep)]:
            if not any(parent.iterdir()):
                parent.rmdir()
    assert (found, sorted(after.keys() - before.keys())) == (int(code), sorted(made.split())), err
    assert {name: after.get(name) for name in before} == before, "a file that was there is another now"
    assert words in out + err
    assert "Traceback" not in err
    assert err.count("\n") <= 3
    assert code == "0" or not out
