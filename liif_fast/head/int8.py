"""The 8-bit head in plain PyTorch: what the compiled ``render_int8`` matches, bit for bit in the integers.

Activations are unsigned (they follow a ReLU) with one static scale for each layer, weights signed with one scale for
each output channel, sums exact in 32 bits, everything else float32. Every float32 operation below rounds once and in
this order; a compiled kernel must not contract any of them. Saturates, never wraps.

Integers hold neither NaN nor infinity, so what they would hide becomes NaN in the colours: of a query that reads a
first layer's value that is not finite, and of all queries if scales or biases are not, or are so large that a sum could
leave float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .reference import corners


def quantize_weights(w_mlp: Tensor) -> tuple[Tensor, Tensor]:
    """``[L, D, D]`` -> int8 weights ``[L, D, D]`` in [-127, 127] and scales ``[L, D]``, w = w_q * scale + rounding."""
    w_mlp = w_mlp.float()
    scale = (w_mlp.abs().amax(-1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return (w_mlp / scale.unsqueeze(-1)).round().clamp(-127, 127).to(torch.int8), scale


def _u8(x: Tensor) -> Tensor:
    """float32 -> integers in [0, 255], ties to even. Kept as float32, which holds them exactly; NaN stays here."""
    return x.clamp(0, 255).round()


def poison(t: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """0 where all values along ``dim`` (None: all) are finite, else NaN: to add to what shall show it."""
    return (t * 0).sum(dim)


def poison_of_layers(w_scale: Tensor, b_mlp: Tensor, act_scale: Tensor) -> Tensor:
    """0, or NaN if a hidden layer's sum might not be finite; arguments as of ``render_int8``."""
    multiplier, addend = w_scale * act_scale.unsqueeze(1), b_mlp
    if len(act_scale) > 1:
        following = torch.cat([1 / act_scale[1:], torch.ones_like(act_scale[:1])]).unsqueeze(1)
        multiplier, addend = multiplier * following, addend * following
    return poison(multiplier.abs() * (w_scale.shape[1] * 255 * 127) + addend.abs())


def first_layer(hidden: Tensor, row: Tensor, rel: Tensor, cell: Tensor | None, w_pos: Tensor) -> Tensor:
    """hidden[row] + ((cell_y * w2 + cell_x * w3) + rel_y * w0) + rel_x * w1, before the ReLU: ``[n, D]``.

    Args:
        hidden: ``[h * w, D]``; row ``[n]``; rel and cell ``[n, 2]`` in feature pixels; w_pos ``[D, 4]``.
    """
    w0, w1, w2, w3 = w_pos.unbind(1)
    term = rel.new_zeros(()) if cell is None else cell[:, :1] * w2 + cell[:, 1:] * w3
    term = (term + rel[:, :1] * w0) + rel[:, 1:] * w1
    return hidden[row].float() + term


def hidden_layers(x: Tensor, w_q: Tensor, w_scale: Tensor, b_mlp: Tensor, act_scale: Tensor) -> Tensor:
    """First layer's values ``[n, D]`` (before ReLU) -> last hidden layer ``[n, D]``, float32."""
    inverse = 1 / act_scale
    if len(w_q) == 0:
        return x.relu()
    # Sums of products of integers below 2^24 are exact in float32, below 2^53 in float64, in any order.
    exact = torch.float32 if x.shape[1] * 255 * 128 < 1 << 24 else torch.float64
    x = _u8(x * inverse[0])
    for layer in range(len(w_q)):
        total = (x.to(exact) @ w_q[layer].to(exact).t()).to(torch.float32)
        multiplier, bias = w_scale[layer] * act_scale[layer], b_mlp[layer]
        if layer + 1 < len(w_q):
            x = _u8(total * (multiplier * inverse[layer + 1]) + bias * inverse[layer + 1])
    return (total * multiplier + bias).relu()


def render_int8(
    hidden: Tensor,
    coord: Tensor,
    cell: Tensor | None,
    w_pos: Tensor,
    w_q: Tensor,
    w_scale: Tensor,
    b_mlp: Tensor,
    act_scale: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    size: Sequence[int],
    origin: Sequence[int],
    ensemble: bool = True,
) -> Tensor:
    """``render`` with 8-bit hidden layers: ``[B, Q, O]`` float32.

    Args:
        hidden: ``[B, h, w, D]`` float32, bfloat16 or float16.
        w_q: int8 ``[L, D, D]`` (layer, out, in); w_scale, b_mlp ``[L, D]`` float32.
        act_scale: ``[L]`` float32, positive: the value of one step of each layer's input.
        The others as ``render`` takes them.
    """
    B, h, w, D = hidden.shape
    b_out = b_out + poison_of_layers(w_scale, b_mlp, act_scale)
    out = coord.new_empty(B, coord.shape[1], w_out.shape[0])
    for b in range(B):
        for start in range(0, coord.shape[1], 2048):
            part = slice(start, start + 2048)
            index, rel, weight = corners(coord[b, part], size, ensemble)
            if not ensemble:  # a NaN coordinate must not vanish in the integers
                weight = torch.where((rel[..., 0] * rel[..., 1]).isnan(), torch.nan, weight)
            row = (index[..., 0] - origin[0]).clamp(0, h - 1) * w + (index[..., 1] - origin[1]).clamp(0, w - 1)
            K = weight.shape[1]
            scaled = None
            if cell is not None:
                scaled = torch.stack([cell[b, part, 0] * size[0], cell[b, part, 1] * size[1]], -1)
                scaled = scaled.repeat_interleave(K, 0)
            x = first_layer(hidden[b].flatten(0, 1), row.flatten(), rel.flatten(0, 1), scaled, w_pos)
            if len(w_q):
                weight = weight + poison(x, 1).view(-1, K)
            x = hidden_layers(x, w_q, w_scale, b_mlp, act_scale).view(-1, K, D)
            blended = torch.einsum("qk,qkd->qd", weight, x) if K > 1 else weight * x[:, 0]
            out[b, part] = torch.addmm(b_out, blended, w_out.t())
    return out
