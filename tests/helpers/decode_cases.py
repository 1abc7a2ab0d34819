"""Arguments of decode in shapes that fill no vector and no block of queries, and its gradients."""

from __future__ import annotations

import torch
from operator_cases import expected_render, sample

from liif_fast.head import ops

# B, (h, w), D, Q, L, O: no, one and four hidden layers; columns that fill no vector; one block of queries and many
SHAPES = [
    (2, (5, 7), 64, 700, 3, 3),
    (1, (3, 4), 20, 61, 4, 1),
    (3, (2, 5), 37, 1, 0, 5),
    (1, (1, 1), 72, 130, 1, 16),
]


def arguments(shape, dtype=torch.float64, cell=True, ensemble=True, strided=False):
    """decode's, with coordinates that stay clear of pixel borders, where rounding would choose the pixel."""
    _, (hidden, coord, c, *parameters, size, _, _) = sample(shape, dtype, cell, ensemble, strided)
    steps = torch.tensor(size, dtype=coord.dtype) * 64  # multiples of 1/64 pixel, off its borders by 1/256
    coord = ((coord * steps / 2).round() * 2 + 1 / 4) / steps
    return (hidden, coord, c, *parameters, ensemble)


def error(actual, want):
    """Norm of the difference relative to the norm."""
    return ((actual.double() - want).norm() / want.norm().clamp_min(1e-30)).item()


def gradients(path, args, grad_out):
    """The operator's result and its gradients; path "plain": by plain PyTorch."""
    if path == "plain":
        hidden, coord, cell, *parameters, b_out, ensemble = args
        grads = ops.PLAIN["decode_backward"](grad_out, hidden, coord, cell, *parameters, ensemble)
        return ops.PLAIN["decode"](*args), (*grads, grad_out.sum((0, 1)).to(b_out.dtype))
    args = [t.detach().requires_grad_(i not in (1, 2)) if torch.is_tensor(t) else t for i, t in enumerate(args)]
    out = torch.ops.liif_fast.decode(*args)
    return out.detach(), torch.autograd.grad(out, [t for t in args if torch.is_tensor(t) and t.requires_grad], grad_out)


def expected(args, grad_out):
    """The same in float64 by autograd through the operator's definition."""
    hidden, *rest, ensemble = [t.detach().double() if torch.is_tensor(t) else t for t in args]
    leaves = [hidden.requires_grad_(), *(t.requires_grad_() for t in rest[2:])]
    out = expected_render(hidden, *rest, hidden.shape[1:3], (0, 0), ensemble)
    return out.detach(), torch.autograd.grad(out, leaves, grad_out.double(), allow_unused=True, materialize_grads=True)


def in_own_precision(args, grad_out):
    """The definition with every layer's weights and values in hidden's precision, by autograd in plain PyTorch."""
    hidden, coord, cell, w_pos, *rest, ensemble = args
    leaves = [t.detach().to(t.dtype if t is w_pos else hidden.dtype).requires_grad_() for t in (hidden, w_pos, *rest)]
    out = expected_render(leaves[0], coord, cell, *leaves[1:], hidden.shape[1:3], (0, 0), ensemble)
    given = grad_out.to(out.dtype)
    return out.detach(), torch.autograd.grad(out, leaves, given, allow_unused=True, materialize_grads=True)
