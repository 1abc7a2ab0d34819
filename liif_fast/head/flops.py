"""What ``torch.utils.flop_counter.FlopCounterMode`` counts for the operators: a product of two numbers and its addition
are two, as for torch's own; the gather's position term counts, ReLU and blending do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

_OPS = torch.ops.liif_fast
Shape = Sequence[int]


def _rows(coord: Shape, ensemble: bool) -> int:
    return coord[0] * coord[1] * (4 if ensemble else 1)


def _position(coord: Shape, cell: Shape | None, w_pos: Shape, ensemble: bool) -> int:
    return 2 * _rows(coord, ensemble) * w_pos[0] * (2 if cell is None else 4)


def _hidden(coord: Shape, w_mlp: Shape, ensemble: bool) -> int:
    layers, width, inputs = w_mlp
    return 2 * _rows(coord, ensemble) * layers * width * inputs


def _output(coord: Shape, w_out: Shape) -> int:
    return 2 * coord[0] * coord[1] * w_out[0] * w_out[1]  # the corners are blended before


@register_flop_formula(_OPS.corner_gather)
def _corner_gather(hidden: Shape, coord: Shape, cell: Any, w_pos: Shape, size: Any, origin: Any, ensemble: bool = True,
                   **_: Any) -> int:  # fmt: skip
    return _position(coord, cell, w_pos, ensemble)


@register_flop_formula(_OPS.corner_gather_backward)
def _corner_gather_backward(
    grad_h: Shape, h: Shape, coord: Shape, cell: Any, w_pos: Shape, hidden_size: Any, size: Any, origin: Any,
    ensemble: bool = True, **_: Any,
) -> int:  # fmt: skip
    return _position(coord, cell, w_pos, ensemble)


def _forward(coord: Shape, cell: Any, w_pos: Shape, w_mlp: Shape, w_out: Shape, ensemble: bool) -> int:
    return _position(coord, cell, w_pos, ensemble) + _hidden(coord, w_mlp, ensemble) + _output(coord, w_out)


@register_flop_formula(_OPS.render)
def _render(
    hidden: Shape, coord: Shape, cell: Any, w_pos: Shape, w_mlp: Shape, b_mlp: Shape, w_out: Shape, b_out: Shape,
    size: Any, origin: Any, ensemble: bool = True, **_: Any,
) -> int:  # fmt: skip
    return _forward(coord, cell, w_pos, w_mlp, w_out, ensemble)


@register_flop_formula(_OPS.render_int8)
def _render_int8(
    hidden: Shape, coord: Shape, cell: Any, w_pos: Shape, w_q: Shape, w_scale: Shape, b_mlp: Shape, act_scale: Shape,
    w_out: Shape, b_out: Shape, size: Any, origin: Any, ensemble: bool = True, **_: Any,
) -> int:  # fmt: skip
    return _forward(coord, cell, w_pos, w_q, w_out, ensemble)


@register_flop_formula(_OPS.decode)
def _decode(
    hidden: Shape, coord: Shape, cell: Any, w_pos: Shape, w_mlp: Shape, b_mlp: Shape, w_out: Shape, b_out: Shape,
    ensemble: bool = True, **_: Any,
) -> int:  # fmt: skip
    return _forward(coord, cell, w_pos, w_mlp, w_out, ensemble)


@register_flop_formula(_OPS.decode_backward)
def _decode_backward(
    grad_out: Shape, hidden: Shape, coord: Shape, cell: Any, w_pos: Shape, w_mlp: Shape, b_mlp: Shape, w_out: Shape,
    ensemble: bool = True, **_: Any,
) -> int:  # fmt: skip
    """The layers once more, since the forward pass keeps nothing, and two products for each: of its input's gradient
    and of its weights'."""
    layers = 2 * _position(coord, cell, w_pos, ensemble) + 3 * _hidden(coord, w_mlp, ensemble)
    return layers + 2 * _output(coord, w_out)
