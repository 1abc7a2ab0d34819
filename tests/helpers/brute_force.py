"""LIIF in NumPy float64, straight from the paper's equations: nothing shared with the package."""

from __future__ import annotations

import numpy as np


def unfold(feat: np.ndarray) -> np.ndarray:
    """[C, H, W] -> [H, W, 9C]: each feature with its 3x3 neighbours, zeros outside, channel-major."""
    C, H, W = feat.shape
    padded = np.pad(feat, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((H, W, C, 9))
    for i in range(3):
        for j in range(3):
            out[..., 3 * i + j] = padded[:, i : i + H, j : j + W].transpose(1, 2, 0)
    return out.reshape(H, W, 9 * C)


def mlp(x: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    for n, (w, b) in enumerate(layers):
        x = x @ w.T + b
        if n < len(layers) - 1:
            x = np.maximum(x, 0)
    return x


def nearest(c: np.ndarray, n: int) -> np.ndarray:
    """Index of the pixel whose centre is nearest to coordinate c in [-1, 1], by comparing all distances."""
    centres = -1 + (2 * np.arange(n) + 1) / n
    return np.abs(c[:, None] - centres[None]).argmin(1)


def liif(feat, coord, cell, layers, *, local_ensemble=True, feat_unfold=True) -> tuple[np.ndarray, np.ndarray]:
    """One image: feat [C, H, W], coord and cell [Q, 2] -> colours [Q, O], total area [Q] (0: ill-conditioned)."""
    H, W = feat.shape[1:]
    z = unfold(feat) if feat_unfold else feat.transpose(1, 2, 0)
    y, x = coord[:, 0], coord[:, 1]
    signs = (-1, 1) if local_ensemble else (0,)
    eps = 1e-6 if local_ensemble else 0
    preds, areas = [], []
    for vy in signs:
        for vx in signs:
            iy = nearest(np.clip(y + vy / H + eps, -1 + 1e-6, 1 - 1e-6), H)
            ix = nearest(np.clip(x + vx / W + eps, -1 + 1e-6, 1 - 1e-6), W)
            rel = np.stack([(y - (-1 + (2 * iy + 1) / H)) * H, (x - (-1 + (2 * ix + 1) / W)) * W], -1)
            parts = [z[iy, ix], rel] + ([] if cell is None else [cell * np.array([H, W])])
            preds.append(mlp(np.concatenate(parts, 1), layers))
            areas.append(np.abs(rel[:, 0] * rel[:, 1]) + 1e-9)
    total = np.sum(areas, 0)
    opposite = areas[::-1]  # corner (-,-) is weighted by the area towards (+,+)
    return sum(p * (a / total)[:, None] for p, a in zip(preds, opposite, strict=True)), total
