"""What is measured: for each case the contenders, the first of which is the reference that the others must equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import liif_fast
from liif_fast import functional, int8, ops, reference

CHUNK = 30_000  # queries at a time, as the official code runs


@dataclass
class Contender:
    """``run`` gives the result to check and time; ``ops``: operations of its matrices; ``kind``: of numbers."""

    name: str
    kind: str
    run: Callable[[], Tensor]
    ops: float = 0.0
    tolerance: float = 0.0


def _cast(value, dtype: torch.dtype):
    return value.to(dtype) if isinstance(value, Tensor) else tuple(_cast(v, dtype) for v in value)


def _reference(model, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    pieces = zip(coord.split(CHUNK, 1), cell.split(CHUNK, 1), strict=True)
    return torch.cat([reference.liif(feat, c, s, model.imnet) for c, s in pieces], 1)


def _photo(side: int) -> Tensor:
    """[1, 3, side, side] in [0, 1]: smooth and textured, so that activations are as in photos, and always the same."""
    y, x = torch.meshgrid(torch.linspace(0, 6, side), torch.linspace(0, 6, side), indexing="ij")
    waves = [(a * x + b * y + c).sin() for a, b, c in ((1, 0.3, 0), (0.2, 1.1, 1), (2.1, 1.7, 2), (9, 7, 0.5))]
    image = torch.stack([waves[i] * 0.3 + waves[3] * 0.08 + waves[(i + 1) % 3] * 0.1 for i in range(3)])
    return (image * 0.5 + 0.5).clamp(0, 1)[None]


def head(model: liif_fast.LIIF, side: int = 64, scale: float = 4) -> list[Contender]:
    """Inference of the head: feature map (hidden map for ``render``) to colours."""
    with torch.no_grad():
        feat = model.encoder(_photo(side) * 2 - 1)
    size = (round(side * scale),) * 2
    coord = functional.make_coord(size)[None]
    cell = torch.tensor([2 / size[0], 2 / size[1]]).expand_as(coord)
    work = 2.0 * 4 * coord.shape[1] * 3 * 256 * 256
    found = [Contender("reference", "float32", lambda: _reference(model, feat, coord, cell))]
    # Largest difference allowed, of colours that span 2. float32: the order of sums. Halves: hidden map and layers
    # are rounded to 8 or 11 bits. int8: half a step of 1/255 in three layers.
    for kind, tolerance in (("float32", 2e-6), ("bfloat16", 1e-2), ("float16", 2e-3)):
        parts = functional.Head(*_cast(model.head(), getattr(torch, kind)))
        hidden = functional.hidden_map(feat, functional.Head(*model.head())).to(getattr(torch, kind))
        arguments = _render_arguments(hidden, parts, coord, cell)
        found.append(_contender("render", kind, torch.ops.liif_fast.render, arguments, work, tolerance))
        found.append(_contender("fold in plain PyTorch", kind, ops.PLAIN["render"], arguments, work, tolerance))
    quantized = model.quantize(_photo(side))
    parts = functional.Head(*quantized.head())
    hidden, w_pos, w_mlp, b_mlp, w_out = functional.uniform(functional.hidden_map(feat, parts), parts)
    arguments = (hidden, coord, cell, w_pos, *int8.quantize_weights(w_mlp), b_mlp, quantized.act_scale)
    arguments = (*arguments, w_out, parts.b_out, hidden.shape[1:3], (0, 0), True)
    found.append(_contender("render", "int8", torch.ops.liif_fast.render_int8, arguments, work, 5e-2))
    return found


def _render_arguments(hidden, parts, coord, cell):
    hidden, w_pos, w_mlp, b_mlp, w_out = functional.uniform(hidden, parts)
    return hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, parts.b_out, hidden.shape[1:3], (0, 0), True


def _contender(name, kind, function, arguments, work, tolerance) -> Contender:
    return Contender(name, kind, lambda: function(*arguments), work, tolerance)


def train(model: liif_fast.LIIF, batch: int = 4, side: int = 48, queries: int = 2304) -> list[Contender]:
    """Training of the head, forward and backward: gradients of features and of the MLP's weights."""
    feat = torch.randn(batch, model.encoder.out_dim, side, side, generator=torch.Generator().manual_seed(0)) * 0.3
    coord, cell = torch.rand(batch, queries, 2) * 2 - 1, torch.full((batch, queries, 2), 2 / side / 2.5)
    target = torch.rand(batch, queries, 3)
    parameters = list(model.imnet.parameters())
    feat.requires_grad_()

    def step(predict: Callable[[], Tensor], amp: bool) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                loss = F.l1_loss(predict().float(), target)
                grads = torch.autograd.grad(loss, [feat, *parameters])
            return torch.cat([g.flatten() / g.abs().max() for g in grads])

        return run

    def by_reference() -> Tensor:
        return reference.liif(feat, coord, cell, model.imnet)

    def by_fold() -> Tensor:
        return model.query(feat, coord, cell)

    # Each gradient relative to its largest entry. A ReLU at zero may switch, and L1's sign with it: 1 % of the largest
    # gradient in float32, more where bfloat16 moves everything.
    return [
        Contender("reference", "float32", step(by_reference, False)),
        Contender("liif_fast", "float32", step(by_fold, False), 0, 1e-2),
        Contender("reference", "bfloat16", step(by_reference, True), 0, 0.5),
        Contender("liif_fast", "bfloat16", step(by_fold, True), 0, 0.5),
    ]


def upscale(model: liif_fast.LIIF, side: int = 256, scale: int = 4) -> list[Contender]:
    """Image to image with the encoder. The reference is the official pipeline: NCHW encoder, reference head."""
    image = _photo(side)
    size = (side * scale, side * scale)
    coord = functional.make_coord(size)[None]
    cell = torch.tensor([2 / size[0], 2 / size[1]]).expand_as(coord)

    def official() -> Tensor:
        colours = _reference(model, model.encoder(image * 2 - 1), coord, cell)
        return (colours * 0.5 + 0.5).clamp(0, 1).transpose(1, 2).unflatten(-1, size)

    tolerances = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.int8: 5e-2}  # as for the head
    return [
        Contender("reference", "float32", official),
        *(
            Contender("upscale", str(d)[6:], lambda d=d: model.upscale(image, size=size, dtype=d), 0, tolerances[d])
            for d in tolerances
        ),
    ]


CASES = {"head": head, "train": train, "upscale": upscale}
