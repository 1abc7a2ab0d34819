"""LTE's head as functions: layers of any width folded, gradients of places, the image between its pixels."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from decode_cases import error
from fourier_cases import arguments, definition, expected
from torch.testing import assert_close

from liif_fast import functional, reference
from liif_fast.head import fourier, fourier_queries

# 2 F, units of the hidden layers
WIDTHS = [(20, [64, 64]), (64, [64]), (36, [50, 70]), (64, [20, 100, 12]), (130, [8]), (2, []), (66, [])]


def layers(frequencies, hidden, C=3, out=3, dtype=torch.float64):
    """(coefficients, frequencies in the operators' order, w_phase, linear layers)"""
    maps = [(torch.randn(2 * frequencies, C, 3, 3) / 3, torch.randn(2 * frequencies)) for _ in range(2)]
    sizes = [2 * frequencies, *hidden, out]
    linear = [(torch.randn(n, m) / m**0.5, torch.randn(n) * 0.1) for m, n in itertools.pairwise(sizes)]
    maps, linear = ([tuple(t.to(dtype) for t in pair) for pair in pairs] for pairs in (maps, linear))
    return *maps, torch.randn(frequencies, 2).to(dtype), linear


def by_reference(feat, coefficients, frequencies, w_phase, linear, coord, cell):
    """reference.lte, whose frequencies lie along y and x one behind the other."""

    def mlp(x):
        for w, b in linear[:-1]:
            x = F.linear(x, w, b).relu()
        return F.linear(x, *linear[-1])

    coef, freq = (F.conv2d(feat, w, b, padding=1) for w, b in (coefficients, frequencies))
    freq = freq.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
    return reference.lte(coef, freq, coord, cell, lambda c: c @ w_phase.t(), mlp)


def leaves_of(coefficients, frequencies, w_phase, linear):
    return [*coefficients, *frequencies, w_phase, *(t for pair in linear for t in pair)]


@pytest.mark.parametrize(("width", "hidden"), WIDTHS)
@pytest.mark.parametrize("cell", [True, False])
def test_widths_that_are_no_multiples(width, hidden, cell):
    parts = layers(width // 2, hidden)
    feat = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    coord = torch.rand(2, 30, 2, dtype=torch.float64) * 2 - 1
    sides = torch.rand(2, 30, 2, dtype=torch.float64) * 0.3 if cell else None
    leaves = [t.requires_grad_() for t in (feat, *leaves_of(*parts))]
    want = by_reference(feat, *parts, coord, sides)
    head = fourier.fold(*parts)
    assert head.w_phase.shape[0] % fourier.LANES == 0
    got = functional.query(functional.hidden_map(feat, head), head, coord, sides)
    # another order of sums, of up to a hundred products
    assert_close(got, want, rtol=1e-11, atol=1e-11)
    grad_out = torch.randn_like(want)
    options = {"allow_unused": True, "materialize_grads": True}
    grads = [torch.autograd.grad(y, leaves, grad_out, **options) for y in (got, want)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        assert_close(functional.render(functional.hidden_map(feat, head), head, coord, sides), want, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("width", "hidden"), WIDTHS)
def test_uniform_is_what_the_operators_take(width, hidden):
    parts = layers(width // 2, hidden)
    head = fourier.fold(*parts)
    hidden_map = functional.hidden_map(torch.randn(1, 3, 4, 4, dtype=torch.float64), head)
    map_, w_phase, w_mlp, b_mlp, w_out = fourier_queries.uniform(hidden_map, head)
    D = w_out.shape[1]
    assert D % 64 == 0
    assert max([width, *hidden]) + 64 > D  # no wider than must be
    assert w_mlp.shape == (len(hidden), D, D)
    assert b_mlp.shape == (len(hidden), D)
    assert map_.shape == (1, 4, 4, 2 * D)
    assert w_phase.shape == (D // 2, 2)


@pytest.mark.parametrize("moved", ["coord", "cell"])
@pytest.mark.parametrize("ensemble", [True, False])
def test_gradients_of_coordinates_and_cells(moved, ensemble):
    """By the raw gather: the operator has none."""
    hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, b_out, _ = arguments((2, (3, 4), 32, 20, 2, 3))
    mlp = tuple(zip(w_mlp, b_mlp, strict=True))
    head = fourier.FourierHead(torch.zeros(128, 1, 3, 3), torch.zeros(128), w_phase, mlp, w_out, b_out)
    given = {"coord": coord, "cell": cell}
    leaf = given[moved].requires_grad_()
    got = functional.query(hidden, head, coord, cell, local_ensemble=ensemble)
    want = definition(hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, b_out, ensemble)
    grad_out = torch.randn_like(want)
    assert error(got, want) < 1e-12
    (a,), (b,) = (torch.autograd.grad(y, leaf, grad_out) for y in (got, want))
    assert error(a, b) < 1e-9  # 1 / total area amplifies


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("half", [False, True])
def test_devices_without_the_operator(monkeypatch, half, ensemble):
    """Training goes by the raw gather and torch's own layers; in half precision under autocast, with wide angles."""
    args = arguments((2, (3, 4), 32, 60, 2, 3), torch.bfloat16 if half else torch.float64, ensemble=ensemble)
    hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, b_out, _ = args
    grad_out = torch.randn(2, 60, 3, dtype=coord.dtype)
    want, want_grads = expected(args, grad_out)
    leaves = [t.requires_grad_() for t in (hidden, w_phase, w_mlp, b_mlp, w_out, b_out)]
    mlp = tuple(zip(w_mlp, b_mlp, strict=True))
    head = fourier.FourierHead(torch.zeros(128, 1, 3, 3), torch.zeros(128), w_phase, mlp, w_out, b_out)
    monkeypatch.setattr(fourier_queries, "CPU_KERNELS", False)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        got = functional.query(hidden, head, coord, cell, local_ensemble=ensemble)
    grads = torch.autograd.grad(got, leaves, grad_out)
    assert got.dtype == coord.dtype
    assert error(got, want) < (2e-2 if half else 1e-12)
    for a, b in zip(grads, want_grads, strict=True):
        assert error(a, b) < (0.1 if half else 1e-12)  # of 8 bits: masks of a few ReLUs switch (measured: 0.07)


def test_one_cell_of_all_queries():
    """with_cell: the phase of a grid's pixels, without a cell for each."""
    hidden, coord, _, w_phase, w_mlp, b_mlp, w_out, b_out, _ = arguments((2, (3, 5), 32, 20, 2, 3))
    mlp = tuple(zip(w_mlp, b_mlp, strict=True))
    head = fourier.FourierHead(torch.zeros(128, 1, 3, 3), torch.zeros(128), w_phase, mlp, w_out, b_out)
    cell = torch.tensor([0.2, 0.1], dtype=coord.dtype).expand_as(coord)
    fixed = functional.with_cell(head, [0.2 * 3, 0.1 * 5])
    for run in (functional.query, functional.render):
        want = run(hidden, head, coord, cell)
        assert error(run(hidden, fixed, coord), want) < 1e-14
        assert error(run(hidden, head, coord), want) > 1e-2


# ---- the image between its pixels ----


def sampled(image, coord):
    grid = coord.flip(-1).unsqueeze(1)
    return F.grid_sample(image, grid, "bilinear", "border", align_corners=False)[:, :, 0].mT


def on_grid(size, scale):
    at = reference.make_coord([max(1, round(n * scale)) for n in size])
    return at.expand(2, -1, -1)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (13, 17), (50, 41), (3, 300)])
def test_skip_is_grid_sample(size):
    image = torch.randn(2, 3, *size)
    for coord in (on_grid(size, 1), on_grid(size, 3.7), torch.rand(2, 3000, 2) * 2.4 - 1.2):
        got, want = reference.skip(image, coord), sampled(image, coord)
        # the same roundings but for the last sum's, of four products (0 where the kernels' order is this one)
        assert (got - want).abs().max() <= torch.finfo(torch.float32).eps * image.abs().max()
    coord = (torch.rand(2, 500, 2) * 2.4 - 1.2).double()
    assert_close(reference.skip(image.double(), coord), sampled(image.double(), coord), rtol=0, atol=1e-13)


def test_skip_of_parts_is_that_of_the_whole():
    image, size = torch.randn(2, 3, 40, 30), (40, 30)
    coord = torch.rand(2, 4000, 2) * 2.2 - 1.1
    whole = reference.skip(image, coord)
    pixel = ((coord.clamp(-1, 1) + 1) * torch.tensor(size) / 2 - 0.5).clamp(min=0)
    for rows, cols in (((0, 17), (0, 13)), ((11, 29), (7, 30)), ((22, 40), (9, 22))):
        low, high = torch.tensor((rows[0], cols[0])), torch.tensor((rows[1], cols[1]))
        edge = torch.tensor(size)
        inside = ((pixel >= low + 0.01) | (low == 0)) & ((pixel <= high - 1.01) | (high == edge))
        keep = inside.all(-1).all(0)
        assert keep.sum() > 30
        part = image[:, :, slice(*rows), slice(*cols)]
        got = reference.skip(part, coord[:, keep], size, (rows[0], cols[0]))
        assert torch.equal(got, whole[:, keep])


def test_skip_has_gradients():
    image = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    coord = (torch.rand(2, 60, 2, dtype=torch.float64) * 2.4 - 1.2).requires_grad_()
    grad_out = torch.randn(2, 60, 3, dtype=torch.float64)
    grads = [torch.autograd.grad(f(image, coord), (image, coord), grad_out) for f in (reference.skip, sampled)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_skip_on_the_border_has_the_gradient_of_grid_sample():
    """Border pixels' centres, as every grid of scale 1 has them: outside of them nothing moves."""
    image = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    coord = reference.make_coord((4, 4), dtype=torch.float64)[None].requires_grad_()
    grads = [torch.autograd.grad(f(image, coord).sum(), coord)[0] for f in (reference.skip, sampled)]
    assert_close(*grads, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_skip_far_away(value):
    image, coord = torch.randn(1, 3, 4, 5), torch.rand(1, 9, 2)
    want = reference.skip(image, coord)
    coord[0, 4, 0] = value
    got = reference.skip(image, coord)
    others = torch.arange(9) != 4
    assert torch.equal(got[:, others], want[:, others])
    if value == value:  # the border's, as grid_sample has it
        assert_close(got, sampled(image, coord), rtol=0, atol=1e-6)
    else:
        assert got[0, 4].isnan().all()
