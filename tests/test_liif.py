"""The module against the reference: values, gradients, flags, dtypes, compilation; and its answers to bad input."""

from __future__ import annotations

import copy
import itertools
import pickle

import brute_force
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import liif_fast
from liif_fast import functional, reference
from liif_fast.head import precision

FLAGS = [
    dict(zip(("local_ensemble", "feat_unfold", "cell_decode"), values, strict=True))
    for values in itertools.product((True, False), repeat=3)
]
HIDDEN = [[16, 16, 16], [16], [], [24, 8, 16], [10, 12]]


def queries(B, Q, dtype=torch.float32):
    return torch.rand(B, Q, 2, dtype=dtype) * 2 - 1, torch.rand(B, Q, 2, dtype=dtype) / 8


def by_reference(model, inp, coord, cell):
    """The official computation with the model's own parts."""
    feat = model.encoder(inp)
    cell = cell if model.cell_decode else None
    flags = {"local_ensemble": model.local_ensemble, "feat_unfold": model.feat_unfold}
    return reference.liif(feat, coord.to(feat.dtype), cell, model.imnet, **flags)


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


def test_a_replica_of_data_parallel_has_gradients(tiny):
    """Replicas hold plain tensors, no parameters; with a frozen encoder nothing else asks for a gradient."""
    model = tiny()
    model.encoder.requires_grad_(False)
    leaves = dict(model.imnet.named_parameters())
    replica = model._replicate_for_data_parallel()
    replica.imnet = copy.deepcopy(model.imnet)
    for i in (0, 2, 4):
        for name in ("weight", "bias"):
            del replica.imnet.layers[i]._parameters[name]
            setattr(replica.imnet.layers[i], name, leaves[f"layers.{i}.{name}"] * 1)
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    grads = torch.autograd.grad(replica(inp, coord, cell).sum(), list(leaves.values()))
    assert all(g.abs().max() > 0 for g in grads)


def test_official_usage_in_chunks(tiny):
    """gen_feat, then query_rgb over chunks: the hidden map is computed once, and not kept when anything changes."""
    model = tiny().eval()
    inp, (coord, cell) = torch.randn(1, 3, 8, 8), queries(1, 50)
    with torch.no_grad():
        want = by_reference(model, inp, coord, cell)
        model.gen_feat(inp)
        chunks = [model.query_rgb(c, s) for c, s in zip(coord.split(7, 1), cell.split(7, 1), strict=True)]
        assert_close(torch.cat(chunks, 1), want, rtol=1e-5, atol=1e-5)
        kept = model._hidden.result
        model.query_rgb(coord, cell)
        assert model._hidden.result is kept
        model.imnet.layers[0].weight.mul_(2)
        assert_close(model.query_rgb(coord, cell), by_reference(model, inp, coord, cell), rtol=1e-5, atol=1e-5)
        model.feat.add_(1)
        assert_close(model.query_rgb(coord, cell), model.query(model.feat, coord, cell))
    with torch.inference_mode():
        model.gen_feat(inp)
        assert_close(model.query_rgb(coord, cell), by_reference(model, inp, coord, cell), rtol=1e-5, atol=1e-5)


def test_copies_and_pickles_after_a_training_step(tiny):
    model = tiny()
    inp, (coord, cell) = torch.randn(1, 3, 4, 4), queries(1, 5)
    model(inp, coord, cell).sum().backward()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(other(inp, coord, cell), model(inp, coord, cell))


@pytest.mark.parametrize("size", [(9, 14), (3, 3), (40, 1)])
@pytest.mark.parametrize("flags", [FLAGS[0], FLAGS[-1]], ids=str)
def test_render_is_forward_on_the_grid(tiny, flags, size):
    model = tiny(**flags)
    inp = torch.randn(2, 3, 7, 6)
    coord = functional.make_coord(size).expand(2, -1, -1)
    cell = torch.tensor([2 / size[0], 2 / size[1]]).expand_as(coord)
    want = model(inp, coord, cell).transpose(1, 2).unflatten(-1, size)
    assert_close(model.render(inp, size), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grad", [True, False])
def test_half_precision_by_autocast_and_by_to(tiny, products, dtype, grad):
    model = tiny([32, 32, 32], 16)
    inp, (coord, cell) = torch.randn(2, 3, 8, 8), queries(2, 500)
    with torch.set_grad_enabled(grad):
        want = model(inp, coord, cell)
        with torch.autocast("cpu", dtype=dtype):
            cast = model(inp, coord, cell)
            reference_error = (by_reference(model, inp, coord, cell) - want).abs().max()
        half = copy.deepcopy(model).to(dtype)(inp, coord, cell)
    # as good as plain torch in that precision is, twice over for another order of roundings
    for got in (cast, half):
        assert got.dtype == torch.float32
        assert (got - want).abs().max() <= 2 * max(reference_error, torch.finfo(dtype).eps * want.abs().max())


def test_half_precision_coordinates_stay_float32(tiny):
    """At width 2000, float32 queries must not be rounded to bfloat16 (three digits) inside a bfloat16 model."""
    model = tiny().to(torch.bfloat16)
    coord = functional.make_coord((1, 2000))[None]
    feat = torch.randn(1, 6, 1, 2000, dtype=torch.bfloat16)
    with torch.no_grad():
        got = model.query(feat, coord, torch.full_like(coord, 1e-3))
        want = model.float().query(feat.float(), coord, torch.full_like(coord, 1e-3))
    assert (got - want).abs().mean() <= 2**-7 * want.abs().mean() * 4  # bfloat16's step, a few layers deep


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


@pytest.mark.parametrize("grad", [True, False])
def test_compile_fullgraph(tiny, grad):
    model = tiny()
    inp, (coord, cell) = torch.randn(2, 3, 6, 6), queries(2, 20)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.set_grad_enabled(grad):
        for Q in (20, 13):
            got, want = compiled(inp, coord[:, :Q], cell[:, :Q]), model(inp, coord[:, :Q], cell[:, :Q])
            assert_close(got, want)
    if grad:
        parameters = list(model.parameters())
        for a, b in zip(*(torch.autograd.grad(y.square().sum(), parameters) for y in (got, want)), strict=True):
            assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_compile_with_inductor_and_autocast(tiny, monkeypatch):
    """Whole model, forward and backward, dynamic shapes, once with the real backend."""
    monkeypatch.setattr(precision, "FAST_BFLOAT16_CPU", True)  # or nothing of it would be in half precision
    model = tiny()
    inp, (coord, cell) = torch.randn(2, 3, 6, 6), queries(2, 20)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    parameters = list(model.parameters())

    def run(module, Q):
        out = module(inp, coord[:, :Q], cell[:, :Q])
        return out, *torch.autograd.grad(out.square().sum(), parameters)

    for Q in (20, 13):
        for a, b in zip(run(compiled, Q), run(model, Q), strict=True):
            assert_close(a, b, rtol=1e-4, atol=1e-4)  # inductor fuses: sums in another order
    wanted = run(model, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(compiled, 20), run(model, 20)
    assert not all(torch.equal(eager, want) for eager, want in zip(found[1], wanted, strict=True))
    for got, eager, want in zip(*found, wanted, strict=True):
        # twice what eager mode loses here, for another order of roundings, or one rounding of the largest value
        tolerance = max(2 * (eager - want).abs().max(), torch.finfo(torch.bfloat16).eps * want.abs().max())
        assert (got - want).abs().max() <= tolerance


@pytest.mark.parametrize("grad", [True, False])
def test_export(tiny, grad):
    model = tiny()
    inp, (coord, cell) = torch.randn(2, 3, 6, 6), queries(2, 20)
    B, H, W, Q = (torch.export.Dim(name, min=1 if name in "BQ" else 2) for name in "BHWQ")
    shapes = {"inp": {0: B, 2: H, 3: W}, "coord": {0: B, 1: Q}, "cell": {0: B, 1: Q}}
    with torch.set_grad_enabled(grad):
        exported = torch.export.export(model, (inp, coord, cell), dynamic_shapes=shapes).module()
        other, at = torch.randn(3, 3, 9, 7), queries(3, 11)
        assert_close(exported(other, *at), model(other, *at))


@pytest.mark.parametrize("function", [functional.query, functional.render])
@pytest.mark.filterwarnings("ignore:.*performance drop")
def test_vmap_of_the_head(tiny, function):
    """By torch's own fallback, one call for each element. (Encoders run channels last, which vmap does not know.)"""
    head = functional.Head(*tiny().requires_grad_(False).head())
    hidden, (coord, cell) = torch.randn(4, 1, 5, 5, 16), queries(1, 9)
    got = torch.vmap(lambda h: function(h, head, coord, cell))(hidden)
    for a, h in zip(got, hidden, strict=True):
        assert_close(a, function(h, head, coord, cell), rtol=1e-5, atol=1e-5)


def test_an_official_training_step_learns(tiny):
    """The official loop's calls, unchanged: forward, L1 loss, Adam."""
    model = tiny()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inp, (coord, cell) = torch.rand(2, 3, 8, 8), queries(2, 64)
    gt = (coord.sum(-1, keepdim=True) > 0).float().expand(-1, -1, 3)  # an edge: a bias alone cannot fit it
    losses = []
    for _ in range(150):
        loss = torch.nn.functional.l1_loss(model(inp, coord, cell), gt)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3  # a constant would leave half of it


def test_bad_input(tiny):
    model = tiny()
    inp, (coord, cell) = torch.rand(1, 3, 4, 4), queries(1, 5)
    nan = coord.clone()
    nan[0, 2, 1] = float("nan")
    for arguments, error, words in [
        ((inp[0], coord, cell), ValueError, "inp: shape"),
        ((inp.to(torch.uint8), coord, cell), TypeError, "inp: a floating-point"),
        ((inp[..., :0], coord, cell), ValueError, "inp: shape .*empty"),
        ((inp, coord[0], cell), ValueError, "coord: shape"),
        ((inp, coord.expand(2, -1, -1), cell), ValueError, "coord: shape .* B = 1"),
        ((inp, coord[..., :1], cell), ValueError, "coord: shape"),
        ((inp, coord.long(), cell), TypeError, "coord: a floating-point"),
        ((inp, coord.tolist(), cell), TypeError, "coord: .*list"),
        ((inp, nan, cell), ValueError, "coord holds NaN"),
        ((inp, coord, nan), ValueError, "cell holds NaN"),
        ((inp, coord), ValueError, "cell: .*cell_decode"),
        ((inp, coord, cell[:, :2]), ValueError, "cell: the shape of coord"),
        ((inp, coord.to("meta"), cell), ValueError, "coord is on meta"),
        ((inp.to("meta"), coord, cell), ValueError, "inp is on meta"),
        ((inp, None, cell), TypeError, "coord: .*NoneType"),
    ]:
        with pytest.raises(error, match=words) as caught:
            model(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="call gen_feat"):
        tiny().query_rgb(coord, cell)
    with pytest.raises(ValueError, match=r"feat: shape \[B, 6"):
        model.query(torch.rand(1, 5, 4, 4), coord, cell)
    for feat, error in [("x", TypeError), (torch.ones(1, 6, 4, 4, dtype=torch.int32), TypeError)]:
        with pytest.raises(error, match="feat: a floating-point tensor"):
            model.query(feat, coord, cell)
    for feat in (torch.rand(1, 6, 4, 4).half(), torch.rand(1, 6, 4, 4).double()):
        with pytest.raises(ValueError, match=r"feat is torch\.float.* layers are torch\.float32"):
            model.query(feat, coord, cell)
    with pytest.raises(ValueError, match=r"feat: .*not empty"):
        model.query(torch.rand(1, 6, 0, 4), coord, cell)
    for bad in ([1], torch.rand(5), np.zeros((1, 3, 4, 4))):
        with pytest.raises((TypeError, ValueError), match="inp: "):
            model.render(bad, (4, 4))
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}}
    with pytest.raises(ValueError, match="inp: 3 channels"):
        liif_fast.LIIF(encoder).gen_feat(torch.rand(1, 1, 4, 4))
    with pytest.raises(ValueError, match="puts out 1 channels"):
        tiny(out_dim=1).upscale(torch.rand(3, 4, 4), scale=2)
    with pytest.raises(TypeError, match="out_dim"):
        liif_fast.LIIF(torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match=r"no spec.*register"):
        _ = model.spec
    for size in [(0, 3), (3,), (2.5, 4), "44", None]:
        with pytest.raises(ValueError, match="size: "):
            model.render(inp, size)


def test_registry():
    with pytest.raises(KeyError, match=r"no model is registered as 'nothing'; known: .*liif"):
        liif_fast.make({"name": "nothing", "args": {}})
    with pytest.raises(TypeError, match="must be a mapping"):
        liif_fast.make("liif")
    with pytest.raises(KeyError, match="load_sd"):
        liif_fast.make({"name": "mlp", "args": {"in_dim": 2, "out_dim": 3, "hidden_list": []}}, load_sd=True)
    spec = {"name": "mlp", "args": {"in_dim": 2, "out_dim": 3, "hidden_list": [4]}}
    assert liif_fast.make(spec, args={"out_dim": 5})(torch.zeros(1, 2)).shape == (1, 5)
    assert spec["args"]["out_dim"] == 3
