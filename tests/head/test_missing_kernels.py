"""Without the compiled library, or with one that does not load: the package works, and says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import liif_fast
from liif_fast.base import version
from liif_fast.cli import doctor
from liif_fast.head import library

ROOT = Path(__file__).parents[2]


@pytest.fixture
def missing(monkeypatch, tmp_path):
    """An installation without a library; build(tag, origin) is what its metadata says."""
    monkeypatch.setattr(library, "__file__", str(tmp_path / "head" / "library.py"))
    monkeypatch.setattr(library, "status", "")
    monkeypatch.setattr(library, "_told", False)
    monkeypatch.setattr(version, "PACKAGE", tmp_path / "liif_fast")
    monkeypatch.delenv("LIIF_FAST_EXTENSION", raising=False)

    def load(tag="", origin=""):
        files = {"WHEEL": f"Wheel-Version: 1.0\nBuild: 0{tag}\nTag: py3-none-any\n", "direct_url.json": origin}
        monkeypatch.setattr(version, "_metadata", files.get)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            library.load()
        return library.status

    return load


AGAIN = "pip install --no-cache-dir --force-reinstall --no-deps"


@pytest.mark.parametrize(
    ("tag", "origin", "status"),
    [
        ("", "", f"not built: with a C++ compiler, {AGAIN} --no-binary liif-fast liif-fast makes them"),
        (
            "pure_python_no_torch",
            '{"dir_info": {}, "url": "file:///home/me/liif%20fast"}',
            "not built (there was no torch when it was installed): with a C++ compiler, "
            f"{AGAIN} '/home/me/liif fast' makes them",
        ),
        (
            "pure_python_compile_failed",
            '{"archive_info": {}, "url": "file:///x.whl"}',
            "not built (compiling failed when it was installed, as pip -v shows): with a C++ compiler, "
            f"{AGAIN} --no-binary liif-fast liif-fast makes them",
        ),
        (
            "pure_python_as_asked",
            "",
            "left out by LIIF_FAST_BUILD=none: with a C++ compiler, "
            f"{AGAIN} --no-binary liif-fast liif-fast makes them",
        ),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="kernels are for Linux and macOS")
def test_a_missing_library_is_silent_until_it_is_used(missing, tag, origin, status):
    """The import is silent; then a warning, once, unless it was asked for; doctor tells either way."""
    assert missing(tag, origin) == status
    assert f"compiled library: {status}" in doctor.text(doctor.facts())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            library.tell()
    want = f"liif_fast: the compiled kernels are {status}; until then plain PyTorch computes the same, more slowly"
    told = [(warning.category, str(warning.message)) for warning in caught]
    assert told == ([] if "as_asked" in tag else [(liif_fast.NoKernelsWarning, want)])


def test_windows_is_not_told_of_what_it_cannot_have(missing, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert missing("pure_python_no_compiler").endswith(": they are for Linux and macOS")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.tell()


@pytest.mark.parametrize("environment", [{}, {"LIIF_FAST_EXTENSION": "0"}])
def test_the_first_use_of_a_source_tree_without_kernels(tmp_path, environment):
    """A model on a CPU, twice: one warning with the command for this tree; none where kernels are switched off."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "liif_fast", tmp_path / "liif_fast", ignore=ignored)
    (tmp_path / "setup.py").touch()
    code = """
import torch, liif_fast
encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8, 8]}})
for _ in range(2):
    model.upscale(torch.rand(3, 5, 6), scale=2)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("NoKernelsWarning") == (0 if "LIIF_FAST_EXTENSION" in environment else 1)
    if "LIIF_FAST_EXTENSION" not in environment:
        assert f"with a C++ compiler, {AGAIN} --editable {tmp_path} makes them" in done.stderr


def test_a_library_that_does_not_load_warns_once_with_the_linkers_words(monkeypatch, tmp_path):
    (tmp_path / "_C.abi3.so").write_text("not a library")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "head" / "library.py"))
    monkeypatch.setattr(library, "status", "")
    monkeypatch.delenv("LIIF_FAST_EXTENSION", raising=False)
    with pytest.warns(
        UserWarning, match="does not load, plain PyTorch is used instead: .*(invalid ELF|file too short)"
    ):
        library.load()
    assert "does not load" in doctor.text(doctor.facts())


def test_switched_off():
    code = "import liif_fast, torch; print(liif_fast.head.library.status, hasattr(torch.ops.liif_fast, 'cpu_info'))"
    environment = {**os.environ, "LIIF_FAST_EXTENSION": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "switched off by LIIF_FAST_EXTENSION=0 False"
