"""In which layout and dtype an encoder gets its input, shown by one that looks: on CUDA channels last."""

from __future__ import annotations

import pytest
import torch

from liif_fast.head import precision
from liif_fast.models import encoding

LAST = torch.channels_last


@pytest.fixture
def seen(tiny, monkeypatch):
    """A model as on CUDA, and whether each input of its encoder came with its channels last."""
    monkeypatch.setattr(encoding, "by_matrix_units", lambda device, dtype: True)
    model, layouts = tiny().eval(), []

    def look(module, given):
        layouts.append(given[0].is_contiguous(memory_format=LAST) and not given[0].is_contiguous())

    model.encoder.register_forward_pre_hook(look)
    return model, layouts


INP = torch.rand(2, 3, 7, 9)
CALLS = {
    "render": lambda m: m.render(INP, (10, 11)),
    "renderer": lambda m: m.renderer((10, 11))(INP),
    "renderer in half precision": lambda m: m.renderer((10, 11), dtype=torch.bfloat16)(INP),
    "gen_feat": lambda m: m.gen_feat(INP),
    "forward": lambda m: m(INP, torch.zeros(2, 4, 2), torch.ones(2, 4, 2)),
    "a piece": lambda m: m.encode_part(INP, (7, 9), (0, 0), None, (10, 11)),
    "upscale": lambda m: m.upscale(INP, scale=2),
    "upscale in tiles": lambda m: m.upscale(torch.rand(1, 3, 40, 70), scale=2, tile=32),
    "quantize": lambda m: m.quantize(INP),
}


@pytest.mark.parametrize("call", CALLS)
def test_channels_last_on_cuda(seen, call):
    model, layouts = seen
    with torch.no_grad():
        CALLS[call](model)
    assert layouts
    assert all(layouts)


def test_an_encoder_that_views_its_input(seen):
    """torch refuses that with channels last; the official code, which knows no other layout, runs it."""
    model, layouts = seen

    class Viewing(torch.nn.Module):
        out_dim = model.encoder.out_dim

        def __init__(self):
            super().__init__()
            self.inner = model.encoder

        def forward(self, x):
            return self.inner(x.view(x.shape[0], -1).view(x.shape))

    plain = model.render(INP, (10, 11))
    model.encoder = Viewing()
    with torch.no_grad():
        torch.testing.assert_close(model.render(INP, (10, 11)), plain)
        assert layouts[-1] is False  # contiguous
        model.upscale(INP, scale=2)
        broken = Viewing()
        broken.inner = torch.nn.Flatten(0, 4)  # any other error is the user's to see
        model.encoder = broken
        with pytest.raises(IndexError):
            model.render(INP, (10, 11))


def test_training_has_a_switch_for_it(seen):
    model, layouts = seen
    CALLS["forward"](model)
    assert layouts == [False]


def test_padded_to_windows_too(seen):
    model, layouts = seen
    model._spec_args["pad_to"] = 4
    model.render(INP, (10, 11))
    assert layouts == [True]


def test_as_it_comes_elsewhere(tiny):
    """And the colours are the same."""
    model, layouts = tiny().eval(), []
    want = model.render(INP, (10, 11))
    model.encoder.register_forward_pre_hook(lambda m, given: layouts.append(given[0].is_contiguous()))
    assert torch.equal(model.render(INP, (10, 11)), want)
    assert layouts == [True]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "by_matrix_units", lambda device, dtype: True)
        ours = model.render(INP, (10, 11))
    assert layouts == [True, False]
    torch.testing.assert_close(ours, want, rtol=1e-5, atol=1e-6)  # sums in another order


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_an_arrays_strides_are_those_of_a_dense_tensor(tiny, dtype):
    """numpy's pictures, as a batch of one: oneDNN reads the stride of the batch, too."""
    model, strides = tiny().eval(), []
    model.encoder.register_forward_pre_hook(lambda m, given: strides.append(given[0].stride()))
    picture = torch.rand(7, 9, 3)
    model.upscale(picture.numpy(), scale=2, dtype=dtype)
    with torch.no_grad():
        model.gen_feat(picture.permute(2, 0, 1).unsqueeze(0))
    assert strides == [(189, 1, 27, 3)] * 2


def test_vmap_knows_no_other_layout(seen):
    model, layouts = seen
    inp = torch.rand(3, 1, 3, 7, 9)
    model.encoder._forward_pre_hooks.clear()
    with torch.no_grad():
        assert torch.func.vmap(model._encode)(inp).shape == (3, 1, 6, 7, 9)
    assert not layouts


@pytest.mark.parametrize(
    ("device", "dtype", "autocast", "tf32", "expected"),
    [
        ("cpu", torch.bfloat16, None, True, False),
        ("cpu with AMX", torch.bfloat16, None, False, True),
        ("cpu with AMX", torch.float32, torch.bfloat16, False, True),
        ("cpu with AMX", torch.float32, None, True, False),
        ("cpu with AMX", torch.float32, torch.float16, False, False),
        ("cpu with AMX", torch.float64, torch.bfloat16, False, False),
        ("mps", torch.bfloat16, None, True, False),
        ("cuda", torch.bfloat16, None, False, True),
        ("cuda", torch.float16, None, False, True),
        ("cuda", torch.float32, torch.bfloat16, False, True),
        ("cuda", torch.float32, None, True, True),
        ("cuda", torch.float32, None, False, False),  # cuDNN's float32 kernels want the other layout
        ("cuda", torch.float64, torch.bfloat16, True, False),  # which autocast leaves as it is
    ],
)
def test_where_matrix_units_convolve(device, dtype, autocast, tf32, expected, monkeypatch):
    device, _, units = device.partition(" with ")
    monkeypatch.setattr(precision, "MATRIX_UNITS_CPU", (torch.bfloat16,) if units else ())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == device and autocast is not None)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: autocast)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        assert encoding.by_matrix_units(device, dtype) is expected
    finally:
        torch.backends.cudnn.allow_tf32 = before
