"""gather_corners by csrc/cuda's kernels, which run on the CPU as in test_cuda_on_cpu.py."""

from __future__ import annotations

import pytest
import torch
from cuda_kernels import COMPILER, SHAPES, TOLERANCE, TYPES, backward, gathered, library, sample
from torch.testing import assert_close

from liif_fast import reference
from liif_fast.head import ops

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


@pytest.fixture(scope="module")
def kernels():
    return library()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ensemble", [True, False])
def test_rows_as_they_are(kernels, shape, dtype, ensemble):
    hidden, coord, _, _, *where = sample(dtype, *shape, grid=shape[3] == 300)
    given = (hidden, coord, *where, ensemble)
    got = gathered(kernels, *given)
    for one, want in zip(got, ops.PLAIN["gather_corners"](*given), strict=True):
        assert torch.equal(one, want)
    grad = torch.randn(got[0].shape).to(dtype)
    exact = ops.PLAIN["gather_corners_backward"](grad.double(), coord.double(), where[0], *where, ensemble)
    if dtype != torch.float64:  # the pixels that float32 chooses
        index, _, _ = reference.corners(coord, where[0], ensemble)
        exact = torch.zeros(len(coord), *where[0], grad.shape[-1], dtype=torch.float64)
        exact.index_put_((torch.arange(len(coord)).view(-1, 1, 1), *index.unbind(-1)), grad.double(), accumulate=True)
    # sums of up to a thousand numbers, rounded once to the type
    tolerance = {"rtol": 1e-13, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-4}
    tolerance = {name: max(value, TOLERANCE[dtype][name]) for name, value in tolerance.items()}
    for ordered in (False, True):
        found, nothing = backward(kernels, grad, None, coord, None, None, where[0], *where, ensemble, ordered)
        assert nothing is None
        assert_close(found.double(), exact, **tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ensemble", [True, False])
def test_every_bit_of_a_row_as_it_is(kernels, dtype, ensemble):
    """NaN with what it carries, infinity, -0, subnormal numbers; rows of 16 bytes and ragged ones, not aligned ones."""
    for d, shift in ((16, 0), (13, 0), (16, 1)):
        _, coord, _, _, *where = sample(dtype, 1, (4, 5), d, 60)
        memory = torch.randint(-128, 128, (1, 20 * d * dtype.itemsize + 16), dtype=torch.int8)
        hidden = memory.view(dtype).flatten()[shift : shift + 20 * d].view(1, 4, 5, d)
        rows, _, _ = gathered(kernels, hidden, coord, *where, ensemble)
        want, _, _ = ops.PLAIN["gather_corners"](hidden, coord, *where, ensemble)
        assert torch.equal(rows.contiguous().view(torch.uint8), want.view(torch.uint8))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ensemble", [True, False])
def test_rows_of_a_part_are_the_whole_ones_or_nan(kernels, dtype, ensemble):
    hidden, coord, _, _, size, _ = sample(dtype, 1, (9, 11), 16, 300)
    coord[0, 0, 0] = float("nan")  # pixel 0, which the part does not hold, for which it takes the nearest
    origin, part = (2, 3), hidden[:, 2:7, 3:9].contiguous()
    whole = gathered(kernels, hidden, coord, size, (0, 0), ensemble)
    got = gathered(kernels, part, coord, size, origin, ensemble)
    assert all(t[0, 0].isnan().all() for t in got[2:])
    index = reference.corners(coord, size, ensemble)[0] - torch.tensor(origin)
    inside = ((index >= 0) & (index < torch.tensor(part.shape[1:3]))).all(-1)
    inside[0, 0] = False
    outside = ~inside
    outside[0, 0] = False
    assert inside.any() and outside.any()  # noqa: PT018
    assert torch.equal(got[0][inside], whole[0][inside])
    assert torch.equal(got[1][inside], whole[1][inside])
    assert torch.equal(got[2][inside.all(-1)], whole[2][inside.all(-1)])
    assert got[0][outside].isnan().all()
    assert got[1][outside].isnan().any(-1).all()
    assert got[2][outside.any(-1)].isnan().all()
    # and such rows have no gradient, even where it is not finite
    grad = torch.ones_like(got[0])
    grad[outside] = float("nan")
    grad[0, 0] = 0
    want = torch.zeros_like(part).double()
    want[0].index_put_(index[inside].unbind(-1), grad[inside].double(), accumulate=True)
    for ordered in (False, True):
        back = (grad, None, coord, None, None, part.shape[1:3], size, origin, ensemble, ordered)
        assert torch.equal(backward(kernels, *back)[0].double(), want)
