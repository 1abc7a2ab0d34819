"""LIIF as the paper writes it, and LTE's head: the specification that everything else is tested against.

Chen, Liu, Wang: "Learning Continuous Image Representation with Local Implicit Image Function", CVPR 2021
(arXiv:2012.09161), equations 2 (feature unfolding), 4 (local ensemble) and 5 (cell decoding). Written for reading,
not for speed. Sizes: B images, Q queries each, K corners per query, C feature channels, a feature map of H x W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_centres(
    index: Tensor, n: float, span: tuple[float, float] = (-1, 1), dtype: torch.dtype = torch.float32
) -> Tensor:
    """Centres of some pixels (integers in any shape) of an axis of n pixels that spans ``span``; of index's shape."""
    r = (span[1] - span[0]) / (2 * n)
    return span[0] + r + (2 * r) * index.to(dtype)


def make_coord(
    shape: Sequence[int],
    ranges: Sequence[tuple[float, float]] | None = None,
    flatten: bool = True,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Coordinates of the pixel centres of a grid; by default the image spans [-1, 1] along each axis.

    Args:
        shape: number of pixels along each axis, e.g. ``(H, W)``.
        ranges: ``(from, to)`` for each axis instead of (-1, 1).
        flatten: ``[prod(shape), len(shape)]`` instead of ``[*shape, len(shape)]``.

    Returns:
        float tensor of coordinates in the order of ``shape``: (y, x) for an image.
    """
    axes = []
    for axis, n in enumerate(shape):
        span = (-1, 1) if ranges is None else ranges[axis]
        axes.append(pixel_centres(torch.arange(n, device=device), n, span, dtype))
    coord = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return coord.flatten(0, -2) if flatten else coord


def liif(
    feat: Tensor,
    coord: Tensor,
    cell: Tensor | None,
    imnet: Callable[[Tensor], Tensor] | None,
    *,
    local_ensemble: bool = True,
    feat_unfold: bool = True,
) -> Tensor:
    """Colours at continuous coordinates, equation by equation.

    ``I(x) = sum_t S_t / S * f(z_t, [x - v_t, cell])`` where t runs over the four corners around x.

    Args:
        feat: feature map M, ``[B, C, H, W]``.
        coord: ``[B, Q, 2]``, (y, x) in [-1, 1], the dtype of ``feat``.
        cell: ``[B, Q, 2]``, height and width of an output pixel in the same units (2 / output size); None: without
            cell decoding.
        imnet: the decoding function f on ``[B * Q, 9 * C + 2 (+ 2)]``; None: return the nearest feature itself.

    Returns:
        ``[B, Q, out_dim]``.
    """
    H, W = feat.shape[-2:]

    def nearest(image: Tensor, at: Tensor) -> Tensor:  # [B, c, H, W], [B, Q, 2] -> [B, Q, c]
        grid = at.flip(-1).unsqueeze(1)  # grid_sample wants (x, y)
        return F.grid_sample(image, grid, mode="nearest", align_corners=False)[:, :, 0].transpose(1, 2)

    if imnet is None:
        return nearest(feat, coord)
    if feat_unfold:
        feat = F.unfold(feat, 3, padding=1).unflatten(-1, (H, W))  # [B, 9C, H, W], channel-major
    feat_coord = make_coord((H, W), flatten=False, device=feat.device, dtype=feat.dtype)
    feat_coord = feat_coord.permute(2, 0, 1).expand(feat.shape[0], 2, H, W)
    map_size = coord.new_tensor([H, W])

    signs, eps_shift = ((-1, 1), 1e-6) if local_ensemble else ((0,), 0.0)
    preds, areas = [], []
    for vy in signs:
        for vx in signs:
            # half a feature pixel towards the corner; eps_shift breaks ties, the clamp stays inside the map
            at = torch.stack([coord[..., 0] + (vy / H + eps_shift), coord[..., 1] + (vx / W + eps_shift)], -1)
            at = at.clamp(-1 + 1e-6, 1 - 1e-6)
            z = nearest(feat, at)
            rel_coord = (coord - nearest(feat_coord, at)) * map_size  # x - v_t, in feature pixels
            inputs = [z, rel_coord] if cell is None else [z, rel_coord, cell * map_size]
            preds.append(imnet(torch.cat(inputs, -1).flatten(0, 1)).unflatten(0, coord.shape[:2]))
            areas.append((rel_coord[..., 0] * rel_coord[..., 1]).abs() + 1e-9)

    total = torch.stack(areas).sum(0)
    # S_t is the area of the corner diagonally opposite, hence the reversed order
    return sum(pred * (area / total).unsqueeze(-1) for pred, area in zip(preds, reversed(areas), strict=True))


def lte(
    coef: Tensor,
    freq: Tensor,
    coord: Tensor,
    cell: Tensor | None,
    phase: Callable[[Tensor], Tensor],
    imnet: Callable[[Tensor], Tensor],
) -> Tensor:
    """Colours by local texture estimation, before the image itself is added (``skip``).

    Lee, Jin: "Local Texture Estimator for Implicit Representation Function", CVPR 2022 (arXiv:2111.08918), equation 5:
    of a corner's coefficients A and frequencies F the MLP reads ``A * [cos(pi * (F . rel + h)), sin(...)]``, h = phase.

    Args:
        coef: ``[B, 2 F, H, W]``, of F cosines, then of F sines.
        freq: ``[B, 2 F, H, W]``, for each cosine and sine along y and along x, one behind the other.
        coord, cell: as for ``liif``; without a cell the phase is 0.
        phase: ``[B * Q, 2]``, the cell in feature pixels, to ``[B * Q, F]``.
        imnet: ``[B * Q, 2 F]`` to ``[B * Q, out_dim]``.

    Returns:
        ``[B, Q, out_dim]``.
    """
    map_size = coord.new_tensor(coef.shape[-2:])
    index, rel, weight = corners(coord, coef.shape[-2:])
    image = torch.arange(coef.shape[0], device=coef.device)[:, None]
    shift = None if cell is None else phase((cell * map_size).flatten(0, 1)).unflatten(0, coord.shape[:2])
    total: Any = 0
    for k in range(4):
        row, column = index[:, :, k].unbind(-1)
        a, f = (t[image, :, row, column] for t in (coef, freq))  # [B, Q, 2 F]
        angle = (f.unflatten(-1, (-1, 2)) * rel[:, :, k, None]).sum(-1)
        angle = math.pi * (angle if shift is None else angle + shift)
        inputs = a * torch.cat([angle.cos(), angle.sin()], -1)
        total = total + imnet(inputs.flatten(0, 1)).unflatten(0, coord.shape[:2]) * weight[:, :, k, None]
    return total


def skip(image: Tensor, coord: Tensor, size: Sequence[int] | None = None, origin: Sequence[int] = (0, 0)) -> Tensor:
    """An image between its pixels, bilinear, which LTE adds to its colours: ``[B, C, h, w], [B, Q, 2] -> [B, Q, C]``.

    Args:
        size, origin: ``image`` is the part of one of ``size`` that starts at ``origin`` and holds every pixel that the
            coordinates lie between; None: the whole.

    Equivalent to: ``F.grid_sample(image, coord.flip(-1).unsqueeze(1), "bilinear", "border", False)[:, :, 0].mT``, in
    its roundings, so that parts have those of the whole.
    """
    h, w = image.shape[-2:]
    low, high, share = [], [], []
    for axis, n in enumerate((h, w) if size is None else size):
        # of product and difference in one rounding, as grid_sample's kernels have it
        at = ((coord[..., axis] + 1).double() * (n / 2) - 0.5).to(coord.dtype)
        at = torch.where((at > 0) & (at < n - 1), at, at.detach().clamp(0, n - 1))  # on the border nothing moves
        floor = at.floor()
        share.append(at - floor)
        index = floor.nan_to_num(0).to(torch.int64)
        # NaN is in the share; an index is inside whatever was asked
        low.append((index - origin[axis]).clamp(0, (h, w)[axis] - 1))
        high.append(((index + 1).clamp(max=n - 1) - origin[axis]).clamp(0, (h, w)[axis] - 1))
    flat = image.flatten(2)  # [B, C, h * w]

    def pixels(row: Tensor, column: Tensor) -> Tensor:
        at = (row * w + column).unsqueeze(1).expand(-1, flat.shape[1], -1)
        return flat.gather(2, at).transpose(1, 2)

    (down, across) = (t.unsqueeze(-1) for t in share)
    upper = pixels(low[0], low[1]) * ((1 - across) * (1 - down)) + pixels(low[0], high[1]) * (across * (1 - down))
    lower = pixels(high[0], low[1]) * ((1 - across) * down) + pixels(high[0], high[1]) * (across * down)
    return upper + lower


def corners(
    coord: Tensor, size: Sequence[int], ensemble: bool = True, lengths: Sequence[Any] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Which feature pixels a query reads, where it lies from them, and how much each of them counts.

    The index arithmetic of ``liif`` without its grid_samples, operation by operation in the same roundings, so that
    both choose the same pixels (a test asserts it). Its twin in C++ is csrc/corners.h.

    Args:
        coord: ``[..., 2]``, (y, x), float32 or float64.
        size: (H, W) of the whole feature map.
        ensemble: K = 4 corners, k = 2 * (vy > 0) + (vx > 0); False: K = 1, the nearest pixel.
        lengths: ``size`` as what divides in float64, for exporters, whose symbols do not; None: as it is.

    Returns:
        index ``[..., K, 2]`` int64 (row, column; inside the map for any coordinate, NaN included),
        rel ``[..., K, 2]`` in feature pixels, weight ``[..., K]`` (sums to 1), both in coord's dtype.
    """
    signs, eps_shift = ((-1, 1), 1e-6) if ensemble else ((0,), 0.0)
    indices, rels = [], []
    for axis, n in enumerate(size if lengths is None else lengths):
        c = coord[..., axis, None]
        at = torch.cat([c + (v / n + eps_shift) for v in signs], -1).clamp(-1 + 1e-6, 1 - 1e-6)  # [..., len(signs)]
        i = (((at + 1) * n - 1) / 2).round()
        rels.append((c - ((2 / n) * i + (-1 + 1 / n))) * n)
        indices.append(i.to(torch.int64).clamp(0, size[axis] - 1))
    # every row choice with every column choice, rows outer: [..., K, 2]
    index, rel = (
        torch.stack([a.repeat_interleave(len(signs), -1), b.repeat((1,) * (b.ndim - 1) + (len(signs),))], -1)
        for a, b in (indices, rels)
    )
    area = (rel[..., 0] * rel[..., 1]).abs() + 1e-9
    # in this order, as the compiled kernels add them
    total: Tensor = sum(area.unbind(-1))  # type: ignore[assignment]  # 0 only for no corner
    return index, rel, area.flip(-1) / total.unsqueeze(-1)
