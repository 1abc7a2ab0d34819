"""PSNR of a model on a dataset in the official way: ``eval_psnr`` of the official ``test.py``, and of LTE's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .. import distributed
from ..data.samples import expand
from ..quality import metrics
from ..weights import state_dicts
from .protocol import Protocol
from .step import check_colours, norm_tensors, of_colours


@torch.no_grad()
def mean_psnr(
    model: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    data_norm: state_dicts.DataNorm,
    device: torch.device,
    eval_type: str | None = None,
    eval_bsize: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    *,
    window: int = 0,
    scale_max: float | None = None,
) -> float | None:
    """Mean over the samples of all processes of their batches' PSNR in dB; None when stopped in between.

    Args:
        model: ``model(inp, coord, cell)``; with ``eval_bsize`` also ``gen_feat`` and ``query_rgb``.
        batches: this process's share, as the wrappers give them: rows of queries or grids.
        eval_type: ``benchmark-S``: on luma, a border of S left out; ``div2k-S``: on RGB, a border of S + 6; None: all
            values.
        eval_bsize: queries at a time; None: all at once. Of grids whole rows, of models that say by an attribute
            ``grid_queries`` that they answer each query by itself; others are asked for all, as by LTE's ``--fast``.
        window, scale_max: LTE's options, see ``liif_fast.training.protocol``; none of them is in LIIF's own program.

    Raises:
        ConfigError: the model gives no colour for every query, or LTE's options do not fit. PeerError: another process
            could not go on. And whatever ``batches`` and ``model`` raise.
    """
    protocol = Protocol(eval_type, eval_bsize, window, scale_max)
    inp_sub, inp_div = norm_tensors(data_norm["inp"], (1, -1, 1, 1), device)
    gt_norm = norm_tensors(data_norm["gt"], (-1,), device)
    was_training = model.training
    model.eval()
    total = torch.zeros(4, dtype=torch.float64)  # sum, number; whether to stop, whether one could not go on
    failure: Exception | None = None
    try:
        for batch in batches:
            if stop():
                total[2] = 1
                break
            batch = expand({name: t.to(device) for name, t in batch.items()})
            inp, gt = (batch["inp"] - inp_sub) / inp_div, batch["gt"]
            whole, coord, cell = protocol.queries(inp, batch["coord"], batch["cell"])
            pred = protocol.cut(_predict(model, whole, coord, cell, eval_bsize), whole.shape, inp.shape, gt)
            check_colours(pred, gt)
            sub, div = of_colours(gt_norm, gt)
            pred = (pred.float() * div + sub).clamp(0, 1)
            total[0] += batch_psnr(pred, gt, inp.shape, eval_type) * inp.shape[0]
            total[1] += inp.shape[0]
    except Exception as error:
        failure = error  # the others wait for this process's share
        total[3] = 1
    model.train(was_training)
    if distributed.connected():
        total = distributed.sum_(total.to(device if device.type == "cuda" else "cpu"))
    if failure is not None:
        raise failure
    sums = total.tolist()
    if sums[3]:
        raise distributed.PeerError
    return None if sums[2] else sums[0] / sums[1]


def _predict(model: Any, inp: Tensor, coord: Tensor, cell: Tensor, bsize: int | None) -> Tensor:
    if bsize is None or (coord.ndim == 4 and not getattr(model, "grid_queries", False)):
        return model(inp, coord, cell)
    model.gen_feat(inp)
    if coord.ndim == 4:
        rows = max(1, bsize // coord.shape[2])
        return torch.cat([model.query_rgb(c, cell) for c in coord.split(rows, 1)], 2)
    return torch.cat(
        [model.query_rgb(c, s) for c, s in zip(coord.split(bsize, 1), cell.split(bsize, 1), strict=True)], 1
    )


def batch_psnr(pred: Tensor, gt: Tensor, inp_shape: torch.Size, eval_type: str | None) -> float:
    """PSNR in dB of a batch's colours ``[B, Q, 3]`` or ``[B, 3, H, W]`` in [0, 1], see ``mean_psnr``; ValueError if no
    whole images."""
    if eval_type is None:
        mse = (pred - gt).square().mean().item()
        return -10 * math.log10(mse) if mse else math.inf
    protocol, scale = eval_type.split("-")
    h, w = inp_shape[-2:]
    s = math.sqrt(pred[0].numel() // 3 / (h * w))
    shape = (round(h * s), round(w * s))
    whole = pred.shape[2:] == shape if pred.ndim == 4 else pred.shape[1] == math.prod(shape)
    if not whole:
        raise ValueError(f"eval_type: {eval_type} needs whole images; leave sample_q out of the wrapper")
    if pred.ndim == 3:
        pred, gt = (t.transpose(1, 2).unflatten(-1, shape) for t in (pred, gt))
    return metrics.psnr(pred, gt, protocol, int(scale))
