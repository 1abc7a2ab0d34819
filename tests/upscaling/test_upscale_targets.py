"""Where results may go, what is read and how large it may be: never over an input, never waiting, never unasked."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest
import torch
from command import photo, runner
from PIL import Image

from liif_fast.cli import reporting
from liif_fast.images import files as images
from liif_fast.upscaling import files as upscale
from liif_fast.upscaling import guard, streams


@pytest.fixture
def run(tiny, monkeypatch):
    return runner(monkeypatch, tiny())


def test_an_input_is_not_replaced_unless_that_is_asked_for(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    original = photo(tmp_path / "photo.png").read_bytes()
    os.makedirs("links")
    os.symlink("../photo.png", "links/photo.png")
    os.symlink(".", "same")
    os.makedirs("hard")
    os.link("photo.png", "hard/photo.png")
    outputs = [".", "photo.png", "./photo.png", tmp_path, "links", "hard", "same", "hard/../photo.png"]
    for output in outputs:
        assert run("photo.png", "-o", output, "-s", "2", "--overwrite") == 1, output
        error = capsys.readouterr().err
        assert "is the input itself: give --suffix or another output, or --in-place" in error
        assert len(error.splitlines()) == 1
        assert (tmp_path / "photo.png").read_bytes() == original
    assert run(".", "-o", ".", "-s", "2", "--overwrite") == 1  # a folder onto itself
    assert (tmp_path / "photo.png").read_bytes() == original
    assert run("photo.png", "-o", ".", "-s", "2", "--suffix", "_x2", "--overwrite") == 0  # another name


def test_in_place(run, tmp_path, capsys):
    for i, name in enumerate("ab"):
        photo(tmp_path / f"{name}.png", i)
    (tmp_path / "a.png").chmod(0o640)
    other = tmp_path / "other"
    other.mkdir()
    photo(other / "a.png")
    os.symlink(tmp_path / "b.png", tmp_path / "link.png")
    assert run(tmp_path / "a.png", "-o", tmp_path, "-s", "2", "--in-place") == 0
    assert Image.open(tmp_path / "a.png").size == (28, 20)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640
    # only the input's own result: not another existing file, and not another input
    assert run(tmp_path / "b.png", "-o", other / "a.png", "-s", "2", "--in-place") == 1
    assert "exists" in capsys.readouterr().err
    assert run(tmp_path / "a.png", other / "a.png", "-o", tmp_path, "-s", "2", "--in-place") == 1
    assert Image.open(tmp_path / "a.png").size == (56, 40)  # its own, once
    assert Image.open(other / "a.png").size == (14, 10)
    capsys.readouterr()
    # the same file by two names is not enlarged twice
    assert run(tmp_path / "b.png", tmp_path / "link.png", "-o", tmp_path, "-s", "2", "--in-place") == 1
    assert Image.open(tmp_path / "b.png").size == (28, 20)
    assert "link.png" in capsys.readouterr().err


def test_an_output_that_is_another_input(run, tmp_path, capsys):
    """a.gif becomes a.png, which is an input too, before or after it."""
    photo(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "a.gif")
    before = (tmp_path / "a.png").read_bytes()
    for inputs in (["a.gif", "a.png"], ["a.png", "a.gif"]):
        for flags in ([], ["--in-place"]):
            (tmp_path / "a.png").write_bytes(before)
            code = run(*[tmp_path / name for name in inputs], "-o", tmp_path, "-s", "2", "--overwrite", *flags)
            assert code == 1
            assert Image.open(tmp_path / "a.png").size == ((28, 20) if flags else (14, 10))
            assert "another input" in capsys.readouterr().err


def test_two_outputs_that_are_one_file(run, tmp_path, monkeypatch, capsys):
    """Names that differ in case are one file on some systems; the system is asked."""
    (tmp_path / "x").mkdir()
    photo(tmp_path / "a.png")
    photo(tmp_path / "x" / "b.png")
    real = guard.identity
    monkeypatch.setattr(guard, "identity", lambda p: real(p.with_name("a.png") if "out" in p.parts else p))
    arguments = ["-o", tmp_path / "out", "-s", "2", "--overwrite"]
    assert run(tmp_path / "a.png", tmp_path / "x" / "b.png", *arguments) == 1
    assert "already written for another input" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_file_that_is_named_twice_is_done_once(run, tmp_path, capsys, monkeypatch):
    photo(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert run("a.png", "./a.png", ".", "-s", "2") == 0
    assert capsys.readouterr().out.count("a_x2.png: ") == 1


def test_names_too_long_are_errors_of_their_files(run, tmp_path, capsys):
    good, long = photo(tmp_path / "good.png"), photo(tmp_path / ("n" * 249 + ".png"))
    inputs = ["m" * 300 + ".png", tmp_path / ("o" * 5000), long, good]
    out = tmp_path / "new" / "folder"
    assert run(*inputs, "-o", out, "-s", "2", "--suffix", "_x2") == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert errors[0].endswith("no such file or folder; check the name")
    assert errors[2].endswith("this name is too long for the file system; give a shorter --suffix or output")
    assert [path.name for path in out.iterdir()] == ["good_x2.png"]
    with pytest.raises(images.ImageError, match=r"cannot be read \(File name too long\); check the name"):
        images.read("m" * 300 + ".png")
    assert run(good, "-o", "p" * 300 + ".png", "-s", "2") == 1
    assert run(good, "-o", tmp_path / ("p" * 300), "-s", "2") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_silent_pipes_and_devices_are_not_waited_for(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(streams, "WAIT", 0.2)
    pipe, good = tmp_path / "pipe.png", photo(tmp_path / "good.png")
    os.mkfifo(pipe)
    assert run(pipe, "/dev/zero", good, "-o", tmp_path / "out", "-s", "2") == 1
    errors = capsys.readouterr().err.splitlines()
    words = (f"{pipe}: nothing came", "/dev/zero: is not a regular file")
    assert all(said in line for said, line in zip(words, errors, strict=True))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    with pytest.raises(images.ImageError, match="not a regular file but a pipe or device; save the image in a file"):
        images.read(pipe)


def test_results_over_the_limit_are_refused_before_the_work(run, tmp_path, monkeypatch, capsys):
    wide = tmp_path / "wide.gif"
    Image.new("P", (65535, 17)).save(wide)
    worked = []
    monkeypatch.setattr("liif_fast.models.tiles.upscale", lambda *a, **k: worked.append(a))
    assert run(wide, "-o", tmp_path / "o.png", "-s", "20") == 1
    assert "65535x17 -> 1310700x340: the output is over the limit of 268435456 pixels" in (e := capsys.readouterr().err)
    assert "--max-output-pixels" in e
    assert run(wide, "-o", tmp_path / "o.png", "-s", "1", "--max-output-pixels", "1000000") == 1
    assert run(wide, "-o", tmp_path / "o.png", "-s", "1", "--max-output-pixels", "0") == 2
    assert not worked


def test_sizes_are_said_before_long_work_and_it_moves_within_a_tile(tiny, monkeypatch, tmp_path, capsys):
    source = photo(tmp_path / "small.png", size=(20, 17))
    monkeypatch.setattr(upscale, "LARGE", 1000)
    monkeypatch.setattr(upscale.images, "write", lambda *_, **__: [])  # encoding is none of it
    said, shares = [], []

    def progress(done, total, name):
        assert (total, name) == (1, str(source))
        shares.append(done)

    options, model = upscale.Options(scale=40, tile=0), tiny()
    (result,) = upscale.upscale_files(
        lambda: (model, torch.float32),
        [source],
        tmp_path / "o.png",
        options,
        progress=progress,
        say=lambda text: said.append((text, *shares)),
    )
    assert result.error is None
    assert said == [(f"{source}: 20x17 -> 800x680, 0.5 megapixels", 0.0)]
    steps = np.diff(shares)
    assert shares[-1] == 1
    assert (steps >= 0).all()
    assert steps.max() <= 0.13  # 2^16 pixels of 800 x 680


def test_lines_of_progress_where_nobody_watches(monkeypatch, capsys):
    monkeypatch.setattr(reporting, "FIRST_LINE", 10.0)
    clock = [0.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: clock[0])
    with reporting.Progress("file") as bar:
        for i in range(1, 200):
            clock[0] = float(i)
            bar.to(i / 100, 4, "dir/a.gif")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "liif-fast: dir/a.gif: 2.5 % of 4 files in 10 s, about 390 s left".replace("390 s", "6 min 30 s")
    assert [int(line.split(" in ")[1].split()[0]) for line in lines[:3]] == [10, 30, 70]
    assert len(lines) == 5  # each minute from then on


def test_lines_of_progress_come_by_themselves(monkeypatch, capsys):
    monkeypatch.setattr(reporting, "FIRST_LINE", 0.01)
    with reporting.Progress("file", alone=True) as bar:
        bar._next = float("inf")
        bar.to(0, 1, "a.gif")  # the last that the work says
        bar._next = 0.0
        for _ in range(500):
            if err := capsys.readouterr().err:
                break
            bar._end.wait(0.01)
    assert err.startswith("liif-fast: a.gif: 0.0 % of 1 file in 0 s")


def test_a_bar_where_somebody_watches(monkeypatch, capsys):
    monkeypatch.setattr(reporting, "watched", lambda: True)
    monkeypatch.setattr(reporting, "FIRST_LINE", 0.01)
    with reporting.Progress("file", alone=True) as bar:
        for i in range(5):
            bar.to(i / 4, 1, "dir/a\x1b.gif")
            with bar.aside():
                reporting.say("a line")
        err = capsys.readouterr().err
        assert "a?.gif: 100%" in err
        assert err.count("liif-fast: a line\n") == 5
        for _ in range(500):
            if "a?.gif: 100%" in capsys.readouterr().err:  # its clock moves by itself
                break
            bar._end.wait(0.01)
        else:
            pytest.fail("the bar stands still")


def test_what_a_format_cannot_hold_is_refused_before_the_work(run, tmp_path, monkeypatch, capsys):
    """Also where the output's folder is still to be made, and rows that Pillow cannot hold in any format."""
    photo(tmp_path / "photo.png")
    monkeypatch.setattr("liif_fast.models.liif.LIIF.upscale", lambda *args, **kwargs: pytest.fail("worked"))
    for form, size, words in (
        ("webp", "17000x100", "17000x100 is too large for WEBP"),
        ("png", "200000000x1", "200000000x1 is too wide to be written (up to 67108856)"),
    ):
        assert run(tmp_path / "photo.png", "-o", tmp_path / "new", "--format", form, "--size", size) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_empty_name_is_not_the_current_folder(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "photo.png")
    for arguments in (("", "-o", "out"), ("photo.png", "-o", "")):
        assert run(*arguments, "-s", "2") == 2
        assert "names of files or folders are wanted, got an empty one" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["photo.png"]
