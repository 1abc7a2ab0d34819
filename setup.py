"""Builds the compiled kernels where that is possible; all metadata is in pyproject.toml.

LIIF_FAST_BUILD says what to build:
    auto  CUDA kernels too if torch is a CUDA build and nvcc is there, else the CPU kernels, else pure Python
          (default)
    cpu   the CPU kernels, or fail with the reason
    cuda  the CPU and CUDA kernels, or fail with the reason; a CPU build of torch will do, and a GPU is not needed
    none  pure Python
nvcc is $CUDA_HOME/bin/nvcc or the one on the PATH; TORCH_CUDA_ARCH_LIST chooses GPUs ("8.0 9.0+PTX"; default: all).

The library uses only LibTorch's stable C interface and no Python: one file serves every Python and every torch from
2.11 on. torch must be importable here, which build isolation prevents: pip install --no-build-isolation .
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
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
    "kernels_amx.cpp": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
}

# no one waits for these kernels but the compiler
FOR_TESTS = ["-Os", "-Wno-psabi"]

# sums and products round as they are written, as on the CPU
NVCC = ["-O3", "-std=c++17", "-fmad=false", "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off"]
ARCHITECTURES = ["8.0", "8.6", "8.9", "9.0", "10.0", "12.0+PTX"]


def say(message: str) -> None:
    print(f"liif_fast: {message}", file=sys.stderr, flush=True)


def jobs() -> int:
    """Compilers at a time: MAX_JOBS, as torch's own extensions take it, or the cores that this process may use."""
    wanted = os.environ.get("MAX_JOBS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if wanted:
        say(f"MAX_JOBS={wanted}: a number of compilers from 1 on is wanted; all cores are used")
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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

        def build(sources: list[str]) -> list[str]:
            with ThreadPoolExecutor(jobs()) as pool:
                return list(pool.map(lambda source: self.compile(ext, source, headers), sources))

        cuda = [source for source in ext.sources if Path(source).parent.name == "cuda"]
        objects = build([source for source in ext.sources if source not in cuda])
        link = []
        try:
            if cuda:
                objects += build(cuda)
                link = cuda_libraries(find_nvcc())
        except (CompileError, ExecError):
            if MODE != "auto":
                raise
            say("the CUDA kernels did not compile (see above): CPU kernels alone. LIIF_FAST_BUILD=cuda makes it fail.")
        path = self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.compiler.link_shared_object(
            objects,
            path,
            libraries=ext.libraries,
            library_dirs=ext.library_dirs,
            build_temp=self.build_temp,
            target_lang="c++",
            extra_postargs=link,
        )

    def compile(self, ext: Extension, source: str, headers: list[str]) -> str:
        if source.endswith(".cu"):
            target = os.path.join(self.build_temp, f"{source}.o")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            nvcc = find_nvcc()
            self.spawn([nvcc, *NVCC, *architecture_flags(nvcc), "-c", source, "-o", target])
            return target
        (target,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        sources = [source, __file__, *headers]
        if not self.force and os.path.exists(target) and os.path.getmtime(target) > max(map(os.path.getmtime, sources)):
            return target
        name = os.path.basename(source)
        special = INSTRUCTION_SETS.get(name, []) if platform.machine() in ("x86_64", "AMD64") else []
        always = FOR_TESTS if name.startswith("kernels_plain") else []

        def run(flags: list[str]) -> None:
            includes = [f"-isystem{d}" for d in ext.include_dirs]
            self.compiler.compile(
                [source], output_dir=self.build_temp, extra_postargs=[*COMMON, *includes, *always, *flags]
            )

        try:
            run(special)
        except CompileError:
            if not special:
                raise
            say(f"this compiler does not know the instructions of {name}: that path is left out")
            run(["-DLIIF_FAST_SKIP"])
        return target


def find_nvcc() -> str | None:
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    here = [nvcc for nvcc in (shutil.which("nvcc", path=os.path.join(home, "bin")) for home in homes) if nvcc]
    return here[0] if here else None if homes else shutil.which("nvcc")


def nvcc_says(nvcc: str, *arguments: str) -> str:
    done = subprocess.run([nvcc, *arguments], capture_output=True, text=True)
    return done.stdout + done.stderr


def architecture_flags(nvcc: str) -> list[str]:
    """For the GPUs of TORCH_CUDA_ARCH_LIST; by default one library for all from Ampere on that this nvcc knows, with
    PTX for later ones."""
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    if not asked:
        known = nvcc_says(nvcc, "--list-gpu-code").split()
        asked = [a for a in ARCHITECTURES if f"sm_{re.sub('[^0-9]', '', a)}" in known]
        asked[-1:] = [a.removesuffix("+PTX") + "+PTX" for a in asked[-1:]]
    flags = []
    for name in asked:
        match = re.fullmatch(r"(\d+)\.(\d+[af]?)(\+PTX)?", name)
        if not match:
            raise SystemExit(f"liif_fast: TORCH_CUDA_ARCH_LIST: numbers such as '8.0 9.0+PTX' are wanted, not '{name}'")
        number = match[1] + match[2]
        flags += [f"-gencode=arch=compute_{number},code=sm_{number}"]
        flags += [f"-gencode=arch=compute_{number},code=compute_{number}"] if match[3] else []
    return flags


def cuda_libraries(nvcc: str) -> list[str]:
    """The CUDA runtime, linked statically; and libtorch, which on a CUDA build of torch brings the current stream: the
    symbol is weak, so the linker must be told to keep the library."""
    found = re.search(r"LIBRARIES=(.*)", nvcc_says(nvcc, "--dryrun", "none.cu"))
    folders = [word for word in shlex.split(found[1] if found else "") if word.startswith("-L")]
    keep = ["-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed"]
    return [*keep, *folders, "-lcudart_static", "-lrt", "-lpthread", "-ldl"]


def no_cuda() -> str | None:
    """Why CUDA kernels cannot be built here, and what to do; None: they can."""
    nvcc = find_nvcc()
    if nvcc is None:
        where = " and ".join(f"{n}={os.environ[n]}" for n in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(n))
        return (
            f"no nvcc ({where or 'CUDA_HOME is not set, nor is it on the PATH'}); install the CUDA toolkit, 12 or "
            "newer, and set CUDA_HOME to its folder"
        )
    release = re.search(r"release (\d+)", nvcc_says(nvcc, "--version"))
    if not release:
        return f"{nvcc} --version fails: {nvcc_says(nvcc, '--version').strip()[:200]}"
    import torch

    if torch.version.cuda and int(release[1]) > int(torch.version.cuda.split(".")[0]):
        return (
            f"{nvcc} is of CUDA {release[1]}, torch of CUDA {torch.version.cuda}: its kernels want a newer driver than "
            "torch does; set CUDA_HOME to a toolkit of torch's CUDA version"
        )
    return None


def torch_home() -> Path:
    """Where torch's headers and libraries are; ImportError says why it cannot be used."""
    import torch

    version = tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", torch.__version__).groups())
    if version < TORCH:
        raise ImportError(f"torch {torch.__version__} is older than {'.'.join(map(str, TORCH))}")
    return Path(torch.__file__).parent


def with_cuda() -> bool:
    import torch

    if MODE == "cpu" or (MODE == "auto" and torch.version.cuda is None):
        return False
    why_not = no_cuda()
    if why_not and MODE == "cuda":
        raise SystemExit(f"liif_fast: LIIF_FAST_BUILD=cuda: {why_not}")
    if why_not:
        say(f"building the CPU kernels alone: {why_not}")
        return False
    architecture_flags(find_nvcc())  # a mistake there is told before anything is compiled
    return True


def kernels() -> list[Extension]:
    """The library to build, or nothing and the reason in one line."""
    if MODE not in ("auto", "cpu", "cuda", "none"):
        raise SystemExit(f"liif_fast: LIIF_FAST_BUILD={MODE}: one of auto, cpu, cuda, none is wanted")
    if MODE == "none" or not BUILDING:
        return []
    cure = None
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
    sources = {*ROOT.glob("csrc/**/*.cpp")} - {*ROOT.glob("csrc/cuda/*")}
    if with_cuda():
        sources |= {*ROOT.glob("csrc/cuda/*.cpp"), *ROOT.glob("csrc/cuda/*.cu")}
    return [
        Extension(
            "liif_fast._C",
            sorted(str(p.relative_to(ROOT)) for p in sources),
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
