"""LTE and LTE+ as models: queries of every form, whole images by every method, what is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import TinyEncoder
from liif_queries import grid_of
from lte_models import IMNET, KINDS, by_reference, given
from torch.testing import assert_close

import liif_fast
from liif_fast.base.room import Room
from liif_fast.head import sampling
from liif_fast.models import mosaic, padding
from liif_fast.models.lte import LTE
from liif_fast.models.ltep import LTEP


@pytest.fixture(params=KINDS)
def model(request):
    return KINDS[request.param]().eval()


@pytest.mark.parametrize("hidden_list", [[], [16], [24, 8, 16]])
def test_values_and_gradients_in_float64(hidden_list):
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": hidden_list}}
    for built in (LTE(TinyEncoder(), imnet, 20), LTEP(TinyEncoder(), len(hidden_list), 22)):
        model = built.double()
        leaves = [t.requires_grad_() for t in given(dtype=torch.float64)]
        got, want = model(*leaves), by_reference(model, *leaves)
        assert_close(got, want, rtol=1e-10, atol=1e-12)
        grad, leaves = torch.randn_like(want), [*leaves, *model.parameters()]
        for a, b in zip(torch.autograd.grad(got, leaves, grad), torch.autograd.grad(want, leaves, grad), strict=True):
            assert_close(a, b, rtol=1e-8, atol=1e-10)  # 1 / total area amplifies a gradient by up to 1e5
        with torch.no_grad():
            assert_close(model(*leaves[:3]), want, rtol=1e-10, atol=1e-12)


def test_both_forms_of_query():
    model = KINDS["lte-fast"]().double().eval()
    inp, coord, _ = given(Q=30, dtype=torch.float64)
    cell = torch.rand(2, 2, dtype=torch.float64) / 8
    flat = model(inp, coord, cell.unsqueeze(1).expand_as(coord))
    image = model(inp, coord.unflatten(1, (5, 6)), cell)
    assert image.shape == (2, 3, 5, 6)
    assert torch.equal(image, flat.mT.unflatten(2, (5, 6)))
    model.gen_feat(inp)
    assert torch.equal(model.query_rgb(coord.unflatten(1, (5, 6)), cell), image)
    for wrong in (cell[:1], cell[:, None], None):
        with pytest.raises(
            ValueError, match=r"cell: with coord \[B, h, w, 2\] one for each image, \[2, 2\], is wanted"
        ):
            model(inp, coord.unflatten(1, (5, 6)), wrong)


def test_official_usage_in_chunks(model):
    """gen_feat, then query_rgb over chunks: the map is computed once, and not kept when anything changes."""
    inp, coord, cell = given(1)
    with torch.no_grad():
        want = by_reference(model, inp, coord, cell)
        model.gen_feat(inp)
        assert model.inp is inp
        pieces = [model.query_rgb(c, s) for c, s in zip(coord.split(7, 1), cell.split(7, 1), strict=True)]
        assert_close(torch.cat(pieces, 1), want, rtol=1e-5, atol=1e-5)
        kept = model._hidden.result
        model.query_rgb(coord, cell)
        assert model._hidden.result is kept
        for changed in (model.coef.weight, model.freq.bias, model.phase.weight):
            changed.mul_(2)
            assert_close(model.query_rgb(coord, cell), by_reference(model, inp, coord, cell), rtol=1e-4, atol=1e-4)
        other = given(1)[0]
        model.gen_feat(other)  # another image is another skip
        assert_close(model.query_rgb(coord, cell), by_reference(model, other, coord, cell), rtol=1e-4, atol=1e-4)


def test_query_wants_the_images(model):
    inp, coord, cell = given()
    feat = model.gen_feat(inp)
    assert_close(model.query(feat, coord, cell, inp), model(inp, coord, cell))
    with pytest.raises(TypeError, match=r"^inp: LTE adds its colours to the images, so query"):
        model.query(feat, coord, cell)
    for wrong in (inp[:, :1], inp[:1], inp[0], torch.cat([inp, inp], 1), inp[..., :0]):
        with pytest.raises(ValueError, match=r"^inp: shape \[2, 3, H, W\] is wanted, got \["):
            model.query(feat, coord, cell, wrong)
    with pytest.raises(TypeError, match=r"^inp: the images of feat, floating point"):
        model.query(feat, coord, cell, (inp * 255).to(torch.uint8))
    with pytest.raises(ValueError, match=r"^cell: "):
        model(inp, coord)
    with pytest.raises(RuntimeError, match=r"^query_rgb: there are no features yet"):
        KINDS["lte"]().query_rgb(coord, cell)


@pytest.mark.parametrize("out", [1, 5])
def test_colours_of_other_channels_than_the_image(out):
    """The official class would add an image of 3 channels to one colour, or fail."""
    model = LTEP(TinyEncoder(), 1, 20, out).eval()
    inp, coord, cell = given()
    for act in (lambda: model(inp, coord, cell), lambda: model.render(inp, (9, 8))):
        with pytest.raises(ValueError, match=rf"^inp: .*{out}.* wanted, got"):
            act()


def test_render_is_forward_on_the_grid(model):
    inp, model.scale_max = given()[0], None
    for size in ((9, 14), (3, 3), (40, 1)):
        want = model(inp, *grid_of(size, 2)).mT.unflatten(2, size)
        assert_close(model.render(inp, size), want, rtol=1e-5, atol=1e-5)
        assert_close(model.renderer(size)(inp), want, rtol=1e-5, atol=1e-5)
    # a window of (y, x, height, width) in the image's pixels: rows 4 to 12, columns 2 to 8 at twice the size
    whole = model.render(inp, (14, 12))
    assert_close(model.render(inp, (8, 6), None, (2, 1, 4, 3)), whole[:, :, 4:12, 2:8], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "how", [{"scale": 2}, {"scale": 3.3}, {"scale": 0.6}, {"size": (45, 31)}, {"scale": 0.5, "point": True}]
)
def test_tiles_give_the_whole(model, how):
    image = torch.rand(3, 70, 45)
    whole = model.upscale(image, tile=0, **how)
    for tile in (16, 33):
        assert_close(model.upscale(image, tile=tile, **how), whole, rtol=0, atol=2e-6)  # float32, of other blocks


def test_window_of_tiles(model):
    image = torch.rand(3, 60, 50)
    want = model.upscale(image, scale=2, tile=0)[:, 20:84, 14:70]
    for tile in (0, 16):
        got = model.upscale(image, scale=2, tile=tile, window=(10, 7, 32, 28))
        assert_close(got, want, rtol=0, atol=2e-6)


def test_kinds_of_images(model):
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    as_float = torch.from_numpy(image).permute(2, 0, 1) / 255
    want = model.upscale(as_float, scale=2)
    got = model.upscale(image, scale=2)
    assert got.dtype == np.uint8
    np.testing.assert_allclose(got / 255, want.permute(1, 2, 0), atol=0.51 / 255)
    grey = model.upscale(as_float[:1], scale=2)
    assert grey.shape == (1, 24, 18)
    assert_close(grey, model.upscale(as_float[:1].expand(3, -1, -1), scale=2).mean(0, keepdim=True))
    many = torch.rand(3, 3, 8, 7)
    each = torch.stack([model.upscale(x, scale=2) for x in many])
    assert_close(model.upscale(many, scale=2), each, rtol=0, atol=2e-6)
    shares = []
    model.upscale(as_float, scale=2, progress=shares.append)
    assert shares[-1] == pytest.approx(1)


# features and layers rounded to 8 bits, to 11; what is added, the image, is not rounded
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_half_precision(model, dtype, tolerance):
    image = torch.rand(3, 20, 18)
    want = model.upscale(image, scale=2)
    got = model.upscale(image, scale=2, dtype=dtype)
    assert 0 < (got - want).abs().max() < tolerance
    half = copy.deepcopy(model).to(dtype)
    inp, coord, cell = given()
    assert half(inp, coord, cell).dtype == torch.float32
    assert_close(half(inp, coord, cell), model(inp, coord, cell), rtol=0, atol=4 * tolerance)


def test_8_bits_are_refused(model):
    for act in (
        lambda: model.quantize(torch.rand(3, 8, 8)),
        lambda: model.upscale(torch.rand(3, 8, 8), scale=2, dtype=torch.int8),
    ):
        with pytest.raises(
            ValueError, match=r"^(quantize|dtype: int8): 8-bit layers read what follows a ReLU.*take bfloat16"
        ) as caught:
            act()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", [{"scale": 2}, {"size": (13, 77)}, {"scale": 1.5, "window": (1.5, 2, 9, 11)}])
def test_stream(model, how):
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8))
    frames.append(frames[-1].copy())
    for frame, large in zip(frames, model.stream(iter(frames), **how), strict=True):
        np.testing.assert_array_equal(large, model.upscale(frame, **how))


def test_frames_of_which_little_moves(model):
    """Tiles that did not change are kept; those that did have the new image under their colours."""
    page = torch.rand(3, 150, 170)
    frames = [page.clone() for _ in range(4)]
    for i, frame in enumerate(frames[1:]):
        frame[:, 8 * i : 8 * i + 5, 9:14] = 1
    with model.stream(frames, scale=2, tile=32) as running:
        for frame, large in zip(frames, running, strict=True):
            assert_close(large, model.upscale(frame, scale=2, tile=0), rtol=0, atol=2e-6)
    assert running.tiles_reused > running.tiles / 2


PLACES = {
    "all": (sampling.Axis(140, 140), sampling.Axis(180, 180)),
    "a window of real numbers": (sampling.Axis(40, 70 * 3.7, 31), sampling.Axis(50, 90 * 3.7, 200)),
    "the end": (sampling.Axis(9, 70 * 2.0, 131), sampling.Axis(9, 90 * 2.0, 171)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("changed", [False, True], ids=["", "by the reference"])
def test_mosaic(model, monkeypatch, place, blocks, changed):
    if blocks:
        monkeypatch.setattr(mosaic, "WHOLE", 0)
        monkeypatch.setattr(mosaic, "BLOCK", 16)
    if changed:
        model.freq.register_forward_hook(lambda module, args, out: out)
    image, pixels = torch.rand(1, 3, 70, 90), PLACES[place]
    got = mosaic.Mosaic(model, image, torch.float32, Room(1 << 28)).render(pixels)
    share = [n / axis.whole for axis, n in zip(pixels, (70, 90), strict=True)]
    window = [getattr(a, name) * s for name in ("first", "count") for a, s in zip(pixels, share, strict=True)]
    want = model.render(image * 2 - 1, [axis.count for axis in pixels], torch.float32, window) / 2 + 0.5
    # float32 coordinates of real numbers; sums in another order
    assert_close(got, want.clamp(0, 1), rtol=0, atol=3e-6)


def test_copies_and_pickles_after_a_training_step(model):
    inp, coord, cell = given()
    model.train()(inp, coord, cell).sum().backward()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.inp is None
        assert_close(other(inp, coord, cell), model(inp, coord, cell))


def test_padding_and_a_larger_map():
    """Encoders that want whole windows, and one that doubles the size."""
    for kind in KINDS.values():
        model = kind(pad_to=8).eval()
        image = torch.rand(3, 13, 10)
        inp = image[None] * 2 - 1
        padded = padding.padded(inp, 8)
        assert padded.shape[2:] == (16, 16)
        with torch.no_grad():
            feat = model.encoder(padded)[:, :, :13, :10]
            want = model.query(feat, *grid_of((26, 20)), inp)
        assert_close(model.render(inp, (26, 20)).flatten(2).mT, want, rtol=1e-5, atol=1e-5)
        larger = kind({"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "scale": 2}}).eval()
        inp, coord, cell = given(size=(6, 5))
        if type(larger) is LTE:  # the official class takes offsets from the image's pixels there
            refused = r"^encoder_spec: LTE wants features of the image's size, 6x5, got 12x10"
            with pytest.raises(ValueError, match=refused):
                larger(inp, coord, cell)
            with pytest.raises(ValueError, match=refused):
                larger.render(inp, (13, 9))
            continue
        assert_close(larger(inp, coord, cell), by_reference(larger, inp, coord, cell), rtol=1e-5, atol=1e-5)
        want = by_reference(larger, inp, *grid_of((13, 9), 2)).mT.unflatten(2, (13, 9))
        assert_close(larger.render(inp, (13, 9)), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flag", ["local_ensemble", "feat_unfold", "cell_decode"])
def test_flags_of_liif_are_not_taken(model, flag):
    assert getattr(model, flag) is True
    setattr(model, flag, True)
    with pytest.raises(ValueError, match=f"^{flag}: LTE has no such choice"):
        setattr(model, flag, False)


def test_wrong_arguments():
    for act, words in (
        (lambda: LTE(TinyEncoder()), "^imnet_spec: the spec of an MLP"),
        (lambda: LTE(TinyEncoder(), IMNET, 21), "^hidden_dim: an even number from 2"),
        (lambda: LTE(TinyEncoder(), IMNET, True), "^hidden_dim: "),
        (lambda: LTEP(TinyEncoder(), -1), "^num_layer: a whole number from 0"),
        (lambda: LTEP(TinyEncoder(), out_dim=0), "^out_dim: a whole number from 1"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            act()
    assert liif_fast.make({"name": "lte-fast", "args": {"encoder_spec": TinyEncoder()}}).layers[0].in_channels == 256
