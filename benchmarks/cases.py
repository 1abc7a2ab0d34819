"""What is measured, by name: builders of cases, and which sizes they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import exported
import heads
import processor
import torch
from heads import AUTOCAST, COMPILED, FOLD, OURS, REFERENCE
from measure import INPUTS, Bar, Case, Contender, gradients_apart
from recorded import Recorded
from torch import Tensor
from training_cases import step, train

from liif_fast import functional
from liif_fast.head import precision

TO_4K = ((540, 960), (2160, 3840))  # low and high, (height, width)
TO_960P = ((480, 720), (960, 1440))


@dataclass(frozen=True)
class Setup:
    """Where a case runs, and how much of it. ``full``: not only what a minute has the time for; ``compiled``: also what
    torch.compile makes of the reference and the fold, which takes up to a minute for each kind of number."""

    device: torch.device
    tiny: bool = False
    full: bool = True
    compiled: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """A CPU converts float16: left out."""
        return ("float32", "bfloat16") if self.device.type == "cpu" else ("float32", "bfloat16", "float16")


def head(
    low: tuple[int, int], high: tuple[int, int], model, setup: Setup, compiled: tuple[str, ...] = ()
) -> Iterator[Case]:
    """Inference of the head: feature map (hidden map for the fold) to colours, ``low`` pixels to ``high``.
    ``compiled``: kinds of numbers of which the compiled reference is always there."""
    if setup.tiny:
        low, high = (12, 16), (30, 40)
    image = heads.photo(*low, setup.device)
    feats = [model.encoder(x * 2 - 1) for x in heads.variants(image)]
    hiddens = [functional.hidden_map(f, functional.Head(*model.head())) for f in feats]
    coord, cell = heads.grid(high, setup.device)
    cuda = setup.device.type == "cuda"
    chunk = 1 << (18 if cuda else 13)  # fills the device, or stays in the cache
    if setup.compiled:
        compiled = ("float32", "bfloat16") if cuda else ("float32",)
    elif setup.tiny:
        compiled = ()
    found = heads.references(model, feats, coord, cell, compiled)
    kinds = setup.kinds if setup.full else ("float32",)
    found += heads.folds(model, hiddens, coord, cell, kinds, setup.full and setup.compiled, chunk)
    found += heads.ours(model, image, feats, hiddens, coord, cell, (*setup.kinds, "int8"))
    if not setup.full:
        found = [c for c in found if c.name != REFERENCE + AUTOCAST]
    bars = []
    if cuda and high == (1080, 1920):
        bars = [
            Bar((OURS, "bfloat16"), "share", None, 0.6),
            Bar((OURS, "bfloat16"), "share", None, 0.75),
            Bar((OURS, "bfloat16"), "faster than", (REFERENCE, "float32"), 25),
            Bar((OURS, "bfloat16"), "faster than", (REFERENCE + AUTOCAST + COMPILED, "bfloat16"), 10),
            Bar((OURS, "int8"), "faster than", (OURS, "bfloat16"), 1.5),
            Bar((OURS, "bfloat16"), "error of", (FOLD, "bfloat16"), 2),
            # the result, in float32, and the weights in the kernel's form; the hidden map is given, as are coordinates
            Bar((OURS, "bfloat16"), "memory", None, coord.shape[1] * 3 * 4 + 2**20),
        ]
        if setup.compiled:
            bars.append(Bar((OURS, "bfloat16"), "faster than", (FOLD + COMPILED, "bfloat16"), 3))
    elif not cuda and low == (64, 64):
        half, integers = (processor.path(kind, setup.device).startswith("amx_") for kind in ("bfloat16", "int8"))
        bars = [
            Bar((OURS, "float32"), "faster than", (REFERENCE, "float32"), 7.5),
            Bar((OURS, "float32"), "faster than", (REFERENCE + COMPILED, "float32"), 7),
            Bar((OURS, "bfloat16"), "faster than", (REFERENCE, "float32"), 36 if half else 14),
            Bar((OURS, "int8"), "faster than", (REFERENCE, "float32"), 60 if integers else 24),
        ]
        if half:  # autocast has oneDNN use AMX
            bars.append(Bar((OURS, "bfloat16"), "faster than", (REFERENCE + AUTOCAST, "bfloat16"), 8))
            bars.append(Bar((OURS, "bfloat16"), "share", None, 0.55))
    yield Case(f"head {_arrow(low, high)}", found, bars, coord.shape[1])


def upscale(
    low: tuple[int, int],
    high: tuple[int, int],
    model,
    setup: Setup,
    rates: tuple[float, ...] = (),
    official: bool = True,
) -> Iterator[Case]:
    """Image to image with the encoder. The reference is the official pipeline: NCHW encoder, reference head; without
    ``official`` our own float32 is. ``rates``: bars of the renderer in bfloat16, images a second."""
    if setup.tiny:
        low, high = (12, 16), (24, 32)
    images = heads.variants(heads.photo(*low, setup.device))
    cuda = setup.device.type == "cuda"
    tile = 0 if cuda else "auto"

    def by_reference(i: int) -> Tensor:
        coord, cell = heads.grid(high, setup.device)
        colours = heads.by_reference(model, model.encoder(images[i] * 2 - 1), coord, cell)
        return (colours * 0.5 + 0.5).clamp(0, 1).transpose(1, 2).unflatten(-1, high)

    coord, encoder = heads.grid(high, setup.device)[0], heads.encoder_work(model, *low)
    needed = {"float32": encoder + heads.reference_work(model, coord)}
    found = [Contender(REFERENCE, "float32", by_reference, 0, needed)] if official else []
    encoder += heads.folded_work(model, *low)  # without the tiles' borders

    def work(kind: str) -> dict[str, float]:  # int8 is the head's; the encoder takes what the device is good at
        own = getattr(torch, kind) if kind != "int8" else precision.int8_encoder_dtype(setup.device.type)
        own = precision.matmul_dtype(own, setup.device.type) or torch.float32
        head = processor.unit(kind, processor.path(kind, setup.device))
        convolved = processor.torch_unit(str(own)[6:], setup.device)
        return processor.total((convolved, encoder), (head, heads.matrix_work(coord)))

    def ours(dtype: torch.dtype, i: int) -> Tensor:
        return model.upscale(images[i], size=high, dtype=dtype, tile=tile)

    # colours that span 1; encoder and head rounded in every layer
    for kind, tolerance in (("float32", 2e-5), ("bfloat16", 2e-2), ("float16", 3e-3), ("int8", 5e-2)):
        if kind in ((*setup.kinds, "int8") if official else setup.kinds[:2]):
            run = partial(ours, getattr(torch, kind))
            path = processor.path(kind, setup.device)
            found.append(Contender(OURS, kind, run, tolerance, work(kind), path=path))
    bars = []
    if official and not cuda:
        found += exported.contenders(model, images, high, work("float32"), setup.compiled)
    if cuda:  # a CUDA graph with buffers of its own

        def recorded(renderer, i: int) -> Tensor:
            return (renderer(images[i] * 2 - 1) * 0.5 + 0.5).clamp(0, 1)

        for compiles in (False, True) if setup.compiled else (False,):
            name = f"liif_fast, renderer{COMPILED if compiles else ''}"
            run = partial(recorded, model.renderer(high, dtype=torch.bfloat16, compile=compiles))
            found.append(Contender(name, "bfloat16", run, 2e-2, work("bfloat16"), compiles=compiles))
            bars += [Bar((name, "bfloat16"), "per second", None, rate) for rate in rates]
    elif low == (256, 256):
        for kind, least, with_amx in (("float32", 6, 6), ("bfloat16", 11, 25), ("int8", 15, 30)):
            amx = processor.path(kind, setup.device).startswith("amx_")
            bars.append(Bar((OURS, kind), "faster than", (REFERENCE, "float32"), with_amx if amx else least))
    name = "upscale" if official else "frames"
    yield Case(f"{name} {_arrow(low, high)}", found, bars, high[0] * high[1])


def frames(model, setup: Setup) -> Iterator[Case]:
    """In half a minute: two sizes of ``upscale`` without the official pipeline, and what the encoder takes of them."""
    for low, high, rates in ((*TO_4K, (30, 38)), (*TO_960P, (100,))):
        yield from upscale(low, high, model, Setup(setup.device, setup.tiny), rates, official=False)
    yield from encoder(model, setup)


def encoder(model, setup: Setup) -> Iterator[Case]:
    """The encoder and the hidden map of 960x540: as the model is, under autocast, in channels_last, and on CUDA as
    ``model.renderer`` records it."""
    low = (12, 16) if setup.tiny else TO_4K[0]
    images = [image * 2 - 1 for image in heads.variants(heads.photo(*low, setup.device))]
    forms = {"NCHW": images, "channels_last": [x.contiguous(memory_format=torch.channels_last) for x in images]}
    head, work = functional.Head(*model.head()), heads.encoder_work(model, *low)

    def run(kind: str, hidden: bool, x: Tensor) -> Tensor:
        # a recording reads what autocast keeps
        with torch.autocast(
            setup.device.type, dtype=getattr(torch, kind), enabled=kind != "float32", cache_enabled=False
        ):
            feat = model.encoder(x)
            return functional.hidden_map(feat, head) if hidden else feat

    for hidden in (False, True):
        found, needed = [], work + heads.folded_work(model, *low) * hidden
        # by the norm: the order of sums, and in bfloat16 a rounding in each of 34 layers
        for kind, tolerance in (("float32", 1e-5), ("bfloat16", 5e-2)):
            for form, inputs in forms.items():
                each: Callable[[int], Tensor] = lambda i, k=kind, x=inputs, m=hidden: run(k, m, x[i])  # noqa: E731
                unit = processor.torch_unit(kind, setup.device)
                found.append(Contender(form, kind, each, tolerance, {unit: needed}, _apart))
            if setup.device.type == "cuda" and kind == "bfloat16":
                replayed = Recorded(partial(run, kind, hidden), forms["channels_last"])
                found.append(Contender("channels_last, recorded", kind, replayed, tolerance, {unit: needed}, _apart))
        yield Case(f"encoder{' and hidden map' * hidden} {low[1]}x{low[0]}", found)


def _apart(out: Tensor, want: Tensor) -> float:
    return gradients_apart([out], [want])


def tiles(model, setup: Setup) -> Iterator[Case]:
    """A large image whole and in tiles: the same pixels, in less memory."""
    side = 24 if setup.tiny else 512 if setup.device.type == "cpu" else 2048
    image, size = heads.photo(side, side, setup.device), (2 * side, 2 * side)

    def run(tile: int | str) -> Callable[[int], Tensor]:
        return lambda i: model.upscale(image, size=size, tile=tile)

    tile = 8 if setup.tiny else side // 8
    path = processor.path("float32", setup.device)
    found = [Contender("liif_fast, whole", "float32", run(0), path=path)]
    found.append(Contender("liif_fast, tile auto", "float32", run("auto"), 1e-5, path=path))
    found.append(Contender(f"liif_fast, tile {tile}", "float32", run(tile), 1e-5, path=path))
    yield Case(f"tiles {_arrow((side, side), size)}", found, [], size[0] * size[1])


def queries(powers: tuple[int, ...], model, setup: Setup) -> Iterator[Case]:
    """Cost against the number of queries, at random places of a 64x64 map; the reference as far as it is bearable."""
    feat = model.encoder(heads.photo(64, 64, setup.device) * 2 - 1)
    hidden = functional.hidden_map(feat, functional.Head(*model.head()))
    for power in (2, 3) if setup.tiny else powers:
        coord = torch.rand(1, 10**power, 2, device=setup.device) * 2 - 1
        cell = torch.full_like(coord, 2 / 256)
        found = heads.references(model, [feat] * INPUTS, coord, cell, ())[:1] if power < 7 else []
        found += heads.ours(model, hidden, [feat], [hidden] * INPUTS, coord, cell, setup.kinds[:2], as_image=False)
        if found[0].name != REFERENCE:  # too long a run: bfloat16 is checked against our own float32
            found[0].tolerance = 0.0
        yield Case(f"queries 10^{power}", found, [], 10**power)


def scales(model, setup: Setup) -> Iterator[Case]:
    """Cost against the scale, of a 48x48 map."""
    side = 6 if setup.tiny else 48
    for scale in (1, 2, 3, 4, 6, 8, 12):
        for case in head((side, side), (side * scale, side * scale), model, Setup(setup.device, full=False)):
            case.title, case.bars = f"scale x{scale}", []
            yield case


def _arrow(low: tuple[int, int], high: tuple[int, int]) -> str:
    return f"{low[1]}x{low[0]} -> {high[1]}x{high[0]}"


def _gather(model, setup: Setup) -> Iterator[Case]:
    from gather_cases import gather

    return gather(model, setup)


def _gather_corners(model, setup: Setup) -> Iterator[Case]:
    from corner_cases import gather_corners

    return gather_corners(model, setup)


def _lte(model, setup: Setup) -> Iterator[Case]:
    from lte_cases import lte

    return lte(model, setup)


def _lte_train(model, setup: Setup) -> Iterator[Case]:
    from lte_cases import lte_train

    return lte_train(model, setup)


CASES: dict[str, Callable[..., Iterator[Case]]] = {
    "head": partial(head, (64, 64), (256, 256), compiled=("float32",)),
    **{f"head-320-x{s}": partial(head, (180, 320), (180 * s, 320 * s)) for s in (2, 3, 4, 8)},
    "head-1080p": partial(head, (270, 480), (1080, 1920), compiled=("bfloat16",)),
    "head-dvd": partial(head, *TO_960P),
    "head-1440": partial(head, (1080, 1440), (2160, 2880)),
    "head-4k": partial(head, *TO_4K),
    "upscale": partial(upscale, (256, 256), (1024, 1024)),
    "upscale-1080p": partial(upscale, (270, 480), (1080, 1920)),
    "upscale-dvd": partial(upscale, *TO_960P, rates=(100,)),
    "upscale-1440": partial(upscale, (1080, 1440), (2160, 2880)),
    "upscale-4k": partial(upscale, *TO_4K, rates=(30, 38)),
    "frames": frames,
    "train": train,
    "step": step,
    "gather": _gather,
    "gather_corners": _gather_corners,
    "lte": _lte,
    "lte-train": _lte_train,
    "tiles": tiles,
    "queries": partial(queries, (4, 5, 6, 7)),
    "queries-10^8": partial(queries, (8,)),
    "scales": scales,
}
