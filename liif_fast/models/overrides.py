"""Rendering by a model's own methods: a subclass, or an instance, with a ``query_rgb`` of its own is asked by that."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ..base.methods import replaced
from ..head import sampling
from ..head.precision import geometry_dtype

if TYPE_CHECKING:
    from .liif import LIIF

Spans = tuple[tuple[int, int], tuple[int, int]]  # of rows and of columns
Progress = Callable[[float], None] | None


class Piece(Protocol):
    """What renders pieces of an image: see ``parts.encode_part``."""

    def __call__(self, span: Spans, progress: Progress = None, /) -> Tensor: ...


COLOURS = ("gen_feat", "query_rgb", "query", "forward")  # what decides the colours
_BLOCK = 1 << 16  # queries at a time
_TURN = threading.RLock()  # these methods keep the features in the model: one thread at a time


def own(model: nn.Module, base: type, names: Iterable[str]) -> list[str]:
    """Those that have been replaced and decide the colours: not a ``forward`` that takes other arguments."""
    found = replaced(model, base, names)
    return [name for name in found if name != "forward" or _gives_colours(model.forward)]


def _gives_colours(forward: Callable[..., Any]) -> bool:
    """Whether it takes what LIIF's does; one of a whole training step, say, is another thing under the same name."""
    try:
        inspect.signature(forward).bind("inp", "coord", "cell")
    except TypeError:
        return False
    except ValueError:  # without a signature
        pass
    return True


def described(model: nn.Module, names: Sequence[str]) -> str:
    """For messages."""
    return f"{type(model).__name__} has a {', '.join(names)} of its own"


def by_render(model: LIIF, inp: Tensor, size: sampling.Sampling, dtype: torch.dtype | None) -> Piece:
    """As ``parts.encode_part``, of a model with a ``render`` of its own: pieces of what that gives."""
    if not all(axis.plain for axis in size):
        raise ValueError(f"window: {described(model, ['render'])}, which makes whole images; give none")
    options: Any = {} if dtype is None else {"dtype": dtype}  # it may know of none
    image = model.render(inp, [axis.count for axis in size], **options)

    def piece(span: Spans, progress: Progress = None) -> Tensor:
        if progress is not None:
            progress(1.0)
        return image[:, :, slice(*span[0]), slice(*span[1])].to(torch.float32, copy=True)

    return piece


def renderer(
    model: LIIF,
    inp: Tensor,
    size: sampling.Sampling,
    precision: Callable[[], contextlib.AbstractContextManager[Any]],
    whole: bool,
) -> Piece:
    """As ``parts.encode_part``, by the model's methods: ``[B, 3, H, W] -> spans -> [B, O, rows, columns]``.

    Args:
        precision: autocast, or nothing.
        whole: by ``forward``, all coordinates at once, since each call encodes; else by ``gen_feat`` and ``query_rgb``.
    """
    cell = torch.tensor([axis.pixel for axis in size], dtype=torch.float32, device=inp.device)

    @torch.no_grad()
    def render(span: Spans, progress: Progress = None) -> Tensor:
        with contextlib.nullcontext() if torch.compiler.is_compiling() else _TURN:  # a graph has no locks
            return _render(span, progress)

    def _render(span: Spans, progress: Progress) -> Tensor:
        kept = model.feat, model._hidden, model.inp
        rows, cols = span
        height, width = rows[1] - rows[0], cols[1] - cols[0]
        block = max(1, height * width) if whole else _BLOCK
        out: Any = None  # a tensor from the first block on
        try:
            with precision():
                if not whole:
                    model.gen_feat(inp)
                for lines, columns, coord in sampling.blocks(size, rows, cols, block, inp.device, torch.float32):
                    at = coord.expand(len(inp), -1, -1)
                    given = at, cell.expand_as(at)
                    colours = model.forward(inp, *given) if whole else model.query_rgb(*given)
                    part = _image(model, colours, at, columns.stop - columns.start)
                    if out is None:
                        out = part.new_empty(*part.shape[:2], height, width)
                    out[:, :, lines, columns] = part
                    if progress is not None:
                        progress(coord.shape[-2] / (height * width))
            return out
        finally:
            model.feat, model._hidden, model.inp = kept  # as ``render`` leaves them

    return render


def _image(model: LIIF, colours: Tensor, coord: Tensor, width: int) -> Tensor:
    """[B, n * width, O] -> [B, O, n, width]"""
    if not isinstance(colours, Tensor) or colours.ndim != 3 or colours.shape[:2] != coord.shape[:2]:
        got = list(colours.shape) if isinstance(colours, Tensor) else type(colours).__name__
        raise ValueError(
            f"{type(model).__name__}: colours {[*coord.shape[:2], 'O']} are wanted from its own methods, got {got}"
        )
    colours = colours.to(geometry_dtype(colours.dtype))
    return colours.transpose(1, 2).unflatten(-1, (-1, width))
