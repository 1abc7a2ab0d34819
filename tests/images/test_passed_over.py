"""What is passed over in folders is counted by kind, and headers say sizes without decoding."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from command import photo

from liif_fast.images import finding
from liif_fast.images.files import find_images, header_size, images_in, kinds


def test_counted_by_kind(tmp_path):
    photo(tmp_path / "a.png")
    for name in ("b.xcf", "C.XCF", "d.mp4", "README", ".hidden.txt", "deep/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.symlink("nowhere", tmp_path / "gone.png")
    flat: Counter[str] = Counter()
    found, _ = find_images([tmp_path, tmp_path / "d.mp4"], passed_over=flat)  # a named file is not passed over
    assert [relative.name for _, relative in found] == ["a.png", "d.mp4"]
    assert kinds(flat) == "5 skipped: 1 .mp4, 2 .xcf, 1 pipe, device or broken link, 1 without suffix"
    deep: Counter[str] = Counter()
    find_images([tmp_path], True, deep)
    assert deep - flat == Counter({".txt": 1})


def test_of_many_kinds_the_commonest():
    counted = Counter({f".{i:02}": 100 - i for i in range(20)})
    assert kinds(counted) == (
        "1810 skipped: 100 .00, 99 .01, 98 .02, 97 .03, 96 .04, 95 .05, 94 .06, 93 .07, 1038 of other kinds"
    )


def test_what_would_read_them(tmp_path, monkeypatch):
    counted = Counter({".heic": 2, ".txt": 1})
    monkeypatch.setattr(finding, "has_heif", lambda: False)
    cure = " (HEIF needs pillow-heif: pip install pillow-heif)"
    assert kinds(counted) == f"3 skipped: 2 .heic, 1 .txt{cure}"
    assert kinds(Counter({".txt": 1})) == "1 skipped: 1 .txt"
    (tmp_path / "a.heic").write_bytes(b"x")
    assert images_in(tmp_path)[0] == []
    monkeypatch.setattr(finding, "has_heif", lambda: True)
    assert [path.name for path in images_in(tmp_path)[0]] == ["a.heic"]


def test_an_empty_folder_is_no_error_here(tmp_path):
    assert images_in(tmp_path) == ([], [])
    (error,) = images_in(tmp_path / "missing")[1]
    assert "missing: cannot be listed (No such file or directory)" in str(error)


@pytest.mark.parametrize("content", [b"", b"hello", None], ids=["empty", "text", "missing"])
def test_no_size_in_the_header(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert header_size(tmp_path / "a.png") is None


def test_the_size_in_a_header_needs_no_pixels(tmp_path):
    data = photo(tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: data.index(b"IDAT") + 8])
    assert header_size(tmp_path / "b.png") == (14, 10)
