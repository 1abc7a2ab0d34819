"""Which half precision is used on which CPU, decided by what it has: any processor's words, written to a file."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys

import pytest
import torch

from liif_fast.head import library, precision

BFLOAT16, FLOAT16 = torch.bfloat16, torch.float16
SAPPHIRE_RAPIDS = "GenuineIntel avx512f avx512_bf16 avx512_vnni avx512_fp16 amx_bf16 amx_tile amx_int8"


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """Gives the processor some words, and liif_fast what it finds of them."""
    monkeypatch.delenv("LIIF_FAST_MATMUL", raising=False)
    file, real = tmp_path / "cpuinfo", builtins.open
    monkeypatch.setattr(builtins, "open", lambda f, *a, **k: real(file if f == "/proc/cpuinfo" else f, *a, **k))

    def give(words: str) -> None:
        vendor, *flags = words.split()
        file.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {' '.join(flags)}\n\nprocessor\t: 1\n")
        fast, matrix = precision._half_of_cpu()
        monkeypatch.setattr(precision, "FAST_HALF_CPU", fast)
        monkeypatch.setattr(precision, "MATRIX_UNITS_CPU", matrix)

    return give


@pytest.mark.parametrize(
    ("words", "fast", "matrix"),
    [
        (SAPPHIRE_RAPIDS, True, True),
        ("GenuineIntel avx512f avx512_bf16 avx512_vnni", False, False),  # at half of float32's rate
        ("AuthenticAMD avx512f avx512_bf16 avx512_vnni", True, False),
        ("AuthenticAMD avx512f", False, False),
        ("AuthenticAMD avx512_bf16 amx_bf16", True, True),  # AMX is not Intel's alone
        ("GenuineIntel amx_tile amx_int8", False, False),
    ],
)
def test_what_a_processor_multiplies_fast(cpuinfo, words, fast, matrix):
    cpuinfo(words)
    products = BFLOAT16 if fast else torch.float32
    assert precision.matmul_dtype(BFLOAT16, "cpu") == products
    assert precision.matmul_dtype(FLOAT16, "cpu") == torch.float32
    assert precision.int8_encoder_dtype("cpu") == products
    assert (BFLOAT16 in precision.MATRIX_UNITS_CPU) is matrix
    assert precision.int8_encoder_dtype("cuda") == torch.float32
    with torch.autocast("cpu", dtype=BFLOAT16), precision.fastest_autocast("cpu"):
        assert torch.is_autocast_enabled("cpu") is fast


@pytest.mark.parametrize(
    ("asked", "words", "fast", "matrix"),
    [
        ("float32", SAPPHIRE_RAPIDS, (), ()),
        ("bfloat16", SAPPHIRE_RAPIDS, (BFLOAT16,), (BFLOAT16,)),
        ("bfloat16", "GenuineIntel avx512f", (BFLOAT16,), ()),  # products alone: what is chosen stays
    ],
)
def test_what_is_asked_for_decides(cpuinfo, monkeypatch, asked, words, fast, matrix):
    monkeypatch.setenv("LIIF_FAST_MATMUL", asked)
    cpuinfo(words)
    assert precision._half_of_cpu() == (fast, matrix)


def test_amx_that_the_system_does_not_permit_is_none(cpuinfo, monkeypatch):
    cpuinfo(SAPPHIRE_RAPIDS)
    assert precision._half_of_cpu(amx=False) == ((), ())
    precision.without_amx()  # monkeypatch takes it back
    assert (precision.FAST_HALF_CPU, precision.MATRIX_UNITS_CPU) == ((), ())


@pytest.mark.skipif(library.status != "loaded", reason="the compiled library is not loaded")
@pytest.mark.parametrize(("said", "fast"), [("amx=no_permission", False), ("bfloat16=amx_bf16", True)])
def test_what_the_library_finds_of_amx_counts(said, fast):
    code = f"""if True:
        import builtins, io, torch
        lib, real = torch.library.Library("liif_fast", "FRAGMENT"), open
        lib.define("cpu_info() -> str")
        lib.impl("cpu_info", lambda: "available=portable {said}", "CompositeExplicitAutograd")
        torch.ops.load_library = lambda path: None
        info = "flags : amx_bf16 amx_tile\\n"
        builtins.open = lambda f, *a, **k: io.StringIO(info) if f == "/proc/cpuinfo" else real(f, *a, **k)
        from liif_fast.head import precision
        print(precision.FAST_HALF_CPU == precision.MATRIX_UNITS_CPU == ((torch.bfloat16,) if {fast} else ()))
    """
    environment = {k: v for k, v in os.environ.items() if k != "LIIF_FAST_MATMUL"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_a_new_unit_is_one_line(cpuinfo, monkeypatch):
    monkeypatch.setattr(
        precision, "_UNITS", (*precision._UNITS, precision._Unit(frozenset({"amx_fp16"}), FLOAT16, True))
    )
    cpuinfo(f"{SAPPHIRE_RAPIDS} amx_fp16")
    assert [precision.matmul_dtype(d, "cpu") for d in precision.HALF] == [BFLOAT16, FLOAT16]
    assert precision.int8_encoder_dtype("cpu") == BFLOAT16
    cpuinfo("GenuineIntel amx_fp16")
    assert [precision.matmul_dtype(d, "cpu") for d in precision.HALF] == [torch.float32, FLOAT16]
    assert precision.int8_encoder_dtype("cpu") == torch.float32


def test_a_system_without_cpuinfo(monkeypatch):
    monkeypatch.delenv("LIIF_FAST_MATMUL", raising=False)

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", missing)
    assert precision._half_of_cpu() == ((), ())
