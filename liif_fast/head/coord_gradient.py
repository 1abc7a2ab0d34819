"""Gradients of coordinates and cells: the chosen pixels are piecewise constant in coord; offsets and areas are not."""

from __future__ import annotations

from .plain import times_size
from .reference import corners


def offsets_backward(grad_rel, grad_weight, coord, size, ensemble):
    """Gradient of coord by those of rel [B, Q, K, 2] and weight [B, Q, K]."""
    if ensemble:
        _, rel, weight = corners(coord, size)
        area = (rel[..., 0] * rel[..., 1]).abs() + 1e-9
        # weight_k = area_(3-k) / total, so d/d area_j = (g_(3-j) - sum_k g_k weight_k) / total
        grad_area = (grad_weight - (grad_weight * weight).sum(-1, keepdim=True)).flip(-1) / area.sum(-1, keepdim=True)
        sign = (rel[..., 0] * rel[..., 1]).sign()
        grad_rel = grad_rel + (grad_area * sign).unsqueeze(-1) * rel.flip(-1)
    return times_size(grad_rel.sum(-2), size)


def position_backward(grad_h, grad_weight, h, coord, cell, w_pos, size, ensemble):
    """Gradients of coord and cell by those of corner_gather's h and weight."""
    grad_pos = (grad_h * (h > 0)).to(w_pos.dtype) @ w_pos  # [B, Q, K, 4]
    grad_coord = offsets_backward(grad_pos[..., :2], grad_weight, coord, size, ensemble)
    return grad_coord, None if cell is None else times_size(grad_pos[..., 2:].sum(-2), size)
