"""Arguments of LTE's operators, and what they must give: in float64, from the definition, by autograd."""

from __future__ import annotations

import contextlib
import itertools
import math

import torch
from cpu_paths import PATHS, forced

from liif_fast import reference
from liif_fast.head import ops, precision

# B, (h, w), F, Q, L, O: no, one and three hidden layers; one block of queries and many; columns that fill no wide tile
SHAPES = [
    (2, (5, 7), 64, 300, 3, 3),
    (1, (3, 4), 32, 61, 1, 1),
    (3, (2, 5), 96, 1, 0, 5),
    (1, (1, 1), 32, 130, 3, 5),
]


def arguments(shape, dtype=torch.float64, cell=True, ensemble=True, strided=False, border=True):
    """decode_fourier's.

    Args:
        border: coordinates lie beyond the image's, too. All of them stay clear of pixel borders, where rounding would
            choose the pixel.
    """
    B, (h, w), F, Q, L, out = shape
    D, geometry = 2 * F, precision.geometry_dtype(dtype)
    hidden = torch.randn(B, h, w, 4 * F).to(dtype)
    coord = (torch.rand(B, Q, 2, dtype=geometry) * 2 - 1) * (1.1 if border else 1)
    if strided:
        hidden = torch.randn(B, 4 * F, w, h).to(dtype).permute(0, 3, 2, 1)
        coord = coord.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    steps = torch.tensor((h, w), dtype=geometry) * 64  # multiples of 1/64 pixel, off its borders by 1/256
    coord = ((coord * steps / 2).round() * 2 + 1 / 4) / steps
    sides = torch.rand(B, Q, 2, dtype=geometry) * 0.3 if cell else None
    w_phase = torch.randn(F, 2, dtype=geometry)
    w_mlp = torch.randn(L, D, D, dtype=geometry) * (2 / D) ** 0.5
    w_out = torch.randn(out, D, dtype=geometry) / D**0.5
    if strided:
        w_phase, w_out = w_phase.t().contiguous().t(), torch.cat([w_out, w_out], 1)[:, :D]
        w_mlp = w_mlp.transpose(1, 2).contiguous().transpose(1, 2)
    b_mlp, b_out = torch.randn(L, D, dtype=geometry) * 0.1, torch.randn(out, dtype=geometry)
    return hidden, coord, sides, w_phase, w_mlp, b_mlp, w_out, b_out, ensemble


def inputs_of_mlp(hidden, coord, cell, w_phase, size, origin, ensemble):
    """x [B, Q, K, 2 F] and area weights [B, Q, K]: coefficients times cosine and sine of pi times
    ``frequencies . rel + phase(cell)``, of each corner's row; offsets and weights are those of coord's own dtype."""
    index, rel, weight = reference.corners(coord, size, ensemble)
    image = torch.arange(len(hidden))[:, None, None]
    row = hidden[image, index[..., 0] - origin[0], index[..., 1] - origin[1]].to(w_phase.dtype)
    F = w_phase.shape[0]
    cosines, sines, along_y, along_x = (row[..., i * F : (i + 1) * F] for i in range(4))
    rel = rel.to(w_phase.dtype)
    turns = along_y * rel[..., :1] + along_x * rel[..., 1:]
    if cell is not None:
        sides = cell.to(w_phase.dtype) * torch.tensor(size)
        turns = turns + (sides[..., None, :1] * w_phase[:, 0] + sides[..., None, 1:] * w_phase[:, 1])
    return torch.cat([cosines * torch.cos(math.pi * turns), sines * torch.sin(math.pi * turns)], -1), weight


def definition(hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, b_out, ensemble, size=None, origin=(0, 0)):
    """render_fourier's colours, in w_phase's precision after the geometry; layers in that of w_mlp."""
    size = hidden.shape[1:3] if size is None else size
    x, weight = inputs_of_mlp(hidden, coord, cell, w_phase, size, origin, ensemble)
    x = x.to(w_mlp.dtype)
    for w, b in zip(w_mlp, b_mlp, strict=True):
        x = (x @ w.mT + b).relu()
    colours = (x @ w_out.mT + b_out).to(w_phase.dtype)
    return (colours * weight.to(w_phase.dtype).unsqueeze(-1)).sum(2)


def differentiated(leaves, coord, cell, ensemble, grad_out):
    out = definition(leaves[0], coord, cell, *leaves[1:], ensemble)
    given = grad_out.to(out.dtype)
    return out.detach(), torch.autograd.grad(out, leaves, given, allow_unused=True, materialize_grads=True)


def expected(args, grad_out):
    """The colours and the gradients of hidden and parameters in float64; offsets in the geometry's own precision."""
    hidden, coord, cell, *parameters, ensemble = args
    leaves = [t.detach().double().requires_grad_() for t in (hidden, *parameters)]
    return differentiated(leaves, coord, cell, ensemble, grad_out)


def in_own_precision(args, grad_out):
    """The same with every layer's weights and values in hidden's precision, in plain PyTorch."""
    hidden, coord, cell, w_phase, *rest, ensemble = args
    leaves = [t.detach().to(hidden.dtype).requires_grad_() for t in (hidden, *rest)]
    leaves.insert(1, w_phase.detach().requires_grad_())
    return differentiated(leaves, coord, cell, ensemble, grad_out)


def gradients(path, args, grad_out):
    """decode_fourier's result and its gradients; path "plain": by plain PyTorch."""
    hidden, coord, cell, *parameters, b_out, ensemble = args
    if path == "plain":
        grads = ops.PLAIN["decode_fourier_backward"](grad_out, hidden, coord, cell, *parameters, ensemble)
        return ops.PLAIN["decode_fourier"](*args), (*grads, grad_out.sum((0, 1)).to(b_out.dtype))
    leaves = [t.detach().requires_grad_() for t in (hidden, *parameters, b_out)]
    out = torch.ops.liif_fast.decode_fourier(leaves[0], coord, cell, *leaves[1:], ensemble)
    return out.detach(), torch.autograd.grad(out, leaves, grad_out)


def rendered(path, args, size=None, origin=(0, 0)):
    """render_fourier's colours, by plain PyTorch or as the library is set."""
    run = ops.PLAIN["render_fourier"] if path == "plain" else torch.ops.liif_fast.render_fourier
    *tensors, ensemble = args
    return run(*tensors, args[0].shape[1:3] if size is None else size, origin, ensemble)


VARIANTS = list(itertools.product((True, False), repeat=3))  # cell, ensemble, strided
WAYS = ["plain, bfloat16 products", "plain, float32 products", *PATHS]


@contextlib.contextmanager
def computed_by(way, monkeypatch):
    """Plain PyTorch with either choice of ``matmul_dtype``, or one instruction set's kernels; gives the ``path`` of
    ``gradients`` and ``rendered``."""
    if way.startswith("plain, "):
        monkeypatch.setattr(precision, "FAST_HALF_CPU", (torch.bfloat16,) if "bfloat16" in way else ())
        yield "plain"
        return
    with forced(way):
        yield way
