"""LIIF and its training as the official program does them, in plain PyTorch and without anything of liif_fast.

The encoder is EDSR from its state dict; the head unfolds the features to nine times the channels, samples them four
times with grid_sample and runs the whole MLP for each corner.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def encode(p: dict[str, Tensor], x: Tensor, blocks: int, prefix: str = "encoder.") -> Tensor:
    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, p[f"{prefix}{name}.weight"], p[f"{prefix}{name}.bias"], padding=1)

    x = conv("head.0", x)
    y = x
    for i in range(blocks):
        y = y + conv(f"body.{i}.body.2", F.relu(conv(f"body.{i}.body.0", y)))
    return x + conv(f"body.{blocks}", y)


def grid(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    r = 1 / n
    return -1 + r + (2 * r) * torch.arange(n).to(dtype)


def liif(p: dict[str, Tensor], feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    B, C, H, W = feat.shape
    unfolded = F.unfold(feat, 3, padding=1).view(B, C * 9, H, W)
    centres = torch.stack(torch.meshgrid(grid(H, feat.dtype), grid(W, feat.dtype), indexing="ij")).expand(B, 2, H, W)
    colours, areas = [], []
    for vy in (-1, 1):
        for vx in (-1, 1):
            at = coord.clone()
            at[:, :, 0] += vy * (2 / H / 2) + 1e-6
            at[:, :, 1] += vx * (2 / W / 2) + 1e-6
            at.clamp_(-1 + 1e-6, 1 - 1e-6)
            sample = at.flip(-1).unsqueeze(1)
            z = F.grid_sample(unfolded, sample, mode="nearest", align_corners=False)[:, :, 0].permute(0, 2, 1)
            where = F.grid_sample(centres, sample, mode="nearest", align_corners=False)[:, :, 0].permute(0, 2, 1)
            rel = (coord - where) * torch.tensor([H, W])
            x = torch.cat([z, rel, cell * torch.tensor([H, W])], -1)
            keys = sorted(
                (k for k in p if k.startswith("imnet.") and k.endswith("weight")), key=lambda k: int(k[13:-7])
            )
            for i, key in enumerate(keys):
                x = F.linear(x, p[key], p[key.replace("weight", "bias")])
                x = F.relu(x) if i + 1 < len(keys) else x
            colours.append(x)
            areas.append((rel[..., 0] * rel[..., 1]).abs() + 1e-9)
    total = sum(areas)
    areas[0], areas[3] = areas[3], areas[0]
    areas[1], areas[2] = areas[2], areas[1]
    return sum(c * (a / total).unsqueeze(-1) for c, a in zip(colours, areas, strict=True))


def train(state: dict[str, Tensor], batches, blocks: int, lr: float) -> list[float]:
    """The losses of Adam steps on batches as the official loader gives them, images normalised by 0.5 and 0.5."""
    p = {k: t.clone().requires_grad_("mean" not in k) for k, t in state.items()}
    optimizer = torch.optim.Adam([t for t in p.values() if t.requires_grad], lr=lr)
    found = []
    for batch in batches:
        pred = liif(p, encode(p, (batch["inp"] - 0.5) / 0.5, blocks), batch["coord"], batch["cell"])
        loss = F.l1_loss(pred, (batch["gt"] - 0.5) / 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
