"""The 8-bit head: what it specifies, what it costs, and that it saturates."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from cpu_paths import COMPILED, PATHS, forced, sample
from random_head import head
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import liif_fast
from liif_fast import functional
from liif_fast.head import int8, ops
from liif_fast.quality.evaluate import evaluate

INT8 = torch.ops.liif_fast.render_int8.default


@pytest.fixture(params=PATHS or ["none"])
def path(request):
    with forced(request.param) if COMPILED else contextlib.nullcontext():
        yield request.param


def arguments(scale=0.02, **kwargs):
    """(render_int8's arguments, render's)"""
    s = sample(**kwargs)
    w_q, w_scale = int8.quantize_weights(s.w_mlp)
    act_scale = torch.full((len(w_q),), scale)
    return (*s[:4], w_q, w_scale, s.b_mlp, act_scale, *s[6:]), s


@pytest.mark.parametrize("D", [1, 4, 16, 20, 64, 100, 256])
@pytest.mark.parametrize(
    ("L", "ensemble", "cell"), [(3, True, True), (1, False, True), (2, True, False), (0, True, True)]
)
def test_kernel_has_the_integers_of_the_specification(path, D, L, ensemble, cell):
    args, _ = arguments(D=D, L=L, ensemble=ensemble, cell=cell)
    # the last layer, the blend and the output are float32 sums in another order; one integer step off would be 1e-3
    assert_close(INT8(*args), int8.render_int8(*args), rtol=2e-6, atol=2e-6)


def test_integers_bit_for_bit(path):
    """An output that shows each hidden unit alone, without blend: bits must agree, not only values."""
    D = 64
    args, _ = arguments(D=D, L=3, out=D, ensemble=False)
    args = (*args[:8], torch.eye(D), torch.zeros(D), *args[10:])
    assert torch.equal(INT8(*args), int8.render_int8(*args))


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_hostile_activations_saturate(path, size):
    """Far over the calibrated range: 255, not a wrapped number."""
    D = 32
    args, _ = arguments(D=D, L=2, out=D, ensemble=False)
    hidden, w_q = torch.full_like(args[0], size), torch.full_like(args[4], 127)
    zeros = torch.zeros_like(args[6])
    top = (hidden, args[1], None, torch.zeros_like(args[3]), w_q, torch.ones_like(args[5]), zeros, args[7])
    out = INT8(*top, torch.eye(D), torch.zeros(D), *args[10:])
    # each layer's inputs are all 255: the last sums are D * 255 * 127, times the last activation scale
    assert_close(out, torch.full_like(out, D * 255 * 127 * args[7][1].item()), rtol=1e-6, atol=0)
    negative = INT8(-hidden, *top[1:], torch.eye(D), torch.zeros(D), *args[10:])
    assert (negative == 0).all()


def test_weights_are_within_half_a_step():
    w = torch.randn(3, 16, 16)
    w[1, 2] = 0
    w_q, scale = int8.quantize_weights(w)
    assert w_q.dtype == torch.int8
    assert w_q.min() >= -127
    assert ((w_q * scale.unsqueeze(-1) - w).abs() <= scale.unsqueeze(-1) * 0.5001).all()


class Given(TorchDispatchMode):
    """The arguments of render_int8."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is INT8:
            self.arguments = args
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("narrow", [True, False])
def test_a_map_of_half_precision_is_read_as_it_is(path, dtype, narrow):
    """A copy in float32 would take twice its memory, for the same integers."""
    before = head(2, 16)
    w, b = before.mlp[0]
    layers = ((w[:9], b[:9]), (before.mlp[1][0][:, :9], before.mlp[1][1])) if narrow else before.mlp
    before = before._replace(mlp=layers)
    hidden = torch.randn(2, 5, 6, 16).to(dtype)
    coord, scale = torch.rand(2, 40, 2) * 2 - 1, torch.full((2,), 0.02)
    with Given() as given:
        got = functional.render(hidden, before, coord, coord.abs(), act_scale=scale)
    assert given.arguments[0].dtype == (torch.float32 if dtype == torch.float64 else dtype)
    assert all(t.dtype in (torch.float32, torch.int8) for t in given.arguments[1:10])
    assert torch.equal(got, functional.render(hidden.float(), before, coord, coord.abs(), act_scale=scale))
    # sums of float32 in another order, as above
    assert_close(got, int8.render_int8(*given.arguments), rtol=2e-6, atol=2e-6)


def test_opcheck():
    args, _ = arguments(D=8, Q=5)
    torch.library.opcheck(INT8, args)


def test_near_float32(tiny):
    model = tiny([32, 32, 32])
    image = torch.rand(1, 3, 24, 20)
    want = model.upscale(image, scale=2.5)
    for quantized in (model.quantize(image), model.quantize([image, image]), model.quantize()):
        # 8-bit inputs of three layers, each half a step of 1/255 off at most, of which most cancels
        assert (quantized.upscale(image, scale=2.5) - want).abs().mean() <= 0.005 * np.ptp(want.numpy())
    assert torch.equal(
        model.upscale(image, scale=2.5, dtype=torch.int8), model.quantize(image).upscale(image, scale=2.5)
    )


def test_calibration_is_kept(tmp_path):
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16, 16]}})
    image = torch.rand(3, 16, 16)
    quantized = model.quantize()
    assert not quantized.calibrated
    with pytest.raises(RuntimeError, match="not calibrated"):
        quantized.render(torch.rand(1, 3, 8, 8), (16, 16))
    first = quantized.upscale(image, scale=2)
    scales = quantized.act_scale.clone()
    quantized.upscale(image / 2, scale=2)
    assert torch.equal(quantized.act_scale, scales)
    quantized.save(tmp_path / "model.safetensors")
    again = liif_fast.load(tmp_path / "model.safetensors")
    assert torch.equal(again.act_scale, scales)
    assert torch.equal(again.upscale(image, scale=2), first)
    assert not torch.equal(again.quantize(image / 2).act_scale, scales)


def test_no_gradient_and_bad_input(tiny):
    model = tiny()
    quantized = model.quantize(torch.rand(3, 9, 9))
    coord = torch.rand(1, 5, 2)
    assert not quantized(torch.rand(1, 3, 9, 9), coord, coord).requires_grad
    with pytest.raises(ValueError, match="images: at least one"):
        model.quantize([])
    with pytest.raises(ValueError, match="8-bit layers"):
        tiny(None).quantize()
    args, _ = arguments(D=8)
    with pytest.raises(RuntimeError, match="no gradient"):
        INT8(args[0].requires_grad_(), *args[1:])


def test_compile_and_export(tiny):
    quantized = tiny().quantize(torch.rand(3, 9, 9))
    given = torch.rand(1, 3, 9, 9), torch.rand(1, 5, 2), torch.full((1, 5, 2), 0.1)
    want = quantized(*given)
    compiled = torch.compile(quantized, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*given), want)
    assert torch.equal(torch.export.export(quantized, given).module()(*given), want)


@pytest.mark.parametrize(("scale", "loss"), [(4, 0.01), (2, 0.02)])
def test_set5_loss(official, data_dir, scale, loss):
    def upscale(image, size):
        return official.upscale(image, size=size, dtype=torch.int8)

    data = data_dir / "benchmark" / "Set5"
    exact, quantized = evaluate(official.upscale, data, scale).psnr, evaluate(upscale, data, scale).psnr
    print(f"x{scale}: {exact:.3f} dB, int8 {quantized:.3f} dB")
    assert quantized >= exact - loss


def test_plain_operator_is_the_specification():
    assert ops.PLAIN["render_int8"] is int8.render_int8


def test_float64_models(tiny):
    """Built under ``set_default_dtype(float64)`` or converted: 8-bit layers want float32 beside them."""
    model = tiny(hidden=[32, 16], cell_decode=True)
    image = torch.rand(3, 12, 10)
    want = model.upscale(image, scale=2, dtype=torch.int8)
    got = model.double().upscale(image, scale=2, dtype=torch.int8)
    # features rounded from float64 may move a value across a step of the integers
    assert (got - want).abs().max() < 0.02 * want.abs().max()


def test_a_saved_copy_is_loaded_by_a_new_process(tiny, tmp_path):
    spec = {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}},
    }
    liif_fast.LIIF(**spec).quantize(torch.rand(3, 8, 8)).save(tmp_path / "q.safetensors")
    code = f"import liif_fast; print(type(liif_fast.load({str(tmp_path / 'q.safetensors')!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "QuantizedLIIF\n"), done.stderr
