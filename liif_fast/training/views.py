"""Pictures of validation: input, prediction and original side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.samples import expand
from ..models.baselines.common import enlarged
from .config import Config
from .step import norm_tensors, of_colours

COUNT, SIDE = 4, 192  # pictures, and the longest side shown of each


@torch.no_grad()
def views(model: nn.Module, samples: Any, config: Config, device: torch.device, seed: int) -> list[list[Tensor]]:
    """A row of three images ``[3, H, W]`` in [0, 1] for the first few images of ``samples`` (a wrapper).

    Of larger samples the upper left part. Nothing for wrappers of another make, which cannot give whole images.
    """
    if not hasattr(samples, "pair"):
        return []
    inp_sub, inp_div = norm_tensors(config.data_norm["inp"], (1, -1, 1, 1), device)
    gt_norm = norm_tensors(config.data_norm["gt"], (-1,), device)
    was_training = model.training
    model.eval()
    rows, n = [], len(samples)
    for i in range(min(COUNT, n)):
        low, high = samples.pair(i * n // min(COUNT, n), np.random.default_rng([seed, i]))
        low, high = (torch.from_numpy(np.array(x)).permute(2, 0, 1) for x in (low, high))
        sample = expand({"inp": low, "gt": high, "coord": _coord(high.shape[-2:]), "cell": _cell(high.shape[-2:])})
        height, width = (min(SIDE, s) for s in high.shape[-2:])
        coord, cell = (
            sample[k].unflatten(0, high.shape[-2:])[None, :height, :width].to(device) for k in ("coord", "cell")
        )
        inp = (sample["inp"][None].to(device) - inp_sub) / inp_div
        grid = getattr(samples, "grid", False)
        asked = (coord, cell[:, 0, 0]) if grid else (coord.flatten(1, 2), cell.flatten(1, 2))
        colours = model(inp, *asked).float()
        sub, div = of_colours(gt_norm, colours)
        made = (colours * div + sub)[0]
        made = made if grid else made.T.unflatten(1, (height, width))
        shown = enlarged(sample["inp"][None], high.shape[-2:])[0]
        rows.append([shown[:, :height, :width], made, sample["gt"][:, :height, :width]])
    model.train(was_training)
    return rows


def _coord(size: torch.Size) -> Tensor:
    from ..head.reference import make_coord

    return make_coord(size, device="cpu")


def _cell(size: torch.Size) -> Tensor:
    return torch.tensor([2 / n for n in size], dtype=torch.float32, device="cpu")
