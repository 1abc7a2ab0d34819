"""The specification against a brute-force computation in float64, and its index arithmetic against grid_sample."""

from __future__ import annotations

import itertools

import brute_force
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from liif_fast import reference

SIZES = [(13, 17), (1, 1), (2, 5), (7, 1), (48, 48)]


def random_layers(widths, dtype=torch.float64):
    return [
        (torch.randn(n, m, dtype=dtype) / m**0.5, torch.randn(n, dtype=dtype)) for m, n in itertools.pairwise(widths)
    ]


def torch_mlp(layers):
    def imnet(x):
        for i, (w, b) in enumerate(layers):
            x = F.linear(x, w, b)
            x = x if i == len(layers) - 1 else x.relu()
        return x

    return imnet


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("ensemble", "unfold", "decode"), list(itertools.product((True, False), repeat=3)))
def test_reference_is_the_brute_force(size, ensemble, unfold, decode):
    C, Q = 3, 200
    layers = random_layers([C * (9 if unfold else 1) + 2 + 2 * decode, 8, 8, 3])
    feat = torch.randn(1, C, *size, dtype=torch.float64)
    coord = torch.rand(1, Q, 2, dtype=torch.float64) * 2 - 1
    cell = torch.rand(1, Q, 2, dtype=torch.float64) if decode else None
    got = reference.liif(feat, coord, cell, torch_mlp(layers), local_ensemble=ensemble, feat_unfold=unfold)
    want, _ = brute_force.liif(
        feat[0].numpy(),
        coord[0].numpy(),
        None if cell is None else cell[0].numpy(),
        [(w.numpy(), b.numpy()) for w, b in layers],
        local_ensemble=ensemble,
        feat_unfold=unfold,
    )
    # float64 has 1e-16; sums of some hundred terms and 1/total of an area as small as 1e-5 leave 1e-10
    np.testing.assert_allclose(got[0].numpy(), want, rtol=0, atol=1e-10)


def test_reference_without_imnet_is_the_nearest_feature():
    feat = torch.randn(2, 5, 4, 6)
    coord = reference.make_coord((4, 6)).expand(2, -1, -1)
    assert torch.equal(reference.liif(feat, coord, None, None), feat.flatten(2).transpose(1, 2))


def grid_sample_pixels(coord, size, v, eps):
    """The pixel that grid_sample reads for the shifted coordinate, by sampling an image of pixel numbers."""
    H, W = size
    at = coord + torch.tensor([v[0] / H + eps, v[1] / W + eps], dtype=torch.float64).to(coord.dtype)
    at = at.clamp(-1 + 1e-6, 1 - 1e-6)
    number = torch.arange(H * W, dtype=coord.dtype).view(1, 1, H, W)
    grid = at.flip(-1).view(1, 1, -1, 2)
    return F.grid_sample(number, grid, mode="nearest", align_corners=False).flatten().long()


@pytest.mark.parametrize("size", [*SIZES, (64, 64), (255, 257), (340, 510)])
@pytest.mark.parametrize("ensemble", [True, False])
def test_corners_choose_what_grid_sample_chooses(size, ensemble):
    coords = [torch.rand(20_000, 2) * 2.2 - 1.1]  # beyond the image too
    for scale in (1, 1.5, 2, 3, 4, 5, 7, 8):
        out = [max(1, round(n * scale)) for n in size]
        ys, xs = (reference.make_coord([n])[:, 0] for n in out)
        pick = torch.randint(0, 1 << 30, (4000,))
        coords.append(torch.stack([ys[pick % out[0]], xs[pick // 7 % out[1]]], -1))
    coord = torch.cat(coords)
    index, rel, weight = reference.corners(coord, size, ensemble)
    signs, eps = (((-1, 1), 1e-6)) if ensemble else ((0,), 0.0)
    row = index[..., 0] * size[1] + index[..., 1]
    for k, v in enumerate(itertools.product(signs, signs)):
        assert torch.equal(row[:, k], grid_sample_pixels(coord, size, v, eps))
    centre = reference.make_coord(size, flatten=False)[index[..., 0], index[..., 1]]
    assert torch.equal(rel, (coord.unsqueeze(-2) - centre) * torch.tensor([float(n) for n in size]))
    # four roundings of at most 2^-24 each
    assert (weight.sum(-1) - 1).abs().max() <= 4 * 2**-24


def test_corners_of_nan_stay_inside_and_poison_the_result():
    coord = torch.tensor([[float("nan"), 0.0], [float("inf"), -float("inf")]])
    index, _, weight = reference.corners(coord, (5, 7))
    assert (index >= 0).all()
    assert (index < torch.tensor([5, 7])).all()
    assert weight[0].isnan().all()


@pytest.mark.parametrize("shape", [(3,), (2, 5), (4, 3, 2)])
def test_make_coord(shape):
    coord = reference.make_coord(shape, flatten=False)
    assert coord.shape == (*shape, len(shape))
    for axis, n in enumerate(shape):
        want = np.array([-1 + (2 * i + 1) / n for i in range(n)])
        got = coord[..., axis].movedim(axis, 0).reshape(n, -1)[:, 0].numpy()
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)  # float32 in [-1, 1]
    assert torch.equal(reference.make_coord(shape), coord.flatten(0, -2))
    assert reference.make_coord([2], ranges=[(0, 4)]).flatten().tolist() == [1.0, 3.0]
