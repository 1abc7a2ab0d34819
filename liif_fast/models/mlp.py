"""The decoding MLP under its official name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..registry import register


@register("mlp")
class MLP(nn.Module):
    """Linear layers with ReLU between them: ``[..., in_dim] -> [..., out_dim]``.

    State-dict keys ``layers.0.weight``, ``layers.2.weight``, ... as in the official ``models/mlp.py``.
    """

    def __init__(self, in_dim: int, out_dim: int, hidden_list: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise([in_dim, *hidden_list, out_dim]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])  # no ReLU behind the last

    if TYPE_CHECKING:  # nn.Module's returns Any

        def __call__(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result
