"""gather_corners' arguments, and what it must give: by reference.corners and indexing."""

from __future__ import annotations

import torch

from liif_fast import reference
from liif_fast.head import precision


def rows_sample(dtype=torch.float32, B=2, size=(5, 7), D=16, Q=37):
    geometry = precision.geometry_dtype(dtype)
    return torch.randn(B, *size, D).to(dtype), torch.rand(B, Q, 2, dtype=geometry) * 2.2 - 1.1


def indexed(hidden, coord, size, origin=(0, 0), ensemble=True):
    """What the operator must give: reference.corners and indexing, of which each has its derivatives."""
    index, rel, weight = reference.corners(coord, size, ensemble)
    image = torch.arange(hidden.shape[0]).view(-1, 1, 1)
    return hidden[image, index[..., 0] - origin[0], index[..., 1] - origin[1]], rel, weight


def pieces(feat, coord, ensemble=True):
    """indexed for functional.gather_corners' arguments."""
    return indexed(feat.permute(0, 2, 3, 1), coord, feat.shape[2:], ensemble=ensemble)
