"""``model.renderer(size, compile=True)``: the encoder by torch.compile, with the quick eager backend, once with
the real one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import liif_fast
from liif_fast.models import encoding

IMNET = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}}


def small():
    torch.manual_seed(0)
    args = {"n_resblocks": 2, "n_feats": 4, "no_upsampling": True}
    return liif_fast.LIIF({"name": "edsr-baseline", "args": args}, IMNET).eval()


@pytest.fixture
def compiled(monkeypatch):
    """The encoders that torch.compile was asked for."""
    asked, compile = [], torch.compile
    torch._dynamo.reset()

    def by_eager(module, **options):
        asked.append(module)
        return compile(module, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", by_eager)
    yield asked
    torch._dynamo.reset()


def same(renderer, inp, **given):
    want = renderer.model.render(inp, renderer.size, dtype=renderer.dtype)
    # the same operations; float32 sums of some ten layers may come in another order
    torch.testing.assert_close(renderer(inp), want, rtol=1e-5, atol=1e-5)
    return want


def test_what_render_gives(compiled):
    model = small()
    renderer = model.renderer((19, 23), compile=True)
    for shape in [(1, 3, 7, 9), (2, 3, 5, 4), (1, 3, 7, 9)]:
        same(renderer, torch.rand(shape))
    assert compiled == [model.encoder]
    half = model.renderer((19, 23), torch.bfloat16, compile=True)
    same(half, torch.rand(1, 3, 7, 9))
    model._spec_args["pad_to"] = 4
    same(renderer, torch.rand(1, 3, 7, 9))
    with pytest.raises(ValueError, match="inp"):
        renderer(torch.rand(3, 7, 9))


def test_the_model_is_not_changed(compiled):
    model = small()
    before, keys = [id(m) for m in model.modules()], list(model.state_dict())
    model.renderer((9, 9), compile=True)(torch.rand(1, 3, 7, 9))
    assert [id(m) for m in model.modules()] == before
    assert list(model.state_dict()) == keys
    assert model.encoder._compiled_call_impl is None


def weight(m):
    return m.encoder.body[0].body[0].weight


CHANGES = {
    "in place": lambda m: weight(m).data.mul_(3),
    "storage": lambda m: setattr(m.encoder.body[0].body[0], "weight", nn.Parameter(weight(m) * 3)),
    "number": lambda m: setattr(m.encoder.body[0], "res_scale", 4.0),
    "layer": lambda m: m.encoder.body[0].body.__setitem__(1, nn.Softplus()),
    "forward": lambda m: setattr(m.encoder.body[0], "forward", lambda x, f=m.encoder.body[0].forward: 2 * f(x)),
    "encoder": lambda m: setattr(m, "encoder", liif_fast.make({"name": "rdn", "args": {
        "G0": 4, "RDNconfig": "A", "no_upsampling": True}}).eval()),
    "hook": lambda m: m.encoder.body[0].register_forward_hook(lambda module, given, out: out * 2),
    "method": lambda m: setattr(m, "gen_feat", lambda inp, f=m.gen_feat: f(inp * 2)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(compiled, change):
    model, inp = small(), torch.rand(1, 3, 7, 9)
    renderer = model.renderer((9, 9), compile=True)
    before = same(renderer, inp)
    CHANGES[change](model)
    assert (same(renderer, inp) - before).abs().max() > 1e-4
    assert len(compiled) == (2 if change == "encoder" else 1)


def test_where_it_cannot_be_compiled(monkeypatch):
    def broken(graph, inputs):
        raise OSError("no compiler")

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda m, **options: compile(m, backend=broken, **options))
    renderer = small().renderer((9, 9), compile=True)
    with pytest.raises(RuntimeError, match=r"compile=True: torch\.compile cannot compile EDSR here: .*no compiler"):
        renderer(torch.rand(1, 3, 7, 9))
    torch._dynamo.reset()


def test_errors_of_the_encoder_stay_what_they_are(tiny, compiled):
    model = tiny()
    model.encoder.forward = lambda x: x[:, :, :, :5]
    with pytest.raises(ValueError, match="returned features"):
        model.renderer((9, 9), compile=True)(torch.rand(1, 3, 7, 9))


def test_the_input_has_channels_last_on_cuda(tiny, compiled, monkeypatch):
    monkeypatch.setattr(encoding, "by_matrix_units", lambda device, dtype: True)
    model, layouts, laid_out = tiny().eval(), [], encoding.laid_out

    def look(*given):
        layouts.append(laid_out(*given).is_contiguous(memory_format=torch.channels_last))
        return laid_out(*given)

    monkeypatch.setattr(encoding, "laid_out", look)
    model.renderer((9, 9), compile=True)(torch.rand(1, 3, 7, 9))
    assert layouts == [True]


@pytest.mark.long
def test_with_inductor():
    renderer = small().renderer((19, 23), compile=True)
    for _ in range(2):
        same(renderer, torch.rand(1, 3, 7, 9))
