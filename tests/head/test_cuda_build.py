"""Building the CUDA kernels, on a machine without a GPU: what the compiler made of them, and that the library loads."""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from built_once import built_once, sources, version

ROOT = Path(__file__).parents[2]
NVCC = shutil.which("nvcc")
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
CXX = next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)
needs_compiler = pytest.mark.skipif(CXX is None, reason="no C++ compiler")


def build(tree, **environment):
    # without the CPU kernels of single instruction sets, which take long: the portable ones stay
    environment = {**os.environ, "CXXFLAGS": "-DLIIF_FAST_SKIP", **environment}
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tree,
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
    )


def in_setup(tree, expression, **environment):
    """What an expression prints among setup.py's functions."""
    code = f"import sys; sys.argv = ['setup.py', '--name']; import setup; print({expression})"
    environment = {**os.environ, **environment}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=environment, capture_output=True, text=True, check=True
    )
    return process.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what building needs."""
    tree = tmp_path_factory.mktemp("cuda_build")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "csrc", tree / "csrc")
    shutil.copytree(ROOT / "tools" / "building", tree / "tools" / "building")
    shutil.copytree(ROOT / "liif_fast", tree / "liif_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tree


@pytest.fixture(scope="module")
def built(tree):
    """The tree with its library, and what ptxas said."""

    def make(folder):
        process = build(tree, LIIF_FAST_BUILD="cuda", NVCC_APPEND_FLAGS="-Xptxas=-v", TORCH_CUDA_ARCH_LIST=None)
        assert process.returncode == 0, process.stderr
        shutil.copy(tree / "liif_fast" / "_C.abi3.so", folder)
        (folder / "said.txt").write_text(process.stdout + process.stderr)

    inputs = [ROOT / "setup.py", ROOT / "pyproject.toml", *sources("csrc", "tools/building")]
    inputs += [version(NVCC), version(CXX)]
    inputs += [f"{name}={os.environ.get(name)}" for name in ("CXX", "CC", "CUDA_HOME", "CFLAGS", "LDFLAGS")]
    kept = built_once("cuda_build", inputs, make)
    shutil.copy(kept / "_C.abi3.so", tree / "liif_fast")
    return tree, (kept / "said.txt").read_text()


@needs_nvcc
@needs_compiler
def test_no_spills_on_any_architecture(built):
    reports = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads",
        built[1],
        re.DOTALL,
    )
    kernels = collections.Counter(architecture for _, architecture, *_ in reports)
    assert set(kernels) == set(ARCHITECTURES)
    assert len(set(kernels.values())) == 1
    assert [report for report in reports if report[2:] != ("0", "0", "0")] == []


@needs_nvcc
@needs_compiler
def test_the_library_loads_on_this_torch(built):
    """Without a GPU, and with a CPU build of torch: the operators' CPU kernels run and doctor shows the CUDA ones."""
    code = """
import torch, liif_fast
from liif_fast.cli import doctor
from liif_fast.head import library, ops
assert ops.CPU_KERNELS and ops.CUDA_KERNELS, library.status
args = torch.randn(1, 4, 5, 16), torch.rand(1, 7, 2) * 2 - 1, None, torch.randn(16, 4), (4, 5), (0, 0)
for got, want in zip(torch.ops.liif_fast.corner_gather(*args), ops.PLAIN["corner_gather"](*args)):
    torch.testing.assert_close(got, want)
args = args[0], args[1], (4, 5), (0, 0)
assert all(map(torch.equal, torch.ops.liif_fast.gather_corners(*args), ops.PLAIN["gather_corners"](*args)))
found = doctor.facts()["operators"]
for name in ("corner_gather", "corner_gather_backward", "gather_corners", "gather_corners_backward"):
    assert "compiled kernel" in found[name]["cuda"], found
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=built[0], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@needs_nvcc
@needs_compiler
@pytest.mark.skipif(not shutil.which("nm"), reason="there is no nm")
def test_the_library_needs_no_cuda_libraries(built):
    library = built[0] / "liif_fast" / "_C.abi3.so"
    symbols = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
    cuda = [line.split() for line in symbols.stdout.splitlines() if re.search(r"\bcu[A-Z]|\bcuda|cuda_stream", line)]
    assert cuda == [["w", "aoti_torch_get_current_cuda_stream"]]


@needs_nvcc
def test_ptx(tmp_path):
    """Index arithmetic is not contracted, even by default flags: the only fused multiply-adds are those of the position
    term (7 a column for four corners, 3 for one) and of the gradient of w_pos; gather_corners has none. Wide kernels
    move 16 bytes at once."""
    target = tmp_path / "corner_gather.ptx"
    source = ROOT / "csrc" / "cuda" / "corner_gather.cu"
    subprocess.run([NVCC, "-O3", "-std=c++17", "-arch=compute_90", "-ptx", source, "-o", target], check=True)
    kernels = re.findall(r"\.entry (\w+)\((.*?)\n\}", target.read_text(), re.DOTALL)
    names = collections.Counter()
    for name, text in kernels:
        kind = re.search(r"(forward|backward|link|partials|segments)_kernel", name)[1]
        names[kind] += 1
        fused = len(re.findall(r"\bfma\.", text))
        # without a rounding in its name ptxas may contract it
        contractable = re.findall(r"(?<![.\w])(?:mul|add|sub)\.f(?:32|64)\b", text)
        wide = [len(re.findall(rf"\b{move}[.:\w]*\.v4\b", text)) for move in ("ld.global", "st.global")]
        assert contractable == [], name
        assert ".local" not in text, name
        if kind in ("link", "partials", "segments"):
            assert fused == 0, name
            continue
        columns, corners, first_layer = map(int, re.search(r"Li(\d+)ELi(\d+)ELb(\d)E", name).groups())
        if kind == "forward":
            assert fused == first_layer * columns * (7 if corners == 4 else 3), name
            assert wide == ([corners, corners] if columns > 1 else [0, 0]), name
        else:  # gradient and h of a row of each list, before the loop and in it
            lists = 2 if corners == 4 else 1
            # the compiler may make a loop of its own for pixels with several segments
            assert fused in (first_layer * 4 * columns * lists, first_layer * 8 * columns * lists), name
            assert wide == ([2 * (1 + first_layer) * lists, 1] if columns > 1 else [0, 0]), name
    assert names == {"forward": 28, "backward": 28, "link": 4, "partials": 2, "segments": 4}  # half without the layer


@needs_compiler
def test_cuda_without_nvcc_says_so(tree, tmp_path):
    """CUDA_HOME without a compiler in it: the cause and the cure in one line."""
    process = build(tree, LIIF_FAST_BUILD="cuda", CUDA_HOME=str(tmp_path), CUDA_PATH=None)
    assert process.returncode != 0
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("liif_fast: ")]
    assert "LIIF_FAST_BUILD=cuda: no nvcc" in line
    assert "set CUDA_HOME to its folder" in line


@needs_nvcc
@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is a CUDA build")
def test_auto_builds_no_cuda_kernels_for_a_cpu_build_of_torch(tree):
    assert in_setup(tree, "setup.with_cuda(setup.torch_here.find())", LIIF_FAST_BUILD="auto") == "False"
    assert in_setup(tree, "setup.with_cuda(setup.torch_here.find())", LIIF_FAST_BUILD="cuda") == "True"


@needs_nvcc
def test_architectures(tree):
    def flags(asked):
        return in_setup(tree, "*setup.architecture_flags(setup.find_nvcc())", TORCH_CUDA_ARCH_LIST=asked)

    assert flags("9.0a") == "-gencode=arch=compute_90a,code=sm_90a"
    assert flags("8.0;8.6+PTX").split() == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_86,code=sm_86",
        "-gencode=arch=compute_86,code=compute_86",
    ]


@needs_nvcc
@needs_compiler
def test_an_unknown_architecture_fails(tree, tmp_path):
    tree = shutil.copytree(tree, tmp_path / "tree", ignore=shutil.ignore_patterns("*.so", "build"))
    for source in (tree / "csrc").rglob("*.cpp"):
        source.unlink()
    (tree / "csrc" / "module.cpp").write_text("int liif_fast_nothing() { return 0; }\n")  # the real ones take long
    process = build(tree, LIIF_FAST_BUILD="cuda", TORCH_CUDA_ARCH_LIST="Hopper")
    assert process.returncode != 0
    assert "TORCH_CUDA_ARCH_LIST: numbers such as '8.0 9.0+PTX' are wanted, not 'Hopper'" in process.stderr
