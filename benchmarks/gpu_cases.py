"""What benchmarks/gpu.py measures: contenders, of which the first is what the others must equal, and bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cases
import torch
import torch.nn.functional as F
from gpu_timing import Contender, gradients_apart
from torch import Tensor

import liif_fast
from liif_fast import chain, functional, int8, ops, reference

LIB = torch.ops.liif_fast
LIF = "liif_fast"
COMPILED = "fold, torch.compile"


@dataclass
class Bar:
    """``least`` times as fast as another row (or, of "share": of the ceiling of its kind), or at most that memory."""

    row: tuple[str, str]  # contender, dtype
    quantity: str  # "faster than", "share", "memory of", "frames per second"
    than: tuple[str, str] | None
    bound: float


@dataclass
class Case:
    contenders: list[Contender]
    bars: list[Bar]


def fold(hidden, coord, cell, w_pos, mlp, w_out, b_out) -> Tensor:
    """The folded head as one would write it in plain PyTorch for torch.compile, with gradients."""
    size = hidden.shape[1:3]
    index, rel, weight = reference.corners(coord, size)
    pos = torch.cat([rel, (cell * cell.new_tensor(list(size))).unsqueeze(-2).expand_as(rel)], -1)
    image = torch.arange(hidden.shape[0], device=hidden.device).view(-1, 1, 1)
    x = (hidden[image, index[..., 0], index[..., 1]] + pos @ w_pos.float().t()).relu().to(hidden.dtype)
    for w, b in mlp:
        x = F.linear(x, w, b).relu()
    return (F.linear(x, w_out, b_out).to(weight.dtype) * weight.unsqueeze(-1)).sum(-2)


def gather(model: liif_fast.LIIF, device: torch.device, tiny: bool) -> Iterator[tuple[str, Case]]:
    """The operators alone, for training's random queries and for the grid of an image."""
    sizes = {"train": (1, 12, 12, 64), "grid": (1, 9, 16, 400)} if tiny else {}
    sizes = sizes or {"train": (16, 48, 48, 2304), "grid": (1, 270, 480, 1 << 18)}
    for name, (B, h, w, Q) in sizes.items():
        D = model.head().b_conv.shape[0]
        torch.manual_seed(0)
        coord = torch.rand(B, Q, 2, device=device) * 2 - 1
        if name == "grid":  # whole rows from the middle of the picture
            width = 4 * w
            grid = functional.make_coord((4 * h, width), device=device)
            start = 2 * h * width
            coord = grid[start : start + Q][None].contiguous()
        cell = torch.full_like(coord, 2 / (4 * h))
        w_pos = torch.randn(D, 4, device=device)
        index, _, _ = reference.corners(coord, (h, w))
        flat = index[..., 0] * w + index[..., 1] + torch.arange(B, device=device).view(-1, 1, 1) * h * w
        touched = flat.unique().numel()
        for dtype, unit in ((torch.bfloat16, 2**-7), (torch.float32, 1e-5)):
            hidden = torch.randn(B, h, w, D, device=device).to(dtype)
            kind, size = str(dtype)[6:], hidden.element_size()
            given = (hidden, coord, cell, w_pos, (h, w), (0, 0), True)
            rows = B * Q * 4
            geometry = coord.nbytes + cell.nbytes + w_pos.nbytes
            needed = touched * D * size + geometry + rows * (D * size + 4)
            forward = [
                Contender("plain PyTorch", kind, lambda g=given: ops.PLAIN["corner_gather"](*g)[0]),
                # values of up to about 10, rounded once more or less
                Contender(LIF, kind, lambda g=given: LIB.corner_gather(*g)[0], 16 * unit, 0, needed),
            ]
            yield f"gather {name}", Case(forward, [Bar((LIF, kind), "share", None, 0.7)])
            h_out, _ = LIB.corner_gather(*given)
            grad = torch.randn_like(h_out)
            back = (grad, h_out, coord, cell, w_pos, (h, w), (h, w), (0, 0), True)
            needed = 2 * rows * D * size + geometry + hidden.nbytes + w_pos.nbytes
            backward = [
                Contender("plain PyTorch", kind, lambda g=back: list(ops.PLAIN["corner_gather_backward"](*g))),
                # sums of up to some thousand terms in another order, rounded once
                Contender(LIF, kind, lambda g=back: list(LIB.corner_gather_backward(*g)), unit, 0, needed),
            ]
            for c in backward:
                c.apart = gradients_apart
            yield f"gather backward {name}", Case(backward, [Bar((LIF, kind), "share", None, 0.7)])


def train(model: liif_fast.LIIF, device: torch.device, tiny: bool) -> Iterator[tuple[str, Case]]:
    """The head forward and backward: gradients of features and of the MLP's parameters."""
    batch, side, queries = (2, 12, 48) if tiny else (16, 48, 2304)
    torch.manual_seed(0)
    feat = (torch.randn(batch, model.encoder.out_dim, side, side, device=device) * 0.3).requires_grad_()
    coord = torch.rand(batch, queries, 2, device=device) * 2 - 1
    cell, target = torch.full_like(coord, 2 / side / 2.5), torch.rand(batch, queries, 3, device=device)
    wanted = [feat, *model.imnet.parameters()]
    compiled = torch.compile(fold, dynamic=False)

    def step(predict: Callable[[], Tensor], kind: str) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            amp = kind != "float32"
            with torch.enable_grad(), torch.autocast(device.type, dtype=getattr(torch, kind), enabled=amp):
                return list(torch.autograd.grad(F.l1_loss(predict().float(), target), wanted))

        return run

    def head_and_map():
        head = model.head()
        return head, functional.hidden_map(feat, head)

    def by_reference() -> Tensor:
        return reference.liif(feat, coord, cell, model.imnet)

    def by_fold() -> Tensor:
        head, hidden = head_and_map()
        return compiled(hidden, coord, cell, head.w_pos, head.mlp, head.w_out, head.b_out)

    def by_chain(**options: bool) -> Callable[[], Tensor]:
        def predict() -> Tensor:
            head, hidden = head_and_map()
            return chain.query(hidden, coord, cell, head.w_pos, head.mlp, head.w_out, head.b_out, **options)

        return predict

    def by_decode() -> Tensor:
        head, hidden = head_and_map()
        hidden, w_pos, *layers = functional.uniform(hidden, head)
        return LIB.decode(hidden, coord, cell, w_pos, *layers, head.b_out, True)

    variants = {
        LIF: lambda: model.query(feat, coord, cell),
        "chain, first layer again": by_chain(recompute=True),
        "chain, blend first": by_chain(blend_first=True),
        "chain, both": by_chain(recompute=True, blend_first=True),
        "decode, all again": by_decode,
    }
    work = 3 * 2.0 * 4 * batch * queries * 3 * 256 * 256
    found, bars = [], []
    # Norms of gradients' differences. A ReLU at zero may switch, and the loss's sign with it; bfloat16 rounds every
    # layer to 2^-8 and switches some percent of the small ones.
    for kind, tolerance in (("float32", 5e-3), ("bfloat16", 0.3)):
        found.append(Contender("reference", kind, step(by_reference, kind), tolerance))
        found.append(Contender(COMPILED, kind, step(by_fold, kind), tolerance, work))
        found += [Contender(n, kind, step(f, kind), tolerance, work) for n, f in variants.items()]
        bars.append(Bar((LIF, kind), "faster than", (COMPILED, kind), 1.3))
    bars += [
        Bar((LIF, "float32"), "faster than", ("reference", "float32"), 4),
        Bar((LIF, "bfloat16"), "faster than", ("reference", "float32"), 4),
        Bar((LIF, "bfloat16"), "faster than", ("reference", "bfloat16"), 2.5),
        Bar((LIF, "float32"), "memory of", ("reference", "float32"), 0.25),
        Bar((LIF, "bfloat16"), "memory of", ("reference", "bfloat16"), 0.25),
    ]
    for c in found:
        c.apart = gradients_apart
    yield "train", Case(found, bars)


def step(model: liif_fast.LIIF, device: torch.device, tiny: bool) -> Iterator[tuple[str, Case]]:
    """A whole training step of the official configuration: encoder, head, loss, gradients, Adam."""
    batch, side, queries = (2, 12, 48) if tiny else (16, 48, 2304)
    torch.manual_seed(0)
    inp = torch.rand(batch, 3, side, side, device=device) * 2 - 1
    coord = torch.rand(batch, queries, 2, device=device) * 2 - 1
    cell, target = torch.full_like(coord, 2 / side / 2.5), torch.rand(batch, queries, 3, device=device)
    # a rate of 0 does all the work and leaves the weights as they are, so that every run has the same gradients
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)

    def by_reference() -> Tensor:
        # .float(): the official code's coordinates are float32 under autocast too, as are its grid_samples
        return reference.liif(model.encoder(inp).float(), coord, cell, model.imnet)

    def run(predict: Callable[[], Tensor], kind: str) -> list[Tensor]:
        with torch.enable_grad():
            with torch.autocast(device.type, dtype=getattr(torch, kind), enabled=kind != "float32"):
                loss = F.l1_loss(predict().float(), target)
            loss.backward()
        optimizer.step()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        optimizer.zero_grad()
        return grads

    found, bars = [], []
    for kind, tolerance in (("float32", 5e-3), ("bfloat16", 0.3)):  # as for the head
        for name, predict in (("reference", by_reference), (LIF, lambda: model(inp, coord, cell))):
            # the reference may differ by twice as much in bfloat16, and is timed all the same
            allowed = tolerance * (2 if name == "reference" else 1)
            found.append(Contender(name, kind, lambda p=predict, k=kind: run(p, k), allowed, apart=gradients_apart))
        bars.append(Bar((LIF, kind), "faster than", ("reference", kind), 2.5))
        bars.append(Bar((LIF, kind), "memory of", ("reference", kind), 0.25))
    yield "step", Case(found, bars)


def _photo(size: tuple[int, int], device: torch.device) -> Tensor:
    """[1, 3, H, W] in [0, 1]"""
    return F.interpolate(cases._photo(256), size, mode="bilinear").to(device)


def _in_chunks(function: Callable[..., Tensor], chunk: int) -> Callable[..., Tensor]:
    def run(hidden, coord, cell, *rest) -> Tensor:
        parts = zip(coord.split(chunk, 1), cell.split(chunk, 1), strict=True)
        return torch.cat([function(hidden, c.contiguous(), s.contiguous(), *rest) for c, s in parts], 1)

    return run


def render(model: liif_fast.LIIF, device: torch.device, tiny: bool) -> Iterator[tuple[str, Case]]:
    """Inference of the head: feature map (hidden map for ``render``) to colours."""
    low, high = ((27, 48), (108, 192)) if tiny else ((270, 480), (1080, 1920))
    photo = _photo(low, device)
    feat = model.encoder(photo * 2 - 1)
    coord = functional.make_coord(high, device=device)[None]
    cell = torch.tensor([2 / n for n in high], device=device).expand_as(coord)
    work = 2.0 * 4 * coord.shape[1] * 3 * 256 * 256
    full = functional.Head(*model.head())
    hidden = functional.hidden_map(feat, full)
    found = [Contender("reference", "float32", lambda: cases._reference(model, feat, coord, cell))]
    compiled = _in_chunks(torch.compile(fold, dynamic=False), 1 << (12 if tiny else 18))
    # colours that span 2, as on the CPU: sums in another order; hidden map and layers rounded to 8 or 11 bits
    for kind, tolerance in (("float32", 1e-5), ("bfloat16", 1e-2), ("float16", 2e-3)):
        parts = functional.Head(*cases._cast(model.head(), getattr(torch, kind)))
        own = hidden.to(getattr(torch, kind))
        given = cases._render_arguments(own, parts, coord, cell)
        pieces = (own, coord, cell, parts.w_pos, parts.mlp, parts.w_out, parts.b_out)
        found.append(Contender(LIF, kind, lambda g=given: LIB.render(*g), tolerance, work))
        found.append(Contender("plain PyTorch", kind, lambda g=given: ops.PLAIN["render"](*g), tolerance, work))
        found.append(Contender(COMPILED, kind, lambda g=pieces: compiled(*g), 2 * tolerance, work))
    quantized = model.quantize(photo)
    parts = functional.Head(*quantized.head())
    own, w_pos, w_mlp, b_mlp, w_out = functional.uniform(functional.hidden_map(feat, parts), parts)
    given = (own, coord, cell, w_pos, *int8.quantize_weights(w_mlp), b_mlp, quantized.act_scale)
    given = (*given, w_out, parts.b_out, own.shape[1:3], (0, 0), True)
    found.append(Contender(LIF, "int8", lambda: LIB.render_int8(*given), 5e-2, work))
    bars = [
        Bar((LIF, "bfloat16"), "share", None, 0.6),
        Bar((LIF, "bfloat16"), "faster than", ("reference", "float32"), 25),
        Bar((LIF, "bfloat16"), "faster than", (COMPILED, "bfloat16"), 3),
        Bar((LIF, "int8"), "faster than", (LIF, "bfloat16"), 1.5),
    ]
    yield "render", Case(found, bars)


def frames(model: liif_fast.LIIF, device: torch.device, tiny: bool) -> Iterator[tuple[str, Case]]:
    """Frame to frame with the encoder. The reference is the official pipeline: NCHW encoder, reference head."""
    sizes = {(540, 960): ((2160, 3840), 30), (480, 720): ((960, 1440), 100)}
    for low, (high, rate) in ({(27, 48): ((108, 192), 1)} if tiny else sizes).items():
        photo = _photo(low, device)

        def upscale(dtype, photo=photo, high=high):
            return model.upscale(photo, size=high, dtype=dtype, tile=0)

        def official(photo=photo, high=high):
            coord = functional.make_coord(high, device=device)[None]
            cell = torch.tensor([2 / n for n in high], device=device).expand_as(coord)
            colours = cases._reference(model, model.encoder(photo * 2 - 1), coord, cell)
            return (colours * 0.5 + 0.5).clamp(0, 1).transpose(1, 2).unflatten(-1, high)

        found = [Contender("reference", "float32", official)]
        found.append(Contender(LIF, "float32", lambda u=upscale: u(torch.float32), 2e-5))
        # encoder and head rounded to 8 (11) bits in every layer; colours span 1
        for dtype, tolerance in ((torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.int8, 5e-2)):
            found.append(Contender(LIF, str(dtype)[6:], lambda d=dtype, u=upscale: u(d), tolerance))
        bars = [Bar((LIF, "bfloat16"), "frames per second", None, rate)]
        if hasattr(model, "renderer"):  # a CUDA graph with buffers of its own
            renderer = model.renderer(high, dtype=torch.bfloat16)

            def graph(renderer=renderer, photo=photo):
                return (renderer(photo * 2 - 1) * 0.5 + 0.5).clamp(0, 1)

            found.append(Contender("renderer (graph)", "bfloat16", graph, 2e-2))
            bars.append(Bar(("renderer (graph)", "bfloat16"), "frames per second", None, rate))
        yield f"frames {low[1]}x{low[0]} -> {high[1]}x{high[0]}", Case(found, bars)


CASES = {"gather": gather, "train": train, "step": step, "render": render, "frames": frames}
