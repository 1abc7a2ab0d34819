"""The operators of liif_fast: schemas, shapes, gradients, and which implementation runs on which device.

The one in plain PyTorch (``plain``) is registered as CompositeExplicitAutograd: a compiled kernel for a dispatch key
(CPU, CUDA) is then an upgrade of the same operator, and where there is none the operator works all the same. Call them
as ``torch.ops.liif_fast.*``; most users want ``liif_fast.LIIF`` or ``liif_fast.functional``.

Sizes: B images, Q queries each, K corners per query (4, or 1 without local ensemble), D hidden channels, L hidden
layers after the first, O output channels; ``hidden`` is h x w, a part of (or all of) a feature map of H x W.
"""

from __future__ import annotations

import functools
import importlib

import torch

from ..base.after_import import after_import
from . import library, precision, transforms
from .coord_gradient import offsets_backward, position_backward
from .plain import PLAIN
from .row_lists import row_lists
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
    "gather_corners(Tensor hidden, Tensor coord, SymInt[2] size, SymInt[2] origin, bool ensemble=True) -> "
    "(Tensor rows, Tensor rel, Tensor weight)"
)
_lib.define(
    "gather_corners_backward(Tensor grad_rows, Tensor coord, SymInt[2] hidden_size, SymInt[2] size, SymInt[2] origin, "
    "bool ensemble=True) -> Tensor"
)
_lib.define(
    "render(Tensor hidden, Tensor coord, Tensor? cell, Tensor w_pos, Tensor w_mlp, Tensor b_mlp, Tensor w_out, "
    "Tensor b_out, SymInt[2] size, SymInt[2] origin, bool ensemble=True) -> Tensor"
)
_lib.define(
    "render_fourier(Tensor hidden, Tensor coord, Tensor? cell, Tensor w_phase, Tensor w_mlp, Tensor b_mlp, "
    "Tensor w_out, Tensor b_out, SymInt[2] size, SymInt[2] origin, bool ensemble=True) -> Tensor"
)
_lib.define(
    "decode_fourier(Tensor hidden, Tensor coord, Tensor? cell, Tensor w_phase, Tensor w_mlp, Tensor b_mlp, "
    "Tensor w_out, Tensor b_out, bool ensemble=True) -> Tensor"
)
_lib.define(
    "decode_fourier_backward(Tensor grad_out, Tensor hidden, Tensor coord, Tensor? cell, Tensor w_phase, Tensor w_mlp, "
    "Tensor b_mlp, Tensor w_out, bool ensemble=True) -> (Tensor grad_hidden, Tensor grad_w_phase, Tensor grad_w_mlp, "
    "Tensor grad_b_mlp, Tensor grad_w_out)"
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


def _without_autocast(function):
    """The operators choose the precision of every step themselves. On a CPU what runs here is all that there is."""

    @functools.wraps(function)
    def wrapper(first, *args, **kwargs):
        if first.device.type == "cpu":
            library.tell()
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    return wrapper


NAMES = tuple(PLAIN)
for _name, _function in PLAIN.items():
    _lib.impl(_name, _without_autocast(_function), "CompositeExplicitAutograd")
for _name in ("render", "render_fourier", "render_int8"):
    _lib.impl(_name, on_cuda(_name, _without_autocast(PLAIN[_name])), "CUDA")


@torch.library.register_fake("liif_fast::corner_gather", lib=_lib)
def _(hidden, coord, cell, w_pos, size, origin, ensemble=True):
    B, Q, K = coord.shape[0], coord.shape[1], 4 if ensemble else 1
    return hidden.new_empty(B, Q, K, hidden.shape[-1]), coord.new_empty(B, Q, K)


@torch.library.register_fake("liif_fast::corner_gather_backward", lib=_lib)
def _(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble=True):
    grad_w_pos = w_pos.new_empty(w_pos.shape)
    return h.new_empty(h.shape[0], *hidden_size, h.shape[-1]), grad_w_pos


@torch.library.register_fake("liif_fast::gather_corners", lib=_lib)
def _(hidden, coord, size, origin, ensemble=True):
    of_query = coord.shape[0], coord.shape[1], 4 if ensemble else 1
    return hidden.new_empty(*of_query, hidden.shape[-1]), coord.new_empty(*of_query, 2), coord.new_empty(of_query)


@torch.library.register_fake("liif_fast::gather_corners_backward", lib=_lib)
def _(grad_rows, coord, hidden_size, size, origin, ensemble=True):
    return grad_rows.new_empty(grad_rows.shape[0], *hidden_size, grad_rows.shape[-1])


@torch.library.register_fake("liif_fast::render", lib=_lib)
@torch.library.register_fake("liif_fast::render_fourier", lib=_lib)
def _(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble=True):
    return coord.new_empty(coord.shape[0], coord.shape[1], w_out.shape[0])


@torch.library.register_fake("liif_fast::decode", lib=_lib)
@torch.library.register_fake("liif_fast::decode_fourier", lib=_lib)
def _(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, ensemble=True):
    return coord.new_empty(coord.shape[0], coord.shape[1], w_out.shape[0])


@torch.library.register_fake("liif_fast::decode_backward", lib=_lib)
@torch.library.register_fake("liif_fast::decode_fourier_backward", lib=_lib)
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
            grad_coord, grad_cell = position_backward(*given, ctx.size, ctx.ensemble)
    return grad_hidden, grad_coord, grad_cell, grad_w_pos, None, None, None


def _corners_setup(ctx, inputs, output):
    hidden, coord, ctx.size, ctx.origin, ctx.ensemble = inputs
    ctx.hidden_size = hidden.shape[1:3]
    ctx.save_for_backward(coord)


def _corners_backward(ctx, grad_rows, grad_rel, grad_weight):
    (coord,) = ctx.saved_tensors
    grad_hidden = grad_coord = None
    if ctx.needs_input_grad[0]:
        grad_hidden = torch.ops.liif_fast.gather_corners_backward(
            grad_rows, coord, ctx.hidden_size, ctx.size, ctx.origin, ctx.ensemble
        )
    if ctx.needs_input_grad[1]:
        grad_coord = offsets_backward(grad_rel, grad_weight, coord, ctx.size, ctx.ensemble)
    return grad_hidden, grad_coord, None, None, None


def _decode_setup(ctx, inputs, output):
    hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, ctx.ensemble = inputs
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        raise RuntimeError(
            "liif_fast: decoding has no gradient for coord and cell: use liif_fast.functional.query, which has one"
        )
    ctx.b_out_dtype = b_out.dtype
    ctx.save_for_backward(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out)


def _decode_gradient(ctx, grad_out, of="decode"):
    hidden, coord, cell, *parameters = ctx.saved_tensors
    backward = getattr(torch.ops.liif_fast, f"{of}_backward")
    grad_hidden, *grads = backward(grad_out, hidden, coord, cell, *parameters, ctx.ensemble)
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
    ("gather_corners", _corners_backward, _corners_setup),
    ("decode", _decode_gradient, _decode_setup),
    ("decode_fourier", functools.partial(_decode_gradient, of="decode_fourier"), _decode_setup),
    ("render", _unreachable, _no_gradient_setup),
    ("render_fourier", _unreachable, _no_gradient_setup),
    ("render_int8", _unreachable, _no_gradient_setup),
    ("corner_gather_backward", _unreachable, _no_double_backward),
    ("gather_corners_backward", _unreachable, _no_double_backward),
    ("decode_backward", _unreachable, _no_double_backward),
    ("decode_fourier_backward", _unreachable, _no_double_backward),
):
    torch.library.register_autograd(f"liif_fast::{_name}", _gradient, setup_context=_setup, lib=_Refusing())

# formulas for the operators defined above, for who counts: torch's module imports triton
after_import("torch.utils.flop_counter", functools.partial(importlib.import_module, ".flops", __package__))

CPU_KERNELS = library.load()  # kernels for the operators defined above; False: plain PyTorch
# On CUDA a query that needs a pixel which hidden does not hold gives NaN (on a CPU, an error): the host does not wait.
CUDA_KERNELS = CPU_KERNELS and hasattr(torch.ops.liif_fast, "corner_gather_backward_cuda")


def cpu_kernels() -> dict[str, str]:
    """What the processor has and which kernels run: {"available": "portable,avx2,...", "float32": "avx512", ...}; in
    "amx" why its AMX cannot be used; empty without the compiled library."""
    return dict(item.split("=", 1) for item in torch.ops.liif_fast.cpu_info().split(" ")) if CPU_KERNELS else {}


if "amx" in cpu_kernels():  # for torch's own products neither
    precision.without_amx()


def integer_bfloat16() -> bool:
    """Whether the compiled CPU kernels multiply bfloat16 features as pairs of integers here, whose sums are the same in
    any order."""
    return cpu_kernels().get("bfloat16", "").endswith("vnni")


def _corner_gather_backward_cuda(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble=True):
    """Gradients of hidden are summed in any order; under torch.use_deterministic_algorithms, in that of the rows."""
    after = first = None
    if torch.are_deterministic_algorithms_enabled() and coord.numel():
        after, first = row_lists(coord, hidden_size, size, origin, ensemble)
    return torch.ops.liif_fast.corner_gather_backward_cuda(
        grad_h, h, coord, cell, w_pos, after, first, hidden_size, size, origin, ensemble
    )


def _gather_corners_backward_cuda(grad_rows, coord, hidden_size, size, origin, ensemble=True):
    """Gradients are summed in the order of the rows: the same bits each time."""
    after = first = None
    if coord.numel():
        after, first = row_lists(coord, hidden_size, size, origin, ensemble)
    return torch.ops.liif_fast.gather_corners_backward_cuda(
        grad_rows, coord, after, first, hidden_size, size, origin, ensemble
    )


if CUDA_KERNELS:
    _lib.impl("gather_corners_backward", _gather_corners_backward_cuda, "CUDA")
    _lib.impl("corner_gather_backward", _corner_gather_backward_cuda, "CUDA")
