"""A convolution in one pass: when the kernel is asked, for what, and what runs in its place. Its numbers and its
compilation: tests/models/test_small_kernels.py; on a card: tests/gpu/test_encoder_gpu.py."""

from __future__ import annotations

import sys
import types
import warnings

import pytest
import torch
import torch.nn.functional as F

import liif_fast
from liif_fast.head import convolution, functional, triton
from liif_fast.head.triton import small
from liif_fast.models.encoders import residual

BF16, LAST = torch.bfloat16, torch.channels_last


@pytest.fixture
def kernel(monkeypatch):
    """As on a card of capability 9.0, with plain PyTorch in the kernel's place; its calls."""
    calls = []

    def convolve(x, w, b, *, relu=False, residual=None, scale=1.0):
        calls.append((tuple(w.shape), relu, residual is not None))
        y = F.conv2d(x.float(), w.float(), b.float(), padding=1)
        y = y.relu() if relu else y if residual is None else residual.float() + scale * y
        return y.to(x.dtype, memory_format=LAST)

    module = types.SimpleNamespace(convolve=convolve, calls=calls)
    monkeypatch.setitem(sys.modules, "liif_fast.head.triton.convolution", module)
    monkeypatch.setattr(triton, "convolution", module, raising=False)
    monkeypatch.setattr(convolution, "on_hopper", lambda x: True)
    monkeypatch.setattr(small, "_said", set())
    monkeypatch.setattr(triton, "available", lambda device: (True, ""))
    monkeypatch.setenv("LIIF_FAST_TRITON", "auto")
    return module


def case(outputs=64, dtype=BF16, shape=(1, 64, 5, 6)):
    torch.manual_seed(0)
    x, w = torch.randn(shape), torch.randn(outputs, 64, 3, 3) / 24
    return x.to(dtype, memory_format=LAST), w.to(dtype, memory_format=LAST), torch.randn(outputs).to(dtype)


def joined(*given, **more):
    with torch.no_grad(), small.recording():
        return convolution.joined(*given, **more)


def test_what_it_gives(kernel):
    x, w, b = case()
    plain = F.conv2d(x.float(), w.float(), b.float(), padding=1)
    bound = {"rtol": 2**-8, "atol": 1e-6}  # one rounding
    torch.testing.assert_close(joined(x, w, b).float(), plain, **bound)
    torch.testing.assert_close(joined(x, w, b, relu=True).float(), plain.relu(), **bound)
    torch.testing.assert_close(joined(x, w, b, residual=x, scale=0.5).float(), x.float() + 0.5 * plain, **bound)
    wide = case(256)
    assert joined(*wide).shape == (1, 256, 5, 6)
    assert len(kernel.calls) == 4


@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": torch.float32},
        {"outputs": 48},
        {"shape": (1, 32, 5, 6)},
        {"shape": (0, 64, 5, 6)},
        {"layout": True},
        {"weights": torch.float16},
        {"width": 5},
        {"odd": True},
        {"residual": "shape"},
        {"residual": "layout"},
        {"residual": "parts"},
        {"subclass": True},
        {"device": True},
    ],
    ids=str,
)
def test_for_what_it_is_not_asked(kernel, changed):
    class Own(torch.Tensor):
        pass

    shape = changed.get("shape", (1, 64, 5, 6))
    x, w, b = case(
        changed.get("outputs", 128 if changed.get("residual") == "parts" else 64), changed.get("dtype", BF16)
    )
    x = torch.zeros(shape, dtype=x.dtype).to(memory_format=LAST)
    residual = None
    if "residual" in changed:
        size = (1, 64, 5, 7) if changed["residual"] == "shape" else (1, 64, 5, 6)
        residual = torch.zeros(size, dtype=BF16).to(memory_format=LAST)
        residual = residual.contiguous() if changed["residual"] == "layout" else residual
    if changed.get("layout"):
        x = x.contiguous()
    if "weights" in changed:
        w = w.to(changed["weights"])
    if "width" in changed:
        w = torch.zeros(64, 64, 5, 5, dtype=BF16).to(memory_format=LAST)
    if changed.get("odd"):  # an address that TMA does not take
        x = torch.zeros(1 + x.numel(), dtype=BF16)[1:].view(1, 5, 6, 64).permute(0, 3, 1, 2)
    if changed.get("subclass"):
        w = w.as_subclass(Own)
    if changed.get("device"):
        b = b.to("meta")
    assert joined(x, w, b, residual=residual) is None
    assert not kernel.calls


def test_where_it_is_not_asked(kernel, monkeypatch):
    given = case()
    with torch.no_grad():
        assert convolution.joined(*given) is None  # launches would take longer
        monkeypatch.setattr(convolution, "WORTH", 30)
        assert convolution.joined(*given) is not None
        monkeypatch.setattr(convolution, "WORTH", 31)
        assert convolution.joined(*given) is None
    with small.recording():
        assert convolution.joined(*given) is None  # with gradients
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
            assert convolution.joined(*given) is None  # autocast would convert
        with torch.no_grad(), monkeypatch.context() as patch:
            patch.setenv("LIIF_FAST_TRITON", "0")
            assert convolution.joined(*given) is None
            patch.setattr(triton, "setting", lambda: "auto")
            patch.setattr(triton, "available", lambda device: (False, "none"))
            assert convolution.joined(*given) is None
    assert joined(*given) is not None
    monkeypatch.setattr(convolution, "on_hopper", lambda x: False)
    assert joined(*given) is None
    assert len(kernel.calls) == 2


def test_a_kernel_that_does_not_compile_is_said_once(kernel, monkeypatch):
    def broken(*_, **__):
        raise ImportError("no Python.h")

    monkeypatch.setattr(kernel, "convolve", broken)
    with pytest.warns(UserWarning, match="convolutions in one pass does not compile"):
        assert joined(*case()) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert joined(*case()) is None


def test_residual_blocks_and_hidden_map_ask_for_it(kernel, monkeypatch):
    """33 convolutions of an EDSR of 16 blocks, and the hidden map's as four parts; the numbers of plain PyTorch."""
    monkeypatch.setattr(residual, "on_cuda", lambda x: True)
    torch.manual_seed(0)
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 2, "no_upsampling": True}}
    model = liif_fast.LIIF(spec, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256, 256]}}).eval()
    x = torch.rand(1, 3, 7, 9)
    with torch.no_grad(), torch.autocast("cpu", dtype=BF16):
        with small.recording():
            feat = model.encoder(x)
        assert [c[1:] for c in kernel.calls] == [(True, False), (False, True)] * 2 + [(False, True)]
        kernel.calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(residual, "on_cuda", lambda x: False)
            torch.testing.assert_close(feat, model.encoder(x), rtol=0.02, atol=0.02)  # five layers rounded to 8 bits
        assert not kernel.calls
        head = model.head()
        with small.recording():
            hidden = functional.hidden_map(feat, head)
        assert kernel.calls == [((256, 64, 3, 3), False, False)]
        plain = functional.hidden_map(feat, head)
        torch.testing.assert_close(hidden, plain, rtol=2**-7, atol=2**-7)  # a rounding less
        assert hidden.shape == (1, 7, 9, 256)
        assert hidden.is_contiguous()


def test_only_the_recording_thread_records():
    assert not small.recorded()
    with small.recording():
        assert small.recorded()
    assert not small.recorded()
