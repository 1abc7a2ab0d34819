"""Checks what tools/release/wheels.sh made, before anything is uploaded:

    python tools/release/check.py dist                  # files alone: seconds
    python tools/release/check.py dist --pythons python3.10 python3.14 --torch torch==2.13.0

The sdist carries what its tests need; wheels are named rightly, hold to manylinux_2_28, use no symbols of Python, have
the kernels of every path, no test stand-ins, a description that an index renders. With --pythons each wheel goes into a
fresh environment of each of them with torch alone and no compiler on the PATH: ``liif-fast doctor`` says that the
kernels run, and small-liif enlarges a picture as plain PyTorch does.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATHS = {
    "x86_64": ("portable", "avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    "aarch64": ("portable", "neon", "neon_dotprod", "neon_i8mm", "neon_bf16"),
}
NEEDED = (
    "CHANGELOG.md",
    "Makefile",
    "README.md",
    "configs/small-liif.yaml",
    "csrc/module.cpp",
    "examples/demo.py",
    "integrations",
    "liif_fast/weights/small-liif.safetensors",
    "tests/helpers/cpu_paths.py",
    "tests/conftest.py",
    "tools/building/cuda.py",
    "tools/release/link.py",
)
LIBRARIES = re.compile(r"lib(torch\w*|c10|stdc\+\+|gcc_s|m|c|pthread|dl|rt)\.so(\.\d+)?|ld-linux-[\w-]+\.so\.\d")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--pythons", nargs="+", default=[], help="interpreters; each gets an environment for a time")
    parser.add_argument("--torch", nargs="+", default=["torch==2.13.0"], help="what pip installs before the wheel")
    args = parser.parse_args()
    files = sorted(path for path in args.dist.iterdir() if path.suffix in (".whl", ".gz"))
    if not files:
        raise SystemExit(f"check: {args.dist} has no wheel: tools/release/wheels.sh makes them")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    for path in files:
        (check_sdist if path.suffix == ".gz" else check_wheel)(path)
    for python in args.pythons:
        # the wheel for another architecture is tested by what made it (tools/aarch64)
        here = [path for path in files if path.stem.endswith(("-any", platform.machine()))]
        install(here, python, args.torch)


def want(good: bool, message: str) -> None:
    if not good:
        raise SystemExit(f"check: {message}")


def check_sdist(path: Path) -> None:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    want(not (missing := [name for name in NEEDED if name not in names]), f"{path.name} is without {missing}")
    built = [name for name in names if name.endswith((".so", ".pyc"))]
    want(not built, f"{path.name} has what was built: {built}")
    print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1e6:.2f} MB")


def check_wheel(path: Path) -> None:
    _, version, python, abi, system = path.stem.split("-")  # a build number would be one more
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    want(f"\n## {version.partition('+')[0]} " in changelog, f"{path.name}: CHANGELOG.md has no {version}")
    with zipfile.ZipFile(path) as wheel:
        libraries = [name for name in wheel.namelist() if ".so" in Path(name).name]
        if (python, abi, system) == ("py3", "none", "any"):
            want(not libraries, f"{path.name} has {libraries}")
        else:
            want((python, abi) == ("cp310", "abi3"), f"{path.name} is not for every Python from 3.10 on")
            want(system.startswith("manylinux_2_28_"), f"{path.name} is not manylinux_2_28")
            want(libraries == ["liif_fast/_C.abi3.so"], f"{path.name} has {libraries}")
            check_library(path, system, wheel.read(libraries[0]))
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def check_library(path: Path, system: str, content: bytes) -> None:
    from elftools.elf.elffile import ELFFile  # auditwheel's own dependency

    audit = [sys.executable, "-m", "auditwheel", "show", "--json", path]
    shown = json.loads(subprocess.run(audit, capture_output=True, text=True, check=True).stdout)
    policy = re.match(r"manylinux_2_(\d+)_", shown["sym_tag"])
    want(bool(policy) and int(policy[1]) <= 28, f"{path.name} has symbols of a later system: {shown}")
    want(not shown["unsupported_isa"], f"{path.name} is for some processors only: {shown}")
    elf = ELFFile(io.BytesIO(content))
    needed = [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
    strange = [name for name in needed if not LIBRARIES.fullmatch(name)]
    want(not strange, f"{path.name} needs {strange}")
    undefined = [s.name for s in elf.get_section_by_name(".dynsym").iter_symbols() if s["st_shndx"] == "SHN_UNDEF"]
    python = [name for name in undefined if re.match(r"_?Py[A-Z_]", name)]
    want(not python, f"{path.name} uses Python's {python}")
    machine = system.removeprefix("manylinux_2_28_")
    want(machine in PATHS, f"{path.name} is for {machine}, whose paths are not known here")
    absent = [name for name in PATHS[machine] if f"\0{name}\0".encode() not in content]
    want(not absent, f"{path.name} knows no {absent}")


def install(wheels: list[Path], python: str, torch: list[str]) -> None:
    """Each wheel in turn in a fresh environment without a compiler: installed, asked, used, taken away."""
    with tempfile.TemporaryDirectory(prefix="liif-fast-check-") as folder:
        subprocess.run([python, "-m", "venv", f"{folder}/venv"], check=True)
        here = Path(folder, "venv", "bin")
        # no compiler: a PATH with the environment alone
        clean = {"PATH": str(here), "HOME": folder, "LIIF_FAST_CACHE": f"{folder}/cache"}
        settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}

        def run(*command: object) -> str:
            words = [str(word) for word in command]
            done = subprocess.run(words, cwd=folder, env={**settings, **clean}, capture_output=True, text=True)
            want(done.returncode == 0, f"{' '.join(words)} ends with {done.returncode}:\n{done.stdout}{done.stderr}")
            return done.stdout

        run(here / "python", "-m", "pip", "install", "-q", *torch)
        compilers = [name for name in ("cc", "gcc", "g++", "clang", "c++") if shutil.which(name, path=clean["PATH"])]
        want(not compilers, f"{here} has {compilers}")
        for wheel in wheels:
            run(here / "python", "-m", "pip", "install", "-q", wheel.resolve())
            found = json.loads(run(here / "liif-fast", "doctor", "--json"))
            render = found["operators"]["render"]["cpu"]
            kernels = "-abi3-" in wheel.name
            want(render.startswith("compiled kernel") == kernels, f"{wheel.name}, {python}: render runs by {render}")
            print(f"{wheel.name}, Python {found['python']}, torch {found['packages']['torch']}: {render.split(':')[0]}")
            print(f"  {found['cpu']['kernels']}")
            for line in run(here / "python", "-I", ROOT / "tools/release/smoke.py").splitlines():
                print(f"  {line}", flush=True)
            run(here / "python", "-m", "pip", "uninstall", "-q", "-y", "liif-fast")


if __name__ == "__main__":
    main()
