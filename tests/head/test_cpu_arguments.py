"""The compiled CPU operators: bad arguments, the choice of a path, what torch asks of an operator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from cpu_paths import COMPILED, PATHS, WHY, info, sample
from torch.testing import assert_close

from liif_fast.head import ops

pytestmark = pytest.mark.skipif(not COMPILED, reason=WHY)
LIB = torch.ops.liif_fast

BAD = [
    ("hidden", torch.randn(5, 7, 16), r"hidden: shape \[B, h, w, D\]"),
    ("hidden", torch.ones(2, 5, 7, 16, dtype=torch.int32), "hidden: float32, bfloat16"),
    ("hidden", torch.randn(2, 0, 7, 16), "empty map"),
    ("coord", torch.rand(2, 37, 3), r"coord: shape \[B, Q, 2\]"),
    ("coord", torch.rand(3, 37, 2), "B = 2"),
    ("coord", torch.rand(2, 37, 2).double(), "coord: float32 is wanted"),
    ("cell", torch.rand(2, 36, 2), "cell: the shape of coord"),
    ("w_pos", torch.rand(16, 2), r"w_pos: shape \[16, 4\]"),
    ("w_mlp", torch.rand(3, 16, 15), r"w_mlp: shape \[L, 16, 16\]"),
    ("b_mlp", torch.rand(2, 16), r"b_mlp: shape \[3, 16\]"),
    ("w_out", torch.rand(3, 15), r"w_out: shape \[O, 16\]"),
    ("b_out", torch.rand(4), r"b_out: shape \[3\]"),
    ("size", (4, 7), "must lie in a map of size"),
    ("origin", (0, 1), "must lie in a map of size"),
    ("origin", (-1, 0), "must lie in a map of size"),
    ("origin", (2**63 - 1, 0), "must lie in a map of size"),
    ("origin", (0,), "two numbers each"),
    ("size", (5, 7, 1), "two numbers each"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=[f"{b[0]}-{i}" for i, b in enumerate(BAD)])
def test_bad_arguments_are_named(name, value, message):
    with pytest.raises(RuntimeError, match=message):
        LIB.render(*sample()._replace(**{name: value}))


@pytest.mark.parametrize("hidden_size", [(), (5,), (5, 7, 1), (0, 7), (5, -7), (2**62, 2**62)])
def test_a_bad_size_of_the_hidden_map_is_named(hidden_size):
    _, coord, cell, w_pos, *rest = sample().gather()
    h = torch.randn(2, 37, 4, 16)
    with pytest.raises(RuntimeError, match=r"hidden_size, size and origin|empty map|must lie in a map"):
        LIB.corner_gather_backward(h, h, coord, cell, w_pos, hidden_size, *rest)


def test_gradients_of_more_pixels_than_can_be_numbered_are_refused():
    _, coord, cell, w_pos, *_, ensemble = sample().gather()
    h = torch.randn(2, 37, 4, 0)  # without channels, so that nothing large is made where the check is missing
    with pytest.raises(RuntimeError, match=r"more than 2\^31 - 1 pixels"):
        LIB.corner_gather_backward(
            h, h, coord, cell, w_pos[:0], (1 << 16, 1 << 15), (1 << 16, 1 << 15), (0, 0), ensemble
        )


def test_paths_can_be_forced():
    with pytest.raises(RuntimeError, match="path: one of auto, portable"):
        LIB.cpu_use("mmx")
    environment = {**os.environ, "LIIF_FAST_CPU": "portable"}
    code = "import liif_fast, torch; print(torch.ops.liif_fast.cpu_info())"
    if "LIIF_FAST_LIBRARY" in os.environ:
        code = code.replace("; print", f"; torch.ops.load_library({os.environ['LIIF_FAST_LIBRARY']!r}); print")
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "float32=portable" in out.stdout
    assert info()["float32"] == PATHS[-1] or "," in info()["available"]


def test_operators_keep_their_contract():
    """Schemas, fakes, gradients and strides, as torch.library.opcheck sees them, with the compiled kernels in place."""
    s = sample(D=8, Q=5)
    assert torch._C._dispatch_has_kernel_for_dispatch_key("liif_fast::render", "CPU")
    torch.library.opcheck(LIB.render.default, tuple(s))
    hidden, w_pos = s.hidden.requires_grad_(), s.w_pos.requires_grad_()
    torch.library.opcheck(LIB.corner_gather.default, (hidden, s.coord, s.cell, w_pos, *s.gather()[4:]))
    d = sample(torch.float64, B=1, h=2, w=3, D=3, Q=4)
    leaves = [t.requires_grad_() for t in (d.hidden, d.w_pos)]

    def h_and_weight(hidden, w_pos):
        return LIB.corner_gather(hidden, d.coord, d.cell, w_pos, *d.gather()[4:])[0]

    assert torch.autograd.gradcheck(h_and_weight, leaves)
    assert_close(h_and_weight(*leaves), ops.PLAIN["corner_gather"](*d.gather())[0])
