"""gather_corners, forward and with the gradient of the features, beside the official way: for each corner one
grid_sample of the features and one of the pixel centres."""

from __future__ import annotations

from collections.abc import Iterator

import heads
import processor
import torch
import torch.nn.functional as F
from heads import OURS
from measure import Case, Contender, gradients_apart
from torch import Tensor

from liif_fast import functional
from liif_fast.head.reference import make_coord

GRID_SAMPLES = "grid_samples"


def sampled(feat: Tensor, coord: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """functional.gather_corners by eight grid_samples, step by step as ``reference.liif`` takes them."""
    size = feat.shape[-2:]
    centres = make_coord(size, flatten=False, device=feat.device).permute(2, 0, 1).expand(len(feat), -1, -1, -1)
    rows, rels = [], []
    for v_y in (-1, 1):
        for v_x in (-1, 1):
            at = torch.stack([coord[..., i] + (v / size[i] + 1e-6) for i, v in enumerate((v_y, v_x))], -1)
            grid = at.clamp_(-1 + 1e-6, 1 - 1e-6).flip(-1).unsqueeze(1)
            z, centre = (F.grid_sample(t, grid, "nearest", align_corners=False)[:, :, 0].mT for t in (feat, centres))
            rows.append(z)
            rels.append((coord - centre) * coord.new_tensor(size))
    rel = torch.stack(rels, 2)
    area = (rel[..., 0] * rel[..., 1]).abs() + 1e-9
    return torch.stack(rows, 2), rel, area.flip(-1) / area.sum(-1, keepdim=True)


def apart(out: tuple[Tensor, Tensor, Tensor], want: tuple[Tensor, Tensor, Tensor]) -> float:
    """The largest difference of rows, which are copies, as of rel and weight."""
    return max((a - b).abs().max().item() for a, b in zip(out, want, strict=True))


def gather_corners(model, setup) -> Iterator[Case]:
    """For training's random queries and for the grid of an image, 64 channels and 512."""
    side, batch, queries = (12, 2, 64) if setup.tiny else (64, 16, 2304)
    device = setup.device
    path = processor.path("gather", device)
    for name in ("train", "grid"):
        for channels in (64, 512):
            coord = torch.rand(batch, queries, 2, device=device) * 2 - 1
            if name == "grid":
                coord = heads.grid((4 * side, 4 * side), device)[0]
            feat = torch.randn(len(coord), channels, side, side, device=device)
            grads = torch.randn(*coord.shape[:2], 4, channels, device=device)

            def both(run, feat=feat, coord=coord, grads=grads) -> list[Tensor]:
                leaf = feat.detach().requires_grad_()
                with torch.enable_grad():
                    rows, _, _ = run(leaf, coord)
                return [rows.detach(), *torch.autograd.grad(rows, leaf, grads)]

            needed = feat.nbytes + coord.nbytes + grads.nbytes * (1 + 3 / channels)
            forward = [
                Contender(GRID_SAMPLES, "float32", lambda i, f=feat, c=coord: sampled(f, c), apart=apart),
                # pixel centres of size 1 in another order of roundings, times the map's size
                Contender(
                    OURS,
                    "float32",
                    lambda i, f=feat, c=coord: functional.gather_corners(f, c),
                    side * 1e-6,
                    {"copy": needed},
                    apart,
                    path=path,
                ),
            ]
            backward = [
                Contender(GRID_SAMPLES, "float32", lambda i, b=both: b(sampled), apart=gradients_apart),
                # copies; sums of some hundred terms in another order
                Contender(
                    OURS,
                    "float32",
                    lambda i, b=both: b(functional.gather_corners),
                    1e-5,
                    {"copy": 2 * needed},
                    gradients_apart,
                    path=path,
                ),
            ]
            count = coord.shape[0] * coord.shape[1]
            yield Case(f"gather_corners {name} {channels}", forward, [], count)
            yield Case(f"gather_corners {name} {channels}, with gradient", backward, [], count)
