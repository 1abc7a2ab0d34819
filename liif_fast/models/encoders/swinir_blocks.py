"""The parts of SwinIR that look at tokens: attention in windows, its MLP, and how far a pixel sees through them.

Tokens are ``[B, H, W, C]`` throughout, whole windows of ``N = window * window`` pixels along both axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...head import transforms
from .. import folding

_MASKED = -100.0  # added to the logits of pixels of different regions, as the official code does: e^-100 is 0 beside 1


def trunc_normal_(t: Tensor) -> None:
    """What tables and linear layers begin with: normal numbers of deviation 0.02."""
    nn.init.trunc_normal_(t, std=0.02)


# --- windows --------------------------------------------------------------------------------------------------------


def windows(x: Tensor, side: int) -> Tensor:
    """``[B, H, W, C] -> [B * H/side * W/side, N, C]``, row by row."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).transpose(2, 3)
    return x.reshape(-1, side * side, c)


def unwindowed(x: Tensor, side: int, size: Sequence[int]) -> Tensor:
    """The opposite of ``windows``, for an image of ``size``."""
    h, w = size
    x = x.reshape(-1, h // side, w // side, side, side, x.shape[-1]).transpose(2, 3)
    return x.reshape(-1, h, w, x.shape[-1])


def _edge(x: Tensor, dim: int, side: int, shift: int) -> list[Tensor]:
    """Shifted windows along one axis: those inside of the image, and the last, of which a part is the image's begin."""
    n = x.shape[dim]
    first, inner, last = x.split([shift, n - side, side - shift], dim)
    return [inner, torch.cat([last, first], dim)]


def _joined(parts: Sequence[Tensor], dim: int, shift: int) -> Tensor:
    """The opposite of ``_edge``."""
    inner, last = parts
    end, begin = last.split([last.shape[dim] - shift, shift], dim)
    return torch.cat([begin, inner, end], dim)


def edge_masks(side: int, shift: int, like: Tensor) -> Tensor:
    """``[3, N, N]``: 0, or -100 between pixels that only the cyclic shift brings together, in windows of the last row,
    of the last column, and in the last of both. All others need no mask."""
    i = torch.arange(side * side, device=like.device)
    row, col = (at >= side - shift for at in (i // side, i % side))
    rows, cols = (region[:, None] ^ region for region in (row, col))  # not !=, which torch cannot compile of bool
    return torch.stack([rows, cols, rows | cols]).to(like.dtype) * _MASKED


def whole_mask(edges: Tensor, grid: Sequence[int]) -> Tensor:
    """``[windows, N, N]``: the mask of every window of a grid of ``(rows, columns)``, as the official code keeps it."""
    mask = torch.zeros(*grid, *edges.shape[1:], dtype=edges.dtype, device=edges.device)
    mask[-1, :-1], mask[:-1, -1], mask[-1, -1] = edges
    return mask.flatten(0, 1)


# --- layers ---------------------------------------------------------------------------------------------------------


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, whole samples are dropped, the others grow by 1 / (1 - rate).

    One draw a sample, as of timm, so that a seed gives the official training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1 - self.rate
        factor = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * (factor.div_(keep) if keep > 0 else factor)


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class WindowAttention(nn.Module):
    """Self-attention of the pixels of a window, with a learnt bias for each head and relative position."""

    relative_position_index: Tensor

    def __init__(
        self, dim: int, side: int, heads: int, qkv_bias: bool, scale: float | None, attn_drop: float, proj_drop: float
    ) -> None:
        super().__init__()
        self.num_heads = heads
        self.scale = scale or (dim // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        i = torch.arange(side * side)
        dy, dx = ((at[:, None] - at) + side - 1 for at in (i // side, i % side))
        self.register_buffer("relative_position_index", dy * (2 * side - 1) + dx)
        # in the order of the official program: one seed, the same weights
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        trunc_normal_(self.relative_position_bias_table)

    def bias(self) -> Tensor:
        """``[heads, N, N]``, to be added to the logits."""
        index = self.relative_position_index
        return self.relative_position_bias_table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``[n, N, C] -> [n, N, C]``; ``bias``, with the mask: ``[heads, N, N]``, or one for each window."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        # torch's own attention draws elsewhere than the official code, and has few kinds of derivatives
        if transforms.active() or (self.training and self.attn_drop.p > 0):
            logits = (q * self.scale) @ k.transpose(-2, -1) + bias
            out = self.attn_drop(logits.softmax(-1)) @ v
        else:
            whole = bias if bias.ndim == 4 else bias.expand(x.shape[0], -1, -1, -1)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=whole.to(q.dtype), scale=self.scale)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))


class SwinTransformerBlock(nn.Module):
    """Attention in windows, then the MLP, each added to its input; ``shift`` moves the windows down and to the right.

    The mask of shifted windows is kept for the state dict only (buffer ``attn_mask``, of images of ``img_size``): what
    is used depends on the image.
    """

    attn_mask: Tensor | None

    def __init__(
        self,
        dim: int,
        img_size: Sequence[int],
        heads: int,
        side: int,
        shift: int,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        drop: float,
        attn_drop: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.window_size, self.shift_size = side, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, side, heads, qkv_bias, qk_scale, attn_drop, drop)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop)
        mask = None
        if shift:
            grid = [n // side for n in img_size]
            edges = edge_masks(side, shift, torch.empty(0, dtype=torch.float32))
            mask = whole_mask(edges, grid)
        self.register_buffer("attn_mask", mask)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = x + self.drop_path(self._attended(self.norm1(x), edges))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attended(self, x: Tensor, edges: Tensor) -> Tensor:
        side, shift, size, bias = self.window_size, self.shift_size, x.shape[1:3], self.attn.bias()
        if not shift:
            return self._each(x, bias)
        if self.training and (self.attn.attn_drop.p > 0 or self.attn.proj_drop.p > 0):
            # all windows in the official order, so that a seed drops the same
            mask = whole_mask(edges, [n // side for n in size])[:, None] + bias
            x = windows(x.roll((-shift, -shift), (1, 2)), side)
            x = unwindowed(self.attn(x, mask.repeat(x.shape[0] // mask.shape[0], 1, 1, 1)), side, size)
            return x.roll((shift, shift), (1, 2))
        # four kinds of windows: no mask for each of them, which would be N times as large as a head's map
        biases = [[bias, bias + edges[1]], [bias + edges[0], bias + edges[2]]]
        rows = []
        for row, row_biases in zip(_edge(x, 1, side, shift), biases, strict=True):
            parts = [self._each(p, b) for p, b in zip(_edge(row, 2, side, shift), row_biases, strict=True)]
            rows.append(_joined(parts, 2, shift))
        return _joined(rows, 1, shift)

    def _each(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attention in windows of which all have one mask."""
        if not x.numel():  # one row or column of windows: none of them is inside
            return x
        return unwindowed(self.attn(windows(x, self.window_size), bias), self.window_size, x.shape[1:3])


# --- what a pixel sees ----------------------------------------------------------------------------------------------

# as they are now: a later replacement on a class is a change
_BLOCK = SwinTransformerBlock.forward
_WITHIN_A_WINDOW = (
    *(WindowAttention.forward, Mlp.forward, DropPath.forward, nn.Linear.forward, nn.LayerNorm.forward),
    *(nn.GELU.forward, nn.Dropout.forward, nn.Identity.forward, nn.ReLU.forward, nn.SiLU.forward),
)


def window_of(block: nn.Module) -> tuple[int, int] | None:
    """Side and shift of a block's windows, beyond which it does not look; None where a part of it may do so."""
    if not isinstance(block, SwinTransformerBlock) or not folding.runs(block, _BLOCK):
        return None
    inner = [m for m in block.modules() if m is not block]
    if not all(pointwise(m) or folding.runs(m, WindowAttention.forward) for m in inner):
        return None
    return block.window_size, block.shift_size


def pointwise(module: nn.Module) -> bool:
    """Whether a layer of tokens is known to look at one pixel at a time."""
    known = any(folding.runs(module, forward) for forward in _WITHIN_A_WINDOW[1:])
    return known and not (isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1)


def reach_of(steps: Iterable[int | tuple[int, int]]) -> int:
    """The farthest pixel, along an axis, on which an output pixel depends through ``steps``, in their order: radii of
    convolutions, and (side, shift) of windows counted from the image's begin.

    Exact: the interval of pixels that one depends on, backwards through the steps, for each place in a window.
    """
    steps = list(steps)[::-1]
    places = max([1, *[step[0] for step in steps if isinstance(step, tuple)]])
    farthest = 0
    for pixel in range(places):
        low = high = pixel
        for step in steps:
            if isinstance(step, int):
                low, high = low - step, high + step
            else:
                side, shift = step
                low = (low - shift) // side * side + shift
                high = (high - shift) // side * side + shift + side - 1
        farthest = max(farthest, pixel - low, high - pixel)
    return farthest
