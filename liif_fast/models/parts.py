"""A part of an image: encoded once, then rendered piece by piece. The whole is one of its parts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ..head import functional, precision, sampling, transforms
from ..head.precision import HALF
from . import overrides
from .checks import check_input
from .encoding import encode
from .overrides import Piece, Progress, Spans

if TYPE_CHECKING:
    from .liif import LIIF

_Function = TypeVar("_Function", bound=Callable[..., Any])


def no_gradients(function: _Function) -> _Function:
    """``torch.no_grad()``, not entered again where there are none: torch.export would make a graph of its own of it."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad() if torch.is_grad_enabled() else contextlib.nullcontext():
            return function(*args, **kwargs)

    return run  # type: ignore[return-value]  # a function of the same arguments


@no_gradients
def encode_part(
    model: LIIF,
    inp: Tensor,
    in_size: Sequence[int],
    origin: Sequence[int],
    hidden_span: Spans | None,
    size: Sequence[int] | sampling.Sampling,
    dtype: torch.dtype | None = None,
    encoder: Callable[[Tensor], Tensor] | None = None,
) -> Piece:
    """Encode the part of an input that some pixels of the image at ``size`` depend on; render them with the result.

    Args:
        inp: ``[B, 3, h, w]``, the part of an input of ``in_size`` that starts at ``origin``.
        hidden_span: rows and columns of the feature map (in the whole map) that are right in this part and
            that the outputs need, see ``tiles.plan``; None: all.
        size: (height, width) of the image, or a sampling of it, whose pixels are counted then.
        dtype: half precision for encoder and hidden map; None: the model's, or that of autocast.
        encoder: see ``encoding.encode``.

    Returns:
        a function: spans of rows and columns of the output to its pixels there, ``[B, out_dim, rows, columns]``;
        its second argument is called with the share of these pixels that is done, in parts that add up to 1.
    """
    check_input(inp, model.encoder)
    if dtype not in (None, torch.float32, torch.float64, *HALF):
        raise ValueError(
            f"dtype: torch.bfloat16, float16 or None is wanted, got {dtype}; int8 is for upscale and stream"
        )
    size = sampling.limited(sampling.of(size), in_size, model.scale_max)
    transforms.refuse_gradient("render", (inp, *model.parameters()))
    if own := model._own(*overrides.COLOURS):
        if tuple(in_size) != tuple(inp.shape[-2:]):
            raise ValueError(f"inp: {overrides.described(model, own)}, so it renders from whole inputs only")
        return overrides.renderer(model, inp, size, lambda: half_precision(inp.device.type, dtype), "forward" in own)
    dtype = model._precision(inp.device) if dtype is None else dtype
    head = model.head()
    fast = dtype if head is None else precision.matmul_dtype(dtype, inp.device.type)
    whole = tuple(in_size) == tuple(inp.shape[-2:])
    with half_precision(inp.device.type, fast):
        feat = model._encode(inp) if encoder is None else encode(model, inp, encoder)
        options: dict[str, Any] = {"dtype": precision.geometry_dtype(feat.dtype), "device": feat.device}
        map_size = tuple(feat.shape[2:])
        same_size = map_size == tuple(inp.shape[-2:])
        if not whole and (head is None or not same_size):
            why = "imnet does not fold" if head is None else "encoder changes the size"
            raise ValueError(f"inp: this model's {why}, so it renders from whole inputs only")
        map_size = map_size if whole else tuple(in_size)
        if head is not None:
            if feat.shape[0]:
                head = model.ordered(head, feat, dtype, size[0].count * size[1].count)
            if model.cell_decode:  # of the whole map, and one for all pixels of a grid
                head = functional.with_cell(head, [axis.pixel * m for axis, m in zip(size, map_size, strict=True)])
            hidden: Any = functional.hidden_map(feat, head)
    added = model._added(inp, in_size, origin)
    if head is None:

        def colours(coord: Tensor, cell: Tensor) -> Tensor:
            with half_precision(feat.device.type, fast):  # its features are of that precision
                return model._query(feat, coord, cell, inp=inp)
    else:
        hidden = hidden.to(dtype) if dtype in HALF else hidden
        if hidden_span is not None and same_size:
            (a, b), (c, d) = hidden_span
            hidden = hidden[:, a - origin[0] : b - origin[0], c - origin[1] : d - origin[1]].contiguous()
            origin = (a, c)
        prepared = model._colours(hidden, head, map_size, origin)  # once for all pieces and their blocks
        feat = hidden = None  # type: ignore[assignment]  # their memory

        def colours(coord: Tensor, cell: Tensor) -> Tensor:
            return prepared(coord) if added is None else prepared(coord).add_(added(coord))

    @no_gradients
    def render(out_span: Spans, progress: Progress = None) -> Tensor:
        rows, cols = out_span
        out = torch.empty(inp.shape[0], model._out_dim(), rows[1] - rows[0], cols[1] - cols[0], **options)
        return functional.render_grid(colours, size, out, rows, cols, progress=progress)

    return render


def half_precision(device: str, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """Autocast for a half-precision dtype; for others, whatever holds outside."""
    return torch.autocast(device, dtype=dtype) if dtype in HALF else contextlib.nullcontext()
