"""The head in each form that is compared: the official computation, the fold in plain PyTorch, our operators."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import processor
import torch
import torch.nn.functional as F
from ceiling import tf32
from measure import INPUTS, Contender
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from liif_fast import functional, reference
from liif_fast.head import int8, ops

CHUNK = 30_000  # queries at a time, as the official code runs
OURS, REFERENCE, FOLD = "liif_fast", "reference", "fold"
COMPILED, AUTOCAST = ", torch.compile", ", autocast"
LIB = torch.ops.liif_fast
# Largest difference allowed, of colours that span 2. float32: the order of sums. Halves: hidden map and layers are
# rounded to 8 or 11 bits. int8: half a step of 1/255 in three layers.
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3, "int8": 5e-2}


def photo(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """[1, 3, height, width] in [0, 1]: smooth and textured, so that activations are as in photos, and always the
    same."""
    y, x = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 6, width), indexing="ij")
    waves = [(a * x + b * y + c).sin() for a, b, c in ((1, 0.3, 0), (0.2, 1.1, 1), (2.1, 1.7, 2), (9, 7, 0.5))]
    image = torch.stack([waves[i] * 0.3 + waves[3] * 0.08 + waves[(i + 1) % 3] * 0.1 for i in range(3)])
    return (image * 0.5 + 0.5).clamp(0, 1)[None].to(device)


def variants(image: Tensor) -> list[Tensor]:
    """The inputs that runs rotate through: the image, and it shifted."""
    return [image.roll(17 * i, -1).contiguous() for i in range(INPUTS)]


def in_chunks(function: Callable[[Tensor, Tensor], Tensor], coord: Tensor, cell: Tensor, chunk: int = CHUNK) -> Tensor:
    pieces = zip(coord.split(chunk, 1), cell.split(chunk, 1), strict=True)
    return torch.cat([function(c.contiguous(), s.contiguous()) for c, s in pieces], 1)


def grid(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Coordinates and cells of a whole image."""
    coord = functional.make_coord(size, device=device)[None]
    return coord, torch.tensor([2 / n for n in size], device=device).expand_as(coord).contiguous()


def plain_fold(hidden, coord, cell, w_pos, mlp, w_out, b_out) -> Tensor:
    """The folded head as one would write it in plain PyTorch for torch.compile, with gradients."""
    size = hidden.shape[1:3]
    index, rel, weight = reference.corners(coord, size)
    pos = torch.cat([rel, (cell * cell.new_tensor(list(size))).unsqueeze(-2).expand_as(rel)], -1)
    image = torch.arange(hidden.shape[0], device=hidden.device).view(-1, 1, 1)
    x = (hidden[image, index[..., 0], index[..., 1]] + pos @ w_pos.float().t()).relu().to(hidden.dtype)
    for w, b in mlp:
        x = F.linear(x, w, b).relu()
    return (F.linear(x, w_out, b_out).to(weight.dtype) * weight.unsqueeze(-1)).sum(-2)


@functools.cache
def compiled(function: Callable, dynamic: bool | None = None) -> Callable:
    """dynamic: one graph for chunks of any length."""
    return torch.compile(function, dynamic=dynamic)


def by_reference(model, feat: Tensor, coord: Tensor, cell: Tensor, function: Callable = reference.liif) -> Tensor:
    return in_chunks(lambda c, s: function(feat, c, s, model.imnet), coord, cell)


def on(operator: Callable[..., Tensor], given: list[tuple], i: int) -> Tensor:
    return operator(*given[i])


def references(
    model, feats: list[Tensor], coord: Tensor, cell: Tensor, compiled_kinds: tuple[str, ...]
) -> list[Contender]:
    """The official computation as it is run: float32, and what users make of it. ``compiled_kinds``: those that are
    there under torch.compile too, bfloat16 by autocast."""
    cuda = coord.device.type == "cuda"

    def autocast(i: int, dtype: torch.dtype, function: Callable = reference.liif) -> Tensor:
        with torch.autocast(coord.device.type, dtype=dtype):
            return by_reference(model, feats[i], coord, cell, function).float()

    needed, found = reference_work(model, coord), []

    def add(form: str, kind: str, run: Callable[[int], Tensor], tolerance: float, bound: str = "") -> None:
        compiles = form.endswith(COMPILED)
        work = {bound or processor.torch_unit(kind, coord.device): needed}
        found.append(Contender(REFERENCE + form, kind, run, tolerance, work, compiles=compiles))

    add("", "float32", lambda i: by_reference(model, feats[i], coord, cell), 0)
    graph = compiled(reference.liif, dynamic=True)
    if "float32" in compiled_kinds:
        add(COMPILED, "float32", lambda i: by_reference(model, feats[i], coord, cell, graph), 1e-5)
    # Tolerances: tf32 keeps 10 bits of factors in five layers of up to 580 terms; bfloat16 7.
    add(AUTOCAST, "bfloat16", lambda i: autocast(i, torch.bfloat16), 5e-2)
    if "bfloat16" in compiled_kinds:
        add(AUTOCAST + COMPILED, "bfloat16", lambda i: autocast(i, torch.bfloat16, graph), 5e-2)
    if cuda:

        def in_tf32(i: int) -> Tensor:
            with tf32():
                return by_reference(model, feats[i], coord, cell)

        half_imnet = copy.deepcopy(model.imnet).half()
        halves = [f.half() for f in feats]

        def in_half(i: int) -> Tensor:  # model.half(), as users do: coordinates too
            pieces = zip(coord.half().split(CHUNK, 1), cell.half().split(CHUNK, 1), strict=True)
            return torch.cat([reference.liif(halves[i], c, s, half_imnet) for c, s in pieces], 1).float()

        add(", tf32", "float32", in_tf32, 1e-2, "tf32")
        add(AUTOCAST, "float16", lambda i: autocast(i, torch.float16), 1e-2)
        add(", half", "float16", in_half, 1e-2)
    return found


def folds(
    model, hiddens: list[Tensor], coord: Tensor, cell: Tensor, kinds: tuple[str, ...], compile_too: bool, chunk: int
) -> list[Contender]:
    """The fold on its own: its gain is not the kernels'. Plain PyTorch, and under torch.compile in chunks."""
    found = []
    for kind in kinds:
        work = {processor.torch_unit(kind, coord.device): matrix_work(coord)}
        dtype = getattr(torch, kind)
        parts = cast(functional.Head(*model.head()), dtype)
        own = [h.to(dtype) for h in hiddens]
        given = [render_arguments(h, parts, coord, cell) for h in own]
        found.append(Contender(FOLD, kind, lambda i, g=given: ops.PLAIN["render"](*g[i]), TOLERANCE[kind], work))
        if not compile_too:
            continue
        form = compiled(plain_fold, dynamic=True)

        def run(i: int, own=own, p=parts, form=form) -> Tensor:
            return in_chunks(lambda c, s: form(own[i], c, s, p.w_pos, p.mlp, p.w_out, p.b_out), coord, cell, chunk)

        found.append(Contender(FOLD + COMPILED, kind, run, 2 * TOLERANCE[kind], work, compiles=True))
    return found


def ours(
    model,
    image: Tensor,
    feats: list[Tensor],
    hiddens: list[Tensor],
    coord: Tensor,
    cell: Tensor,
    kinds: tuple[str, ...],
    as_image: bool = True,
) -> list[Contender]:
    """Our operators, called as by ``model.render`` (``as_image``: one cell, a part of the hidden map) or by
    ``model.query``: the extension on a CPU, the fused kernel on CUDA."""
    found = []
    given_cell = None if as_image else cell

    def of_grid(head: functional.Head) -> functional.Head:
        size = feats[0].shape[2:]
        return functional.with_cell(head, [c * n for c, n in zip(cell[0, 0].tolist(), size, strict=True)])

    def contender(kind: str, operator: Callable[..., Tensor], given: list[tuple]) -> Contender:
        path = processor.path(kind, coord.device)
        work = {processor.unit(kind, path): matrix_work(coord)}
        return Contender(OURS, kind, functools.partial(on, operator, given), TOLERANCE[kind], work, path=path)

    for kind in kinds:
        if kind == "int8":
            quantized = model.quantize(image)
            parts = functional.Head(*quantized.head())
            parts = of_grid(parts) if as_image else parts
            given = []
            for feat in feats:
                hidden, w_pos, w_mlp, b_mlp, w_out = functional.uniform(functional.hidden_map(feat, parts), parts)
                layers = (*int8.quantize_weights(w_mlp), b_mlp, quantized.act_scale, w_out, parts.b_out)
                given.append((hidden, coord, given_cell, w_pos, *layers, hidden.shape[1:3], (0, 0), True))
            found.append(contender(kind, LIB.render_int8, given))
            continue
        dtype = getattr(torch, kind)
        whole = model.head()
        head = of_grid(model.ordered(whole, feats[0], dtype, coord.shape[1])) if as_image else whole
        own = hiddens if head is whole else [functional.hidden_map(feat, head) for feat in feats]
        parts = cast(functional.Head(*head), dtype)
        given = [render_arguments(h.to(dtype), parts, coord, given_cell) for h in own]
        found.append(contender(kind, LIB.render, given))
    return found


def matrix_work(coord: Tensor) -> float:
    """Operations of the three hidden layers at four corners."""
    return 2.0 * 4 * coord.shape[0] * coord.shape[1] * 3 * 256 * 256


def reference_work(model, coord: Tensor) -> float:
    """Operations of the official computation: the whole MLP at four corners."""
    weights = sum(w.numel() for w in model.imnet.parameters() if w.dim() == 2)
    return 2.0 * 4 * coord.shape[0] * coord.shape[1] * weights


def encoder_work(model, height: int, width: int) -> float:
    """Operations of the encoder's convolutions."""
    with FlopCounterMode(display=False) as counter:
        model.encoder(torch.zeros(1, 3, 16, 16, device=next(model.parameters()).device))
    return counter.get_total_flops() * height * width / 256


def folded_work(model, height: int, width: int) -> float:
    """Operations of the fold's convolution, from features to the hidden map."""
    return 2.0 * height * width * model.head().w_conv.numel()


def cast(head: functional.Head, dtype: torch.dtype) -> functional.Head:
    def to(value):
        return value.to(dtype) if isinstance(value, Tensor) else tuple(map(to, value))

    return functional.Head(*map(to, head))


def render_arguments(hidden, parts, coord, cell):
    hidden, w_pos, w_mlp, b_mlp, w_out = functional.uniform(hidden, parts)
    return hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, parts.b_out, hidden.shape[1:3], (0, 0), True
