"""The head's training on a GPU: gather, hidden layers and blend around the matrix library's own products.

One autograd function keeps what the gradient needs and nothing else: the rows behind each layer's ReLU, whose mask is
h > 0. Bias and ReLU are part of the product where torch has such a product (``torch._addmm_activation``, on CUDA
cublasLt's RELU_BIAS epilogue), and the backward pass masks its gradients in place, which gives those of the biases too.

Sizes: B images, Q queries, K corners, R = B * Q * K rows, D channels, O output channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import ops, passes  # noqa: F401 - ops defines the operators

_gather = torch.ops.liif_fast.corner_gather
_gather_backward = torch.ops.liif_fast.corner_gather_backward


class _Options(NamedTuple):
    ensemble: bool
    recompute: bool
    blend_first: bool


def wanted(hidden: Tensor) -> bool:
    """Whether ``functional.query`` runs here: compilers want separate operators."""
    return hidden.device.type == "cuda" and not torch.compiler.is_compiling()


def query(
    hidden: Tensor,
    coord: Tensor,
    cell: Tensor | None,
    w_pos: Tensor,
    mlp: Sequence[tuple[Tensor, Tensor]],
    w_out: Tensor,
    b_out: Tensor,
    ensemble: bool = True,
    *,
    recompute: bool = False,
    blend_first: bool = False,
) -> Tensor:
    """Colours at coordinates with gradients for all but coord and cell: ``[B, H, W, D], [B, Q, 2] -> [B, Q, O]``.

    Args:
        hidden: the hidden map; its dtype, or under autocast autocast's (except for float64), is that of the layers:
            their parameters are rounded to it, their gradients are given in the parameters' own.
        coord, cell, w_pos: as for ``corner_gather``, float32 (float64 with float64).
        mlp: weight ``[D', D]`` and bias ``[D']`` of each hidden layer after the first.
        recompute: the first layer's rows are gathered again for the gradient: R * D values less to keep.
        blend_first: the output layer once per query, on the blended rows, and not once per corner; equal, since it is
            linear and the weights sum to 1.

    Returns:
        float32 (float64 with float64).

    Raises:
        RuntimeError: coord or cell want a gradient.

    Equivalent to: ``functional.query`` in separate operators.
    """
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (coord, cell)):
        raise RuntimeError("chain.query has no gradient for coord and cell: use liif_fast.functional.query")
    dtype, device = hidden.dtype, hidden.device.type
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    layers = [t.to(dtype) for layer in mlp for t in layer]  # their gradients return through this to their own dtype
    hidden, w_out, b_out = (t.to(dtype) for t in (hidden, w_out, b_out))
    options = _Options(ensemble, recompute, blend_first)
    return _Chain.apply(options, hidden, coord, cell, w_pos, w_out, b_out, *layers)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, hidden, coord, cell, w_pos, w_out, b_out, *layers):
        ctx.options, ctx.hidden_size = options, hidden.shape[1:3]
        with torch.autocast(hidden.device.type, enabled=False):
            outputs, (w_out, b_out) = len(b_out), _eights(w_out, b_out)
            h, weight = _gather(hidden, coord, cell, w_pos, ctx.hidden_size, (0, 0), options.ensemble)
            x = [h.flatten(0, 2)]  # [R, D]
            for w, b in _pairs(layers):
                x.append(_bias_relu(b, x[-1], w))
            if options.blend_first:
                out = _blend_first(x[-1], weight, w_out, b_out)[..., :outputs].contiguous()
            else:
                colours = torch.addmm(b_out, x[-1], w_out.t()).view(*weight.shape, len(b_out))[..., :outputs]
                out = (colours.to(weight.dtype) * weight.unsqueeze(-1)).sum(-2)
        ctx.n_layers = len(layers) // 2
        if options.recompute:
            x[0] = hidden
        ctx.save_for_backward(coord, cell, w_pos, weight, w_out, *layers[::2], *x)
        return out

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():
            raise RuntimeError("liif_fast: queries have no double backward: call backward() without create_graph=True")
        coord, cell, w_pos, weight, w_out, *saved = ctx.saved_tensors
        weights, x = saved[: ctx.n_layers], saved[ctx.n_layers :]
        dtype, needs = w_out.dtype, ctx.needs_input_grad
        grad_hidden = grad_w_pos = grad_w_out = grad_b_out = None
        grad_layers: list[Tensor | None] = [None] * (2 * ctx.n_layers)
        where = (ctx.hidden_size, (0, 0), ctx.options.ensemble)
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.options.recompute:
                h, _ = _gather(x[0], coord, cell, w_pos, *where)
                x[0] = h.flatten(0, 2)
            # the same for either place of the blend: the rows' gradient is the output layer's times their weight
            padded = F.pad(grad, (0, len(w_out) - grad.shape[-1])).unsqueeze(-2)
            rows = (padded * weight.unsqueeze(-1)).flatten(0, 2).to(dtype)  # [R, O, and as many zeros as w_out has]
            if needs[5]:
                grad_w_out = (rows.t() @ x[-1])[: grad.shape[-1]]
            if needs[6]:
                grad_b_out = grad.sum((0, 1)).to(dtype)  # the weights sum to 1
            g = rows @ w_out  # [R, D]
            partial: list[Tensor] = []
            for i in reversed(range(ctx.n_layers)):
                partial.insert(0, passes.relu_backward(g, x[i + 1]))
                if needs[7 + 2 * i]:
                    grad_layers[2 * i] = g.t() @ x[i]
                g = g @ weights[i]
            if partial:
                grad_layers[1::2] = [total.to(dtype) for total in passes.column_sums(partial)]
            if needs[1] or needs[4]:
                # masks by itself
                g, h = (t.view(*weight.shape, t.shape[-1]) for t in (g, x[0]))
                grad_hidden, grad_w_pos = _gather_backward(g, h, coord, cell, w_pos, ctx.hidden_size, *where)
        return None, grad_hidden, None, None, grad_w_pos, grad_w_out, grad_b_out, *grad_layers


def _pairs(layers: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(layers[::2], layers[1::2], strict=True))


def _eights(w_out: Tensor, b_out: Tensor) -> tuple[Tensor, Tensor]:
    """The output layer with rows of zeros to a multiple of eight: the matrix libraries' fast products want sides of
    that."""
    rows = -len(b_out) % 8
    return F.pad(w_out, (0, 0, 0, rows)), F.pad(b_out, (0, rows))


def _bias_relu(b: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """relu(x @ w^T + b), in one kernel where torch has it."""
    if hasattr(torch, "_addmm_activation"):
        return torch._addmm_activation(b, x, w.t(), use_gelu=False)
    return torch.addmm(b, x, w.t()).relu_()


def _blend_first(x: Tensor, weight: Tensor, w_out: Tensor, b_out: Tensor) -> Tensor:
    """[R, D], [B, Q, K] -> [B, Q, O]; corner by corner, so that no copy of x in the geometry's precision exists."""
    x = x.view(*weight.shape, x.shape[-1])
    blended = x[:, :, 0] * weight[:, :, 0, None]
    for k in range(1, weight.shape[-1]):
        blended.addcmul_(x[:, :, k], weight[:, :, k, None])
    out = torch.addmm(b_out.to(weight.dtype), blended.flatten(0, 1), w_out.to(weight.dtype).t())
    return out.view(*weight.shape[:2], len(b_out))
