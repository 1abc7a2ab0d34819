"""A small SwinIR, weights and images that are the same on every machine."""

from __future__ import annotations

import math

import torch

SMALL = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "img_size": 16}


def fill(module):
    """Waves in place of the parameters, of sizes that keep every layer at work."""
    with torch.no_grad():
        for i, (name, p) in enumerate(module.named_parameters()):
            wave = torch.sin(1.3 * torch.arange(p.numel(), dtype=torch.float64) + i).view_as(p)
            if p.ndim == 1:
                p.copy_(1 + 0.3 * wave if "norm" in name and name.endswith("weight") else 0.1 * wave)
            else:
                p.copy_(wave if name.endswith("table") else wave * math.sqrt(3 / p[0].numel()))
    return module


def picture(*size):
    n = torch.arange(3 * math.prod(size), dtype=torch.float64)
    return torch.sin(0.37 * n * (1 + 0.01 * n % 1)).view(1, 3, *size)


def weighted(t):
    """One number of a tensor, in which each of its values counts otherwise."""
    return (t.double().flatten() * torch.cos(0.7 * torch.arange(t.numel(), dtype=torch.float64))).sum().item()
