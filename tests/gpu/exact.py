"""corner_gather and its gradient in float64 with bounds on what float32 arithmetic may make of them, and samples."""

from __future__ import annotations

import torch
from torch import Tensor

from liif_fast import reference
from liif_fast.head import precision

# what one rounding may change, relative to the value
UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
# B, (h, w), D, Q: rows of whole 16-byte pieces and not, single pixels, one query, none, more queries than pixels
SHAPES = [
    (2, (7, 5), 256, 1003),
    (1, (13, 17), 64, 129),
    (3, (1, 1), 8, 1),
    (2, (2, 5), 37, 61),
    (1, (3, 4), 264, 31),
    (4, (48, 48), 16, 2304),
    (1, (3, 3), 8, 0),
]


def sample(device, shape, dtype, cell=True, ensemble=True, strided=False):
    """Arguments of corner_gather, the same for every device; ``strided``: nothing is contiguous."""
    B, (h, w), D, Q = shape
    random, geometry = torch.Generator().manual_seed(0), precision.geometry_dtype(dtype)

    def numbers(make, *sizes):
        return make(*sizes, generator=random, dtype=geometry)

    hidden = numbers(torch.randn, B, h, w, D).to(dtype)
    coord, cells = numbers(torch.rand, B, Q, 2) * 2 - 1, numbers(torch.rand, B, Q, 2) * 0.2
    w_pos = numbers(torch.randn, D, 4)
    tensors = [t.to(device) for t in (hidden, coord, cells, w_pos)]
    if strided:
        tensors = [_strided(t) for t in tensors]
    hidden, coord, cells, w_pos = tensors
    return hidden, coord, cells if cell else None, w_pos, (h, w), (0, 0), ensemble


def _strided(t: Tensor) -> Tensor:
    """The same values, each dimension with a stride of its own and gaps between them."""
    wide = t.new_full([2 * n + 1 for n in reversed(t.shape)], float("nan"))
    view = wide[tuple(slice(1, None, 2) for _ in t.shape)].permute(*reversed(range(t.ndim)))
    return view.copy_(t)


def _positions(coord, cell, size, ensemble):
    """index [B, Q, K, 2]; rel and cell [B, Q, K, 4 or 2], as float32 gives them, in float64; weight."""
    index, rel, weight = reference.corners(coord.cpu(), size, ensemble)
    pos = rel
    if cell is not None:
        scaled = cell.cpu() * torch.tensor(size, dtype=coord.dtype)
        pos = torch.cat([rel, scaled.unsqueeze(-2).expand_as(rel)], -1)
    return index, pos.double(), weight


def gather(hidden, coord, cell, w_pos, size, origin, ensemble):
    """h in float64, largest allowed error of h, weight; on the CPU."""
    index, pos, weight = _positions(coord, cell, size, ensemble)
    images = torch.arange(hidden.shape[0]).view(-1, 1, 1)
    rows = hidden.cpu()[images, index[..., 0] - origin[0], index[..., 1] - origin[1]].double()
    w = w_pos.cpu().double()[:, : pos.shape[-1]]
    h = (rows + pos @ w.T).relu()
    # five terms, each rounded a few times in the geometry's precision; the sum once to hidden's
    terms = rows.abs() + pos.abs() @ w.abs().T
    return h, 8 * UNIT[coord.dtype] * terms + UNIT[hidden.dtype] * h, weight


def gather_backward(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble):
    """((grad_hidden, allowed error), (grad_w_pos, allowed error)), for the mask that h shows; on the CPU."""
    index, pos, _ = _positions(coord, cell, size, ensemble)
    B, D = h.shape[0], h.shape[-1]
    g = (grad_h.cpu().double() * (h.cpu() > 0)).flatten(1, 2)  # [B, Q*K, D]
    row = ((index[..., 0] - origin[0]) * hidden_size[1] + index[..., 1] - origin[1]).flatten(1)
    both = []
    for values in (g, g.abs()):
        total = torch.zeros(B, hidden_size[0] * hidden_size[1], D, dtype=torch.float64)
        for b in range(B):
            total[b].index_add_(0, row[b], values[b])
        grad_w = torch.zeros(D, 4, dtype=torch.float64)
        p = pos.flatten(1, 2) if values is g else pos.flatten(1, 2).abs()
        grad_w[:, : p.shape[-1]] = torch.einsum("bnd,bnp->dp", values, p)
        both.append((total.view(B, *hidden_size, D), grad_w))
    (grad_hidden, grad_w), (terms, terms_w) = both
    # sums of up to 10^4 terms in any order: roundings add up to some 100 units of the sum of magnitudes
    unit = UNIT[coord.dtype]
    return (
        (grad_hidden, 64 * unit * terms + UNIT[h.dtype] * grad_hidden.abs()),
        (grad_w, 128 * unit * terms_w),
    )


def assert_within(actual: Tensor, want: Tensor, bound: Tensor) -> None:
    """|actual - want| <= bound everywhere; NaN fails."""
    error = (actual.cpu().double() - want).abs()
    wrong = ~(error <= bound)
    assert not wrong.any(), f"{int(wrong.sum())} of {wrong.numel()}; worst {(error / bound.clamp_min(1e-30)).max():.3g}"
