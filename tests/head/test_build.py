"""Building and loading the library: every way it can be missing is said, and the package works all the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from liif_fast.cli import doctor
from liif_fast.head import library

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "liif_fast" / "_C.abi3.so"


@pytest.fixture
def tree(tmp_path):
    """A copy of what building needs."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    shutil.copytree(ROOT / "liif_fast", tmp_path / "liif_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def build(tree, *what, **environment):
    environment = {**os.environ, "LIIF_FAST_BUILD": "auto", **environment}
    command = [sys.executable, "setup.py", "-q", *(what or ["build"])]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def ours(process):
    return [line for line in process.stderr.splitlines() if line.startswith("liif_fast: ")]


def without_torch(tree):
    """A torch that cannot be imported, before the real one on the path."""
    (tree / "fake" / "torch").mkdir(parents=True)
    (tree / "fake" / "torch" / "__init__.py").write_text("raise ImportError('No module named torch')")
    return {"PYTHONPATH": str(tree / "fake")}


def test_none_builds_pure_python(tree):
    process = build(tree, LIIF_FAST_BUILD="none")
    assert (process.returncode, ours(process)) == (0, [])
    assert not list((tree / "build").rglob("*.so"))
    assert list((tree / "build").rglob("liif.py"))


def test_auto_without_torch_says_so_in_one_line(tree):
    process = build(tree, **without_torch(tree))
    assert process.returncode == 0, process.stderr
    (line,) = ours(process)
    assert "pure Python" in line
    assert "--no-build-isolation" in line
    assert list((tree / "build").rglob("liif.py"))


def test_auto_without_a_compiler_says_so_in_one_line(tree):
    process = build(tree, CXX="no-such-compiler")
    assert process.returncode == 0, process.stderr
    (line,) = ours(process)
    assert "no C++ compiler (no-such-compiler)" in line


@pytest.mark.parametrize("cause", ["torch", "compiler"])
def test_cpu_fails_with_the_reason(tree, cause):
    environment = without_torch(tree) if cause == "torch" else {"CXX": "no-such-compiler"}
    process = build(tree, LIIF_FAST_BUILD="cpu", **environment)
    assert process.returncode != 0
    (line,) = ours(process)
    assert cause in line


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no C++ compiler")
def test_a_wheel_with_kernels_fits_every_python_and_one_without_fits_all(tree):
    for source in (tree / "csrc").rglob("*.cpp"):
        source.unlink()
    (tree / "csrc" / "module.cpp").write_text("int liif_fast_nothing() { return 0; }\n")  # the real ones take long
    assert build(tree, "bdist_wheel", LIIF_FAST_BUILD="cpu").returncode == 0
    assert build(tree, "bdist_wheel", LIIF_FAST_BUILD="none").returncode == 0
    tags = sorted(wheel.stem.split("-", 2)[2] for wheel in (tree / "dist").glob("*.whl"))
    assert tags[0].startswith("cp310-abi3-")
    assert tags[1] == "py3-none-any"


def test_unknown_mode(tree):
    process = build(tree, LIIF_FAST_BUILD="gpu")
    assert process.returncode != 0
    assert "one of auto, cpu, cuda, none" in ours(process)[0]


def test_a_missing_library_is_silent_but_not_hidden(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "__file__", str(tmp_path / "head" / "library.py"))
    monkeypatch.setattr(library, "status", "")
    monkeypatch.delenv("LIIF_FAST_EXTENSION", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.load()
    assert "not built" in doctor.text(doctor.facts())


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


@pytest.mark.skipif(not LIBRARY.exists(), reason="the library is not built")
class TestLibrary:
    def test_uses_the_stable_interface_only(self):
        """Nothing of at::, c10:: or torch's C++: one file for every torch from 2.11 on; and no Python."""
        if not shutil.which("nm"):
            pytest.skip("there is no nm")
        symbols = subprocess.run(["nm", "-DC", "--undefined-only", LIBRARY], capture_output=True, text=True, check=True)
        names = [line.split(maxsplit=1)[1] for line in symbols.stdout.splitlines()]
        assert any(name.startswith("aoti_torch_") for name in names)
        assert not [
            name for name in names if re.match(r"(at|c10|caffe2|torch)::|(vtable|typeinfo).*(at|c10|torch)::", name)
        ]
        assert not [name for name in names if re.match(r"_?Py[A-Z_]", name)]

    def test_exports_nothing_that_could_clash(self):
        symbols = subprocess.run(["nm", "-DC", "--defined-only", LIBRARY], capture_output=True, text=True, check=True)
        assert "liif::" not in symbols.stdout

    @pytest.mark.skipif(library.status != "loaded", reason=library.status)
    def test_doctor_tells_the_path(self):
        facts = doctor.facts()
        assert facts["operators"]["render"]["cpu"].startswith("compiled kernel")
        assert "avx" in facts["cpu"]["kernels"] or "portable" in facts["cpu"]["kernels"]
        assert torch.ops.liif_fast.cpu_info() == facts["cpu"]["kernels"]


def test_max_jobs_and_the_cores_that_are_allowed(monkeypatch):
    """As many compilers as MAX_JOBS says, or as there are cores for this process."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    said, names = [], {"os": os, "say": lambda message: said.append(message)}
    exec(text[text.index("def jobs()") :].split("\n\n\n")[0], names)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    monkeypatch.delenv("MAX_JOBS", raising=False)
    assert names["jobs"]() == 3
    monkeypatch.setenv("MAX_JOBS", "2")
    assert (names["jobs"](), said) == (2, [])
    monkeypatch.setenv("MAX_JOBS", "many")
    assert names["jobs"]() == 3
    assert said == ["MAX_JOBS=many: a number of compilers from 1 on is wanted; all cores are used"]
    assert "ThreadPoolExecutor(jobs())" in text
