"""Arguments of decode in shapes that fill no vector and no block of queries."""

from __future__ import annotations

import torch
from operator_cases import sample

# B, (h, w), D, Q, L, O: no, one and four hidden layers; columns that fill no vector; one block of queries and many
SHAPES = [
    (2, (5, 7), 64, 700, 3, 3),
    (1, (3, 4), 20, 61, 4, 1),
    (3, (2, 5), 37, 1, 0, 5),
    (1, (1, 1), 72, 130, 1, 16),
]


def arguments(shape, dtype=torch.float64, cell=True, ensemble=True, strided=False):
    """decode's, with coordinates that stay clear of pixel borders, where rounding would choose the pixel."""
    _, (hidden, coord, c, *parameters, size, _, _) = sample(shape, dtype, cell, ensemble, strided)
    steps = torch.tensor(size, dtype=coord.dtype) * 64  # multiples of 1/64 pixel, off its borders by 1/256
    coord = ((coord * steps / 2).round() * 2 + 1 / 4) / steps
    return (hidden, coord, c, *parameters, ensemble)


def error(actual, want):
    """Norm of the difference relative to the norm."""
    return ((actual.double() - want).norm() / want.norm().clamp_min(1e-30)).item()
