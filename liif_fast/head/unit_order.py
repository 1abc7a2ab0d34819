"""An order of the hidden units in which the compiled kernels skip more work. Results stay the same.

After a ReLU more than half of the activations are zero, and neighbouring rows (the same corner of neighbouring queries)
are zero in the same units. The kernels leave out what is zero in a whole tile of rows: single inputs in float32, groups
of two in bfloat16 and of four in int8, because these multiply so many at once. The order of hidden units is arbitrary,
so units that tend to be zero together are put together: with the official weights 34 % of pairs and 25 % of fours, not
20 % and 4 % (ordered on Set14, counted on Set5, x4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .functional import Head, hidden_map, make_coord
from .kept import copies, same

TILE = 6  # rows that the kernels take together
BLOCK = 48  # consecutive queries whose rows are ordered by corner
CROP = 64  # feature pixels a side: enough queries, of one neighbourhood
WORTH = 1 << 16  # queries from which the time to find an order comes back at once, at a sixth of the head's


def zero_together(zeros: Tensor, group: int = 4) -> Tensor:
    """Order of units ``[D]`` in which neighbours (pairs, then pairs of pairs, up to ``group``) are zero together.

    Args:
        zeros: ``[n, D]``, whether a unit is zero in each of n tiles of rows.
    """
    zeros = zeros.float().cpu()
    members = torch.arange(zeros.shape[1], device="cpu").unsqueeze(1)  # [units or groups so far, size]
    while members.shape[1] < group and len(members) % 2 == 0:
        together = zeros[:, members].prod(-1)  # [n, groups so far]
        both = together.t() @ together
        free = torch.ones(len(members), dtype=torch.bool, device="cpu")
        pairs = []
        for i in both.diagonal().argsort(descending=True).tolist():
            if not free[i]:
                continue
            free[i] = False
            j = int(torch.where(free, both[i], -1.0).argmax())
            free[j] = False
            pairs.append((i, j))
        members = members[torch.tensor(pairs, device="cpu")].flatten(1)
    return members.flatten()


def find(head: Head, h: Tensor, group: int = 4) -> list[Tensor]:
    """Orders ``[D]`` of the units that each hidden layer reads; layers must all have the same width.

    Args:
        h: ``[Q, K, D]``, first layer's output (``corner_gather``) for neighbouring queries of a typical image, a few
            thousand of them.
    """
    x = h[: len(h) // BLOCK * BLOCK].float().unflatten(0, (-1, BLOCK)).transpose(1, 2).flatten(0, 2)  # corner first
    orders = []
    for w, b in head.mlp:
        tiles = x[: len(x) // TILE * TILE].unflatten(0, (-1, TILE))
        orders.append(zero_together((tiles == 0).all(1), group).to(w.device))
        x = torch.nn.functional.linear(x, w.float(), b.float()).relu()
    return orders


def applied(head: Head, orders: Sequence[Tensor]) -> Head:
    """The same head with its hidden units in these orders."""
    w_conv, b_conv, w_pos, mlp, w_out, b_out = head
    layers: list[tuple[Tensor, Tensor]] = []
    for i, ((w, b), order) in enumerate(zip(mlp, orders, strict=True)):
        if i == 0:
            w_conv, b_conv, w_pos = w_conv[order], b_conv[order], w_pos[order]
        else:
            w_last, b_last = layers[-1]
            layers[-1] = w_last[order], b_last[order]
        layers.append((w[:, order], b))
    return Head(w_conv, b_conv, w_pos, tuple(layers), w_out, b_out)


@torch.no_grad()
def found_on(feat: Tensor, head: Head, cell_decode: bool, ensemble: bool) -> list[Tensor] | None:
    """``find`` on eight rows in the middle of x4 of features ``[1, C, H, W]``; None: this head cannot be reordered."""
    if len({head.b_conv.shape[0], *(b.shape[0] for _, b in head.mlp)}) > 1 or not head.mlp:
        return None
    with torch.autocast(feat.device.type, enabled=False):
        head = head._replace(w_conv=head.w_conv.float(), b_conv=head.b_conv.float(), w_pos=head.w_pos.float())
        y, x = (max(0, n // 2 - CROP // 2) for n in feat.shape[-2:])
        feat = feat[..., y : y + CROP, x : x + CROP].float()
        H, W = feat.shape[-2:]
        size, device = (4 * H, 4 * W), feat.device
        middle = make_coord(size, flatten=False, device=device)[max(0, 2 * H - 4) : 2 * H + 4]
        coord = middle.reshape(1, -1, 2)  # whole rows: neighbours along each
        cell = coord.new_tensor([2 / n for n in size]).expand_as(coord) if cell_decode else None
        hidden = hidden_map(feat, head)
        h, _ = torch.ops.liif_fast.corner_gather(hidden, coord, cell, head.w_pos, (H, W), (0, 0), ensemble)
        return find(head, h[0])


class Remembered:
    """The orders of a model's hidden layers, found once, on the first features with enough queries."""

    def __init__(self) -> None:
        self._weights: list[Tensor] | None = None  # of which the orders are
        self._orders: list[Tensor] | None = None

    def head(self, head: Head, feat: Tensor, queries: int, cell_decode: bool, ensemble: bool) -> Head:
        """The head in the remembered order; as it is for fewer than WORTH queries and no order of these weights."""
        weights = [*head[:3], *(t for layer in head.mlp for t in layer)]
        if not same(self._weights, weights):
            if queries < WORTH:
                return head
            self._orders = found_on(feat[:1], head, cell_decode, ensemble)
            self._weights = copies(weights)
        return head if self._orders is None else applied(head, self._orders)
