"""The operators: values, gradients, registration."""

from __future__ import annotations

import itertools

import pytest
import torch
from operator_cases import expected_gather, expected_render, sample
from torch.testing import assert_close

import liif_fast  # noqa: F401 - registers the operators
from liif_fast.head import ops

GATHER = torch.ops.liif_fast.corner_gather.default
BACKWARD = torch.ops.liif_fast.corner_gather_backward.default
RENDER = torch.ops.liif_fast.render.default

# B, (h, w), D, Q, L, O: odd sizes, single pixels, one query, no hidden layer
SHAPES = [
    (1, (13, 17), 16, 50, 3, 3),
    (2, (1, 1), 8, 7, 1, 3),
    (3, (2, 5), 12, 1, 0, 1),
    (2, (6, 4), 32, 33, 2, 16),
    (1, (3, 3), 8, 0, 1, 3),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("cell", "ensemble", "strided"), list(itertools.product((True, False), repeat=3)))
def test_values_float64(shape, cell, ensemble, strided):
    gather, render = sample(shape, torch.float64, cell, ensemble, strided)
    # two orders of the same few hundred float64 operations
    assert_close(GATHER(*gather), expected_gather(*gather), rtol=1e-12, atol=1e-12)
    assert_close(RENDER(*render), expected_render(*render), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_in_other_dtypes(products, shape, dtype):
    gather, render = sample(shape, dtype)
    h, weight = GATHER(*gather)
    want_h, want_weight = expected_gather(*gather)
    assert h.dtype == dtype
    assert weight.dtype == torch.float32
    # the sum is rounded once more or less, then to dtype: one unit in the last place of values up to about 10
    ulp = {torch.float32: 1e-5, torch.bfloat16: 2**-4, torch.float16: 2**-7}[dtype]
    assert_close(h, want_h, rtol=0, atol=ulp)
    assert_close(weight, want_weight, rtol=0, atol=1e-6)
    # against float64: twice what the definition has in dtype on this processor, for another order of roundings, or one
    # unit in the last place of the largest colour (float32: some ten) where that is less
    exact = expected_render(*(t.double() if torch.is_tensor(t) else t for t in render))
    hidden, coord, c, w_pos, *parameters = render
    own = expected_render(hidden, coord, c, w_pos, *(t.to(dtype) for t in parameters[:4]), *parameters[4:])
    one = torch.finfo(dtype).eps * (10 if dtype == torch.float32 else 1)
    for run in (RENDER, ops.PLAIN["render"]):
        out = run(*render)
        assert out.dtype == torch.float32
        if exact.numel():
            tolerance = max(2 * (own - exact).abs().max(), one * exact.abs().max())
            assert (out - exact).abs().max() <= tolerance


@pytest.mark.parametrize("ensemble", [True, False])
def test_a_part_gives_the_rows_of_the_whole(ensemble):
    gather, render = sample((2, (9, 11), 16, 400, 2, 3), ensemble=ensemble)
    coord = gather[1] * 0.2  # around the centre: rows 3 to 5, columns 3 to 6
    part = gather[0][:, 2:7, 3:9]
    whole = GATHER(gather[0], coord, *gather[2:])
    tile = GATHER(part, coord, *gather[2:4], (9, 11), (2, 3), ensemble)
    assert all(torch.equal(a, b) for a, b in zip(whole, tile, strict=True))
    whole = RENDER(gather[0], coord, *render[2:])
    assert torch.equal(RENDER(part, coord, *render[2:8], (9, 11), (2, 3), ensemble), whole)


@pytest.mark.parametrize("cell", [True, False])
@pytest.mark.parametrize("ensemble", [True, False])
def test_gradcheck(cell, ensemble):
    (hidden, coord, c, w_pos, *rest), _ = sample((2, (3, 4), 6, 9, 1, 1), torch.float64, cell, ensemble)
    inputs = [None if t is None else t.requires_grad_() for t in (hidden, coord, c, w_pos)]
    # a coordinate within eps of a pixel border has no derivative; the seed has none there
    assert torch.autograd.gradcheck(lambda *a: GATHER(*a, *rest), inputs, eps=1e-7, atol=1e-5)


def test_gradients_under_autocast_are_in_float32():
    """backward() inside of autocast, as some training loops have it."""
    (*tensors, size, origin, ensemble), _ = sample((2, (3, 4), 16, 9, 1, 1))
    tensors = [t.requires_grad_() for t in tensors]
    loss = sum(t.square().sum() for t in GATHER(*tensors, size, origin, ensemble))
    want = torch.autograd.grad(loss, tensors, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = torch.autograd.grad(loss, tensors)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(("cell", "ensemble", "strided"), list(itertools.product((True, False), repeat=3)))
def test_opcheck(cell, ensemble, strided):
    gather, render = sample((2, (3, 5), 16, 11, 2, 3), torch.float32, cell, ensemble, strided)
    torch.library.opcheck(RENDER, render)
    torch.library.opcheck(GATHER, gather)
    with_grad = [t.detach().requires_grad_() if torch.is_tensor(t) else t for t in gather]
    torch.library.opcheck(GATHER, with_grad)
    h, _ = GATHER(*gather)
    hidden, coord, c, w_pos, *rest = gather
    torch.library.opcheck(BACKWARD, (torch.randn_like(h), h, coord, c, w_pos, hidden.shape[1:3], *rest))


def test_opcheck_with_a_transposed_parameter():
    gather, _ = sample((2, (3, 5), 16, 11, 2, 3))
    hidden, coord, c, w_pos, *rest = gather
    w_pos = w_pos.t().contiguous().t()
    h, _ = GATHER(hidden, coord, c, w_pos, *rest)
    torch.library.opcheck(BACKWARD, (torch.randn_like(h), h, coord, c, w_pos, hidden.shape[1:3], *rest))


def test_backward_in_bfloat16_sums_in_float32():
    # 4000 equal gradients of 1 on one pixel: bfloat16 sums stop growing at 256
    hidden = torch.ones(1, 1, 1, 8, dtype=torch.bfloat16, requires_grad=True)
    h, _ = GATHER(hidden, torch.zeros(1, 4000, 2), None, torch.zeros(8, 4), (1, 1), (0, 0), False)
    h.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16
    assert (hidden.grad == 4000).all()


def test_render_refuses_gradients():
    _, render = sample(SHAPES[0])
    with pytest.raises(RuntimeError, match=r"no gradient.*functional\.query"):
        RENDER(render[0].requires_grad_(), *render[1:])


def test_double_backward_is_refused():
    (hidden, *rest), _ = sample(SHAPES[0])
    h, _ = GATHER(hidden.requires_grad_(), *rest)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(h.square().sum(), hidden, create_graph=True)


def test_memory_does_not_grow_with_the_queries():
    """The largest tensor made while rendering: measured, for 10 times the queries."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, tuple | list) else [out]:
                if isinstance(t, torch.Tensor):
                    self.size = max(self.size, t.numel())
            return out

    def largest(Q):
        _, render = sample((1, (4, 4), 64, Q, 1, 3))
        with Largest() as mode:
            ops.PLAIN["render"](*render)
        return mode.size

    assert largest(100_000) == largest(10_000)
