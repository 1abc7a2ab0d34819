"""The operators in plain PyTorch, for every device: what runs where no kernel is compiled, and what kernels must equal.

In and out as the schemas in ``ops`` say, whose letters for sizes are used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from . import fourier, int8
from .precision import matmul_dtype
from .reference import corners


def times_size(x: Tensor, size: Sequence[int]) -> Tensor:
    return torch.stack([x[..., 0] * size[0], x[..., 1] * size[1]], -1)


def _chunks(hidden: Tensor, coord: Tensor) -> Iterator[tuple[int, slice]]:
    """(image, queries) pieces that bound the memory of what is computed per row: 4 * 2048 rows stay in a CPU's cache,
    a GPU wants enough rows to fill it (at width 256 in float32 these are 134 MB)."""
    step = 2048 if hidden.device.type == "cpu" else 1 << 15
    for b in range(coord.shape[0]):
        for start in range(0, coord.shape[1], step):
            yield b, slice(start, min(start + step, coord.shape[1]))


def _rows(
    hidden_size: Sequence[int],
    coord: Tensor,
    cell: Tensor | None,
    w_pos: Tensor,
    size: Sequence[int],
    origin: Sequence[int],
    ensemble: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For the queries of one image: row of the hidden map [q*K], its offset [q*K, 4 or 2] and w_pos to match, weight
    [q, K]."""
    row, rel, sides, weight = _corner_rows(hidden_size, coord, cell, size, origin, ensemble)
    pos = rel if sides is None else torch.cat([rel, sides], -1)
    return row, pos, w_pos[:, : pos.shape[-1]], weight


def _corner_rows(
    hidden_size: Sequence[int],
    coord: Tensor,
    cell: Tensor | None,
    size: Sequence[int],
    origin: Sequence[int],
    ensemble: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """For the queries of one image: row of the hidden map [q*K], its offset [q*K, 2], the cell in feature pixels
    [q*K, 2] if there is one, weight [q, K]."""
    index, rel, weight = corners(coord, size, ensemble)
    row = _number(index, hidden_size[1], origin).flatten()
    sides = None if cell is None else times_size(cell, size).unsqueeze(-2).expand_as(rel).flatten(0, 1)
    return row, rel.flatten(0, 1), sides, weight


def _number(index: Tensor, w: int, origin: Sequence[int]) -> Tensor:
    """Of pixels [..., 2] of the whole map among those of the part at hand, which is w pixels wide: [...]."""
    return (index[..., 0] - origin[0]) * w + (index[..., 1] - origin[1])


def _first_layer(hidden: Tensor, row: Tensor, pos: Tensor, w_pos: Tensor) -> Tensor:
    """relu(hidden[row] + pos @ w_pos^T) in the precision of the geometry: [q*K, D]."""
    h = hidden.index_select(0, row).to(w_pos.dtype)
    return h.addmm_(pos, w_pos.t()).relu_()


def _corner_gather(hidden, coord, cell, w_pos, size, origin, ensemble=True):
    B, h, w, D = hidden.shape
    Q, K = coord.shape[1], 4 if ensemble else 1
    out, weight = hidden.new_empty(B, Q, K, D), coord.new_empty(B, Q, K)
    flat = hidden.reshape(B, h * w, D)
    for b, s in _chunks(hidden, coord):
        row, pos, w_used, weight[b, s] = _rows(
            (h, w), coord[b, s], None if cell is None else cell[b, s], w_pos, size, origin, ensemble
        )
        out[b, s] = _first_layer(flat[b], row, pos, w_used).view(-1, K, D)
    return out, weight


def _corner_gather_backward(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble=True):
    B, D = h.shape[0], h.shape[-1]
    grad_hidden = torch.zeros(B, hidden_size[0] * hidden_size[1], D, dtype=w_pos.dtype, device=h.device)
    grad_w_pos = torch.zeros(w_pos.shape, dtype=w_pos.dtype, device=w_pos.device)
    for b, s in _chunks(h, coord):
        row, pos, _, _ = _rows(
            hidden_size, coord[b, s], None if cell is None else cell[b, s], w_pos, size, origin, ensemble
        )
        grad = (grad_h[b, s] * (h[b, s] > 0)).to(w_pos.dtype).flatten(0, 1)  # ReLU's mask: [q*K, D]
        grad_hidden[b].index_add_(0, row, grad)
        grad_w_pos[:, : pos.shape[-1]].addmm_(grad.t(), pos)
    return grad_hidden.view(B, *hidden_size, D).to(h.dtype), grad_w_pos


def _gather_corners(hidden, coord, size, origin, ensemble=True):
    B, h, w, D = hidden.shape
    Q, K = coord.shape[1], 4 if ensemble else 1
    rows, rel, weight = hidden.new_empty(B, Q, K, D), coord.new_empty(B, Q, K, 2), coord.new_empty(B, Q, K)
    flat = hidden.reshape(B, h * w, D)
    for b, s in _chunks(hidden, coord):
        index, rel[b, s], weight[b, s] = corners(coord[b, s], size, ensemble)
        rows[b, s] = flat[b].index_select(0, _number(index, w, origin).flatten()).view(-1, K, D)
    return rows, rel, weight


def _gather_corners_backward(grad_rows, coord, hidden_size, size, origin, ensemble=True):
    B, D = grad_rows.shape[0], grad_rows.shape[-1]
    grad_hidden = torch.zeros(B, hidden_size[0] * hidden_size[1], D, dtype=coord.dtype, device=coord.device)
    for b, s in _chunks(grad_rows, coord):
        row = _number(corners(coord[b, s], size, ensemble)[0], hidden_size[1], origin).flatten()
        grad_hidden[b].index_add_(0, row, grad_rows[b, s].to(coord.dtype).flatten(0, 1))
    return grad_hidden.view(B, *hidden_size, D).to(grad_rows.dtype)


def _layers(hidden: Tensor, w_mlp: Tensor, b_mlp: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases of the hidden layers, rounded to hidden's precision and in that of the products."""
    dtype = matmul_dtype(hidden.dtype, hidden.device.type)
    w_mlp, b_mlp = (t.to(hidden.dtype).to(dtype) for t in (w_mlp, b_mlp))
    return list(zip(w_mlp, b_mlp, strict=True))


def _hidden_layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.addmm(b, x, w.t()).relu_()


def _blend(x: Tensor, weight: Tensor) -> Tensor:
    """The weights sum to 1 and the output layer is linear, so blending before it is exact: [q*K, D] -> [q, D]."""
    x = x.view(*weight.shape, -1).to(weight.dtype)
    return torch.einsum("qk,qkd->qd", weight, x) if weight.shape[1] > 1 else x[:, 0]


def _rendered(first_layer, hidden, coord, cell, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble):
    """first_layer: of one image's queries, from (hidden [h * w, D], row, rel, sides) as ``_corner_rows`` gives them."""
    out = coord.new_empty(*coord.shape[:2], w_out.shape[0])
    flat, layers = hidden.flatten(1, 2), _layers(hidden, w_mlp, b_mlp)
    dtype = matmul_dtype(hidden.dtype, hidden.device.type)
    w_out, b_out = w_out.to(coord.dtype).t(), b_out.to(coord.dtype)
    for b, s in _chunks(hidden, coord):
        sides = None if cell is None else cell[b, s]
        *where, weight = _corner_rows(hidden.shape[1:3], coord[b, s], sides, size, origin, ensemble)
        x = first_layer(flat[b], *where).to(dtype)
        for layer in layers:
            x = _hidden_layer(x, *layer)
        torch.addmm(b_out, _blend(x, weight), w_out, out=out[b, s])
    return out


def _render(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble=True):
    def first_layer(flat, row, rel, sides):
        pos = rel if sides is None else torch.cat([rel, sides], -1)
        return _first_layer(flat, row, pos, w_pos[:, : pos.shape[-1]])

    return _rendered(first_layer, hidden, coord, cell, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble)


def _render_fourier(hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble=True):
    def first_layer(flat, row, rel, sides):
        return fourier.features(flat.index_select(0, row), rel, sides, w_phase.to(coord.dtype)).to(hidden.dtype)

    fourier.check(hidden, w_phase, w_out)
    return _rendered(first_layer, hidden, coord, cell, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble)


def _decode(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, ensemble=True):
    return _render(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, hidden.shape[1:3], (0, 0), ensemble)


def _layers_backward(first, weight, grad_out, layers, w_out, grads, relu=True):
    """Gradient of the first layer's values [q*K, D]; those of w_mlp, b_mlp and w_out are added to ``grads``.

    relu: the first layer's values follow one, whose zeros have no gradient.
    """
    grad_w_mlp, grad_b_mlp, grad_w_out = grads
    x = [first]
    for layer in layers:
        x.append(_hidden_layer(x[-1], *layer))
    g = grad_out.to(grad_w_out.dtype)
    grad_w_out.addmm_(g.t(), _blend(x[-1], weight))
    g = (weight.unsqueeze(-1) * (g @ w_out.to(g.dtype)).unsqueeze(1)).flatten(0, 1).to(first.dtype)
    for i in reversed(range(len(layers))):
        g = g * (x[i + 1] > 0)
        grad_b_mlp[i] += g.sum(0)
        grad_w_mlp[i] += g.t() @ x[i]
        g = g @ layers[i][0]
    return (g * (first > 0) if relu else g).to(grad_w_out.dtype)


def _zeros(hidden, dtype, *parameters):
    """Sums of gradients: of hidden [B, h * w, D], of parameters."""
    grad_hidden = torch.zeros(hidden.flatten(1, 2).shape, dtype=dtype, device=hidden.device)
    return grad_hidden, [torch.zeros(t.shape, dtype=dtype, device=t.device) for t in parameters]


def _decode_backward(grad_out, hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, ensemble=True):
    size = hidden.shape[1:3]
    flat, (grad_hidden, grads) = hidden.flatten(1, 2), _zeros(hidden, w_pos.dtype, w_pos, w_mlp, b_mlp, w_out)
    layers = _layers(hidden, w_mlp, b_mlp)
    dtype = matmul_dtype(hidden.dtype, hidden.device.type)
    for b, s in _chunks(hidden, coord):
        row, pos, w_used, weight = _rows(
            size, coord[b, s], None if cell is None else cell[b, s], w_pos, size, (0, 0), ensemble
        )
        first = _first_layer(flat[b], row, pos, w_used).to(dtype)
        g = _layers_backward(first, weight, grad_out[b, s], layers, w_out, grads[1:])
        grad_hidden[b].index_add_(0, row, g)
        grads[0][:, : pos.shape[-1]].addmm_(g.t(), pos)
    like = zip(grads, (w_pos, w_mlp, b_mlp, w_out), strict=True)
    return grad_hidden.view_as(hidden).to(hidden.dtype), *(g.to(t.dtype) for g, t in like)


def _decode_fourier(hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, b_out, ensemble=True):
    size = hidden.shape[1:3]
    return _render_fourier(hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, b_out, size, (0, 0), ensemble)


def _decode_fourier_backward(grad_out, hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, ensemble=True):
    fourier.check(hidden, w_phase, w_out)
    size = hidden.shape[1:3]
    flat, (grad_hidden, grads) = hidden.flatten(1, 2), _zeros(hidden, coord.dtype, w_phase, w_mlp, b_mlp, w_out)
    layers = _layers(hidden, w_mlp, b_mlp)
    dtype, phase = matmul_dtype(hidden.dtype, hidden.device.type), w_phase.to(coord.dtype)
    for b, s in _chunks(hidden, coord):
        row, rel, sides, weight = _corner_rows(
            size, coord[b, s], None if cell is None else cell[b, s], size, (0, 0), ensemble
        )
        rows = flat[b].index_select(0, row).to(coord.dtype)
        first = fourier.features(rows, rel, sides, phase).to(hidden.dtype).to(dtype)
        g = _layers_backward(first, weight, grad_out[b, s], layers, w_out, grads[1:], relu=False)
        of_rows, of_angle = fourier.features_backward(g, rows, rel, sides, phase)
        grad_hidden[b].index_add_(0, row, of_rows)
        if sides is not None:
            grads[0].addmm_(of_angle.t(), sides)
    like = zip(grads, (w_phase, w_mlp, b_mlp, w_out), strict=True)
    return grad_hidden.view_as(hidden).to(hidden.dtype), *(g.to(t.dtype) for g, t in like)


PLAIN = {
    "corner_gather": _corner_gather,
    "corner_gather_backward": _corner_gather_backward,
    "gather_corners": _gather_corners,
    "gather_corners_backward": _gather_corners_backward,
    "render": _render,
    "decode": _decode,
    "decode_backward": _decode_backward,
    "render_fourier": _render_fourier,
    "decode_fourier": _decode_fourier,
    "decode_fourier_backward": _decode_fourier_backward,
    "render_int8": int8.render_int8,
}
