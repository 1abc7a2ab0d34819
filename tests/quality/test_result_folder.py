"""The folder that a comparison writes: all files or none."""

from __future__ import annotations

import errno
import os

import pytest

from liif_fast.quality import result_folder
from liif_fast.weights import files as weight_files


def test_all_files_or_none(tmp_path, monkeypatch):
    names = ("a", "b", "c")
    folder = tmp_path / "new" / "out"
    real = weight_files.write

    def full_at_b(path, data):
        if path.name == "b":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data)

    def contents():
        return {p.name: p.read_bytes() for p in folder.iterdir()}

    monkeypatch.setattr(weight_files, "write", full_at_b)
    with pytest.raises(OSError, match=r"out: cannot be written \(No space left"):
        result_folder.write(folder, {"a": b"1", "b": b"2"}, names)
    assert list(folder.parent.iterdir()) == []
    monkeypatch.undo()
    result_folder.write(folder, {"a": b"1", "b": b"2"}, names)
    (folder / "mine").write_bytes(b"mine")
    monkeypatch.setattr(weight_files, "write", full_at_b)
    with pytest.raises(OSError, match="No space left"):
        result_folder.write(folder, {"a": b"3", "b": b"4", "c": b"5"}, names, overwrite=True)
    assert contents() == {"a": b"1", "b": b"2", "mine": b"mine"}
    monkeypatch.undo()
    with pytest.raises(FileExistsError, match="out/a: exists; give --overwrite"):
        result_folder.write(folder, {"c": b"5"}, names)
    result_folder.write(folder, {"b": b"4", "c": b"5"}, names, overwrite=True)
    assert contents() == {"b": b"4", "c": b"5", "mine": b"mine"}  # a was of the earlier result
    assert [p.name for p in folder.parent.iterdir()] == ["out"]
    with pytest.raises(NotADirectoryError, match="mine: is no folder"):
        result_folder.check(folder / "mine", names, True)
    (folder / "a").mkdir()
    with pytest.raises(FileExistsError, match="a: is a folder"):
        result_folder.check(folder, names, True)
