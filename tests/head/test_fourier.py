"""render_fourier and decode_fourier: LTE's head in one operator, plain and on every path of this processor."""

from __future__ import annotations

import functools

import pytest
import torch
from cpu_paths import COMPILED, PATHS, WHY
from decode_cases import error
from fourier_cases import (
    SHAPES,
    VARIANTS,
    WAYS,
    arguments,
    computed_by,
    expected,
    gradients,
    in_own_precision,
    rendered,
)

LIB = torch.ops.liif_fast
HALVES = (torch.bfloat16, torch.float16)
compiled_only = pytest.mark.skipif(not COMPILED, reason=WHY)


@pytest.fixture(params=WAYS)
def path(request, monkeypatch):
    with computed_by(request.param, monkeypatch) as way:
        yield way


@pytest.mark.parametrize(
    "path", ["plain, float32 products", "portable"] if COMPILED else ["plain, float32 products"], indirect=True
)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("cell", "ensemble", "strided"), VARIANTS)
def test_float64(path, shape, cell, ensemble, strided):
    args = arguments(shape, torch.float64, cell, ensemble, strided)
    grad_out = torch.randn(shape[0], shape[3], shape[5], dtype=torch.float64)
    out, grads = gradients(path, args, grad_out)
    want, want_grads = expected(args, grad_out)
    # the order of a few hundred sums, and angles of some ten turns
    assert error(out, want) < 1e-12
    assert error(rendered(path, args), want) < 1e-12
    for actual, w in zip(grads, want_grads, strict=True):
        assert actual.shape == w.shape
        assert error(actual, w) < 1e-12


def errors(result, want):
    """Of the colours, of w_out's gradient, which needs no ReLU's mask, and the largest of those that do."""
    (out, grads), (want_out, want_grads) = result, want
    found = [error(g, w) for g, w in zip(grads, want_grads, strict=True)]
    masked = [e for i, e in enumerate(found) if i != W_OUT]
    return torch.tensor([error(out, want_out), found[W_OUT], max(masked)])


W_OUT = 4  # its place among the gradients


@functools.cache
def problems(shape, dtype):
    """(arguments, grad_out, result in float64) of a few inputs, and plain PyTorch's own mean errors on them."""
    found, own = [], []
    for seed in range(2 if shape[3] > 200 else 6):
        torch.manual_seed(seed)
        args = arguments(shape, dtype, cell=seed % 3 > 0, ensemble=seed % 2 == 0)
        grad_out = torch.randn(shape[0], shape[3], shape[5])
        found.append((args, grad_out, expected(args, grad_out)))
        own.append(errors(in_own_precision(args, grad_out), found[-1][2]))
    return found, torch.stack(own).mean(0)


# As for decode (tests/head/test_decode.py): plain PyTorch's own error in that precision, twice, and one unit in the
# last place where it is 0; in float32 5e-3 for a ReLU's mask that a rounding switches.
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("shape", SHAPES)
def test_other_dtypes(path, dtype, shape):
    inputs, own = problems(shape, dtype)
    found = []
    for args, grad_out, want in inputs:
        out, grads = gradients(path, args, grad_out)
        assert out.dtype == torch.float32
        assert all(g.dtype == t.dtype for g, t in zip(grads, (args[0], *args[3:-1]), strict=True))
        found.append(errors((out, grads), want))
        # float32: sums of 128 products, three times (measured: 6e-7); halves: twice plain PyTorch's, as above
        limit = 2e-6 if dtype == torch.float32 else 2 * own[0] + torch.finfo(dtype).eps
        assert error(rendered(path, args), want[0]) <= limit
    floor = 5e-3 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert (torch.stack(found).mean(0) <= 2 * own + floor).all(), (found, own)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize(("L", "O"), [(0, 1), (1, 3), (3, 5)])
def test_every_form_of_call(path, dtype, L, O):  # noqa: E741
    """Cell and none, all corners and one, any strides: float32 near the definition, halves as near as plain PyTorch."""
    for cell, ensemble, strided in VARIANTS:
        args = arguments((2, (3, 5), 64, 37, L, O), dtype, cell, ensemble, strided)
        grad_out = torch.randn(2, 37, O)
        want, _ = expected(args, grad_out)
        own, _ = in_own_precision(args, grad_out)
        limit = 2e-6 if dtype == torch.float32 else 2 * error(own, want) + torch.finfo(dtype).eps
        assert error(rendered(path, args), want) <= limit
        assert error(gradients(path, args, grad_out)[0], want) <= limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ensemble", [True, False])
def test_a_part_gives_the_colours_of_the_whole(path, dtype, ensemble):
    args = arguments((2, (9, 11), 32, 400, 2, 3), dtype, ensemble=ensemble, border=False)
    hidden, coord, *rest = args
    coord = coord * 0.2  # around the centre: rows 3 to 5, columns 3 to 6
    whole = rendered(path, (hidden, coord, *rest))
    part = hidden[:, 2:7, 3:9]
    assert torch.equal(rendered(path, (part, coord, *rest), (9, 11), (2, 3)), whole)


@compiled_only
@pytest.mark.parametrize("path", PATHS, indirect=True)
def test_a_query_that_needs_a_pixel_outside_of_the_part_is_refused(path):
    hidden, *rest = arguments((1, (9, 11), 32, 40, 1, 3), torch.float32)
    with pytest.raises(RuntimeError, match=r"coord: a query needs a pixel that hidden does not hold.* \(2, 3\)"):
        rendered(path, (hidden[:, 2:7, 3:9], *rest), (9, 11), (2, 3))


@pytest.mark.parametrize("B", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_empty(path, dtype, B):
    args = arguments((B, (3, 4), 32, 0 if B else 9, 2, 3), dtype)
    Q = args[1].shape[1]
    out, grads = gradients(path, args, torch.zeros(B, Q, 3))
    assert out.shape == rendered(path, args).shape == (B, Q, 3)
    assert [g.shape for g in grads] == [t.shape for t in (args[0], *args[3:-1])]
    assert all((g == 0).all() for g in grads)


@compiled_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("path", PATHS, indirect=True)
def test_same_bits_with_any_number_of_threads(path, dtype):
    args = arguments((2, (5, 7), 32, 900, 2, 3), dtype)
    grad_out, before, found = torch.randn(2, 900, 3), torch.get_num_threads(), []
    try:
        for threads in (1, 5):
            torch.set_num_threads(threads)
            out, grads = gradients(path, args, grad_out)
            found.append((rendered(path, args), out, *grads))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


@compiled_only
@pytest.mark.parametrize("path", PATHS, indirect=True)
def test_all_rows_of_one_pixel(path):
    """The sums of a pixel's gradients go on over many tasks."""
    args = arguments((2, (1, 1), 32, 1500, 1, 3), torch.float32)
    grad_out = torch.randn(2, 1500, 3)
    _, want = expected(args, grad_out)
    _, grads = gradients(path, args, grad_out)
    assert all(error(g, w) < 5e-6 for g, w in zip(grads[:2], want[:2], strict=True))  # 6,000 float32 additions
