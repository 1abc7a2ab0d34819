"""LTE+: LTE asked for images of coordinates, as the official ``models/ltep.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..base.shown import shown
from ..head import unwatched
from ..registry import register
from . import folding
from .lte import CONVOLUTION, LTE, SCALE_MAX, as_made


@register("lte-fast")
class LTEP(LTE):
    """LTE+ (the official ``LTEP``): LTE with an MLP of convolutions 1x1, asked for images of coordinates.

    ``coord [B, h, w, 2]`` and ``cell [B, 2]`` give ``[B, out_dim, h, w]``, as in the official class; ``[B, Q, 2]`` and
    ``[B, Q, 2]`` give ``[B, Q, out_dim]``, as in ``LTE``.

    Args:
        encoder_spec, hidden_dim, pad_to, scale_max: as of ``LTE``; the encoder may change the image's size.
        num_layer: hidden layers, each of ``hidden_dim`` units.
        out_dim: channels of the colours.
    """

    _name = "lte-fast"
    grid_queries = True  # takes images of coordinates too, each query by itself

    def __init__(
        self,
        encoder_spec: Mapping[str, Any] | nn.Module,
        num_layer: int = 3,
        hidden_dim: int = 256,
        out_dim: int = 3,
        pad_to: int | None = None,
        scale_max: float | None = SCALE_MAX,
    ) -> None:
        self._begin(encoder_spec, hidden_dim, pad_to, scale_max)
        for name, number, least in (("num_layer", num_layer, 0), ("out_dim", out_dim, 1)):
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise ValueError(f"{name}: a whole number from {least} is wanted, got {shown(number)}")
        self._spec_args = {**self._spec_args, "num_layer": num_layer, "out_dim": out_dim}
        layers: list[nn.Module] = []
        for _ in range(num_layer):
            layers += [nn.Conv2d(hidden_dim, hidden_dim, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(hidden_dim, out_dim, 1))

    def _mlp(self) -> Any:
        return _Rows(self.layers)

    def _layers(self) -> list[tuple[Tensor, Tensor]] | None:
        inner, tracing = folding.members(self.layers), torch.compiler.is_compiling()
        convs = inner[::2]
        # tracing puts in calls of its own
        if folding.hooked_globally() if tracing else not folding.calls_are_torchs():
            return None
        if len(inner) % 2 == 0 or not all(map(folding.runs_relu, inner[1::2])):
            return None
        if not all(folding.runs(conv, CONVOLUTION) and as_made(conv, 1) for conv in convs):
            return None
        found = [(conv.weight.flatten(1), conv.bias) for conv in convs]
        plain = tracing or unwatched.plain(t for c in convs for t in (c.weight, c.bias))
        return found if plain else None

    def _along(self, freq: Tensor, dim: int) -> Tensor:
        return freq

    def check_map(self, feat: Tensor, inp: Tensor) -> None:
        pass

    def _query(self, feat: Tensor, coord: Tensor, cell: Tensor | None = None, *options: Any, **named: Any) -> Tensor:
        if not isinstance(coord, Tensor) or coord.ndim != 4:
            return super()._query(feat, coord, cell, *options, **named)
        if not isinstance(cell, Tensor) or cell.shape != (len(coord), 2):
            got = list(cell.shape) if isinstance(cell, Tensor) else type(cell).__name__
            raise ValueError(
                f"cell: with coord [B, h, w, 2] one for each image, [{len(coord)}, 2], is wanted, got {got}"
            )
        at = coord.flatten(1, 2)
        colours = super()._query(feat, at, cell.unsqueeze(1).expand(-1, at.shape[1], -1), *options, **named)
        return colours.transpose(1, 2).unflatten(-1, coord.shape[1:3])


class _Rows:
    """Convolutions 1x1 as an MLP: ``[n, in] -> [n, out]``. No module: compilers make none within a graph."""

    def __init__(self, layers: nn.Module) -> None:
        self.layers = layers

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.layers.parameters()

    def __call__(self, x: Tensor) -> Tensor:
        return self.layers(x[:, :, None, None])[:, :, 0, 0]
