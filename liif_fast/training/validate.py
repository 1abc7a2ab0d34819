"""PSNR of a model on a dataset in the official way: ``eval_psnr`` of the official ``test.py``."""

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
from .step import check_colours, norm_tensors


@torch.no_grad()
def mean_psnr(
    model: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    data_norm: state_dicts.DataNorm,
    device: torch.device,
    eval_type: str | None = None,
    eval_bsize: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Mean over the samples of all processes of their batches' PSNR in dB; None when stopped in between.

    Args:
        model: ``model(inp, coord, cell)``; with ``eval_bsize`` also ``gen_feat`` and ``query_rgb``.
        batches: this process's share, as the wrappers give them.
        eval_type: ``benchmark-S``: on luma, a border of S left out; ``div2k-S``: on RGB, a border of S + 6; None: all
            values.
        eval_bsize: queries at a time; None: all at once.

    Raises:
        ConfigError: the model gives no colour for every query. PeerError: another process could not go on. And whatever
            ``batches`` and ``model`` raise.
    """
    inp_sub, inp_div = norm_tensors(data_norm["inp"], (1, -1, 1, 1), device)
    gt_sub, gt_div = norm_tensors(data_norm["gt"], (1, 1, -1), device)
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
            inp = (batch["inp"] - inp_sub) / inp_div
            pred = _predict(model, inp, batch["coord"], batch["cell"], eval_bsize)
            check_colours(pred, batch["gt"])
            pred = (pred.float() * gt_div + gt_sub).clamp(0, 1)
            total[0] += batch_psnr(pred, batch["gt"], inp.shape, eval_type) * inp.shape[0]
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
    if bsize is None:
        return model(inp, coord, cell)
    model.gen_feat(inp)
    return torch.cat(
        [model.query_rgb(c, s) for c, s in zip(coord.split(bsize, 1), cell.split(bsize, 1), strict=True)], 1
    )


def batch_psnr(pred: Tensor, gt: Tensor, inp_shape: torch.Size, eval_type: str | None) -> float:
    """PSNR in dB of a batch's colours ``[B, Q, 3]`` in [0, 1], see ``mean_psnr``; ValueError if no whole images."""
    if eval_type is None:
        mse = (pred - gt).square().mean().item()
        return -10 * math.log10(mse) if mse else math.inf
    protocol, scale = eval_type.split("-")
    h, w = inp_shape[-2:]
    s = math.sqrt(pred.shape[1] / (h * w))
    shape = (round(h * s), round(w * s))
    if math.prod(shape) != pred.shape[1]:
        raise ValueError(f"eval_type: {eval_type} needs whole images; leave sample_q out of the wrapper")
    pred, gt = (t.transpose(1, 2).unflatten(-1, shape) for t in (pred, gt))
    return metrics.psnr(pred, gt, protocol, int(scale))
