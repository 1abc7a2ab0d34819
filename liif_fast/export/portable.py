"""LIIF and LTE in standard operators, for exporters: no operators of liif_fast, nothing that depends on values, bounded
memory.

Equal to ``upscale(..., point=True)`` of float images (``Whole``) and to ``query`` (``HeadAlone``) but for the order of
roundings.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..head.reference import corners, pixel_centres, skip
from ..models import encoding, values
from . import layers

if TYPE_CHECKING:
    from ..models.liif import LIIF


class Whole(nn.Module):
    """Images in [0, 1] at any size: ``[B, 3, H, W]`` and ``[2]`` int64, (height, width), to ``[B, 3, *size]``.

    Args:
        size: (height, width) of every result; scale: a whole number of times the image's. Without both the size is an
            input.
    """

    def __init__(
        self, model: LIIF, dtype: torch.dtype, size: tuple[int, int] | None = None, scale: int | None = None
    ) -> None:
        super().__init__()
        self.layers = layers.of(model, dtype)
        self.model = copy.deepcopy(model).to("cpu", dtype).eval().requires_grad_(False)
        self.size, self.scale = size, scale

    def forward(self, image: Tensor, size: Tensor | None = None) -> Tensor:
        inp = values.normalised(self.model, image)
        feat = encoding.encode(self.model, inp)
        if self.size is not None:
            rows, cols = self.size
        elif self.scale is not None:
            rows, cols = (n * self.scale for n in image.shape[2:])
        else:
            rows, cols = _sides(size)
        out = self._rendered(self.layers.hidden(feat), inp, rows, cols)
        return values.denormalised(self.model, out).clamp(0, 1)

    def _rendered(self, hidden: Tensor, inp: Tensor, rows: Any, cols: Any) -> Tensor:
        head, (batch, height, width) = self.layers, hidden.shape[:3]
        y, x = _centres(rows), _centres(cols)
        row, down = _nearest(y, height, head.ensemble)
        col, across = _nearest(x, width, head.ensemble)
        k, step = col.shape[1], head.lines
        cell = None
        if head.cell_decode:
            cell = torch.full((), 2 * height / rows), torch.full((), 2 * width / cols)
            if (most := self.model.scale_max) is not None:  # as ``sampling.limited``
                of_most = [
                    torch.full((), 2 * m / (n * most)) for m, n in zip((height, width), inp.shape[2:], strict=True)
                ]
                cell = torch.maximum(cell[0], of_most[0]), torch.maximum(cell[1], of_most[1])
        shift = head.across(across, cell)

        def more(done: Tensor, out: Tensor) -> Tensor:
            return done < rows

        def some(done: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
            lines = (done + torch.arange(step)).clamp(max=rows - 1)  # the last ones again and again at the end
            index, offset = row.index_select(0, lines), down.index_select(0, lines)  # [step, k]
            near = hidden.index_select(1, index.flatten()).index_select(2, col.flatten())
            near = near.unflatten(1, index.shape).unflatten(3, col.shape)  # [B, step, k, cols, k, M]
            first = head.first(near, offset[:, :, None, None], shift)
            first = first.permute(0, 1, 3, 2, 4, 5).flatten(3, 4)  # [B, step, cols, K, D]
            colours = head.rest(first, offset.repeat_interleave(k, 1)[:, None], across.repeat(1, k))
            if head.adds_image:
                at = torch.stack(torch.meshgrid(y.index_select(0, lines), x, indexing="ij"), -1).flatten(0, 1)
                colours = colours + skip(inp, at.expand(out.shape[0], -1, -1)).unflatten(1, (step, -1))
            return done + step, out.index_copy(1, lines, colours)

        out = torch.zeros(batch, rows, cols, 3)
        start = torch.zeros((), dtype=torch.int64)
        return torch._higher_order_ops.while_loop(more, some, (start, out))[1].permute(0, 3, 1, 2)


class HeadAlone(nn.Module):
    """For encoders of one's own, as ``LIIF.query`` and ``LTE.query``: ``[B, C, H, W], [B, Q, 2] -> [B, Q, O]``.

    Behind features and coordinates come, of those that the model has, the cell ``[B, Q, 2]`` and the images
    ``[B, O, h, w]``.
    """

    def __init__(self, model: LIIF, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = layers.of(model, dtype)

    def forward(self, feat: Tensor, coord: Tensor, third: Tensor | None = None, fourth: Tensor | None = None) -> Tensor:
        head, (height, width) = self.layers, feat.shape[-2:]
        cell, inp = (third, fourth) if head.cell_decode else (None, third)
        index, rel, _ = corners(coord, (height, width), head.ensemble, (_exact(height), _exact(width)))
        image = torch.arange(feat.shape[0])[:, None, None]
        near = head.hidden(feat)[image, index[..., 0], index[..., 1]]  # [B, Q, K, M]
        down, across = rel.unbind(-1)
        sides = None if cell is None else (cell[..., :1] * height, cell[..., 1:] * width)
        colours = head.rest(head.first(near, down, head.across(across, sides)), down, across)
        if inp is None:
            return colours
        torch._check(inp.shape[0] == feat.shape[0])
        return colours + skip(inp, coord)


def _centres(count: Any) -> Tensor:
    return pixel_centres(torch.arange(count), _exact(count))


def _nearest(at: Tensor, length: Any, ensemble: bool) -> tuple[Tensor, Tensor]:
    """Along one side: of coordinates ``[n]`` the nearest feature pixels, and their offsets from them, ``[n, k]``."""
    index, rel, _ = corners(torch.stack([at, at], -1), (length, length), ensemble, (_exact(length),) * 2)
    return index[:, ::3, 0], rel[:, ::3, 0]  # of the pairs those of equal choices


def _exact(n: Any) -> Any:
    """A side as what float64 is made of: exporters divide their symbols in float32, and on the centre of a border's
    pixels, where odd factors have a row of the result, the corners' weights are those of what rounding leaves."""
    return torch.full((), n, dtype=torch.float64)


def _sides(size: Tensor | None) -> tuple[Any, Any]:
    if size is None:
        raise ValueError("size: the result's (height, width) as a tensor [2] of int64 is wanted")
    height, width = size[0].item(), size[1].item()
    torch._check(height >= 1)
    torch._check(width >= 1)
    return height, width
