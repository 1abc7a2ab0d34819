"""The module against the reference: values, gradients, flags, layouts, the whole image."""

from __future__ import annotations

import itertools

import brute_force
import numpy as np
import pytest
import torch
from liif_queries import by_reference, queries
from PIL import Image
from torch.testing import assert_close

import liif_fast
from liif_fast import functional, reference

FLAGS = [
    dict(zip(("local_ensemble", "feat_unfold", "cell_decode"), values, strict=True))
    for values in itertools.product((True, False), repeat=3)
]
HIDDEN = [[16, 16, 16], [16], [], [24, 8, 16], [10, 12]]


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
def test_values_and_gradients_in_float64(tiny, flags, hidden):
    model = tiny(hidden, **flags).double()
    inp = torch.randn(2, 3, 7, 5, dtype=torch.float64, requires_grad=True)
    coord, cell = (t.requires_grad_() for t in queries(2, 40, torch.float64))
    leaves = [inp, coord, *([cell] if flags["cell_decode"] else []), *model.parameters()]
    got, want = model(inp, coord, cell), by_reference(model, inp, coord, cell)
    # the same sums in another order; 1/total area amplifies a gradient by up to 1e5
    assert_close(got, want, rtol=1e-10, atol=1e-12)
    grad = torch.randn_like(want)
    for a, b in zip(torch.autograd.grad(got, leaves, grad), torch.autograd.grad(want, leaves, grad), strict=True):
        assert_close(a, b, rtol=1e-8, atol=1e-10)
    with torch.no_grad():
        assert_close(model(inp, coord, cell), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "encoder",
    [
        {"name": "edsr-baseline", "args": {"n_resblocks": 2, "n_feats": 8, "no_upsampling": True}},
        {"name": "rdn", "args": {"G0": 8, "no_upsampling": True}},
        {
            "name": "rcan",
            "args": {"n_resgroups": 1, "n_resblocks": 2, "n_feats": 8, "reduction": 2, "no_upsampling": True},
        },
        {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "scale": 2}},
    ],
    ids=lambda e: f"{e['name']}-{e['args'].get('no_upsampling', False)}",
)
def test_official_encoders(encoder):
    spec = {
        "name": "liif",
        "args": {
            "encoder_spec": encoder,
            "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}},
        },
    }
    model = liif_fast.make(spec)
    inp = torch.rand(2, 3, 6, 8)
    coord, cell = queries(2, 30)
    got, want = model(inp, coord, cell), by_reference(model, inp, coord, cell)
    assert_close(got, want, rtol=1e-5, atol=1e-5)  # float32: 1e-7 times the depth of the sums
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = [torch.autograd.grad(y.square().sum(), parameters, allow_unused=True) for y in (got, want)]
    for a, b in zip(*grads, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b, rtol=1e-3, atol=1e-4 * max(1.0, b.abs().max().item()))
    assert model.spec["name"] == "liif"
    assert model.spec["args"] == {**spec["args"], "local_ensemble": True, "feat_unfold": True, "cell_decode": True}
    again = liif_fast.make({**model.spec, "sd": model.state_dict()}, load_sd=True)
    assert torch.equal(again(inp, coord, cell), got)


GRIDS = [((13, 17), s) for s in (1.5, 2, 3, 4, 6, 8)]
GRIDS += [((1, 1), 8), ((2, 5), 7.3), ((13, 17), None), ((32, 32), None), ((96, 96), None)]


@pytest.mark.parametrize(("size", "scale"), GRIDS, ids=str)
def test_fp32_head_against_float64_brute_force(official, data_dir, size, scale):
    """Official weights on a real photo: queries on grids, and (scale None) anywhere."""
    photo = np.asarray(Image.open(data_dir / "benchmark/Set5/LR_bicubic/X2/butterflyx2.png").convert("RGB"))
    pixels = torch.from_numpy(photo[20 : 20 + size[0], 20 : 20 + size[1]] / 127.5 - 1).float()
    if scale is None:
        coord, cell = torch.rand(1, 3000, 2) * 2 - 1, torch.rand(1, 3000, 2) * 2 / size[0]
    else:
        out = [max(1, round(n * scale)) for n in size]
        coord = functional.make_coord(out)[None]
        cell = torch.tensor([2 / out[0], 2 / out[1]]).expand_as(coord)
    with torch.no_grad():
        feat = official.gen_feat(pixels.permute(2, 0, 1)[None])
        got = official.query(feat, coord, cell)[0].double().numpy()
        specification = reference.liif(feat, coord, cell, official.imnet)[0].double().numpy()
    layers = [
        (m.weight.detach().double().numpy(), m.bias.detach().double().numpy()) for m in official.imnet.layers[::2]
    ]
    want, total = brute_force.liif(*(t[0].double().numpy() for t in (feat, coord, cell)), layers)
    # Where all four areas vanish (a query on a pixel centre of the last row or column), the weights are rounding
    # noise over 1e-9 in the specification itself: apart, and counted.
    ill = total < 1e-5
    error, floor = (np.abs(x - want).max(1)[~ill].max() / np.ptp(want) for x in (got, specification))
    # 2e-6: some ten roundings of 2^-24 through five layers. On larger maps the float32 pixel centres of the
    # specification are themselves off by 2^-24 * size feature pixels, which no implementation that agrees with it
    # in its choice of pixels can avoid: there, no worse than the specification in float32.
    assert error <= max(2e-6, 1.1 * floor)
    assert error <= 2e-6 or max(size) > 32
    assert ill.sum() <= (sum(size) * scale if scale == 3 else 0)  # the last row and column, at most
    print(f"{size} x{scale}: {error:.1e} (specification {floor:.1e}); {ill.sum()} of {len(ill)} ill-conditioned")


def test_imnet_none_is_the_nearest_feature(tiny):
    model = tiny(None)
    inp, (coord, cell) = torch.randn(1, 3, 4, 5), queries(1, 20)
    want = reference.liif(model.encoder(inp), coord, None, None)
    assert torch.equal(model(inp, coord, cell), want)
    assert model.render(inp, (8, 9)).shape == (1, 6, 8, 9)


def test_an_mlp_of_ones_own_goes_by_the_reference():
    @liif_fast.register("test-sine")
    class Sine(torch.nn.Module):
        def __init__(self, in_dim, out_dim):
            super().__init__()
            self.linear = torch.nn.Linear(in_dim, out_dim)

        def forward(self, x):
            return self.linear(x).sin()

    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}}
    model = liif_fast.LIIF(encoder, {"name": "test-sine", "args": {"out_dim": 3}})
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    assert torch.equal(model(inp, coord, cell), by_reference(model, inp, coord, cell))
    with torch.no_grad():
        size = (10, 9)
        whole = model(inp, functional.make_coord(size)[None], torch.tensor([[[2 / 10, 2 / 9]]]).expand(1, 90, 2))
        assert_close(model.render(inp, size).flatten(2).transpose(1, 2), whole)


@pytest.mark.parametrize("change", ["activation", "wrapped", "hook"])
def test_a_changed_mlp_is_not_folded(tiny, change):
    """What someone puts into the MLP must have its effect: then it runs as it is."""
    model = tiny()
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    before = model(inp, coord, cell)
    if change == "activation":
        model.imnet.layers[1] = torch.nn.GELU()
    elif change == "wrapped":
        model.imnet.layers[2] = torch.nn.Sequential(model.imnet.layers[2], torch.nn.Linear(16, 16))
    else:
        model.imnet.layers[2].register_forward_hook(lambda module, args, out: out * 2)
    after = model(inp, coord, cell)
    assert torch.equal(after, by_reference(model, inp, coord, cell))
    assert (after - before).abs().max() > 1e-3
    assert model.render(inp, (5, 4)).shape == (1, 3, 5, 4)


@pytest.mark.parametrize("size", [(9, 14), (3, 3), (40, 1)])
@pytest.mark.parametrize("flags", [FLAGS[0], FLAGS[-1]], ids=str)
def test_render_is_forward_on_the_grid(tiny, flags, size):
    model = tiny(**flags)
    inp = torch.randn(2, 3, 7, 6)
    coord = functional.make_coord(size).expand(2, -1, -1)
    cell = torch.tensor([2 / size[0], 2 / size[1]]).expand_as(coord)
    want = model(inp, coord, cell).transpose(1, 2).unflatten(-1, size)
    assert_close(model.render(inp, size), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["strided", "channels_last"])
def test_non_contiguous_inputs(tiny, layout):
    model = tiny()
    inp = torch.randn(2, 8, 3, 9).permute(0, 2, 1, 3)
    inp = inp if layout == "strided" else inp.contiguous(memory_format=torch.channels_last)
    coord = (torch.rand(2, 2, 30) * 2 - 1).transpose(1, 2)
    cell = torch.full((1, 1, 2), 0.1).expand(2, 30, 2)
    want = by_reference(model, inp.contiguous(), coord.contiguous(), cell.contiguous())
    got = model(inp, coord, cell)
    assert_close(got, want, rtol=1e-5, atol=1e-5)
    for a, b in zip(
        *(torch.autograd.grad(y.square().sum(), list(model.parameters())) for y in (got, want)), strict=True
    ):
        assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, b.abs().max().item()))  # sums of some hundred terms
