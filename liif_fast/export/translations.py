"""The operators of liif_fast in ONNX's, for ``torch.onnx.export`` of models that hold a LIIF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..weights.files import first_line

_FLOAT, _INT64, _DOUBLE = 1, 7, 11  # onnx.TensorProto's


def standard_operators() -> Any:
    """Those of opset 18, by onnxscript; ImportError, with the cure, where that is not installed."""
    try:
        from onnxscript import opset18
    except ImportError as error:
        cure = "pip install 'liif-fast[onnx]', or pip install onnx onnxscript"
        raise ImportError(f"export: ONNX needs onnxscript ({first_line(error)}): {cure}") from None
    return opset18


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What ``torch.onnx.export`` wants as ``custom_translation_table``: ``liif_fast``'s operators of inference and of
    training's forward pass in float32 or half precision, from opset 18 on. All queries of a call exist at once there:
    K rows of D numbers for each (``to_onnx`` makes whole images some rows at a time).

    Equivalent to: the operators. ``render_int8`` has no form in standard operators, LTE's are written by ``to_onnx``
    only, and the checks of ``upscale`` have none: a network to export calls ``forward``, ``query`` or ``render``.

    Raises:
        ImportError: without the package onnxscript (extra ``onnx``).
    """
    op = standard_operators()

    def ints(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    def number(value: float) -> Any:
        return op.Constant(value_float=value)

    def double(value: float) -> Any:
        return op.Cast(op.Constant(value_float=value), to=_DOUBLE)

    def sides(size: Any) -> list[Any]:
        """Of a SymInt[2], whose items are numbers or values of the graph: int64 [1] each."""
        return [ints(n) if isinstance(n, int) else op.Reshape(n, ints(1)) for n in size]

    def column(x: Any, i: int) -> Any:
        """[..., 2] -> [..., 1]"""
        return op.Slice(x, ints(i), ints(i + 1), ints(-1))

    def corners(coord: Any, size: list[Any], ensemble: bool) -> tuple[list[Any], list[Any]]:
        """``reference.corners``: of rows and of columns the index, int64 [B, Q, k], and the offset, float32."""
        index, rel = [], []
        for axis, n in enumerate(size):
            c, length = column(coord, axis), op.Cast(n, to=_FLOAT)
            half = op.Div(double(1.0), op.Cast(n, to=_DOUBLE))  # rounded once, after the sums, as in the operators
            if ensemble:
                shifts = op.Concat(op.Sub(double(1e-6), half), op.Add(half, double(1e-6)), axis=0)
                at = op.Add(c, op.Cast(shifts, to=_FLOAT))
            else:
                at = c
            at = op.Clip(at, number(-1 + 1e-6), number(1 - 1e-6))
            i = op.Round(op.Div(op.Sub(op.Mul(op.Add(at, number(1.0)), length), number(1.0)), number(2.0)))
            step = op.Div(number(2.0), length)
            centre = op.Add(op.Mul(step, i), op.Cast(op.Sub(half, double(1.0)), to=_FLOAT))
            rel.append(op.Mul(op.Sub(c, centre), length))
            last = op.Sub(n, ints(1))
            index.append(op.Max(op.Min(op.Cast(i, to=_INT64), last), ints(0)))
        return index, rel

    def pairs(down: Any, across: Any, join: Callable[[Any, Any], Any]) -> Any:
        """Of every choice of row with every choice of column, rows outer: [B, Q, k], [B, Q, k] -> [B, Q, K]."""
        both = join(op.Unsqueeze(down, ints(3)), op.Unsqueeze(across, ints(2)))
        return op.Reshape(both, ints(0, 0, -1))

    def first(
        hidden: Any, coord: Any, cell: Any, w_pos: Any, size: Any, origin: Any, ensemble: bool
    ) -> tuple[Any, Any]:
        """relu(hidden[row] + w_pos @ [rel, cell]), float32 [B, Q, K, D], and the weights [B, Q, K]."""
        coord, whole = op.Cast(coord, to=_FLOAT), sides(size)
        index, rel = corners(coord, whole, ensemble)
        start = sides(origin)
        lines, columns = (op.Sub(i, o) for i, o in zip(index, start, strict=True))
        width = op.Shape(hidden, start=2, end=3)
        row = pairs(op.Mul(lines, width), columns, op.Add)
        flat = op.Reshape(hidden, op.Concat(ints(0, -1), op.Shape(hidden, start=3), axis=0))  # [B, h * w, D]
        near = op.Cast(op.GatherND(flat, op.Unsqueeze(row, ints(3)), batch_dims=1), to=_FLOAT)
        w_pos = op.Transpose(op.Cast(w_pos, to=_FLOAT), perm=[1, 0])  # [4, D]

        def times(x: Any, i: int) -> Any:
            return op.Mul(op.Unsqueeze(x, ints(3)), op.Slice(w_pos, ints(i), ints(i + 1), ints(0)))

        offset = op.Add(op.Unsqueeze(times(rel[0], 0), ints(3)), op.Unsqueeze(times(rel[1], 1), ints(2)))
        x = op.Add(near, op.Reshape(offset, op.Concat(ints(0, 0, -1), op.Shape(hidden, start=3), axis=0)))
        if cell is not None:
            lengths = [op.Cast(n, to=_FLOAT) for n in whole]
            of_cell = [times(op.Mul(column(op.Cast(cell, to=_FLOAT), i), n), 2 + i) for i, n in enumerate(lengths)]
            x = op.Add(x, op.Add(*of_cell))
        # |area| + 1e-9 in proportion: optimizers of graphs take that for |area|
        area = op.Add(op.Mul(op.Abs(pairs(rel[0], rel[1], op.Mul)), number(1e9)), number(1.0))
        other = op.Slice(area, ints(-1), ints(-(1 << 62)), ints(-1), ints(-1))
        return op.Relu(x), op.Div(other, op.ReduceSum(area, ints(-1), keepdims=1))

    def corner_gather(hidden, coord, cell, w_pos, size, origin, ensemble=True):
        x, weight = first(hidden, coord, cell, w_pos, size, origin, ensemble)
        return op.CastLike(x, hidden), op.CastLike(weight, coord)

    def render(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble=True):
        x, weight = first(hidden, coord, cell, w_pos, size, origin, ensemble)
        x = op.CastLike(x, hidden)
        for i in range(w_mlp.shape[0]):
            w, b = (op.CastLike(op.Gather(t, op.Constant(value_int=i)), hidden) for t in (w_mlp, b_mlp))
            x = op.Relu(op.Add(op.MatMul(x, op.Transpose(w, perm=[1, 0])), b))
        x = op.Mul(op.Cast(x, to=_FLOAT), op.Unsqueeze(weight, ints(3)))
        x = op.ReduceSum(x, ints(2), keepdims=0)
        w_out, b_out = op.Transpose(op.Cast(w_out, to=_FLOAT), perm=[1, 0]), op.Cast(b_out, to=_FLOAT)
        return op.CastLike(op.Add(op.MatMul(x, w_out), b_out), coord)

    def decode(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, ensemble=True):
        shape = [op.Shape(hidden, start=1, end=2), op.Shape(hidden, start=2, end=3)]
        return render(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, shape, (0, 0), ensemble)

    ops = torch.ops.liif_fast
    return {ops.corner_gather.default: corner_gather, ops.render.default: render, ops.decode.default: decode}
