"""The head on AMX's tiles: tiles in plain C++ against exact arithmetic, all that is not a tile against plain C++ to the
bit, and AMX against both on a processor that has it."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from built_once import built_once, processor, sources, version
from cpu_paths import COMPILED, PATHS, WHY, exact, forced, sample
from decode_cases import arguments, error, expected, gradients, in_own_precision

from liif_fast.head import int8

pytestmark = pytest.mark.skipif(not COMPILED, reason=WHY)
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIB = torch.ops.liif_fast
BFLOAT16 = [path for path in PATHS if path.endswith("amx_bf16")]
INT8 = [path for path in PATHS if path.endswith("amx_int8")]
AVX512_BF16 = ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16"]


def compiled(name, make, *inputs):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    return built_once(name, [*sources("csrc"), *inputs, version(compiler), processor()], lambda to: make(compiler, to))


# ---- tiles in plain C++ ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def products():
    source, flags = HERE / "tiles_module.cpp", ["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]

    def make(compiler, folder):
        command = [compiler, *flags, "-include", ROOT / "csrc" / "corners.h", source, "-o", folder / "tiles.so"]
        subprocess.run(command, check=True)

    function = ctypes.CDLL(str(compiled("tiles", make, source, *flags) / "tiles.so")).products

    def call(a, b, c, c8):
        arrays = [np.ascontiguousarray(x).copy() for x in (a, b, c, c8)]
        function(*(ctypes.c_void_p(x.ctypes.data) for x in arrays))
        return arrays[2:]

    return call


def rounded(x):
    """To float32, ties to even; what is below 2^-126 after rounding to 24 bits becomes zero."""
    if x == 0:
        return Fraction(0)
    exponent = max(x.numerator.bit_length() - x.denominator.bit_length() - 24, -400)
    while abs(x) >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while abs(x) < Fraction(2) ** (exponent + 23):
        exponent -= 1
    y = round(x / Fraction(2) ** exponent) * Fraction(2) ** exponent  # Python rounds ties to even
    return y if abs(y) >= Fraction(2) ** -126 else Fraction(0)


def flushed(x):
    return Fraction(float(x)) if abs(float(x)) >= 2.0**-126 else Fraction(0)


def specified(a, b, c):
    """tdpbf16ps for one output: chains over even and odd inputs, their sum, c."""
    chains = [Fraction(0), Fraction(0)]
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        chains[k % 2] = rounded(flushed(x) * flushed(y) + chains[k % 2])
    return rounded(flushed(c) + rounded(chains[0] + chains[1]))


@pytest.mark.parametrize("kind", ["normal", "many magnitudes", "around the smallest", "few values"])
def test_plain_bfloat16_products_round_as_amx(products, kind):
    torch.manual_seed(0)
    a, b, c = torch.randn(16, 32), torch.randn(32, 16), torch.randn(16, 16)
    if kind == "many magnitudes":
        a, b, c = (x * 2.0 ** torch.randint(-20, 20, x.shape) for x in (a, b, c))
    elif kind == "around the smallest":  # products and sums around 2^-126, and inputs that are subnormal
        a, b = (x * 2.0 ** torch.randint(-66, -60, x.shape) for x in (a, b))
        a[:, ::5] = 1e-39
        c = c * 2.0 ** torch.randint(-130, -122, c.shape)
    elif kind == "few values":  # ties
        a, b = (torch.randint(0, 2, x.shape) * 2 + 1 + 2.0**-7 * torch.randint(-1, 2, x.shape) for x in (a, b))
    a, b = a.bfloat16(), b.bfloat16()
    pairs = b.view(16, 2, 16).transpose(1, 2).contiguous()
    got, _ = products(*(x.view(torch.int16).numpy() for x in (a, pairs)), c.numpy(), np.zeros((16, 16), np.int32))
    for m, n in itertools.product(range(16), range(16)):
        want = specified(a[m].tolist(), b[:, n].tolist(), c[m, n].item())
        assert Fraction(float(got[m, n])) == want, (m, n)


def test_plain_integer_products_are_exact(products):
    a, b = np.random.default_rng(0).integers(-128, 128, (2, 16, 64), dtype=np.int8)
    start = np.full((16, 16), 2**31 - 1000, np.int32)
    _, got = products(a, b, np.zeros((16, 16), np.float32), start)
    weights = b.reshape(16, 16, 4).transpose(0, 2, 1).reshape(64, 16).astype(np.int64)
    exact_sum = start + a.view(np.uint8).astype(np.int64) @ weights
    assert (exact_sum != exact_sum.astype(np.int32)).any()  # 32 bits wrap
    np.testing.assert_array_equal(got, exact_sum.astype(np.int32))


def test_vectors_of_avx512_on_plain_tiles_give_the_bits_of_plain_kernels():
    if not os.path.exists("/proc/cpuinfo") or "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX-512-BF16")
    source, flags = HERE / "amx_on_cpu.cpp", ["-std=c++17", "-O1", "-ffp-contract=off", "-w"]
    plain = ROOT / "csrc" / "cpu" / "kernels_plain_amx.cpp"

    def make(compiler, folder):
        tiles = '-DLIIF_TILES="tiles_plain.h"'
        jobs = [[*AVX512_BF16, tiles, "-c", source, "-o", folder / "1.o"], ["-Os", "-c", plain, "-o", folder / "2.o"]]
        for job in jobs:
            subprocess.run([compiler, *flags, *job], check=True)
        subprocess.run([compiler, folder / "1.o", folder / "2.o", "-o", folder / "amx"], check=True)

    done = subprocess.run([compiled("amx", make, source, *flags) / "amx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout == "0 of 96 wrong\n"


# ---- paths that this machine offers ---------------------------------------------------------------------------------


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


@pytest.fixture(params=[path for path in PATHS if "amx" in path] or ["none"])
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
