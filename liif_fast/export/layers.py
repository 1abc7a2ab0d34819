"""Heads in standard operators: LIIF's (``functional.Head``) and LTE's (``fourier.FourierHead``).

What both share: a convolution of the features to a map, rows of it at the corners of a query, the MLP, the blend.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..head import functional
from ..models import overrides

if TYPE_CHECKING:
    from ..models.liif import LIIF

Cell = tuple[Tensor, Tensor]  # height and width of an output pixel, in feature pixels


class Layers(nn.Module):
    """The map over the features, and the layers over its rows; what lies between them is each kind's own.

    What is added to rows, offsets and areas are float32 whatever the dtype of the rest, as in the kernels.
    """

    name: str
    adds_image = False  # whether its colours are differences from the image
    lines = 8  # of the result that are made at a time
    w_conv: Tensor
    b_conv: Tensor
    w_out: Tensor
    b_out: Tensor

    def __init__(self, model: LIIF, head: functional.AnyHead, dtype: torch.dtype) -> None:
        super().__init__()
        self.ensemble, self.cell_decode, self.dtype = model.local_ensemble, model.cell_decode, dtype
        self.depth = len(head.mlp)
        tensors = {"w_conv": head.w_conv, "b_conv": head.b_conv, "w_out": head.w_out, "b_out": head.b_out}
        for i, (weight, bias) in enumerate(head.mlp):
            tensors |= {f"w_{i}": weight, f"b_{i}": bias}
        for name, tensor in tensors.items():
            self._keep(name, tensor, dtype)

    def _keep(self, name: str, tensor: Tensor, dtype: torch.dtype) -> None:
        self.register_buffer(name, tensor.detach().to("cpu", dtype, copy=True).contiguous())

    def hidden(self, feat: Tensor) -> Tensor:
        """The map: ``[B, C, H, W] -> [B, H, W, M]``."""
        padding = self.w_conv.shape[-1] // 2
        return F.conv2d(feat.to(self.dtype), self.w_conv, self.b_conv, padding=padding).permute(0, 2, 3, 1)

    def across(self, offset: Tensor, cell: Cell | None) -> Any:
        """What is the same for all lines of a result, for ``first``, of offsets along x ``[...]`` and the cell."""
        raise NotImplementedError

    def first(self, near: Tensor, down: Tensor, across: Any) -> Tensor:
        """What the MLP reads: of the map's rows ``[..., M]`` and offsets along y ``[...]``, float32 ``[..., D]``."""
        raise NotImplementedError

    def rest(self, first: Tensor, down: Tensor, across: Tensor) -> Tensor:
        """From what the MLP reads ``[..., K, D]`` and the corners' offsets ``[..., K]`` to ``[..., O]``."""
        x = first.to(self.dtype)
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


class Sums(Layers):
    """LIIF's: the map is the first layer's sum without what the offsets add, of D numbers."""

    name = "LIIF"
    w_pos: Tensor

    def __init__(self, model: LIIF, head: functional.Head, dtype: torch.dtype) -> None:
        super().__init__(model, head, dtype)
        self._keep("w_pos", head.w_pos, torch.float32)

    def _position(self, offset: Tensor, column: int) -> Tensor:
        """What offsets (columns 0 and 1: y and x; 2 and 3: cells) add to the map: ``[...] -> [..., D]``."""
        return offset.unsqueeze(-1) * self.w_pos[:, column]

    def across(self, offset: Tensor, cell: Cell | None) -> Tensor:
        shift = self._position(offset, 1)
        return shift if cell is None else shift + (self._position(cell[0], 2) + self._position(cell[1], 3))

    def first(self, near: Tensor, down: Tensor, across: Tensor) -> Tensor:
        return (near.float() + self._position(down, 0) + across).relu()


class Waves(Layers):
    """LTE's: the map is coefficients of cosines, of sines, frequencies along y, along x, of D / 2 numbers each.

    In float16 the map is rounded, so that the angle of a frequency f is off by up to about pi * |f| / 2048 at the far
    corner; angles, cosines and sines are float32.
    """

    name = "LTE"
    adds_image = True
    lines = 4  # a row has twice the numbers
    w_phase: Tensor

    def __init__(self, model: LIIF, head: functional.FourierHead, dtype: torch.dtype) -> None:
        super().__init__(model, head, dtype)
        self._keep("w_phase", head.w_phase, torch.float32)

    def across(self, offset: Tensor, cell: Cell | None) -> tuple[Tensor, Tensor | None]:
        if cell is None:
            return offset, None  # itself: a loop takes no views of what it takes
        return offset, cell[0].unsqueeze(-1) * self.w_phase[:, 0] + cell[1].unsqueeze(-1) * self.w_phase[:, 1]

    def first(self, near: Tensor, down: Tensor, across: tuple[Tensor, Tensor | None]) -> Tensor:
        coef_cos, coef_sin, along_y, along_x = near.float().chunk(4, -1)
        x, phase = across
        angle = along_y * down.unsqueeze(-1) + along_x * x.unsqueeze(-1)
        angle = (angle if phase is None else angle + phase) * math.pi
        return torch.cat([coef_cos * angle.cos(), coef_sin * angle.sin()], -1)


def of(model: LIIF, dtype: torch.dtype) -> Layers:
    """The model's head. ValueError: what the model computes is not what its weights say."""
    if own := model._own(*overrides.COLOURS, "render"):
        raise ValueError(f"export: {overrides.described(model, own)}, which a file of standard operators would lack")
    if (head := model.head()) is None:
        raise ValueError("export: this model's MLP is not liif_fast's, or a layer of its head has been changed")
    return Sums(model, head, dtype) if isinstance(head, functional.Head) else Waves(model, head, dtype)
