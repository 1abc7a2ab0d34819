"""CUDA's compiler: where it is, for which GPUs it compiles, why it cannot be used."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess

ARCHITECTURES = ["8.0", "8.6", "8.9", "9.0", "10.0", "12.0+PTX"]


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


def no_cuda(torchs: str | None) -> str | None:
    """Why CUDA kernels cannot be built here, and what to do; None: they can. ``torchs``: CUDA's version in torch."""
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
    if torchs and int(release[1]) > int(torchs.split(".")[0]):
        return (
            f"{nvcc} is of CUDA {release[1]}, torch of CUDA {torchs}: its kernels want a newer driver than "
            "torch does; set CUDA_HOME to a toolkit of torch's CUDA version"
        )
    return None
