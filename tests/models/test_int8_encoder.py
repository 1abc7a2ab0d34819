"""The encoder beside 8-bit layers: bfloat16 where a CPU multiplies it faster, else float32. The facts about the
processor are replaced, so that it holds on any."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import liif_fast
from liif_fast.head import precision

BFLOAT16, FLOAT32 = torch.bfloat16, torch.float32


class Stub(torch.nn.Module):
    """An encoder that knows what its convolutions gave."""

    out_dim, receptive_field = 6, 1
    seen: list[torch.dtype]
    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv(x)
        Stub.seen.append(out.dtype)
        return out * Stub.factor if out.dtype == BFLOAT16 else out


class Maps(TorchDispatchMode):
    """Dtypes of the hidden maps that render_int8 gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.liif_fast.render_int8.default:
            self.seen.append(args[0].dtype)
        return function(*args, **(kwargs or {}))


def processor(monkeypatch, fast: bool) -> None:
    """This one multiplies bfloat16 faster than float32, or does not."""
    monkeypatch.setattr(precision, "FAST_HALF_CPU", (BFLOAT16,) if fast else ())
    monkeypatch.setattr(precision, "MATRIX_UNITS_CPU", ())


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(Stub, "seen", [], raising=False)
    return liif_fast.LIIF(Stub(), {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}})


IMAGE = torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(0))
SIZE = (30, 22)
WAYS = {
    "upscale": lambda m: m.upscale(IMAGE, size=SIZE, dtype=torch.int8),
    "upscale of a quantized model": lambda m: m.quantize(IMAGE).upscale(IMAGE, size=SIZE),
    "render": lambda m: m.quantize(IMAGE).render(IMAGE, SIZE),
    "renderer": lambda m: m.quantize(IMAGE).renderer(SIZE)(IMAGE),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_where_it_is_faster(model, monkeypatch, way, fast):
    processor(monkeypatch, fast)
    with Maps() as maps:
        got = WAYS[way](model)
    assert set(Stub.seen) == {BFLOAT16 if fast else FLOAT32}
    assert len(Stub.seen) >= 2, "the calibration's crops, and the image"
    assert set(maps.seen) == {BFLOAT16 if fast else FLOAT32}
    assert got.dtype == FLOAT32
    processor(monkeypatch, False)
    other = WAYS[way](model)
    assert torch.equal(got, other) is not fast
    # two roundings to bfloat16's 2^-9, of which 8-bit steps may make one of 1/255 of the largest activation
    assert (got - other).abs().max() <= 0.03 * (other.max() - other.min())


def test_what_is_asked_for_is_given(model, monkeypatch):
    processor(monkeypatch, True)
    quantized = model.quantize(IMAGE)
    for dtype, run in {
        FLOAT32: lambda: quantized.upscale(IMAGE, size=SIZE, dtype=FLOAT32),
        BFLOAT16: lambda: quantized.render(IMAGE, SIZE, dtype=BFLOAT16),
    }.items():
        Stub.seen.clear()
        run()
        assert set(Stub.seen) == {dtype}
    Stub.seen.clear()
    quantized.render(IMAGE, SIZE, dtype=FLOAT32)
    assert Stub.seen == [FLOAT32]


def test_models_that_say_their_precision_keep_it(model, monkeypatch):
    processor(monkeypatch, True)
    quantized = model.quantize(IMAGE)
    with torch.autocast("cpu", dtype=torch.float16):  # computed in float32
        Stub.seen.clear()
        quantized.render(IMAGE, SIZE)
    assert Stub.seen == [FLOAT32]
    Stub.seen.clear()
    assert quantized.double().render(IMAGE.double(), SIZE).dtype == torch.float64
    assert Stub.seen == [torch.float64]


def test_methods_of_the_models_own_are_not_given_a_dtype(model, monkeypatch):
    processor(monkeypatch, True)
    quantized = model.quantize(IMAGE)
    by_render = quantized.render
    quantized.render = lambda inp, size: by_render(inp, size, dtype=FLOAT32)
    Stub.seen.clear()
    quantized.upscale(IMAGE, size=SIZE)
    assert Stub.seen == [FLOAT32]


def test_float32_has_its_models_layers_alone(model, monkeypatch):
    processor(monkeypatch, True)
    model.upscale(IMAGE, size=SIZE)
    model.render(IMAGE, SIZE)
    assert set(Stub.seen) == {FLOAT32}


def test_what_overflows_is_computed_again_in_float32(model, monkeypatch):
    """The calibration and the image, each, if bfloat16 alone is not finite."""
    processor(monkeypatch, True)
    monkeypatch.setattr(Stub, "factor", float("inf"))
    quantized = model.quantize(IMAGE)
    assert quantized.act_scale.isfinite().all()
    assert Stub.seen[-1] == FLOAT32
    with pytest.warns(UserWarning, match=r"torch\.bfloat16 is not finite: computed again in float32"):
        got = quantized.upscale(IMAGE, size=SIZE)
    processor(monkeypatch, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(got, quantized.upscale(IMAGE, size=SIZE))


def test_near_float32_on_set5(official, data_dir, monkeypatch):
    from liif_fast.quality.evaluate import evaluate

    found = {}
    for fast in (True, False):
        processor(monkeypatch, fast)
        found[fast] = evaluate(
            lambda x, size: official.upscale(x, size=size, dtype=torch.int8), data_dir / "benchmark" / "Set5", 4
        ).psnr
    assert 0 < found[False] - found[True] <= 0.006
