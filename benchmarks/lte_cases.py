"""LTE's head, inference and training, beside the official computation: three grid_samples and a whole MLP a corner.

Weights are random: no official checkpoint is at hand. What is measured does not depend on them, but for the inputs of
the hidden layers that are zero, about half of them in either case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import heads
import processor
import torch
import torch.nn.functional as F
from heads import OURS, REFERENCE, TOLERANCE
from measure import INPUTS, Bar, Case, Contender, gradients_apart
from torch import Tensor
from training_cases import TOLERANCE as GRADIENTS

import liif_fast
from liif_fast import functional, reference

WITH_MAPS = ", from features"
HIDDEN = 3 * 256 * 256  # weights of the hidden layers


def lte_model(device: torch.device) -> liif_fast.LIIF:
    """EDSR-baseline-LTE as the official configuration has it."""
    encoder = {"name": "edsr-baseline", "args": {"no_upsampling": True}}
    mlp = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256] * 3}}
    torch.manual_seed(0)
    args = {"encoder_spec": encoder, "imnet_spec": mlp, "hidden_dim": 256}
    return liif_fast.make({"name": "lte", "args": args}).to(device).eval()


def official(model, maps: tuple[Tensor, Tensor], inp: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours step by step as the official ``query_rgb`` makes them, from coefficients and frequencies."""
    size = maps[0].shape[-2:]
    centres = reference.make_coord(size, flatten=False, device=coord.device).permute(2, 0, 1)
    centres, scale = centres.expand(len(coord), -1, -1, -1), coord.new_tensor(list(size))
    colours, areas = [], []
    for v_y in (-1, 1):
        for v_x in (-1, 1):
            at = torch.stack([coord[..., i] + (v / size[i] + 1e-6) for i, v in enumerate((v_y, v_x))], -1)
            grid = at.clamp_(-1 + 1e-6, 1 - 1e-6).flip(-1).unsqueeze(1)
            coef, freq, centre = (
                F.grid_sample(t, grid, "nearest", align_corners=False)[:, :, 0].mT for t in (*maps, centres)
            )
            rel = (coord - centre) * scale
            angle = (torch.stack(torch.split(freq, 2, dim=-1), -1) * rel.unsqueeze(-1)).sum(-2)
            angle = math.pi * (angle + model.phase((cell * scale).flatten(0, 1)).view_as(angle))
            x = coef * torch.cat([angle.cos(), angle.sin()], -1)
            colours.append(model.imnet(x.flatten(0, 1)).view(*coord.shape[:2], -1))
            areas.append((rel[..., 0] * rel[..., 1]).abs() + 1e-9)
    total = torch.stack(areas).sum(0)
    found = sum(c * (a / total).unsqueeze(-1) for c, a in zip(colours, reversed(areas), strict=True))
    between = F.grid_sample(inp, coord.flip(-1).unsqueeze(1), "bilinear", "border", align_corners=False)
    return found + between[:, :, 0].mT


def lte(_, setup) -> Iterator[Case]:
    """Inference: maps of coefficients and frequencies to colours of the whole image, the image itself added; and from
    the features, with the convolutions that make the maps."""
    low, high = ((12, 16), (30, 40)) if setup.tiny else ((64, 64), (256, 256))
    device, model = setup.device, lte_model(setup.device)
    images = [image * 2 - 1 for image in heads.variants(heads.photo(*low, device))]
    feats = [model.encoder(x) for x in images]
    coord, cell = heads.grid(high, device)
    maps = [(model.coef(feat), model.freq(feat)) for feat in feats]
    head = functional.with_cell(model.head(), [c * n for c, n in zip(cell[0, 0].tolist(), low, strict=True)])
    hiddens = [functional.hidden_map(feat, head) for feat in feats]

    def by_official(i: int, given: tuple[Tensor, Tensor] | None = None) -> Tensor:
        given = maps[i] if given is None else given
        return heads.in_chunks(lambda c, s: official(model, given, images[i], c, s), coord, cell)

    def ours(kind: str, prepared: bool) -> Callable[[int], Tensor]:
        dtype = getattr(torch, kind)
        renderers = [functional.renderer(h.to(dtype), head) for h in hiddens]
        added = [model._added(image, low, (0, 0)) for image in images]

        def run(i: int) -> Tensor:
            if prepared:
                return renderers[i](coord).add_(added[i](coord))
            with torch.autocast(device.type, dtype=dtype, enabled=kind != "float32"):
                hidden = functional.hidden_map(feats[i], head)
            return functional.renderer(hidden.to(dtype), head)(coord).add_(added[i](coord))

        return run

    products = 2.0 * 4 * coord.shape[1] * HIDDEN
    convolution = heads.folded_work(model, *low)
    for prepared in (True, False):
        by_torch = processor.torch_unit("float32", device)
        work = {by_torch: products + (0 if prepared else convolution)}
        run = by_official if prepared else lambda i: by_official(i, (model.coef(feats[i]), model.freq(feats[i])))
        found = [Contender(REFERENCE, "float32", run, 0, work)]
        for kind in setup.kinds:
            path = processor.path(kind, device)
            parts = [(processor.unit(kind, path), products)]
            parts += [] if prepared else [(processor.torch_unit(kind, device), convolution)]
            # bfloat16: frequencies have 8 bits too, which turn the waves by up to a hundredth
            tolerance = TOLERANCE[kind] * (1 if kind == "float32" else 2)
            found.append(Contender(OURS, kind, ours(kind, prepared), tolerance, processor.total(*parts), path=path))
        bars = []
        if device.type == "cpu":
            bars = [
                Bar((OURS, k), "faster than", (REFERENCE, "float32"), n) for k, n in (("float32", 6), ("bfloat16", 10))
            ]
        name = f"LTE head {low[1]}x{low[0]} -> {high[1]}x{high[0]}{'' if prepared else WITH_MAPS}"
        yield Case(name, found, bars if prepared else [], coord.shape[1])


def lte_train(_, setup) -> Iterator[Case]:
    """Forward and backward: from features to the loss, gradients of the features and of all parameters of the head."""
    batch, side, queries = (2, 12, 48) if setup.tiny else (16 if setup.device.type == "cuda" else 4, 48, 2304)
    device, model = setup.device, lte_model(setup.device).train()
    feats = [(torch.randn(batch, 64, side, side, device=device) * 0.3).requires_grad_() for _ in range(INPUTS)]
    inp = torch.rand(batch, 3, side, side, device=device)
    coord = torch.rand(batch, queries, 2, device=device) * 2 - 1
    cell, target = torch.full_like(coord, 2 / side / 2.5), torch.rand(batch, queries, 3, device=device)
    parameters = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]

    def contender(name: str, kind: str, predict: Callable[[Tensor], Tensor]) -> Contender:
        def run(i: int) -> list[Tensor]:
            dtype = getattr(torch, kind)
            with torch.enable_grad(), torch.autocast(device.type, dtype=dtype, enabled=kind != "float32"):
                return list(torch.autograd.grad(F.l1_loss(predict(feats[i]).float(), target), [feats[i], *parameters]))

        path = processor.path(kind, device, training=True) if name == OURS else ""
        by_torch = processor.torch_unit(kind, device)
        products = 3 * 2.0 * 4 * batch * queries * HIDDEN
        unit = processor.unit(kind, path) if path else by_torch
        work = processor.total((unit, products), (by_torch, 3 * batch * heads.folded_work(model, side, side)))
        return Contender(name, kind, run, GRADIENTS[kind], work, gradients_apart, path=path)

    forms = {
        REFERENCE: lambda feat: official(model, (model.coef(feat), model.freq(feat)), inp, coord, cell),
        OURS: lambda feat: model.query(feat, coord, cell, inp),
    }
    found = [contender(name, kind, form) for kind in GRADIENTS for name, form in forms.items()]
    bars = []
    if device.type == "cpu":
        bars = [Bar((OURS, kind), "faster than", (REFERENCE, "float32"), 1.5) for kind in GRADIENTS]
    yield Case(f"LTE training head {batch} x {side}x{side}, {queries} queries", found, bars, batch * queries)
