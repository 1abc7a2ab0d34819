"""What tests compile is made once: by one process, and anew when anything that went into it changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import built_once
import pytest


def test_made_once_and_anew_after_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr(built_once, "KEPT", tmp_path / "kept")
    source, made = tmp_path / "a.cpp", []
    source.write_text("one")

    def make(folder):
        made.append(source.read_text())
        (folder / "result").write_text(made[-1])

    def build(*words):
        return (built_once.built_once("thing", [source, *words], make) / "result").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: build("-O1"), range(8))) == {"one"}
    assert len(made) == 1
    assert build("-O2") == "one"
    source.write_text("two")
    assert build("-O1") == "two"
    assert len(made) == 3


def test_what_failed_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(built_once, "KEPT", tmp_path)

    def fails(folder):
        (folder / "half").touch()
        raise OSError("no compiler")

    with pytest.raises(OSError, match="no compiler"):
        built_once.built_once("thing", ["-O1"], fails)
    folder = built_once.built_once("thing", ["-O1"], lambda folder: (folder / "whole").touch())
    assert [p.name for p in folder.iterdir()] == ["whole"]
