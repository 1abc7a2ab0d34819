"""The MLP of the official registry: its state dict and its values."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from small_encoders import make
from torch.testing import assert_close


@pytest.mark.parametrize("hidden", [[], [7], [7, 5, 6]], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3), (2, 1, 3)], ids=str)
def test_mlp(hidden, shape):
    mlp = make("mlp", in_dim=9, out_dim=2, hidden_list=hidden).double()
    sizes = list(enumerate(pairwise([9, *hidden, 2])))
    want = [
        (f"layers.{2 * i}.{k}", (o, n) if k == "weight" else (o,)) for i, (n, o) in sizes for k in ("weight", "bias")
    ]
    state = mlp.state_dict()
    assert [(key, tuple(t.shape)) for key, t in state.items()] == want
    x = torch.randn(9, *shape, dtype=torch.float64).movedim(0, -1)  # not contiguous
    y = x
    for i, _ in sizes:
        y = (state[f"layers.{2 * i}.weight"] * y[..., None, :]).sum(-1) + state[f"layers.{2 * i}.bias"]
        y = y if i == len(hidden) else y.clamp(min=0)
    assert y.shape == (*shape, 2)
    assert_close(mlp(x).detach(), y, rtol=1e-12, atol=1e-13)  # the same sums in another order
