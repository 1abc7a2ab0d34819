"""Builds the compiled kernels where that is possible; all metadata is in pyproject.toml.

LIIF_FAST_BUILD says what to build:
    auto  what this environment can build, else pure Python (default)
    cpu   the CPU kernels, or fail with the reason
    cuda  the CPU and CUDA kernels, or fail with the reason
    none  pure Python

The library uses only LibTorch's stable C interface and no Python: one file serves every Python and every torch from
2.11 on. torch must be importable here, which build isolation prevents: pip install --no-build-isolation .
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError

ROOT = Path(__file__).resolve().parent
BUILDING = {"bdist_wheel", "editable_wheel", "build", "build_ext", "develop", "install"} & set(sys.argv)
MODE = os.environ.get("LIIF_FAST_BUILD", "auto")
TORCH = (2, 11)

COMMON = ["-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
# index arithmetic must round as torch's own does
COMMON += ["-fno-fast-math", "-ffp-contract=off"]
# headers of g++ 12 warn about their own deliberately undefined registers
COMMON += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"] if "clang" not in os.environ.get("CXX", "") else []
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
INSTRUCTION_SETS = {
    "kernels_avx2.cpp": AVX2,
    "kernels_avx_vnni.cpp": AVX2,
    "kernels_avx512.cpp": AVX512,
    "kernels_avx512_bf16.cpp": [*AVX512, "-mavx512bf16"],
    "kernels_avx512_vnni.cpp": [*AVX512, "-mavx512vnni"],
}


def say(message: str) -> None:
    print(f"liif_fast: {message}", file=sys.stderr, flush=True)


class BuildKernels(build_ext):
    """Compiles the files in parallel, each with the flags of its instruction set."""

    def run(self) -> None:
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError):
            if MODE != "auto":
                raise
            say("the kernels did not compile (see above): pure Python instead. LIIF_FAST_BUILD=cpu makes it fail.")
            self.extensions = []  # nothing to copy into the package

    def build_extension(self, ext: Extension) -> None:
        headers = [str(p) for p in ROOT.glob("csrc/**/*.h")]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: self.compile(ext, source, headers), ext.sources))
        path = self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.compiler.link_shared_object(
            objects,
            path,
            libraries=ext.libraries,
            library_dirs=ext.library_dirs,
            build_temp=self.build_temp,
            target_lang="c++",
        )

    def compile(self, ext: Extension, source: str, headers: list[str]) -> str:
        (target,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        sources = [source, __file__, *headers]
        if not self.force and os.path.exists(target) and os.path.getmtime(target) > max(map(os.path.getmtime, sources)):
            return target
        name = os.path.basename(source)
        special = INSTRUCTION_SETS.get(name, []) if platform.machine() in ("x86_64", "AMD64") else []

        def run(flags: list[str]) -> None:
            includes = [f"-isystem{d}" for d in ext.include_dirs]
            self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=[*COMMON, *includes, *flags])

        try:
            run(special)
        except CompileError:
            if not special:
                raise
            say(f"this compiler does not know the instructions of {name}: that path is left out")
            run(["-DLIIF_FAST_SKIP"])
        return target


def torch_home() -> Path:
    """Where torch's headers and libraries are; ImportError says why it cannot be used."""
    import torch

    version = tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", torch.__version__).groups())
    if version < TORCH:
        raise ImportError(f"torch {torch.__version__} is older than {'.'.join(map(str, TORCH))}")
    return Path(torch.__file__).parent


def kernels() -> list[Extension]:
    """The library to build, or nothing and the reason in one line."""
    if MODE not in ("auto", "cpu", "cuda", "none"):
        raise SystemExit(f"liif_fast: LIIF_FAST_BUILD={MODE}: one of auto, cpu, cuda, none is wanted")
    if MODE == "none" or not BUILDING:
        return []
    cure = None
    if MODE == "cuda" and not list(ROOT.glob("csrc/cuda/*.cu")):
        raise SystemExit("liif_fast: LIIF_FAST_BUILD=cuda: this version has no CUDA C++ kernels; use auto or cpu")
    try:
        home = torch_home()
    except ImportError as error:
        cure = f"no usable torch while building ({error}); with torch installed: pip install --no-build-isolation ."
    compilers = [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    if not cure and (sys.platform == "win32" or not any(map(shutil.which, compilers))):
        cure = f"no C++ compiler ({', '.join(compilers)}); g++ 9 or newer, or clang, on Linux or macOS is wanted"
    if cure and MODE != "auto":
        raise SystemExit(f"liif_fast: LIIF_FAST_BUILD={MODE}: {cure}")
    if cure:
        say(f"installing pure Python, without compiled kernels: {cure}")
        return []
    return [
        Extension(
            "liif_fast._C",
            sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/**/*.cpp")),
            include_dirs=[str(home / "include")],
            library_dirs=[str(home / "lib")],
            libraries=["torch_cpu"],
            language="c++",
            py_limited_api=True,
        )
    ]


extensions = kernels()
setup(
    ext_modules=extensions,
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if extensions else {},
)
