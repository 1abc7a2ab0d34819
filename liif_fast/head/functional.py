"""LIIF's head as functions: the fold of the first layer into a convolution, then queries and whole grids.

The first layer of LIIF's MLP is linear in the unfolded feature, so it is applied once per feature pixel, as a
convolution, instead of once per query and corner::

    W1 @ [unfold(feat)_p, rel, cell] + b1  ==  conv3x3(feat, W1[:, :9C], b1)_p + W1[:, 9C:] @ [rel, cell]

Nothing is approximated. Sizes: B images, C feature channels, H x W feature pixels, Q queries, K corners, D hidden
channels, O output channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from . import chain, convolution, differentiable, fourier_queries, int8, reference, sampling, transforms
from .checks import check_queries
from .fourier import FourierHead as FourierHead
from .ops import CPU_KERNELS
from .precision import HALF, as_geometry, fastest_autocast, geometry_dtype
from .raw_gather import gather_corners
from .reference import make_coord

__all__ = [
    "Head",
    "check_queries",
    "fold",
    "gather_corners",
    "hidden_map",
    "make_coord",
    "query",
    "render",
    "render_grid",
    "renderer",
    "uniform",
    "with_cell",
]


class Head(NamedTuple):
    """The folded MLP: what remains of LIIF's decoding function, layer by layer."""

    w_conv: Tensor  # [D, C, 3, 3], or [D, C, 1, 1] without feature unfolding
    b_conv: Tensor  # [D]
    w_pos: Tensor  # [D, 4]: rel_y, rel_x, cell_y, cell_x
    mlp: tuple[tuple[Tensor, Tensor], ...]  # L x ([D', D], [D'])
    w_out: Tensor  # [O, D]
    b_out: Tensor  # [O]


AnyHead: TypeAlias = Head | FourierHead


class Colours(Protocol):
    """Colours at coordinates: ``[B, Q, 2], [B, Q, 2] or None -> [B, Q, O]``; what ``renderer`` gives."""

    def __call__(self, coord: Tensor, cell: Tensor | None = None) -> Tensor: ...


def fold(layers: Sequence[tuple[Tensor, Tensor]], channels: int, feat_unfold: bool, cell_decode: bool) -> Head:
    """Split the first layer of an MLP over ``[feature, rel, cell]`` into a convolution and a rank-4 (or 2) term.

    Args:
        layers: weight ``[out, in]`` and bias ``[out]`` of every linear layer; the first takes
            ``channels * (9 if feat_unfold else 1) + 2 + (2 if cell_decode else 0)`` inputs.
        channels: C, of the feature map before unfolding.

    Equivalent to: the same MLP on ``F.unfold(feat, 3, padding=1)``, see the module's docstring. Differentiable.
    """
    (w_first, b_first), *rest = layers
    k = 3 if feat_unfold else 1
    n_feat = channels * k * k
    w_pos = w_first[:, n_feat:]
    if not cell_decode:
        w_pos = F.pad(w_pos, (0, 2))
    w_conv = w_first[:, :n_feat].unflatten(1, (channels, k, k))
    if rest:
        return Head(w_conv, b_first, w_pos, tuple(rest[:-1]), *rest[-1])
    # An MLP of one linear layer has no ReLU, but the operators have one: x = relu(x) - relu(-x).
    eye = torch.eye(w_first.shape[0], device=w_first.device, dtype=w_first.dtype)
    w_conv, b_conv, w_pos = (torch.cat([t, -t]) for t in (w_conv, b_first, w_pos))
    return Head(w_conv, b_conv, w_pos, (), torch.cat([eye, -eye], 1), torch.zeros_like(b_first))


def with_cell(head: AnyHead, cell: Sequence[float]) -> AnyHead:
    """The head for queries that all have one cell, as on a grid: what that adds to the first layer is in its bias.

    Args:
        cell: (height, width) of an output pixel as the MLP sees it, ``2 / output size * (H, W)``.

    Equivalent to: ``head`` with this cell for every query; to this one, give none.
    """
    if isinstance(head, FourierHead):
        return head._replace(cell=(cell[0], cell[1]))
    w_y, w_x = head.w_pos.to(geometry_dtype(head.w_pos.dtype))[:, 2:].unbind(1)
    return head._replace(b_conv=(head.b_conv + (w_y * cell[0] + w_x * cell[1])).to(head.b_conv.dtype))


def hidden_map(feat: Tensor, head: AnyHead) -> Tensor:
    """The first layer once per feature pixel, before its ReLU: ``[B, C, H, W] -> [B, H, W, D]``, channels last.

    Under autocast the result has autocast's dtype; the products are in the precision that is fastest on this device.
    """
    device, padding = feat.device.type, head.w_conv.shape[-1] // 2
    with fastest_autocast(device):
        if not transforms.active():  # vmap knows no other layout
            feat = feat.contiguous(memory_format=torch.channels_last)
        if not torch.is_autocast_enabled(device):
            feat = feat.to(head.w_conv.dtype)
        hidden = convolution.conv2d(feat, head.w_conv, head.b_conv, padding).permute(0, 2, 3, 1).contiguous()
    return hidden.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden


def query(
    hidden: Tensor, head: AnyHead, coord: Tensor, cell: Tensor | None = None, *, local_ensemble: bool = True
) -> Tensor:
    """Colours at coordinates, with gradients for everything: ``[B, H, W, D], [B, Q, 2] -> [B, Q, O]``.

    Args:
        hidden: from ``hidden_map``; float32, float64, bfloat16 or float16.
        coord, cell: ``[B, Q, 2]``, (y, x), as ``reference.liif`` takes them; used as float32 (float64 with float64).

    Returns:
        float32 (float64 with float64).

    Equivalent to: ``reference.liif(feat, coord, cell, mlp, local_ensemble=...)``, paper equations 2, 4 and 5.
    """
    if isinstance(head, FourierHead):
        return fourier_queries.query(hidden, head, coord, cell, hidden.shape[1:3], (0, 0), local_ensemble)
    if transforms.active():
        return differentiable.query(hidden, head, coord, cell, hidden.shape[1:3], (0, 0), local_ensemble)
    coord, cell = as_geometry(hidden, coord, cell)
    moved = any(t is not None and t.requires_grad for t in (coord, cell)) and torch.is_grad_enabled()
    if hidden.device.type == "cpu" and CPU_KERNELS and not moved:
        hidden, w_pos, w_mlp, b_mlp, w_out = uniform(hidden, head)
        return torch.ops.liif_fast.decode(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, head.b_out, local_ensemble)
    w_pos = head.w_pos.to(coord.dtype)
    if chain.wanted(hidden) and not moved:
        return chain.query(hidden, coord, cell, w_pos, head.mlp, head.w_out, head.b_out, local_ensemble)
    h, weight = torch.ops.liif_fast.corner_gather(hidden, coord, cell, w_pos, hidden.shape[1:3], (0, 0), local_ensemble)
    return differentiable.colours(h, weight, head)


def uniform(hidden: Tensor, head: Head) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """hidden, w_pos, w_mlp [L, D, D], b_mlp [L, D], w_out, all of the widest layer's D: narrower ones are padded with
    zeros, which ReLU keeps zero."""
    D = max([head.b_conv.shape[0], *(b.shape[0] for _, b in head.mlp)])
    if head.mlp:
        w_mlp = torch.stack([F.pad(w, (0, D - w.shape[1], 0, D - w.shape[0])) for w, _ in head.mlp])
        b_mlp = torch.stack([F.pad(b, (0, D - b.shape[0])) for _, b in head.mlp])
    else:
        w_mlp, b_mlp = head.w_out.new_empty(0, D, D), head.w_out.new_empty(0, D)
    w_pos = head.w_pos.to(geometry_dtype(hidden.dtype))
    if hidden.shape[-1] < D:
        hidden, w_pos = F.pad(hidden, (0, D - hidden.shape[-1])), F.pad(w_pos, (0, 0, 0, D - w_pos.shape[0]))
    return hidden, w_pos, w_mlp, b_mlp, F.pad(head.w_out, (0, D - head.w_out.shape[1]))


def render(hidden: Tensor, head: AnyHead, coord: Tensor, cell: Tensor | None = None, **options: Any) -> Tensor:
    """``query`` for inference, in one operator whose memory does not grow with Q; options as of ``renderer``."""
    return renderer(hidden, head, **options)(coord, cell)


def renderer(
    hidden: Tensor,
    head: AnyHead,
    *,
    size: Sequence[int] | None = None,
    origin: Sequence[int] = (0, 0),
    local_ensemble: bool = True,
    act_scale: Tensor | None = None,
) -> Colours:
    """``render`` for many calls, with all done that does not depend on the queries: (coord, cell=None) -> colours. No
    gradient.

    Args:
        hidden: ``[B, h, w, D]``, all of the hidden map or a part that holds every pixel the queries need.
        size: (H, W) of the whole map; default: hidden is the whole.
        origin: (row, column) where ``hidden`` starts in it.
        act_scale: ``[L]`` float32, one step of each hidden layer's input: hidden layers on 8-bit integers, exactly as
            ``int8`` says. None: in floating point.
    """
    where = (hidden.shape[1:3] if size is None else size, origin, local_ensemble)
    if isinstance(head, FourierHead):
        return fourier_queries.renderer(hidden, head, *where)
    if act_scale is None and transforms.active():
        cast = [(w.to(hidden.dtype), b.to(hidden.dtype)) for w, b in (*head.mlp, (head.w_out, head.b_out))]
        like = head._replace(mlp=tuple(cast[:-1]), w_out=cast[-1][0], b_out=cast[-1][1])
        return lambda coord, cell=None: differentiable.query(hidden, like, coord, cell, *where)
    hidden, w_pos, w_mlp, b_mlp, w_out = uniform(hidden, head)
    operator, b_out = torch.ops.liif_fast.render, head.b_out
    layers: tuple[Tensor, ...] = w_mlp, b_mlp
    if act_scale is not None:
        w_pos, w_mlp, b_mlp, w_out, b_out = (t.float() for t in (w_pos, w_mlp, b_mlp, w_out, b_out))
        hidden = hidden if hidden.dtype in HALF else hidden.float()
        operator, layers = torch.ops.liif_fast.render_int8, (*int8.quantize_weights(w_mlp), b_mlp, act_scale)

    def colours(coord: Tensor, cell: Tensor | None = None) -> Tensor:
        coord, cell = as_geometry(hidden, coord, cell)
        return operator(hidden, coord, cell, w_pos, *layers, w_out, b_out, *where)

    return colours


def render_grid(
    colours: Callable[[Tensor, Tensor], Tensor],
    size: Sequence[int] | sampling.Sampling,
    out: Tensor,
    rows: tuple[int, int],
    cols: tuple[int, int],
    block: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Tensor:
    """Fill ``out [B, O, rows, cols]`` with the pixels rows x cols of an image of ``size`` (H, W), or of a sampling.

    Args:
        colours: coord, cell ``[B, Q, 2]`` -> ``[B, Q, O]``.
        block: about how many coordinates exist at a time; None: some that stay in a CPU's cache, or fill a GPU.
        progress: called with the share of the rows that each of these blocks makes up.
    """
    B, dtype = out.shape[0], geometry_dtype(out.dtype)
    block = block or (1 << 16 if out.device.type == "cpu" else 1 << 21)
    # filled, not copied from the host, which a CUDA graph cannot record
    cell = torch.stack([torch.full((), a.pixel, device=out.device, dtype=dtype) for a in sampling.of(size)])
    for lines, columns, coord in sampling.blocks(size, rows, cols, block, out.device, dtype):
        coord = coord.expand(B, -1, -1)
        pixels = colours(coord, cell.expand_as(coord))  # [B, n, O]
        out[:, :, lines, columns] = pixels.transpose(1, 2).unflatten(-1, (-1, columns.stop - columns.start))
        if progress is not None:
            progress(coord.shape[1] / (out.shape[2] * out.shape[3]))
    return out


def query_reference(
    feat: Tensor,
    imnet: Callable[[Tensor], Tensor] | None,
    coord: Tensor,
    cell: Tensor | None,
    *,
    local_ensemble: bool,
    feat_unfold: bool,
    chunk: int = 30_000,
) -> Tensor:
    """``reference.liif`` for decoding functions that do not fold; in chunks when no gradient is wanted."""
    feat = feat.to(geometry_dtype(feat.dtype))
    coord, cell = as_geometry(feat, coord, cell)
    decode = None if imnet is None else _in_own_dtype(imnet, feat.dtype)
    if torch.is_grad_enabled():
        chunk = max(1, coord.shape[1])
    pieces = [
        reference.liif(feat, c, s, decode, local_ensemble=local_ensemble, feat_unfold=feat_unfold)
        for c, s in zip(
            coord.split(chunk, 1), itertools.repeat(None) if cell is None else cell.split(chunk, 1), strict=False
        )
    ]
    return torch.cat(pieces, 1)


def _in_own_dtype(imnet: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A decoding function for whose inputs and colours ``dtype`` is wanted, in the dtype of its parameters."""
    own = next((p.dtype for p in getattr(imnet, "parameters", list)()), None)
    return lambda x: imnet(x if own is None else x.to(own)).to(dtype)
