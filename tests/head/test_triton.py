"""What of the fused kernel needs neither a card nor triton: who may run it, what users are told."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from cpu_paths import sample

from liif_fast.cli import doctor
from liif_fast.head import triton


def _eligible(s):
    return triton.eligible(s.hidden, s.coord, s.cell, s.w_mlp, s.w_out)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"D": 48}, "hidden layers of 48 units: 64, 128, 256 are supported"),
        ({"D": 64, "L": 0}, "no hidden layer"),
        ({"D": 64, "out": 17}, "17 output channels: at most 16"),
        ({"D": 64, "dtype": torch.float64}, "float64: float32, bfloat16 or float16 is wanted"),
        ({"D": 64}, "hidden is on cpu: a CUDA device is wanted"),
    ],
)
def test_the_reason_why_not(changed, reason):
    ok, why = _eligible(sample(**changed))
    assert not ok
    assert reason in why


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda s: s._replace(cell=s.cell.double()), "cell is torch.float64: float32 is wanted"),
        (lambda s: s._replace(coord=s.coord.half()), "coord is torch.float16: float32 is wanted"),
        (lambda s: s._replace(hidden=s.hidden[:, :0]), "an empty hidden map (0x7)"),
        (lambda s: s._replace(hidden=s.hidden[:, :1, :1].expand(-1, 1 << 22, -1, -1)), "sides below 4194304"),
        (lambda s: s._replace(w_out=s.w_out.to("meta")), "hidden is on cpu, another argument on meta"),
        (lambda s: s._replace(w_mlp=s.w_mlp[:, :, :32]), "layers of [3, 64, 32] and [3, 64]: 64 inputs"),
        (lambda s: s._replace(w_out=s.w_out[:, :32]), "layers of [3, 64, 64] and [3, 32]: 64 inputs"),
    ],
)
def test_the_reason_in_the_arguments(changed, reason, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # or the device would be the first reason
    ok, why = _eligible(changed(sample(D=64)))
    assert not ok
    assert reason in why


def test_hidden_must_lie_in_the_map():
    pytest.importorskip("triton")
    from liif_fast.head.triton import render

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "eligible", lambda *arguments, **named: (True, ""))
        for wrong in ({"size": (5, 6)}, {"origin": (1, 0)}, {"origin": (0, -1), "size": (9, 9)}):
            with pytest.raises(ValueError, match=r"hidden \(5 x 7\) at .* must lie in a map of size"):
                render.render(*sample(D=64)._replace(**wrong))


@pytest.mark.parametrize(
    ("error", "falls_back"),
    [
        (subprocess.CalledProcessError(1, "gcc"), True),  # no Python.h
        (PermissionError("~/.triton"), True),
        (RuntimeError("PassManager::run failed"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (ValueError("size"), False),
    ],
)
def test_what_stops_the_compiler_does_not_stop_the_user(error, falls_back, monkeypatch):
    pytest.importorskip("triton")
    from liif_fast.head.triton import render

    def broken(*arguments):
        raise error

    monkeypatch.setattr(triton, "eligible", lambda *arguments, **named: (True, ""))
    monkeypatch.setattr(triton.choices, "choose", lambda kind, D, device: "some configuration")
    monkeypatch.setattr(render, "render", broken)
    monkeypatch.setattr(triton, "_failed", set())
    run = triton.on_cuda("render", lambda *arguments: "plain")
    if falls_back:
        with pytest.warns(UserWarning, match="does not compile, plain PyTorch runs"):
            assert run(*sample(D=64)) == "plain"
        assert run(*sample(D=64)) == "plain"  # said once
        triton._failed.clear()
        monkeypatch.setenv("LIIF_FAST_TRITON", "1")
    with pytest.raises(type(error)):
        run(*sample(D=64))


def test_what_is_missing_is_named(monkeypatch):
    triton.available.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert triton.available() == (False, "triton is not installed: pip install triton")
    triton.available.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(triton.eligible.__globals__["importlib"].metadata, "version", lambda name: "3.5.1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert triton.available() == (False, "triton 3.5 is older than 3.6: pip install --upgrade triton")
    triton.available.cache_clear()


def test_the_interpreter_needs_no_device(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    triton.available.cache_clear()
    try:
        assert triton.implementation() == "fused Triton kernel"
    finally:
        triton.available.cache_clear()


def test_where_plain_pytorch_is_faster_is_said(monkeypatch):
    monkeypatch.setattr(triton, "available", lambda device: (True, ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(triton.choices, "choose", lambda kind, D, device: None if (kind, D) == ("half", 64) else "it")
    assert triton.implementation(torch.device("cuda", 0)) == (
        "fused Triton kernel; plain PyTorch, which is faster, in half 64"
    )


def test_doctor_says_it(monkeypatch):
    assert triton.implementation() in doctor.text(doctor.facts())
    monkeypatch.setenv("LIIF_FAST_TRITON", "0")
    assert triton.implementation() == "plain PyTorch: the fused kernel is switched off by LIIF_FAST_TRITON=0"
    monkeypatch.setenv("LIIF_FAST_TRITON", "yes")
    with pytest.raises(ValueError, match="LIIF_FAST_TRITON=yes: 0, 1 or auto is wanted"):
        triton.implementation()


def test_insisting_gives_the_reason_and_otherwise_plain_runs(monkeypatch):
    s = sample(D=48)
    run = triton.on_cuda("render", lambda *arguments: "plain")
    monkeypatch.setenv("LIIF_FAST_TRITON", "1")
    with pytest.raises(RuntimeError, match=r"LIIF_FAST_TRITON=1, but .* hidden layers of 48 units"):
        run(*s)
    for value in ("auto", "0"):
        monkeypatch.setenv("LIIF_FAST_TRITON", value)
        assert run(*s) == "plain"


def test_a_map_of_waves_has_two_channels_a_unit(monkeypatch):
    s, asked = sample(D=128), []
    run = triton.on_cuda("render_fourier", lambda *arguments: "plain")
    monkeypatch.setenv("LIIF_FAST_TRITON", "1")
    with pytest.raises(RuntimeError, match="hidden layers of 96 units"):
        run(*sample(D=192))
    monkeypatch.setenv("LIIF_FAST_TRITON", "auto")
    monkeypatch.setattr(triton, "eligible", lambda *arguments, **named: (True, ""))
    monkeypatch.setattr(triton.choices, "choose", lambda kind, D, device: asked.append((kind, D)))
    assert run(*s) == "plain"
    assert asked == [("float32", 64)]


def test_channels_of_waves_that_do_not_fit():
    pytest.importorskip("triton")
    from liif_fast.head.triton import render

    with pytest.raises(RuntimeError, match=r"w_phase \[F, 2\] .* got 64 channels"):
        render.render_fourier(*sample(D=64))  # its w_pos is not w_phase


def test_registered_for_cuda_only():
    for name in triton.OPERATORS:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"liif_fast::{name}", "CUDA")


def test_the_package_imports_without_triton():
    code = "import liif_fast, sys; assert 'triton' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
