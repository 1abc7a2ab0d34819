"""LIIF in standard operators, for exporters: no operators of liif_fast, nothing that depends on values, bounded memory.

Equal to ``LIIF.upscale(..., point=True)`` of float images (``Whole``) and to ``LIIF.query`` (``HeadAlone``) but for the
order of roundings.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..head import functional
from ..head.reference import corners, pixel_centres
from ..models import encoding, overrides, values

if TYPE_CHECKING:
    from ..models.liif import LIIF

ROWS = 8  # of the result that are made at a time


class Layers(nn.Module):
    """The folded MLP (``functional.fold``): its first layer over a map of features, the others over rows.

    The first layer's sum, offsets and areas are float32 whatever the dtype of the rest, as in the kernels.
    """

    w_conv: Tensor
    b_conv: Tensor
    w_pos: Tensor
    w_out: Tensor
    b_out: Tensor

    def __init__(self, model: LIIF, dtype: torch.dtype) -> None:
        super().__init__()
        self.ensemble, self.cell_decode, self.dtype = model.local_ensemble, model.cell_decode, dtype
        head = _head(model)
        self.depth = len(head.mlp)
        tensors = {"w_conv": head.w_conv, "b_conv": head.b_conv, "w_out": head.w_out, "b_out": head.b_out}
        for i, (weight, bias) in enumerate(head.mlp):
            tensors |= {f"w_{i}": weight, f"b_{i}": bias}
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().to("cpu", dtype, copy=True).contiguous())
        self.register_buffer("w_pos", head.w_pos.detach().to("cpu", torch.float32, copy=True).contiguous())

    def hidden(self, feat: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, H, W, D]``, before its ReLU."""
        padding = self.w_conv.shape[-1] // 2
        return F.conv2d(feat.to(self.dtype), self.w_conv, self.b_conv, padding=padding).permute(0, 2, 3, 1)

    def position(self, offset: Tensor, column: int) -> Tensor:
        """What offsets (columns 0 and 1: y and x; 2 and 3: cells) add to the hidden map: ``[...] -> [..., D]``."""
        return offset.unsqueeze(-1) * self.w_pos[:, column]

    def rest(self, first: Tensor, down: Tensor, across: Tensor) -> Tensor:
        """From the first layer's sums ``[..., K, D]`` and the corners' offsets ``[..., K]`` to ``[..., O]``."""
        x = first.relu().to(self.dtype)
        for i in range(self.depth):
            x = F.linear(x, getattr(self, f"w_{i}"), getattr(self, f"b_{i}")).relu()
        if not self.ensemble:
            return F.linear(x.squeeze(-2), self.w_out, self.b_out).float()
        # |area| + 1e-9 in proportion: optimizers of graphs take that for |area|, and 0 / 0 is what comes of it
        area = (across * down).abs() * 1e9 + 1
        weight = area.flip(-1) / area.sum(-1, keepdim=True)
        # the weights sum to 1 and the last layer is linear: blended before it
        blended = (x.float() * weight.unsqueeze(-1)).sum(-2)
        return F.linear(blended.to(self.dtype), self.w_out, self.b_out).float()


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
        self.layers = Layers(model, dtype)
        self.model = copy.deepcopy(model).to("cpu", dtype).eval().requires_grad_(False)
        self.size, self.scale = size, scale

    def forward(self, image: Tensor, size: Tensor | None = None) -> Tensor:
        feat = encoding.encode(self.model, values.normalised(self.model, image))
        if self.size is not None:
            rows, cols = self.size
        elif self.scale is not None:
            rows, cols = (n * self.scale for n in image.shape[2:])
        else:
            rows, cols = _sides(size)
        out = self._rendered(self.layers.hidden(feat), rows, cols)
        return values.denormalised(self.model, out).clamp(0, 1)

    def _rendered(self, hidden: Tensor, rows: Any, cols: Any) -> Tensor:
        layers, (height, width) = self.layers, hidden.shape[1:3]
        row, down = _axis(rows, height, layers.ensemble)
        col, across = _axis(cols, width, layers.ensemble)
        k = col.shape[1]
        shift = layers.position(across, 1)  # [cols, k, D]
        if layers.cell_decode:
            cell = [torch.full((), 2 * n / m) for n, m in ((height, rows), (width, cols))]
            shift = shift + (layers.position(cell[0], 2) + layers.position(cell[1], 3))

        def more(done: Tensor, out: Tensor) -> Tensor:
            return done < rows

        def some(done: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
            lines = (done + torch.arange(ROWS)).clamp(max=rows - 1)  # the last ones again and again at the end
            index, offset = row.index_select(0, lines), down.index_select(0, lines)  # [ROWS, k]
            near = hidden.index_select(1, index.flatten()).index_select(2, col.flatten())
            near = near.unflatten(1, index.shape).unflatten(3, col.shape)  # [B, ROWS, k, cols, k, D]
            first = near.float() + layers.position(offset, 0)[:, :, None, None] + shift
            first = first.permute(0, 1, 3, 2, 4, 5).flatten(3, 4)  # [B, ROWS, cols, K, D]
            colours = layers.rest(first, offset.repeat_interleave(k, 1)[:, None], across.repeat(1, k))
            return done + ROWS, out.index_copy(1, lines, colours)

        out = torch.zeros(hidden.shape[0], rows, cols, 3)
        start = torch.zeros((), dtype=torch.int64)
        return torch._higher_order_ops.while_loop(more, some, (start, out))[1].permute(0, 3, 1, 2)


class HeadAlone(nn.Module):
    """For encoders of one's own: ``[B, C, H, W], [B, Q, 2], [B, Q, 2] -> [B, Q, O]``, as ``LIIF.query``."""

    def __init__(self, model: LIIF, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = Layers(model, dtype)

    def forward(self, feat: Tensor, coord: Tensor, cell: Tensor | None = None) -> Tensor:
        layers, (height, width) = self.layers, feat.shape[-2:]
        index, rel, _ = corners(coord, (height, width), layers.ensemble, (_exact(height), _exact(width)))
        image = torch.arange(feat.shape[0])[:, None, None]
        first = layers.hidden(feat)[image, index[..., 0], index[..., 1]].float()  # [B, Q, K, D]
        first = first + layers.position(rel[..., 0], 0) + layers.position(rel[..., 1], 1)
        if cell is not None:
            of_cell = layers.position(cell[..., 0] * height, 2) + layers.position(cell[..., 1] * width, 3)
            first = first + of_cell.unsqueeze(-2)
        return layers.rest(first, *rel.unbind(-1))


def _axis(count: Any, length: Any, ensemble: bool) -> tuple[Tensor, Tensor]:
    """Along one side: of each output pixel the nearest feature pixels, and its offsets from them, ``[count, k]``."""
    centres = pixel_centres(torch.arange(count), _exact(count))
    index, rel, _ = corners(torch.stack([centres, centres], -1), (length, length), ensemble, (_exact(length),) * 2)
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


def _head(model: LIIF) -> functional.Head:
    """ValueError: what the model computes is not what its weights say."""
    if own := model._own(*overrides.COLOURS, "render"):
        raise ValueError(f"export: {overrides.described(model, own)}, which a file of standard operators would lack")
    if (head := model.head()) is None:
        raise ValueError("export: this model's imnet is not liif_fast's MLP, or has been changed")
    if not isinstance(head, functional.Head):
        raise ValueError(f"export: the head of {type(model).__name__} is not written in standard operators; use .pt2")
    return head
