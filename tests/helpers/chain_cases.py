"""The head in training: the chain of products, and the same in separate operators."""

from __future__ import annotations

import itertools

import torch
from decode_cases import arguments

from liif_fast import functional
from liif_fast.head import chain

VARIANTS = list(itertools.product((False, True), repeat=2))
NAMES = ("recompute", "blend_first")


def problem(shape, dtype=torch.float64, **flags):
    """hidden, head (without the convolution, which query does not use), coord, cell, ensemble"""
    hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, ensemble = arguments(shape, dtype, **flags)
    leaves = [t.requires_grad_() for t in (hidden, w_pos, w_mlp, b_mlp, w_out, b_out)]
    mlp = tuple(zip(w_mlp, b_mlp, strict=True))
    head = functional.Head(torch.zeros(shape[2], 1, 1, 1), torch.zeros(shape[2]), w_pos, mlp, w_out, b_out)
    return leaves, hidden, head, coord, cell, ensemble


def in_chain(hidden, head, coord, cell, ensemble, **options):
    return chain.query(hidden, coord, cell, head.w_pos, head.mlp, head.w_out, head.b_out, ensemble, **options)


def separate(monkeypatch, hidden, head, coord, cell, ensemble):
    """functional.query in separate operators, as it runs where it is compiled."""
    with monkeypatch.context() as patch:
        patch.setattr(functional, "CPU_KERNELS", False)
        patch.setattr(chain, "wanted", lambda hidden: False)
        return functional.query(hidden, head, coord, cell, local_ensemble=ensemble)


def gradients(out, leaves, grad_out):
    return torch.autograd.grad(out, leaves, grad_out.to(out.dtype), allow_unused=True, materialize_grads=True)
