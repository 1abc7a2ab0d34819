"""Builds the compiled kernels where that is possible. Metadata is in pyproject.toml; tools/building knows torch, CUDA
and README.

LIIF_FAST_BUILD says what to build:
    auto  CUDA kernels too if torch is a CUDA build and nvcc is there, else the CPU kernels, else pure Python
          (default)
    cpu   the CPU kernels, or fail with the reason
    cuda  the CPU and CUDA kernels, or fail with the reason; a CPU build of torch will do, and a GPU is not needed
    none  pure Python
nvcc is $CUDA_HOME/bin/nvcc or the one on the PATH; TORCH_CUDA_ARCH_LIST chooses GPUs ("8.0 9.0+PTX"; default: all).
LIIF_FAST_RELEASE=1 makes a wheel for an index: linked by tools/release/link.py, without what only tests use.

The library uses only LibTorch's stable C interface and no Python: one file serves every Python and every torch from
2.11 on. torch must be installed in this environment; it is not imported, and found in pip's isolated builds too.

The last line on standard error says what was built (pip -v shows it), and so does the wheel's name, which pip shows
always: liif_fast-VERSION-0cpu_kernels-... or 0pure_python_no_compiler.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))
from building import readme, torch_here  # noqa: E402
from building.cuda import architecture_flags, cuda_libraries, find_nvcc, no_cuda  # noqa: E402

BUILDING = {"bdist_wheel", "editable_wheel", "build", "build_ext", "develop", "install"} & set(sys.argv)
MODE = os.environ.get("LIIF_FAST_BUILD", "auto")
RELEASE = os.environ.get("LIIF_FAST_RELEASE", "0") != "0"

COMMON = ["-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
# index arithmetic must round as torch's own does
COMMON += ["-fno-fast-math", "-ffp-contract=off"]
# headers of g++ 12 warn about their own deliberately undefined registers
COMMON += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"] if "clang" not in os.environ.get("CXX", "") else []
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
X86 = {
    "kernels_avx2.cpp": AVX2,
    "kernels_avx_vnni.cpp": AVX2,
    "kernels_avx512.cpp": AVX512,
    "kernels_avx512_bf16.cpp": [*AVX512, "-mavx512bf16"],
    "kernels_avx512_vnni.cpp": [*AVX512, "-mavx512vnni"],
    "kernels_amx.cpp": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
}
ARM64 = {
    "kernels_neon.cpp": ["-march=armv8-a"],
    "kernels_neon_dotprod.cpp": ["-march=armv8.2-a+dotprod"],
    "kernels_neon_i8mm.cpp": ["-march=armv8.2-a+i8mm"],
    "kernels_neon_bf16.cpp": ["-march=armv8.2-a+bf16"],
}
INSTRUCTION_SETS = {"x86_64": X86, "AMD64": X86, "aarch64": ARM64, "arm64": ARM64}.get(platform.machine(), {})

# no one waits for these kernels but the compiler; a release has none
FOR_TESTS = ["-DLIIF_FAST_SKIP"] if RELEASE else ["-Os", "-Wno-psabi"]

# sums and products round as they are written, as on the CPU
NVCC = ["-O3", "-std=c++17", "-fmad=false", "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off"]


def say(message: str) -> None:
    print(f"liif_fast: {message}", file=sys.stderr, flush=True)


class Outcome:
    """What was built: for the name of a wheel, and in words."""

    tag, text = "0pure_python", ""

    def __init__(self) -> None:
        self.paths: list[str] = []  # files of an instruction set of their own
        self.left_out: list[str] = []  # of which this compiler does not know

    def pure(self, why: str, text: str) -> None:
        self.tag, self.text = f"0pure_python_{why}", f"pure Python, without compiled kernels: {text}"

    def cpu_alone(self, why: str, text: str) -> None:
        self.tag, self.text = f"0cpu_kernels_{why}", f"the CPU kernels, without CUDA kernels: {text}"

    def summary(self) -> str:
        text = f"built {self.text}"
        if self.paths:
            text += f"; for {', '.join(sorted(self.paths))} and any processor"
        if self.left_out:
            text += f"; without {', '.join(sorted(self.left_out))}, whose instructions this compiler does not know"
            text += " (g++ 11 and newer know all)"
        return text


outcome = Outcome()


def jobs() -> int:
    """Compilers at a time: MAX_JOBS, as torch's own extensions take it, or the cores that this process may use."""
    wanted = os.environ.get("MAX_JOBS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if wanted:
        say(f"MAX_JOBS={wanted}: a number of compilers from 1 on is wanted; all cores are used")
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Modules(build_py):
    """Copies the modules that there are: what an earlier build left, modules that are gone and its library, goes."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "liif_fast"), ignore_errors=True)
        super().run()


class BuildKernels(build_ext):
    """Compiles the files in parallel, each with the flags of its instruction set."""

    def run(self) -> None:
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError):
            if MODE != "auto":
                raise
            outcome.pure("compile_failed", "they did not compile (see above); LIIF_FAST_BUILD=cpu makes that an error")
            outcome.paths, outcome.left_out = [], []
            self.extensions = self.distribution.ext_modules = []  # nothing to copy into the package

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
            outcome.cpu_alone("cuda_failed", "they did not compile (see above); LIIF_FAST_BUILD=cuda makes it an error")
        path = self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if RELEASE and sys.platform == "linux":
            link = [*(f"-L{folder}" for folder in ext.library_dirs), *(f"-l{name}" for name in ext.libraries), *link]
            self.spawn([sys.executable, str(ROOT / "tools/release/link.py"), "-shared", *objects, *link, "-o", path])
            return
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
        name = os.path.basename(source)
        path = name.removeprefix("kernels_").removesuffix(".cpp")
        special = INSTRUCTION_SETS.get(name, [])
        always = FOR_TESTS if name.startswith("kernels_plain") else []
        common = [*COMMON, *(f"-isystem{d}" for d in ext.include_dirs), *always]
        stamp = Path(f"{target}.flags")  # how the object was made: another compiler or other flags make another

        def run(flags: list[str]) -> None:
            stamp.unlink(missing_ok=True)
            self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=[*common, *flags])
            stamp.write_text(self.command([*common, *flags]), encoding="utf-8")

        newest = max(map(os.path.getmtime, [source, __file__, *headers]))
        there = not self.force and stamp.is_file() and os.path.exists(target) and os.path.getmtime(target) > newest
        try:
            if not there or stamp.read_text(encoding="utf-8") != self.command([*common, *special]):
                run(special)
            outcome.paths += [path] if special else []
        except CompileError:
            if not special:
                raise
            outcome.left_out.append(path)
            run(["-DLIIF_FAST_SKIP"])
        return target

    def command(self, flags: list[str]) -> str:
        return shlex.join([*getattr(self.compiler, "compiler_so_cxx", self.compiler.compiler_so), *flags])


class Wheel(bdist_wheel):
    """A wheel whose name tells what is in it: pip shows the name, and keeps what setup.py says to itself."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if MODE == "none" and not RELEASE:
            self.build_number = outcome.tag  # in the metadata of an editable installation too

    def run_command(self, command: str) -> None:
        super().run_command(command)
        if command != "build":
            return
        if not self.distribution.has_ext_modules():  # or it did not compile
            self.root_is_pure, self.py_limited_api = True, False
        if self.build_number is None and not RELEASE:
            self.build_number = outcome.tag


def with_cuda(torch: torch_here.Torch) -> bool:
    if MODE == "auto" and torch.cuda is None:
        outcome.text += f", without CUDA kernels: torch {torch.version} is a CPU build"
    if MODE == "cpu" or (MODE == "auto" and torch.cuda is None):
        return False
    why_not = no_cuda(torch.cuda)
    if why_not and MODE == "cuda":
        raise SystemExit(f"liif_fast: LIIF_FAST_BUILD=cuda: {why_not}")
    if why_not:
        outcome.cpu_alone("no_cuda", why_not)
        return False
    architecture_flags(find_nvcc())  # a mistake there is told before anything is compiled
    outcome.tag, outcome.text = "0cuda_kernels", "the CPU and CUDA kernels"
    return True


def kernels() -> list[Extension]:
    """The library to build, or nothing and the reason in one line."""
    if MODE not in ("auto", "cpu", "cuda", "none"):
        raise SystemExit(f"liif_fast: LIIF_FAST_BUILD={MODE}: one of auto, cpu, cuda, none is wanted")
    if MODE == "none":
        outcome.pure("as_asked", "LIIF_FAST_BUILD=none")
    if MODE == "none" or not BUILDING:
        return []
    why = cure = ""
    try:
        torch = torch_here.find()
    except ImportError as error:
        why, cure = "no_torch", f"no usable torch in this environment ({error}); install torch, then this package again"
    compilers = [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    if not cure and (sys.platform == "win32" or not any(map(shutil.which, compilers))):
        why = "no_compiler"
        cure = f"no C++ compiler ({', '.join(compilers)}); g++ 9 or newer, or clang, on Linux or macOS is wanted"
    if cure and MODE != "auto":
        raise SystemExit(f"liif_fast: LIIF_FAST_BUILD={MODE}: {cure}")
    if cure:
        outcome.pure(why, cure)
        return []
    outcome.tag, outcome.text = "0cpu_kernels", "the CPU kernels"
    sources = {*ROOT.glob("csrc/**/*.cpp")} - {*ROOT.glob("csrc/cuda/*")}
    if with_cuda(torch):
        sources |= {*ROOT.glob("csrc/cuda/*.cpp"), *ROOT.glob("csrc/cuda/*.cu")}
    return [
        Extension(
            "liif_fast._C",
            sorted(str(p.relative_to(ROOT)) for p in sources),
            include_dirs=[str(torch.home / "include")],
            library_dirs=[str(torch.home / "lib")],
            libraries=["torch_cpu"],
            language="c++",
            py_limited_api=True,
        )
    ]


extensions = kernels()
setup(
    ext_modules=extensions,
    cmdclass={"build_py": Modules, "build_ext": BuildKernels, "bdist_wheel": Wheel},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if extensions else {},
    long_description=readme.long_description(ROOT),
    long_description_content_type="text/markdown",
)
if BUILDING:
    say(outcome.summary())
