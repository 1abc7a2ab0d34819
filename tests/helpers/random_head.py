"""A head with random weights."""

from __future__ import annotations

import torch

from liif_fast import functional


def head(L, D, C=3):
    layers = [(torch.randn(D, 9 * C + 4) / 4, torch.randn(D) * 0.1)]
    layers += [(torch.randn(D, D) * (2 / D) ** 0.5, torch.randn(D) * 0.1) for _ in range(L)]
    return functional.fold([*layers, (torch.randn(3, D) / D**0.5, torch.randn(3))], C, True, True)
