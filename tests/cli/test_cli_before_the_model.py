"""What is said before the model is loaded, and runs that go on where an earlier one stopped."""

from __future__ import annotations

import json

import command
import pytest
from PIL import Image

from liif_fast.base import atomic
from liif_fast.cli import common
from liif_fast.head import library

pytestmark = pytest.mark.usefixtures("no_matrix_units")


@pytest.fixture
def said(capsys, tmp_path, monkeypatch):
    command.photo(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: command.outcome(capsys, *arguments)


@pytest.fixture
def no_model(monkeypatch):
    def load(*_):
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(common, "load", load)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("missing.png -s 2", 1, "missing.png: no such file or folder; check the name"),
        ("text.png -s 2", 1, "text.png: "),
        ("photo.png -s 2 -o there.png", 1, "there.png exists: give --overwrite, --skip-existing"),
        ("photo.png -s 2 -o out.xyz", 1, "suffix '.xyz' is none that an image can be written in"),
        ("photo.png -s 2 --format xyz", 2, "--format: "),
        ("photo.png -s 100000", 1, "the output is over the limit"),
        ("photo.png -s 2 -o text.png/out.png", 1, "text.png"),
        ("photo.png -s 2 --skip-existing --overwrite", 2, "--skip-existing: not together with --overwrite"),
        ("https://example.com/a.png -s 2", 2, "https://example.com/a.png: this is a web address, files are wanted; "),
        ("photo.png -s 2 -o s3://bucket/a.png", 2, "s3://bucket/a.png: this is a web address"),
        ("missing.png -s 2 --device quantum", 2, "--device quantum"),
        ("empty -s 2", 1, "empty: no images in this folder"),
    ],
)
def test_said_before_the_model_is_loaded(said, no_model, tmp_path, arguments, code, words):
    command.photo(tmp_path / "there.png")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    found, stdout, stderr = said(*arguments.split())
    assert (found, stdout, stderr.count("\n")) == (code, "", 1)
    assert words in stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["new\nline.png", "two  blanks.png"])
def test_a_missing_file_of_any_name(said, name):
    code, stdout, stderr = said(name, "-s", "2", "--json", "--device", "cpu")
    assert (code, stderr.count("\n")) == (1, 1)
    assert stderr.startswith("liif-fast: error: " + " ".join(name.split()))
    assert json.loads(stdout)["input"] == name


@pytest.mark.parametrize("output", ["out.png", "new/folder"])
def test_a_folder_that_takes_no_file(said, no_model, monkeypatch, output):
    def refused(folder):
        assert str(folder) == "."
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic, "probe", refused)
    code, _, stderr = said("photo.png", "-s", "2", "-o", output)
    words = ".: no file can be made in this folder (Permission denied); choose another output"
    assert (code, stderr) == (1, f"liif-fast: error: photo.png: {words}\n")


@pytest.mark.parametrize("status", ["loaded", "not built: install with torch", "switched off by LIIF_FAST_EXTENSION=0"])
def test_missing_kernels_are_said_once_with_the_cure(said, model_file, tmp_path, monkeypatch, status):
    command.photo(tmp_path / "b.png")
    monkeypatch.setattr(library, "status", status)
    monkeypatch.setattr(library, "_told", False)
    code, _, stderr = said("photo.png", "b.png", "-s", "2", "-m", model_file, "--device", "cpu")
    cure = (
        f"note: liif_fast: the compiled kernels are {status}; until then plain PyTorch computes the same, more slowly\n"
    )
    assert (code, stderr.count("\n"), cure in stderr) == ((0, 1, True) if "not built" in status else (0, 0, False))


def test_an_output_that_is_a_link_needs_the_folder_of_its_file(said, model_file, tmp_path, monkeypatch):
    for folder in ("links", "files"):
        (tmp_path / folder).mkdir()
    command.photo(tmp_path / "files" / "out.png")
    (tmp_path / "links" / "out.png").symlink_to(tmp_path / "files" / "out.png")
    asked = []
    monkeypatch.setattr(atomic, "probe", lambda folder: asked.append(folder))
    arguments = ("photo.png", "-s", "2", "-o", "links/out.png", "--overwrite", "-m", model_file)
    assert said(*arguments)[0] == 0
    assert asked == [(tmp_path / "files").resolve()]
    with Image.open(tmp_path / "files" / "out.png") as image:
        assert image.size == (28, 20)


def test_probing_leaves_nothing(tmp_path):
    atomic.probe(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        atomic.probe(tmp_path / "missing")


def test_a_run_goes_on_where_one_stopped(said, model_file, tmp_path):
    command.photo(tmp_path / "b.png", seed=1)
    assert said("photo.png", "-o", "out/", "-s", "2", "-m", model_file)[0] == 0
    first = (tmp_path / "out" / "photo.png").read_bytes()
    (tmp_path / "broken.png").write_text("hello")
    arguments = ["photo.png", "b.png", "broken.png", "-o", "out/", "-s", "2", "-m", model_file, "--json"]
    rows = [json.loads(line) for line in said(*arguments)[1].splitlines()]
    assert [row["status"] for row in rows] == ["exists", "done", "failed"]
    assert [row["error"] is None for row in rows] == [False, True, False]
    assert rows[0]["output"] == "out/photo.png"
    (tmp_path / "out" / "b.png").unlink()
    arguments.remove("broken.png")
    code, stdout, stderr = said(*arguments, "--skip-existing")
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert (code, stderr) == (0, "liif-fast: note: 1 skipped: their results are there\n")
    assert [(row["status"], row["error"]) for row in rows] == [("exists", None), ("done", None)]
    assert (tmp_path / "out" / "photo.png").read_bytes() == first
    with Image.open(tmp_path / "out" / "b.png") as image:
        assert image.size == (28, 20)


def test_all_done_needs_no_model(said, no_model, tmp_path):
    (tmp_path / "photo_x2.png").write_bytes(b"done")
    done = said("photo.png", "-s", "2", "--skip-existing")
    assert done == (0, "", "liif-fast: note: 1 skipped: their results are there\n")
