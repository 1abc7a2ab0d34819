"""Building and loading the library: every way it can be missing is said, and the package works all the same."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from liif_fast.cli import doctor
from liif_fast.head import library

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "liif_fast" / "_C.abi3.so"

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no C++ compiler")


@pytest.fixture
def tree(tmp_path):
    """A copy of what building needs."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    shutil.copytree(ROOT / "tools" / "building", tmp_path / "tools" / "building")
    shutil.copytree(ROOT / "liif_fast", tmp_path / "liif_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def build(tree, *what, **environment):
    environment = {**os.environ, "LIIF_FAST_BUILD": "auto", **environment}
    command = [sys.executable, "setup.py", "-q", *(what or ["build"])]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def ours(process):
    return [line for line in process.stderr.splitlines() if line.startswith("liif_fast: ")]


def without_torch(tree):
    """A torch that has nothing to build with, before the real one on the path."""
    (tree / "fake" / "torch").mkdir(parents=True)
    (tree / "fake" / "torch" / "__init__.py").write_text("raise ImportError('No module named torch')")
    return {"PYTHONPATH": str(tree / "fake")}


def without_kernels(tree):
    """The real ones take long to compile."""
    for source in (tree / "csrc").rglob("*.cpp"):
        source.unlink()
    (tree / "csrc" / "module.cpp").write_text("int liif_fast_nothing() { return 0; }\n")


def wheels(tree):
    return [path.name for path in (tree / "dist").glob("*.whl")]


def test_none_builds_pure_python(tree):
    process = build(tree, LIIF_FAST_BUILD="none")
    assert process.returncode == 0
    assert ours(process) == ["liif_fast: built pure Python, without compiled kernels: LIIF_FAST_BUILD=none"]
    assert not list((tree / "build").rglob("*.so"))
    assert list((tree / "build").rglob("liif.py"))


def test_auto_without_torch_says_so_in_one_line(tree):
    process = build(tree, **without_torch(tree))
    assert process.returncode == 0, process.stderr
    (line,) = ours(process)
    assert "built pure Python, without compiled kernels: no usable torch in this environment" in line
    assert "install torch, then this package again" in line
    assert list((tree / "build").rglob("liif.py"))


def test_auto_without_a_compiler_says_so_in_one_line(tree):
    process = build(tree, CXX="no-such-compiler")
    assert process.returncode == 0, process.stderr
    (line,) = ours(process)
    assert process.stderr.splitlines()[-1] == line
    assert "no C++ compiler (no-such-compiler)" in line


@pytest.mark.parametrize("cause", ["torch", "compiler"])
def test_cpu_fails_with_the_reason(tree, cause):
    environment = without_torch(tree) if cause == "torch" else {"CXX": "no-such-compiler"}
    process = build(tree, LIIF_FAST_BUILD="cpu", **environment)
    assert process.returncode != 0
    (line,) = ours(process)
    assert cause in line


@needs_compiler
@pytest.mark.parametrize(
    ("case", "environment", "name", "said"),
    [
        ("kernels", {}, "0cpu_kernels-cp310-abi3-", "built the CPU kernels"),
        ("asked", {"LIIF_FAST_BUILD": "none"}, "0pure_python_as_asked-py3-none-any", "LIIF_FAST_BUILD=none"),
        ("torch", {}, "0pure_python_no_torch-py3-none-any", "no usable torch"),
        ("compiler", {"CXX": "no-such-compiler"}, "0pure_python_no_compiler-py3-none-any", "no C++ compiler"),
        ("mistake", {}, "0pure_python_compile_failed-py3-none-any", "they did not compile (see above)"),
        (
            "instructions",
            {},
            "0cpu_kernels-cp310-abi3-",
            "without avx2, whose instructions this compiler does not know",
        ),
        ("release", {"LIIF_FAST_BUILD": "none", "LIIF_FAST_RELEASE": "1"}, "py3-none-any", "LIIF_FAST_BUILD=none"),
    ],
)
def test_a_wheels_name_and_the_last_line_say_what_was_built(tree, case, environment, name, said):
    """With kernels it fits every Python, without it fits all; also when that is known only after compiling."""
    without_kernels(tree)
    if case == "torch":
        environment = without_torch(tree)
    elif case == "mistake":
        (tree / "csrc" / "module.cpp").write_text("no C++\n")
    elif case == "instructions":
        (tree / "csrc" / "kernels_avx2.cpp").write_text("#ifndef LIIF_FAST_SKIP\n#error unknown\n#endif\n")
        if platform.machine() not in ("x86_64", "AMD64"):
            pytest.skip("another instruction set")
    process = build(tree, "bdist_wheel", **environment)
    assert process.returncode == 0, process.stderr
    (wheel,) = wheels(tree)
    assert wheel.split("-", 2)[2].startswith(name)
    last = process.stderr.splitlines()[-1]
    assert last.startswith("liif_fast: built ")
    assert said in last
    with zipfile.ZipFile(tree / "dist" / wheel) as file:
        names = file.namelist()
        about = file.read(next(name for name in names if name.endswith("/WHEEL"))).decode()
    assert any(name == "liif_fast/_C.abi3.so" for name in names) == ("abi3" in wheel)
    assert f"Root-Is-Purelib: {str('abi3' not in wheel).lower()}" in about


@needs_compiler
def test_a_second_build_has_nothing_of_the_first_that_is_gone(tree):
    """Modules that were deleted since, and a library that this build could not make."""
    without_kernels(tree)
    gone = tree / "liif_fast" / "gone.py"
    gone.write_text("")
    assert build(tree, "bdist_wheel").returncode == 0
    gone.unlink()
    (tree / "csrc" / "module.cpp").write_text("no C++\n")
    process = build(tree, "bdist_wheel", "--dist-dir", "second")
    assert process.returncode == 0, process.stderr
    (wheel,) = (tree / "second").iterdir()
    assert "0pure_python_compile_failed" in wheel.name
    with zipfile.ZipFile(wheel) as file:
        assert not {"liif_fast/gone.py", "liif_fast/_C.abi3.so"} & set(file.namelist())


@needs_compiler
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="another instruction set")
def test_a_better_compiler_makes_what_the_first_did_not_know(tree):
    """Objects are those of the compiler and the flags that are asked for; what is kept is named all the same."""
    without_kernels(tree)
    source = tree / "csrc" / "kernels_avx2.cpp"
    source.write_text("#ifndef KNOWN\n#ifndef LIIF_FAST_SKIP\n#error unknown\n#endif\n#endif\n")
    assert "without avx2" in build(tree).stderr.splitlines()[-1]
    for _ in range(2):  # made, and then kept
        last = build(tree, CXX=f"{os.environ.get('CXX', 'g++')} -DKNOWN").stderr.splitlines()[-1]
        assert "; for avx2 and any processor" in last
        assert "without avx2" not in last


@needs_compiler
def test_an_isolated_build_finds_the_torch_of_the_environment(tree, tmp_path):
    """As pip runs it: packages of the environment hidden, a package index not needed."""
    without_kernels(tree)
    hidden = "import sys, sysconfig; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
    hidden += f"sys.path.append({str(tmp_path / 'tools-alone')!r}); sys.argv = ['setup.py', 'bdist_wheel']; "
    hidden += "import runpy; runpy.run_path('setup.py', run_name='__main__'); assert 'torch' not in sys.modules"
    tools = tmp_path / "tools-alone"
    tools.mkdir()
    for path in Path(importlib.util.find_spec("setuptools").origin).parents[1].glob("setuptools*"):
        (tools / path.name).symlink_to(path)
    environment = {**os.environ, "LIIF_FAST_BUILD": "auto"}
    process = subprocess.run([sys.executable, "-c", hidden], cwd=tree, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert wheels(tree)[0].split("-")[2] in ("0cpu_kernels", "0cuda_kernels", "0cpu_kernels_no_cuda")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("__version__ = '2.10.1'", "torch 2.10.1 is older than 2.11"),
        ("__version__ = '2.13.0'", "has no headers of its stable interface"),
        ("debug = False", "tells no version"),
        ("__version__ =", "is no torch"),
    ],
)
def test_a_torch_that_will_not_do(tree, version, said):
    environment = without_torch(tree)
    (tree / "fake" / "torch" / "version.py").write_text(version)
    process = build(tree, LIIF_FAST_BUILD="cpu", **environment)
    assert process.returncode != 0
    assert said in ours(process)[0]


def test_torchs_cuda_version_is_read_from_its_file(tree, monkeypatch):
    """A CUDA build of torch, without importing it."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from building import torch_here

    home = tree / "torch"
    (home / "include" / "torch" / "csrc" / "stable").mkdir(parents=True)
    (home / "include" / "torch" / "csrc" / "stable" / "library.h").touch()
    (home / "version.py").write_text("__version__ = '2.12.0+cu130'\ncuda: Optional[str] = '13.0'\n")
    monkeypatch.setattr(torch_here.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch_here, "hidden_folders", lambda: iter([tree / "empty", tree]))
    assert torch_here.find() == (home, "2.12.0+cu130", "13.0")
    monkeypatch.setattr(torch_here, "hidden_folders", lambda: iter([tree / "empty"]))
    with pytest.raises(ImportError, match="No module named 'torch'"):
        torch_here.find()


def test_unknown_mode(tree):
    process = build(tree, LIIF_FAST_BUILD="gpu")
    assert process.returncode != 0
    assert "one of auto, cpu, cuda, none" in ours(process)[0]


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
