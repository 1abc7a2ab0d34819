"""What every head of this family begins with: the feature rows around each query, where they lie, what they weigh."""

from __future__ import annotations

import torch
from torch import Tensor

from . import differentiable, ops, transforms  # noqa: F401 - ops defines the operator
from .checks import check_queries
from .precision import HALF, as_geometry

_KINDS = (torch.float32, torch.float64, *HALF)


def gather_corners(feat: Tensor, coord: Tensor, ensemble: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The features at each query's corners, as they are: ``[B, C, H, W], [B, Q, 2] -> rows, rel, weight``.

    Args:
        feat: float32, float64, bfloat16 or float16; in ``torch.channels_last`` it is not copied.
        coord: (y, x) in [-1, 1], any floating-point dtype; used as float32 (float64 with float64 features).
        ensemble: the K = 4 corners, k = 2 * (vy > 0) + (vx > 0); False: K = 1, the nearest pixel.

    Returns:
        rows ``[B, Q, K, C]``, exact copies in feat's dtype; rel ``[B, Q, K, 2]``, the query's offset (row, column) from
        each pixel's centre in feature pixels, and weight ``[B, Q, K]``, the area weights, which sum to 1: both in
        coord's dtype as used, bit for bit those of ``reference.corners``. Gradients for feat and coord, whose
        sums are the same each time.

    Raises:
        TypeError, ValueError: feat or coord cannot be queried; see ``check_queries``.

    Equivalent to: ``index, rel, weight = reference.corners(coord, (H, W), ensemble)`` and
    ``rows = feat.permute(0, 2, 3, 1)[b, index[..., 0], index[..., 1]]``; in the official code, for each corner one
    ``grid_sample(mode="nearest")`` of feat and one of the pixel centres (paper equations 2 and 4).
    """
    if not isinstance(feat, Tensor) or feat.dtype not in _KINDS:
        got = feat.dtype if isinstance(feat, Tensor) else type(feat).__name__
        raise TypeError(f"feat: a float32, float64, bfloat16 or float16 tensor [B, C, H, W] is wanted, got {got}")
    if feat.ndim != 4 or 0 in feat.shape[2:]:
        raise ValueError(f"feat: shape [B, C, H, W] with pixels is wanted, got {list(feat.shape)}")
    check_queries(coord, None, feat.shape[0], feat.device)
    hidden, (coord, _) = feat.permute(0, 2, 3, 1), as_geometry(feat, coord, None)
    if transforms.active():
        return differentiable.gather_corners(hidden, coord, hidden.shape[1:3], (0, 0), ensemble)
    return torch.ops.liif_fast.gather_corners(hidden, coord, hidden.shape[1:3], (0, 0), ensemble)
