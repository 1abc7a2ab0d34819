"""What is measured, by name: builders of cases, and which sizes they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import heads
import torch
from heads import AUTOCAST, COMPILED, FOLD, OURS, REFERENCE
from measure import INPUTS, Bar, Case, Contender
from torch import Tensor
from training_cases import step, train

from liif_fast import functional
from liif_fast.head import precision


@dataclass(frozen=True)
class Setup:
    """Where a case runs, and how much of it. ``full``: contenders that only --suite has time for."""

    device: torch.device
    tiny: bool = False
    full: bool = True

    @property
    def kinds(self) -> tuple[str, ...]:
        """A CPU converts float16: left out."""
        return ("float32", "bfloat16") if self.device.type == "cpu" else ("float32", "bfloat16", "float16")


def head(low: tuple[int, int], high: tuple[int, int], model, setup: Setup) -> Iterator[Case]:
    """Inference of the head: feature map (hidden map for the fold) to colours, ``low`` pixels to ``high``."""
    if setup.tiny:
        low, high = (12, 16), (30, 40)
    image = heads.photo(*low, setup.device)
    feats = [model.encoder(x * 2 - 1) for x in heads.variants(image)]
    hiddens = [functional.hidden_map(f, functional.Head(*model.head())) for f in feats]
    coord, cell = heads.grid(high, setup.device)
    cuda = setup.device.type == "cuda"
    chunk = 1 << (18 if cuda else 13)  # fills the device, or stays in the cache
    found = heads.references(model, feats, coord, cell, compile_too=True)
    kinds = setup.kinds if setup.full else ("float32",)
    found += heads.folds(model, hiddens, coord, cell, kinds, setup.full, chunk)
    found += heads.ours(model, image, feats, hiddens, coord, cell, (*setup.kinds, "int8"))
    if not setup.full:
        found = [c for c in found if c.name != REFERENCE + AUTOCAST]
    bars = []
    if cuda and high == (1080, 1920):
        bars = [
            Bar((OURS, "bfloat16"), "share", None, 0.6),
            Bar((OURS, "bfloat16"), "faster than", (REFERENCE, "float32"), 25),
            Bar((OURS, "bfloat16"), "faster than", (FOLD + COMPILED, "bfloat16"), 3),
            Bar((OURS, "int8"), "faster than", (OURS, "bfloat16"), 1.5),
            Bar((OURS, "bfloat16"), "error of", (FOLD, "bfloat16"), 2),
            Bar((OURS, "bfloat16"), "memory", None, coord.shape[1] * 3 * 4),  # the result, in float32
        ]
    elif not cuda and low == (64, 64):
        bars = [
            Bar((OURS, "float32"), "faster than", (REFERENCE, "float32"), 7.5),
            Bar((OURS, "float32"), "faster than", (REFERENCE + COMPILED, "float32"), 7),
            Bar((OURS, "bfloat16"), "faster than", (REFERENCE, "float32"), 14),
            Bar((OURS, "int8"), "faster than", (REFERENCE, "float32"), 24),
        ]
    yield Case(f"head {_arrow(low, high)}", found, bars, coord.shape[1])


def upscale(low: tuple[int, int], high: tuple[int, int], model, setup: Setup, rate: float = 0) -> Iterator[Case]:
    """Image to image with the encoder. The reference is the official pipeline: NCHW encoder, reference head."""
    if setup.tiny:
        low, high = (12, 16), (24, 32)
    images = heads.variants(heads.photo(*low, setup.device))
    cuda = setup.device.type == "cuda"
    tile = 0 if cuda else "auto"

    def official(i: int) -> Tensor:
        coord, cell = heads.grid(high, setup.device)
        colours = heads.by_reference(model, model.encoder(images[i] * 2 - 1), coord, cell)
        return (colours * 0.5 + 0.5).clamp(0, 1).transpose(1, 2).unflatten(-1, high)

    coord, encoder = heads.grid(high, setup.device)[0], heads.encoder_work(model, *low)
    found = [Contender(REFERENCE, "float32", official, 0, {"float32": encoder + heads.reference_work(model, coord)})]
    encoder += heads.folded_work(model, *low)  # without the tiles' borders

    def work(kind: str) -> dict[str, float]:  # int8 is the head's; the encoder takes what the device is good at
        own = getattr(torch, kind) if kind != "int8" else torch.float32
        own = precision.matmul_dtype(own, setup.device.type) or torch.float32
        amount = {str(own)[6:]: encoder}
        amount[kind] = amount.get(kind, 0) + heads.matrix_work(coord)
        return amount

    def ours(dtype: torch.dtype, i: int) -> Tensor:
        return model.upscale(images[i], size=high, dtype=dtype, tile=tile)

    # colours that span 1; encoder and head rounded in every layer
    for kind, tolerance in (("float32", 2e-5), ("bfloat16", 2e-2), ("float16", 3e-3), ("int8", 5e-2)):
        if kind in (*setup.kinds, "int8"):
            run = partial(ours, getattr(torch, kind))
            found.append(Contender(OURS, kind, run, tolerance, work(kind)))
    bars = [] if rate == 0 else [Bar((OURS, "bfloat16"), "per second", None, rate)]
    if cuda:  # a CUDA graph with buffers of its own
        renderer = model.renderer(high, dtype=torch.bfloat16)
        graph = "liif_fast, renderer"

        def recorded(i: int) -> Tensor:
            return (renderer(images[i] * 2 - 1) * 0.5 + 0.5).clamp(0, 1)

        found.append(Contender(graph, "bfloat16", recorded, 2e-2, work("bfloat16")))
        bars += [] if rate == 0 else [Bar((graph, "bfloat16"), "per second", None, rate)]
    elif low == (256, 256):
        bars = [
            Bar((OURS, kind), "faster than", (REFERENCE, "float32"), least)
            for kind, least in (("float32", 6), ("bfloat16", 11), ("int8", 15))
        ]
    yield Case(f"upscale {_arrow(low, high)}", found, bars, high[0] * high[1])


def tiles(model, setup: Setup) -> Iterator[Case]:
    """A large image whole and in tiles: the same pixels, in less memory."""
    side = 24 if setup.tiny else 512 if setup.device.type == "cpu" else 2048
    image, size = heads.photo(side, side, setup.device), (2 * side, 2 * side)

    def run(tile: int | str) -> Callable[[int], Tensor]:
        return lambda i: model.upscale(image, size=size, tile=tile)

    tile = 8 if setup.tiny else side // 8
    found = [Contender("liif_fast, whole", "float32", run(0))]
    found.append(Contender("liif_fast, tile auto", "float32", run("auto"), 1e-5))
    found.append(Contender(f"liif_fast, tile {tile}", "float32", run(tile), 1e-5))
    yield Case(f"tiles {_arrow((side, side), size)}", found, [], size[0] * size[1])


def queries(powers: tuple[int, ...], model, setup: Setup) -> Iterator[Case]:
    """Cost against the number of queries, at random places of a 64x64 map; the reference as far as it is bearable."""
    feat = model.encoder(heads.photo(64, 64, setup.device) * 2 - 1)
    hidden = functional.hidden_map(feat, functional.Head(*model.head()))
    for power in (2, 3) if setup.tiny else powers:
        coord = torch.rand(1, 10**power, 2, device=setup.device) * 2 - 1
        cell = torch.full_like(coord, 2 / 256)
        found = heads.references(model, [feat] * INPUTS, coord, cell, False)[:1] if power < 7 else []
        found += heads.ours(model, hidden, [feat], [hidden] * INPUTS, coord, cell, setup.kinds[:2], as_image=False)
        if found[0].name != REFERENCE:  # too long a run: bfloat16 is checked against our own float32
            found[0].tolerance = 0.0
        yield Case(f"queries 10^{power}", found, [], 10**power)


def scales(model, setup: Setup) -> Iterator[Case]:
    """Cost against the scale, of a 48x48 map."""
    side = 6 if setup.tiny else 48
    for scale in (1, 2, 3, 4, 6, 8, 12):
        for case in head((side, side), (side * scale, side * scale), model, Setup(setup.device, full=False)):
            case.contenders = [c for c in case.contenders if COMPILED not in c.name]
            case.title, case.bars = f"scale x{scale}", []
            yield case


def _arrow(low: tuple[int, int], high: tuple[int, int]) -> str:
    return f"{low[1]}x{low[0]} -> {high[1]}x{high[0]}"


def _gather(model, setup: Setup) -> Iterator[Case]:
    from gather_cases import gather

    return gather(model, setup)


CASES: dict[str, Callable[..., Iterator[Case]]] = {
    "head": partial(head, (64, 64), (256, 256)),
    **{f"head-320-x{s}": partial(head, (180, 320), (180 * s, 320 * s)) for s in (2, 3, 4, 8)},
    "head-1080p": partial(head, (270, 480), (1080, 1920)),
    "head-dvd": partial(head, (480, 720), (960, 1440)),
    "head-1440": partial(head, (1080, 1440), (2160, 2880)),
    "head-4k": partial(head, (540, 960), (2160, 3840)),
    "upscale": partial(upscale, (256, 256), (1024, 1024)),
    "upscale-1080p": partial(upscale, (270, 480), (1080, 1920)),
    "upscale-dvd": partial(upscale, (480, 720), (960, 1440), rate=100),
    "upscale-1440": partial(upscale, (1080, 1440), (2160, 2880)),
    "upscale-4k": partial(upscale, (540, 960), (2160, 3840), rate=30),
    "train": train,
    "step": step,
    "gather": _gather,
    "tiles": tiles,
    "queries": partial(queries, (4, 5, 6, 7)),
    "queries-10^8": partial(queries, (8,)),
    "scales": scales,
}
