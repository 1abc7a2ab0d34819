"""The head on AMX's tiles, in plain C++ on any processor (test_amx_tiles.py has what that is made of); on one that has
AMX its own against plain C++ to the bit."""

from __future__ import annotations

import itertools
import os
import threading

import pytest
import torch
import torch.nn.functional as F
from cpu_paths import COMPILED, PATHS, WHY, exact, forced, sample
from decode_cases import arguments, error, expected, gradients, in_own_precision

from liif_fast.head import int8

AMX = [path for path in PATHS if "amx" in path]
pytestmark = pytest.mark.skipif(not AMX, reason="a released wheel has no AMX in plain C++" if COMPILED else WHY)
LIB = torch.ops.liif_fast
BFLOAT16 = [path for path in PATHS if path.endswith("amx_bf16")]
INT8 = [path for path in PATHS if path.endswith("amx_int8")]


def quantized(s):
    """render_int8's arguments for those of render."""
    w_q, w_scale = int8.quantize_weights(s.w_mlp)
    return (*s[:4], w_q, w_scale, s.b_mlp, torch.full((len(w_q),), 0.02), *s[6:])


# more than one group and one task, the last ones partly full; one, four and all columns of a row tile's pair of steps
@pytest.mark.parametrize("D", [63, 64, 65, 128, 192, 256, 320, 512])
@pytest.mark.parametrize("ensemble", [True, False])
def test_any_width(D, ensemble):
    Q, L = (150, 2) if D <= 256 else (40, 1)
    s = sample(torch.bfloat16, D=D, Q=Q, L=L, ensemble=ensemble)
    args = quantized(s._replace(hidden=s.hidden.float()))
    for path in BFLOAT16:
        with forced(path):
            want = exact(s)
            assert (LIB.render(*s) - want).abs().max() <= 2e-2 * want.abs().max()  # weights and inputs of 8 bits
    for path in INT8:
        with forced(path):
            torch.testing.assert_close(LIB.render_int8(*args), int8.render_int8(*args), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("L", [1, 2, 5])
def test_any_depth(L):
    s = sample(torch.bfloat16, D=48, Q=100, L=L)
    args = quantized(s._replace(hidden=s.hidden.float()))
    for path in BFLOAT16:
        with forced(path):
            want = exact(s)
            # every layer rounds its inputs to 8 bits
            assert (LIB.render(*s) - want).abs().max() <= 1e-2 * L * want.abs().max()
    for path in INT8:
        with forced(path):
            torch.testing.assert_close(LIB.render_int8(*args), int8.render_int8(*args), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("ensemble", [True, False])
def test_what_reads_a_pixel_that_is_not_finite_is_nan_and_nothing_else(value, ensemble):
    s = sample(B=1, h=9, w=9, D=40, Q=400, ensemble=ensemble)
    args = quantized(s)
    args[0][0, 4, 4, 33] = value
    want = int8.render_int8(*args)
    assert want.isnan().any()
    assert want.isfinite().any()
    for path in INT8:
        with forced(path):
            assert torch.equal(LIB.render_int8(*args).isnan(), want.isnan())


def test_other_queries_do_not_change_a_query():
    """A row of a grid shares terms of the first layer, queries anywhere do not: the same bits all the same."""
    s = sample(torch.bfloat16, B=1, D=40, Q=64)
    rows = s.coord.clone()
    rows[..., 0] = 0.3
    cell = torch.full_like(s.cell, 0.1)
    mixed = torch.stack([rows, s.coord], 2).flatten(1, 2)
    for path, ensemble in itertools.product(BFLOAT16, (True, False)):
        with forced(path):
            alone = LIB.render(*s._replace(coord=rows, cell=cell, ensemble=ensemble))
            both = s._replace(coord=mixed, cell=torch.full_like(mixed, 0.1), ensemble=ensemble)
            assert torch.equal(LIB.render(*both)[:, ::2], alone)


@pytest.mark.parametrize("path", BFLOAT16)
def test_gradients_are_as_near_to_float64_as_plain_pytorchs_in_bfloat16(path):
    """Of hidden, w_pos, w_mlp, b_mlp and w_out: at most 1.5 times as far (1.06 measured)."""
    torch.manual_seed(0)
    args = arguments((2, (5, 7), 256, 700, 3, 3), torch.bfloat16)
    grad_out = torch.randn(2, 700, 3)
    _, want = expected(args, grad_out)
    _, own = in_own_precision(args, grad_out)
    with forced(path):
        _, found = gradients(path, args, grad_out)
    for f, o, w in zip(found[:-1], own[:-1], want[:-1], strict=True):
        assert error(f, w) <= 1.5 * error(o, w)


@pytest.mark.parametrize("shape", [(2, (5, 7), 256, 60, 2, 3), (1, (4, 3), 72, 333, 3, 2), (1, (6, 5), 20, 100, 1, 1)])
def test_amx_gives_the_bits_of_plain_kernels(shape):
    if "amx_bf16" not in PATHS:
        pytest.skip("this processor has no AMX, or the system does not let us use it")
    torch.manual_seed(0)
    args = arguments(shape, torch.bfloat16)
    grad_out = torch.randn(shape[0], shape[3], shape[5])
    found = []
    for path in ("amx_bf16", "plain_amx_bf16"):
        with forced(path):
            found.append((LIB.decode(*args), *LIB.decode_backward(grad_out, *args[:-2], args[-1])))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    s = quantized(sample(D=shape[2], Q=shape[3], L=shape[4]))
    found = []
    for path in ("amx_int8", "plain_amx_int8"):
        with forced(path):
            found.append(LIB.render_int8(*s))
    assert torch.equal(*found)


# ---- tiles are a thread's, and others use them too ------------------------------------------------------------------


@pytest.fixture(params=AMX or ["none"])
def on_tiles(request):
    """render or render_int8 on a path with tiles."""
    s = sample(torch.bfloat16, D=64, Q=300, L=2)
    args = quantized(s._replace(hidden=s.hidden.float()))
    with forced(request.param):
        yield (lambda: LIB.render(*s)) if request.param.endswith("bf16") else (lambda: LIB.render_int8(*args))


def test_between_products_of_torch_on_the_same_thread(on_tiles):
    """oneDNN multiplies bfloat16 and int8 on tiles of its own shapes where there is AMX."""
    a, b, image, weight = (torch.randn(n).bfloat16() for n in ((70, 90), (90, 50), (1, 16, 20, 20), (24, 16, 3, 3)))
    want, product, convolved = on_tiles(), a @ b, F.conv2d(image, weight, padding=1)
    for _ in range(3):
        assert torch.equal(a @ b, product)
        assert torch.equal(on_tiles(), want)
        assert torch.equal(F.conv2d(image, weight, padding=1), convolved)
        assert torch.equal(on_tiles(), want)


def test_on_new_threads(on_tiles):
    want, found = on_tiles(), {}

    def run(i):
        torch.set_num_threads(1)
        found[i] = on_tiles()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]
    assert all(torch.equal(x, want) for x in found.values())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork(on_tiles):
    """As in a data loader's workers: the permission is inherited, tiles are configured for every task."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # OpenMP's threads are lost in the child
    try:
        want = on_tiles()
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(on_tiles(), want) else 3)
        _, status = os.waitpid(child, 0)
    finally:
        torch.set_num_threads(before)
    assert os.waitstatus_to_exitcode(status) == 0
    assert torch.equal(on_tiles(), want)
