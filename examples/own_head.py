"""A head of one's own on liif_fast's gather, in LIIF's place in training, tools and Python.

``liif-fast train my.yaml --import examples/own_head.py`` with ``model: {name: own-head, args: {encoder_spec: ...}}``;
``liif-fast upscale photo.jpg -m save/_my/epoch-best.pth --import examples/own_head.py``.
"""

from typing import Any

import torch
from torch import Tensor, nn

import liif_fast
from liif_fast import functional


@liif_fast.register("own-head")
class OwnHead(liif_fast.LIIF):
    """Of a corner's features, offset and pixel size a small network makes a colour; areas blend those of the four."""

    def __init__(self, encoder_spec: dict[str, Any], width: int = 64) -> None:
        super().__init__(encoder_spec)  # the encoder alone
        self.args = {"encoder_spec": encoder_spec, "width": width}
        self.net = nn.Sequential(nn.Linear(self.encoder.out_dim + 4, width), nn.SiLU(), nn.Linear(width, 3))

    @property
    def spec(self) -> dict[str, Any]:
        return {"name": "own-head", "args": self.args}

    # [B, C, H, W], [B, Q, 2], [B, Q, 2] -> [B, Q, 3]
    def query(self, feat: Tensor, coord: Tensor, cell: Tensor | None = None) -> Tensor:
        if cell is None:
            raise ValueError("cell: the size of a pixel is wanted, [B, Q, 2]")
        rows, rel, weight = functional.gather_corners(feat, coord)
        size = cell * cell.new_tensor(feat.shape[-2:])
        inputs = [rows, rel, size.unsqueeze(2).expand_as(rel)]
        colours: Tensor = (self.net(torch.cat(inputs, -1)) * weight.unsqueeze(-1)).sum(2)
        return colours
