"""What ``torch.utils.flop_counter.FlopCounterMode`` counts for the operators: a product of two numbers and its addition
are two, as for torch's own; the gather's position term counts, ReLU and blending do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

Arguments = dict[str, Any]  # of a call, by the schema's names; shapes in the place of tensors


def _rows(a: Arguments) -> int:
    return a["coord"][0] * a["coord"][1] * (4 if a["ensemble"] else 1)


def _position(a: Arguments) -> int:
    return 2 * _rows(a) * a["w_pos"][0] * (2 if a["cell"] is None else 4)


def _nothing(a: Arguments) -> int:
    """Rows are copied; their gradients are added without a product."""
    return 0


def _hidden(a: Arguments) -> int:
    layers, width, inputs = a["w_mlp"] if "w_mlp" in a else a["w_q"]
    return 2 * _rows(a) * layers * width * inputs


def _output(a: Arguments) -> int:
    return 2 * a["coord"][0] * a["coord"][1] * a["w_out"][0] * a["w_out"][1]  # the corners are blended before


def _forward(a: Arguments) -> int:
    return _position(a) + _hidden(a) + _output(a)


def _fourier_backward(a: Arguments) -> int:
    """As ``_backward``; of the first layer the angles once more, and the gradients of coefficients, angles, phases."""
    frequencies = a["w_phase"][0]
    first = _rows(a) * frequencies * ((4 if a["cell"] is None else 12) + 14)
    return first + 3 * _hidden(a) + 2 * _output(a)


def _backward(a: Arguments) -> int:
    """The layers once more, since the forward pass keeps nothing, and two products for each: of its input's gradient
    and of its weights'."""
    return 2 * _position(a) + 3 * _hidden(a) + 2 * _output(a)


def _fourier(a: Arguments) -> int:
    """The angle's products, the phase's with a cell, and the coefficients'; cosines and sines count as nothing."""
    frequencies = a["w_phase"][0]
    return _rows(a) * frequencies * ((4 if a["cell"] is None else 8) + 2) + _hidden(a) + _output(a)


def _counted(operator: Any, formula: Callable[[Arguments], int]) -> Callable[..., int]:
    schema = operator.default._schema.arguments

    def count(*given: Any, out_shape: Any = None, **named: Any) -> int:
        defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
        return formula({**defaults, **dict(zip((a.name for a in schema), given, strict=False)), **named})

    return count


for _name, _formula in {
    "corner_gather": _position,
    "corner_gather_backward": _position,
    "gather_corners": _nothing,
    "gather_corners_backward": _nothing,
    "render": _forward,
    "render_fourier": _fourier,
    "decode_fourier": _fourier,
    "decode_fourier_backward": _fourier_backward,
    "render_int8": _forward,
    "decode": _forward,
    "decode_backward": _backward,
}.items():
    _operator = getattr(torch.ops.liif_fast, _name)
    register_flop_formula(_operator)(_counted(_operator, _formula))
