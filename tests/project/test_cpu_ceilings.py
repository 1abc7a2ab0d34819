"""The ceilings of a processor: all that it has; AMX only where it has AMX, the assembler knows it and the system
permits it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import ceiling
import processor

COMPILER = shutil.which("g++") or shutil.which("clang++")
AVX512 = {"avx512f", "avx512_bf16", "avx512_vnni"}
OTHERS = {"float32", "bfloat16", "int8", "int16"}
AMX = {"amx bfloat16", "amx int8"}
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


def measured() -> dict[str, float]:
    return ceiling.ceilings(torch.device("cpu"), tiny=True)[0]


def on_amx(monkeypatch, refused: int = 0) -> None:
    """The processor has AMX; what is compiled is not run, since it may not."""
    library = SimpleNamespace(amx_permission=lambda: refused, ceiling=lambda kind, threads, seconds: 1e9 * (kind + 1))
    monkeypatch.setattr(processor, "flags", lambda: AVX512 | processor.AMX)
    monkeypatch.setattr(ceiling.ctypes, "CDLL", lambda path: library)


@pytest.mark.skipif(not processor.flags() >= AVX512, reason="the processor has no AVX-512")
def test_without_amx_all_others_are_measured(monkeypatch, capfd):
    monkeypatch.setattr(processor, "flags", lambda: AVX512)
    found = measured()
    assert set(found) == OTHERS
    assert all(rate > 1e9 for rate in found.values())
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not processor.flags() >= processor.AMX, reason="the processor has no AMX")
def test_amx_is_measured_where_it_is(capfd):
    found = measured()
    said = capfd.readouterr().err
    assert found.keys() >= AMX or "AMX not measured" in said
    assert all(rate > 1e9 for rate in found.values())


def test_with_amx_all_are_measured(monkeypatch, capfd):
    on_amx(monkeypatch)
    assert measured() == {"float32": 1e9, "bfloat16": 2e9, "int8": 3e9, "int16": 4e9,
                          "amx bfloat16": 5e9, "amx int8": 6e9}  # fmt: skip
    assert capfd.readouterr().err == ""


def test_without_permission_the_others_stay(monkeypatch, capfd):
    on_amx(monkeypatch, refused=-1)
    assert set(measured()) == OTHERS
    assert "AMX not measured: the system does not permit it" in capfd.readouterr().err


def test_with_an_old_assembler_the_others_stay(monkeypatch, capfd, tmp_path):
    """A compiler that refuses what has AMX's instructions, and really compiles the rest."""
    old = tmp_path / "g++"
    old.write_text(f'#!/bin/sh\ncase "$*" in *-DWITH_AMX*) exit 1;; esac\nexec {COMPILER} "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    on_amx(monkeypatch)
    assert set(measured()) == OTHERS
    assert "assembler does not know it" in capfd.readouterr().err


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump")
def test_the_loops_are_products_of_tiles(tmp_path):
    path = tmp_path / "ceiling.so"
    assert ceiling.build(COMPILER, path, amx=True)
    text = subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True).stdout
    for name in ("tdpbf16ps", "tdpbusd"):  # weights, activations (of int8 the unsigned ones), accumulator
        found = re.findall(rf"{name}\s+%tmm(\d),%tmm(\d),%tmm(\d)", text)
        assert found == [("6", "4", "0"), ("7", "4", "1"), ("6", "5", "2"), ("7", "5", "3")]
    assert text.count("ldtilecfg") == text.count("tilerelease") == 1
    assert text.count("tileloadd") == 4
