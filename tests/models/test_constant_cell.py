"""The cell of a grid is the same for all its pixels: a part of the hidden map, and no argument of the operators."""

from __future__ import annotations

import pytest
import torch
from liif_queries import by_reference
from random_head import head
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from liif_fast import functional
from liif_fast.head import int8

LIB = torch.ops.liif_fast
OPERATORS = (LIB.render.default, LIB.render_int8.default)
EXACT = {"rtol": 1e-11, "atol": 1e-12}  # float64: the same sums in another order


class Calls(TorchDispatchMode):
    """(operator, its arguments) of all that renders."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in OPERATORS:
            self.found.append((function, args))
        return function(*args, **(kwargs or {}))


class Enlarging(nn.Module):
    """A feature map of twice the image's size."""

    out_dim = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x).repeat_interleave(2, 2).repeat_interleave(2, 3)


class Windows(nn.Module):
    """Takes whole windows of 4 only."""

    out_dim, pad_to, receptive_field = 4, 4, 1

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        assert not any(n % 4 for n in x.shape[2:])
        return self.conv(x)


def grid(size, dtype=torch.float64):
    coord = functional.make_coord(size, dtype=dtype)[None]
    return coord, coord.new_tensor([2 / n for n in size]).expand_as(coord)


def queried(model, inp, size):
    """What queries with a cell each give."""
    coord, cell = (t.expand(len(inp), -1, -1) for t in grid(size))
    return by_reference(model, inp, coord, cell).transpose(1, 2).unflatten(-1, size)


@pytest.mark.parametrize("cell", [(0.5, 0.25), (40.0, 3.0), (0.01, 0.02)])
@pytest.mark.parametrize("ensemble", [True, False])
def test_the_head_with_a_cell_is_the_head_given_that_cell(cell, ensemble):
    before = head(2, 16)
    wide = functional.Head(*(t.double() for t in before[:3]), *double(before.mlp), *(t.double() for t in before[4:]))
    feat, coord = torch.randn(2, 3, 5, 7, dtype=torch.float64), torch.rand(2, 40, 2, dtype=torch.float64) * 2 - 1
    cells = (torch.tensor(cell, dtype=torch.float64) / torch.tensor([5, 7])).expand_as(coord)
    want = functional.query(functional.hidden_map(feat, wide), wide, coord, cells, local_ensemble=ensemble)
    after = functional.with_cell(wide, cell)
    got = functional.query(functional.hidden_map(feat, after), after, coord, local_ensemble=ensemble)
    assert_close(got, want, **EXACT)
    assert not torch.equal(after.b_conv, wide.b_conv)
    half = functional.with_cell(before._replace(b_conv=before.b_conv.half(), w_pos=before.w_pos.half()), cell)
    assert half.b_conv.dtype == torch.float16  # of the convolution
    # three numbers rounded to float16's 11 bits, and their sum
    assert_close(half.b_conv.double(), after.b_conv, rtol=2**-10, atol=2**-10)


def double(layers):
    return (tuple((w.double(), b.double()) for w, b in layers),)


@pytest.mark.parametrize("size", [(11, 13), (3, 30), (1, 2)])  # larger and smaller: a cell of several feature pixels
@pytest.mark.parametrize(
    "change", [{}, {"cell_decode": False}, {"local_ensemble": False}, {"feat_unfold": False}, {"hidden": []}]
)
def test_grids_are_queries_with_the_cell(tiny, size, change):
    model, inp = tiny(**change).double(), torch.randn(2, 3, 6, 5, dtype=torch.float64)
    with Calls() as calls:
        got = model.render(inp, size)
    assert [args[2] for _, args in calls.found] == [None]
    assert_close(got, queried(model, inp, size), **EXACT)


@pytest.mark.parametrize("encoder", [Enlarging, Windows])
def test_the_cell_is_measured_in_pixels_of_the_map(tiny, encoder):
    model, inp = tiny(channels=4), torch.randn(1, 3, 6, 5, dtype=torch.float64)
    model.encoder = encoder()
    model.double()
    want = model(inp, *grid((11, 13))).transpose(1, 2).unflatten(-1, (11, 13))
    assert_close(model.render(inp, (11, 13)), want, **EXACT)


@pytest.mark.parametrize("hidden_span", [((3, 9), (4, 12)), None])
def test_a_part_has_the_cell_of_the_whole_map(tiny, hidden_span):
    model, inp = tiny().double(), torch.randn(1, 3, 16, 17, dtype=torch.float64)
    rows, cols, size = (10, 14), (14, 20), (32, 34)
    part = model.encode_part(inp[..., 0:12, 1:15], (16, 17), (0, 1), hidden_span, size)((rows, cols))
    want = queried(model, inp, size)[..., slice(*rows), slice(*cols)]
    assert_close(part, want, **EXACT)


def test_what_does_not_fold_is_given_cells(tiny):
    model, inp = tiny().double(), torch.randn(1, 3, 6, 5, dtype=torch.float64)
    model.imnet.layers[1] = nn.GELU()
    with Calls() as calls:
        got = model.render(inp, (11, 13))
    assert not calls.found
    assert_close(got, queried(model, inp, (11, 13)), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantized", [True, False])
def test_every_precision(tiny, dtype, quantized):
    """As close to the same in float64 as with cells in the kernels, or one rounding."""
    model, inp, size = tiny([32, 32, 32]), torch.rand(1, 3, 12, 11) * 2 - 1, (40, 37)
    coord, cell = grid(size, torch.float32)
    model = model.quantize(inp * 0.5 + 0.5) if quantized else model
    with torch.no_grad(), Calls() as calls:
        got = model.render(inp, size, dtype=None if dtype == torch.float32 else dtype)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            before = model(inp, coord, cell).transpose(1, 2).unflatten(-1, size)
        (operator, args), (_, earlier) = calls.found
        if quantized:  # the integers of the specification for this map; colours are float32 sums in another order
            assert_close(operator(*args), int8.render_int8(*args), rtol=2e-6, atol=2e-6)
    assert args[2] is None
    assert earlier[2] is not None
    want = queried(model.double(), inp.double(), size)
    error, error_before = ((t - want).square().mean().sqrt() for t in (got, before))
    unit = {torch.float32: 2**-22, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert error <= 1.3 * error_before + unit * 0.1 * want.abs().max()
