"""The operators of liif_fast: schemas, shapes, gradients, and an implementation in plain PyTorch for every device.

The plain implementation is registered as CompositeExplicitAutograd: a compiled kernel for a dispatch key (CPU, CUDA)
is then an upgrade of the same operator, and where there is none the operator works all the same. Call them as
``torch.ops.liif_fast.*``; most users want ``liif_fast.LIIF`` or ``liif_fast.functional``.

Sizes: B images, Q queries each, K corners per query (4, or 1 without local ensemble), D hidden channels, L hidden
layers after the first, O output channels; ``hidden`` is h x w, a part of (or all of) a feature map of H x W.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from . import _extension, int8, transforms
from .reference import corners
from .triton import on_cuda

_lib = torch.library.Library("liif_fast", "DEF")
_lib.define(
    "corner_gather(Tensor hidden, Tensor coord, Tensor? cell, Tensor w_pos, SymInt[2] size, SymInt[2] origin, "
    "bool ensemble=True) -> (Tensor h, Tensor weight)"
)
_lib.define(
    "corner_gather_backward(Tensor grad_h, Tensor h, Tensor coord, Tensor? cell, Tensor w_pos, SymInt[2] hidden_size, "
    "SymInt[2] size, SymInt[2] origin, bool ensemble=True) -> (Tensor grad_hidden, Tensor grad_w_pos)"
)
_lib.define(
    "render(Tensor hidden, Tensor coord, Tensor? cell, Tensor w_pos, Tensor w_mlp, Tensor b_mlp, Tensor w_out, "
    "Tensor b_out, SymInt[2] size, SymInt[2] origin, bool ensemble=True) -> Tensor"
)
_lib.define(
    "decode(Tensor hidden, Tensor coord, Tensor? cell, Tensor w_pos, Tensor w_mlp, Tensor b_mlp, Tensor w_out, "
    "Tensor b_out, bool ensemble=True) -> Tensor"
)
_lib.define(
    "decode_backward(Tensor grad_out, Tensor hidden, Tensor coord, Tensor? cell, Tensor w_pos, Tensor w_mlp, "
    "Tensor b_mlp, Tensor w_out, bool ensemble=True) -> (Tensor grad_hidden, Tensor grad_w_pos, Tensor grad_w_mlp, "
    "Tensor grad_b_mlp, Tensor grad_w_out)"
)
_lib.define(
    "render_int8(Tensor hidden, Tensor coord, Tensor? cell, Tensor w_pos, Tensor w_q, Tensor w_scale, Tensor b_mlp, "
    "Tensor act_scale, Tensor w_out, Tensor b_out, SymInt[2] size, SymInt[2] origin, bool ensemble=True) -> Tensor"
)


HALF = (torch.bfloat16, torch.float16)


def geometry_dtype(dtype: torch.dtype) -> torch.dtype:
    """Coordinates, cells and area weights are float32 whatever the features are; float64 with float64 features."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _chunks(hidden: Tensor, coord: Tensor) -> Iterator[tuple[int, slice]]:
    """(image, queries) pieces that bound the memory of what is computed per row: 4 * 2048 rows stay in a CPU's cache,
    a GPU wants enough rows to fill it."""
    step = 2048 if hidden.device.type == "cpu" else 1 << 17
    for b in range(coord.shape[0]):
        for start in range(0, coord.shape[1], step):
            yield b, slice(start, min(start + step, coord.shape[1]))


def _rows(
    hidden_size: Sequence[int],
    coord: Tensor,
    cell: Tensor | None,
    w_pos: Tensor,
    size: Sequence[int],
    origin: Sequence[int],
    ensemble: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For the queries of one image: row of the hidden map [q*K], its offset [q*K, 4 or 2] and w_pos to match, weight
    [q, K]."""
    index, rel, weight = corners(coord, size, ensemble)
    row = (index[..., 0] - origin[0]) * hidden_size[1] + (index[..., 1] - origin[1])
    pos = rel
    if cell is not None:
        pos = torch.cat([rel, _times_size(cell, size).unsqueeze(-2).expand_as(rel)], -1)
    return row.flatten(), pos.flatten(0, 1), w_pos[:, : pos.shape[-1]], weight


def _first_layer(hidden: Tensor, row: Tensor, pos: Tensor, w_pos: Tensor) -> Tensor:
    """relu(hidden[row] + pos @ w_pos^T) in the precision of the geometry: [q*K, D]."""
    h = hidden.index_select(0, row).to(w_pos.dtype)
    return h.addmm_(pos, w_pos.t()).relu_()


def _corner_gather(hidden, coord, cell, w_pos, size, origin, ensemble=True):
    B, h, w, D = hidden.shape
    Q, K = coord.shape[1], 4 if ensemble else 1
    out, weight = hidden.new_empty(B, Q, K, D), coord.new_empty(B, Q, K)
    flat = hidden.reshape(B, h * w, D)
    for b, s in _chunks(hidden, coord):
        row, pos, w_used, weight[b, s] = _rows(
            (h, w), coord[b, s], None if cell is None else cell[b, s], w_pos, size, origin, ensemble
        )
        out[b, s] = _first_layer(flat[b], row, pos, w_used).view(-1, K, D)
    return out, weight


def _corner_gather_backward(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble=True):
    B, D = h.shape[0], h.shape[-1]
    grad_hidden = torch.zeros(B, hidden_size[0] * hidden_size[1], D, dtype=w_pos.dtype, device=h.device)
    grad_w_pos = torch.zeros(w_pos.shape, dtype=w_pos.dtype, device=w_pos.device)
    for b, s in _chunks(h, coord):
        row, pos, _, _ = _rows(
            hidden_size, coord[b, s], None if cell is None else cell[b, s], w_pos, size, origin, ensemble
        )
        grad = (grad_h[b, s] * (h[b, s] > 0)).to(w_pos.dtype).flatten(0, 1)  # ReLU's mask: [q*K, D]
        grad_hidden[b].index_add_(0, row, grad)
        grad_w_pos[:, : pos.shape[-1]].addmm_(grad.t(), pos)
    return grad_hidden.view(B, *hidden_size, D).to(h.dtype), grad_w_pos


def _fast_bfloat16_cpu() -> bool:
    """bfloat16 products are faster than float32's with matrix units (AMX) and on AMD's processors, and run at half
    their rate on Intel's without them (measured), so the capability flag alone misleads. LIIF_FAST_MATMUL=bfloat16 or
    float32 decides instead."""
    asked = os.environ.get("LIIF_FAST_MATMUL") or "auto"
    if asked in ("bfloat16", "float32"):
        return asked == "bfloat16"
    if asked != "auto":  # no reason to stop an import
        warnings.warn(
            f"LIIF_FAST_MATMUL: auto, bfloat16 or float32 is wanted, got {asked!r}: auto is used", stacklevel=2
        )
    words = set()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        words = {word for line in itertools.takewhile(str.strip, info) for word in line.split()}  # the first processor
    return "amx_bf16" in words or {"avx512_bf16", "AuthenticAMD"} <= words


FAST_BFLOAT16_CPU = _fast_bfloat16_cpu()


def matmul_dtype(dtype: torch.dtype | None, device: str) -> torch.dtype | None:
    """The precision in which torch's own products and convolutions run fastest where ``dtype`` is precise enough.

    CPUs convert float16 to multiply it.
    """
    if device != "cpu" or dtype not in HALF or (dtype == torch.bfloat16 and FAST_BFLOAT16_CPU):
        return dtype
    return torch.float32


def fastest_autocast(device: str) -> contextlib.AbstractContextManager:
    """Autocast as it is, except on CPUs that multiply its half precision more slowly than float32: there none."""
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        if matmul_dtype(dtype, device) != dtype:
            return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def _layers(hidden: Tensor, w_mlp: Tensor, b_mlp: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases of the hidden layers, rounded to hidden's precision and in that of the products."""
    dtype = matmul_dtype(hidden.dtype, hidden.device.type)
    w_mlp, b_mlp = (t.to(hidden.dtype).to(dtype) for t in (w_mlp, b_mlp))
    return list(zip(w_mlp, b_mlp, strict=True))


def _hidden_layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.addmm(b, x, w.t()).relu_()


def _blend(x: Tensor, weight: Tensor) -> Tensor:
    """The weights sum to 1 and the output layer is linear, so blending before it is exact: [q*K, D] -> [q, D]."""
    x = x.view(*weight.shape, -1).to(weight.dtype)
    return torch.einsum("qk,qkd->qd", weight, x) if weight.shape[1] > 1 else x[:, 0]


def _render(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble=True):
    B, h, w, D = hidden.shape
    out = coord.new_empty(B, coord.shape[1], w_out.shape[0])
    flat = hidden.reshape(B, h * w, D)
    layers = _layers(hidden, w_mlp, b_mlp)
    dtype = matmul_dtype(hidden.dtype, hidden.device.type)
    w_out, b_out = w_out.to(coord.dtype).t(), b_out.to(coord.dtype)
    for b, s in _chunks(hidden, coord):
        row, pos, w_used, weight = _rows(
            (h, w), coord[b, s], None if cell is None else cell[b, s], w_pos, size, origin, ensemble
        )
        x = _first_layer(flat[b], row, pos, w_used).to(dtype)
        for layer in layers:
            x = _hidden_layer(x, *layer)
        torch.addmm(b_out, _blend(x, weight), w_out, out=out[b, s])
    return out


def _decode(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, ensemble=True):
    return _render(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, hidden.shape[1:3], (0, 0), ensemble)


def _decode_backward(grad_out, hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, ensemble=True):
    B, h, w, D = hidden.shape
    flat, grad_hidden = hidden.reshape(B, h * w, D), torch.zeros(B, h * w, D, dtype=w_pos.dtype, device=hidden.device)
    grads = [torch.zeros(t.shape, dtype=w_pos.dtype, device=t.device) for t in (w_pos, w_mlp, b_mlp, w_out)]
    grad_w_pos, grad_w_mlp, grad_b_mlp, grad_w_out = grads
    layers = _layers(hidden, w_mlp, b_mlp)
    dtype = matmul_dtype(hidden.dtype, hidden.device.type)
    for b, s in _chunks(hidden, coord):
        row, pos, w_used, weight = _rows(
            (h, w), coord[b, s], None if cell is None else cell[b, s], w_pos, (h, w), (0, 0), ensemble
        )
        x = [_first_layer(flat[b], row, pos, w_used).to(dtype)]
        for layer in layers:
            x.append(_hidden_layer(x[-1], *layer))
        g = grad_out[b, s].to(w_pos.dtype)
        grad_w_out.addmm_(g.t(), _blend(x[-1], weight))
        g = (weight.unsqueeze(-1) * (g @ w_out.to(g.dtype)).unsqueeze(1)).flatten(0, 1).to(dtype)
        for i in reversed(range(len(layers))):
            g = g * (x[i + 1] > 0)
            grad_b_mlp[i] += g.sum(0)
            grad_w_mlp[i] += g.t() @ x[i]
            g = g @ layers[i][0]
        g = (g * (x[0] > 0)).to(w_pos.dtype)
        grad_hidden[b].index_add_(0, row, g)
        grad_w_pos[:, : pos.shape[-1]].addmm_(g.t(), pos)
    like = zip(grads, (w_pos, w_mlp, b_mlp, w_out), strict=True)
    return grad_hidden.view_as(hidden).to(hidden.dtype), *(g.to(t.dtype) for g, t in like)


def _without_autocast(function):
    """The operators choose the precision of every step themselves."""

    @functools.wraps(function)
    def wrapper(first, *args, **kwargs):
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    return wrapper


PLAIN = {
    "corner_gather": _corner_gather,
    "corner_gather_backward": _corner_gather_backward,
    "render": _render,
    "decode": _decode,
    "decode_backward": _decode_backward,
    "render_int8": int8.render_int8,
}
NAMES = tuple(PLAIN)
for _name, _function in PLAIN.items():
    _lib.impl(_name, _without_autocast(_function), "CompositeExplicitAutograd")
for _name in ("render", "render_int8"):
    _lib.impl(_name, on_cuda(_name, _without_autocast(PLAIN[_name])), "CUDA")


@torch.library.register_fake("liif_fast::corner_gather", lib=_lib)
def _(hidden, coord, cell, w_pos, size, origin, ensemble=True):
    B, Q, K = coord.shape[0], coord.shape[1], 4 if ensemble else 1
    return hidden.new_empty(B, Q, K, hidden.shape[-1]), coord.new_empty(B, Q, K)


@torch.library.register_fake("liif_fast::corner_gather_backward", lib=_lib)
def _(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble=True):
    grad_w_pos = w_pos.new_empty(w_pos.shape)
    return h.new_empty(h.shape[0], *hidden_size, h.shape[-1]), grad_w_pos


@torch.library.register_fake("liif_fast::render", lib=_lib)
def _(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble=True):
    return coord.new_empty(coord.shape[0], coord.shape[1], w_out.shape[0])


@torch.library.register_fake("liif_fast::decode", lib=_lib)
def _(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, ensemble=True):
    return coord.new_empty(coord.shape[0], coord.shape[1], w_out.shape[0])


@torch.library.register_fake("liif_fast::decode_backward", lib=_lib)
def _(grad_out, hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, ensemble=True):
    given = (hidden, w_pos, w_mlp, b_mlp, w_out)
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in given)


@torch.library.register_fake("liif_fast::render_int8", lib=_lib)
def _(hidden, coord, cell, w_pos, w_q, w_scale, b_mlp, act_scale, w_out, b_out, size, origin, ensemble=True):
    return coord.new_empty(coord.shape[0], coord.shape[1], w_out.shape[0])


def _gather_setup(ctx, inputs, output):
    hidden, coord, cell, w_pos, ctx.size, ctx.origin, ctx.ensemble = inputs
    ctx.hidden_size = hidden.shape[1:3]
    ctx.save_for_backward(output[0], coord, cell, w_pos)


def _gather_backward(ctx, grad_h, grad_weight):
    h, coord, cell, w_pos = ctx.saved_tensors
    grad_hidden, grad_w_pos = torch.ops.liif_fast.corner_gather_backward(
        grad_h, h, coord, cell, w_pos, ctx.hidden_size, ctx.size, ctx.origin, ctx.ensemble
    )
    grad_coord = grad_cell = None
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        with torch.autocast(h.device.type, enabled=False):  # geometry is never in half precision
            given = (grad_h, grad_weight, h, coord, cell, w_pos)
            grad_coord, grad_cell = _geometry_backward(*given, ctx.size, ctx.ensemble)
    return grad_hidden, grad_coord, grad_cell, grad_w_pos, None, None, None


def _geometry_backward(grad_h, grad_weight, h, coord, cell, w_pos, size, ensemble):
    """Gradients of coord and cell. The chosen pixels are piecewise constant in coord; rel and the areas are not."""
    grad_pos = (grad_h * (h > 0)).to(w_pos.dtype) @ w_pos  # [B, Q, K, 4]
    grad_rel = grad_pos[..., :2]
    if ensemble:
        _, rel, weight = corners(coord, size)
        area = (rel[..., 0] * rel[..., 1]).abs() + 1e-9
        # weight_k = area_(3-k) / total, so d/d area_j = (g_(3-j) - sum_k g_k weight_k) / total
        grad_area = (grad_weight - (grad_weight * weight).sum(-1, keepdim=True)).flip(-1) / area.sum(-1, keepdim=True)
        sign = (rel[..., 0] * rel[..., 1]).sign()
        grad_rel = grad_rel + (grad_area * sign).unsqueeze(-1) * rel.flip(-1)
    grad_coord = _times_size(grad_rel.sum(-2), size)
    return grad_coord, None if cell is None else _times_size(grad_pos[..., 2:].sum(-2), size)


def _times_size(x: Tensor, size: Sequence[int]) -> Tensor:
    return torch.stack([x[..., 0] * size[0], x[..., 1] * size[1]], -1)


def _decode_setup(ctx, inputs, output):
    hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, ctx.ensemble = inputs
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        raise RuntimeError(
            "liif_fast::decode has no gradient for coord and cell: use liif_fast.functional.query, which has one"
        )
    ctx.b_out_dtype = b_out.dtype
    ctx.save_for_backward(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out)


def _decode_gradient(ctx, grad_out):
    hidden, coord, cell, *parameters = ctx.saved_tensors
    grad_hidden, *grads = torch.ops.liif_fast.decode_backward(grad_out, hidden, coord, cell, *parameters, ctx.ensemble)
    return grad_hidden, None, None, *grads, grad_out.sum((0, 1)).to(ctx.b_out_dtype), None


def _no_gradient_setup(ctx, inputs, output):
    raise RuntimeError(
        "liif_fast: rendering is for inference and has no gradient: call it under torch.no_grad(), "
        "or use liif_fast.functional.query, which has one"
    )


def _no_double_backward(ctx, inputs, output):
    raise RuntimeError("liif_fast: queries have no double backward: call backward() without create_graph=True")


def _unreachable(ctx, *grads):
    raise AssertionError("the setup raises")


class _Refusing:
    """The library for ``register_autograd``, whose kernels refuse derivatives by other means than ``backward``."""

    @staticmethod
    def impl(name, kernel, key, **options):
        _lib.impl(name, transforms.refusing(name, kernel), key, **options)


for _name, _gradient, _setup in (
    ("corner_gather", _gather_backward, _gather_setup),
    ("decode", _decode_gradient, _decode_setup),
    ("render", _unreachable, _no_gradient_setup),
    ("render_int8", _unreachable, _no_gradient_setup),
    ("corner_gather_backward", _unreachable, _no_double_backward),
    ("decode_backward", _unreachable, _no_double_backward),
):
    torch.library.register_autograd(f"liif_fast::{_name}", _gradient, setup_context=_setup, lib=_Refusing())

CPU_KERNELS = _extension.load()  # kernels for the operators defined above; False: plain PyTorch
# On CUDA a query that needs a pixel which hidden does not hold gives NaN (on a CPU, an error): the host does not wait.
CUDA_KERNELS = CPU_KERNELS and hasattr(torch.ops.liif_fast, "corner_gather_backward_cuda")


def cpu_kernels() -> dict[str, str]:
    """What the processor has and which kernels run: {"available": "portable,avx2,...", "float32": "avx512", ...}; empty
    without the compiled library."""
    return dict(item.split("=", 1) for item in torch.ops.liif_fast.cpu_info().split(" ")) if CPU_KERNELS else {}


def integer_bfloat16() -> bool:
    """Whether the compiled CPU kernels multiply bfloat16 features as pairs of integers here, whose sums are the same in
    any order."""
    return cpu_kernels().get("bfloat16", "").endswith("vnni")


def _row_order(coord, hidden_size, size, origin, ensemble):
    """The gathered rows [B*Q*K] in the order of hidden's pixels, those of one pixel in their own; and where the rows of
    each pixel begin in it [B*h*w + 1]."""
    index, _, _ = corners(coord, size, ensemble)
    # a row outside hidden has no gradient (its h is NaN), so that any pixel may have it
    y, x = (index[..., i].sub_(origin[i]).clamp_(0, hidden_size[i] - 1) for i in range(2))
    image = torch.arange(len(coord), device=coord.device).view(-1, 1, 1)
    row, order = ((image * hidden_size[0] + y) * hidden_size[1] + x).flatten().sort(stable=True)
    pixels = len(coord) * hidden_size[0] * hidden_size[1]
    return order, torch.searchsorted(row, torch.arange(pixels + 1, device=coord.device))


def _corner_gather_backward_cuda(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble=True):
    """Gradients of hidden are summed by atomics; under torch.use_deterministic_algorithms, in the order of the rows."""
    order = start = None
    if torch.are_deterministic_algorithms_enabled():
        order, start = _row_order(coord, hidden_size, size, origin, ensemble)
    return torch.ops.liif_fast.corner_gather_backward_cuda(
        grad_h, h, coord, cell, w_pos, order, start, hidden_size, size, origin, ensemble
    )


if CUDA_KERNELS:
    _lib.impl("corner_gather_backward", _corner_gather_backward_cuda, "CUDA")
