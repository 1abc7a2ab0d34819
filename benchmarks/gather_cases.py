"""The gather and its gradient alone, counted in bytes: what a CUDA device's copy bandwidth allows."""

from __future__ import annotations

from collections.abc import Iterator

import heads
import processor
import torch
from heads import LIB, OURS
from measure import Bar, Case, Contender, gradients_apart

from liif_fast import reference
from liif_fast.head import ops


def gather(model, setup) -> Iterator[Case]:
    """For training's random queries and for the grid of an image."""
    sizes = {"train": (16, 48, 48, 2304), "grid": (1, 270, 480, 1 << 18)}
    if setup.tiny:
        sizes = {"train": (1, 12, 12, 64), "grid": (1, 9, 16, 400)}
    device, d = setup.device, model.head().b_conv.shape[0]
    for name, (batch, h, w, q) in sizes.items():
        coord = torch.rand(batch, q, 2, device=device) * 2 - 1
        if name == "grid":  # whole rows from the middle of the picture
            start = 2 * h * 4 * w
            coord = heads.grid((4 * h, 4 * w), device)[0][:, start : start + q].contiguous()
        cell, w_pos = torch.full_like(coord, 2 / (4 * h)), torch.randn(d, 4, device=device)
        path = processor.path("gather", device)
        index, _, _ = reference.corners(coord, (h, w))
        flat = index[..., 0] * w + index[..., 1] + torch.arange(batch, device=device).view(-1, 1, 1) * h * w
        touched, rows = flat.unique().numel(), batch * q * 4
        geometry = coord.nbytes + cell.nbytes + w_pos.nbytes
        for kind, unit in (("bfloat16", 2**-7), ("float32", 1e-5)):
            hidden = torch.randn(batch, h, w, d, device=device).to(getattr(torch, kind))
            size = hidden.element_size()
            given = (hidden, coord, cell, w_pos, (h, w), (0, 0), True)
            needed = touched * d * size + geometry + rows * (d * size + 4)
            forward = [
                Contender("plain PyTorch", kind, lambda i, g=given: ops.PLAIN["corner_gather"](*g)[0]),
                # values of up to about 10, rounded once more or less
                Contender(
                    OURS, kind, lambda i, g=given: LIB.corner_gather(*g)[0], 16 * unit, {"copy": needed}, path=path
                ),
            ]
            bars = [Bar((OURS, kind), "share", None, 0.7)] if device.type == "cuda" else []
            yield Case(f"gather {name} {kind}", forward, bars, batch * q)
            h_out, _ = LIB.corner_gather(*given)
            back = (torch.randn_like(h_out), h_out, coord, cell, w_pos, (h, w), (h, w), (0, 0), True)
            needed = 2 * rows * d * size + geometry + hidden.nbytes + w_pos.nbytes
            plain, own = ops.PLAIN["corner_gather_backward"], LIB.corner_gather_backward
            backward = [
                Contender("plain PyTorch", kind, lambda i, g=back, f=plain: list(f(*g)), apart=gradients_apart),
                # sums of up to some thousand terms in another order, rounded once
                Contender(
                    OURS, kind, lambda i, g=back, f=own: list(f(*g)), unit, {"copy": needed}, gradients_apart, path=path
                ),
            ]
            yield Case(f"gather backward {name} {kind}", backward, bars, batch * q)
