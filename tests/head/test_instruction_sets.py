"""Files for instruction sets that this machine may lack: their places in the build; those of aarch64 compile."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CPU = ROOT / "csrc" / "cpu"
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
GXX = shutil.which("aarch64-linux-gnu-g++")


def flags() -> dict[str, dict[str, list[str]]]:
    """setup.py's flags for each file: {"X86": {"kernels_avx2.cpp": ["-mavx2", ...], ...}, "ARM64": ...}."""
    names: dict = {}
    exec(SETUP[SETUP.index("AVX2 = [") : SETUP.index("INSTRUCTION_SETS = {")], names)
    return {name: names[name] for name in ("X86", "ARM64")}


def test_each_file_has_its_flags_and_its_place():
    files = {path.name for path in CPU.glob("kernels_*.cpp")}
    x86, arm = flags()["X86"], flags()["ARM64"]
    assert files == {*x86, *arm, "kernels_portable.cpp", "kernels_plain_amx.cpp"}
    paths = (CPU / "paths.cpp").read_text(encoding="utf-8")
    lists = [re.findall(r"&path_(\w+)", text) for text in re.findall(r"kPaths\[\] = \{(.*?)\};", paths, re.S)]
    for file_flags, macro, listed in ((arm, "LIIF_ARM_PATHS", lists[0]), (x86, "LIIF_X86_PATHS", lists[1])):
        tables = set()
        for name in file_flags:
            text = (CPU / name).read_text(encoding="utf-8")
            assert f"#ifdef {macro}\n" in text
            made = set(re.findall(r"path_(\w+) =", text)) | set(re.findall(r", path_(\w+) = k", text))
            assert made == set(re.findall(r"LIIF_NO_KERNELS\((\w+)\)", text)), "what a compiler without the flags gets"
            tables |= made
        assert set(listed) == {"portable", *tables, "plain_amx_int8", "plain_amx_bf16"}
        assert listed[0] == "portable"
        assert listed[-2:] == ["plain_amx_int8", "plain_amx_bf16"]  # kOnRequest


@pytest.mark.skipif(not GXX, reason="there is no aarch64-linux-gnu-g++")
@pytest.mark.parametrize(
    ("name", "instruction"),
    [("neon", "fmla"), ("neon_dotprod", "sdot"), ("neon_i8mm", "usdot"), ("neon_bf16", "bfdot")],
)
def test_aarch64_kernels_compile_to_their_instructions(tmp_path, name, instruction):
    """What they compute is tested in an emulator: tools/aarch64/check.sh."""
    file = f"kernels_{name}.cpp"
    command = [GXX, "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Werror", "-S"]
    command += [*flags()["ARM64"][file], str(CPU / file), "-o", str(tmp_path / "out.s")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^\s+{instruction}\s", (tmp_path / "out.s").read_text(encoding="utf-8"), re.M)
