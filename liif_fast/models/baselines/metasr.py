"""MetaSR in the form in which the LIIF paper compares with it (Hu et al., "Meta-SR", CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...head.reference import make_coord
from ...registry import make, register
from ..mlp import MLP
from .common import ImageModel

_QUERIES = 1 << 14  # of an image at a time: each has weights of its own, 27 x channels of them


@register("metasr")
class MetaSR(ImageModel):
    """A small network gives each query the weights that turn the nearest unfolded feature into a colour.

    Args:
        encoder_spec: as of ``LIIF``.

    State-dict keys and numbers of the official ``models/misc.py``; trained and validated like LIIF.
    """

    name = "metasr"
    bypassed = ("forward",)
    encoder: Any  # an nn.Module with out_dim

    def __init__(self, encoder_spec: Mapping[str, Any] | nn.Module) -> None:
        super().__init__(encoder_spec=encoder_spec)
        self.encoder = encoder_spec if isinstance(encoder_spec, nn.Module) else make(encoder_spec)
        self.imnet = MLP(3, self.encoder.out_dim * 9 * 3, [256])
        self.feat: Any = None  # a tensor from gen_feat on

    def gen_feat(self, inp: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, C, H, W]``, kept for ``query_rgb``."""
        self.feat = self.encoder(inp)
        return self.feat

    def query_rgb(self, coord: Tensor, cell: Tensor) -> Tensor:
        """Colours (normalised) of the pixels with centres ``coord`` and sizes ``cell``: ``[B, Q, 2] -> [B, Q, 3]``."""
        H, W = self.feat.shape[-2:]
        feat = F.unfold(self.feat, 3, padding=1).unflatten(-1, (H, W))  # [B, 9C, H, W]
        # everything is measured from the pixels' upper left corners
        corner = make_coord((H, W), flatten=False, device=feat.device)
        corner = corner - corner.new_tensor([1 / H, 1 / W])
        corner = corner.permute(2, 0, 1).expand(feat.shape[0], 2, H, W)
        start = coord - cell / 2
        grid = (start + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6).flip(-1).unsqueeze(1)

        def nearest(image: Tensor) -> Tensor:
            return F.grid_sample(image, grid, mode="nearest", align_corners=False)[:, :, 0].transpose(1, 2)

        half = coord.new_tensor([H / 2, W / 2])
        inputs = torch.cat([(start - nearest(corner)) * half, cell[..., :1] * half[0]], -1)
        weights = self.imnet(inputs.flatten(0, 1)).unflatten(-1, (-1, 3))  # [B * Q, 9C, 3]
        z = nearest(feat.to(corner.dtype)).flatten(0, 1).unsqueeze(1).to(weights.dtype)
        return torch.bmm(z, weights)[:, 0].unflatten(0, coord.shape[:2])

    def forward(self, inp: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """``gen_feat(inp)``, then ``query_rgb(coord, cell)``."""
        self.gen_feat(inp)
        return self.query_rgb(coord, cell)

    def render(self, inp: Tensor, size: Sequence[int]) -> Tensor:
        """Every pixel of an image as a query."""
        coord = make_coord(size, device=inp.device).expand(len(inp), -1, -1)
        cell = coord.new_tensor([2 / n for n in size]).expand_as(coord)
        self.gen_feat(inp)
        parts = [self.query_rgb(*part) for part in zip(coord.split(_QUERIES, 1), cell.split(_QUERIES, 1), strict=True)]
        self.feat = None
        return torch.cat(parts, 1).transpose(1, 2).unflatten(2, tuple(size))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "feat": None}
