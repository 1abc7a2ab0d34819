"""Training: the head alone, and a whole step, forward and backward."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import processor
import torch
import torch.nn.functional as F
from heads import (
    COMPILED,
    FOLD,
    LIB,
    OURS,
    REFERENCE,
    compiled,
    encoder_work,
    folded_work,
    matrix_work,
    plain_fold,
    reference_work,
)
from measure import INPUTS, Bar, Case, Contender, gradients_apart
from torch import Tensor
from training import configuration

from liif_fast import functional, reference
from liif_fast.head import chain
from liif_fast.training import graph

GRAPH = f"{OURS}, CUDA graph"
WHOLE = f"{GRAPH}, head_parts 1"

# Norms of the gradients' differences. A ReLU at zero may switch, and the loss's sign with it; bfloat16 rounds every
# layer to 2^-8 and switches some percent of the small ones; tf32 rounds what a convolution multiplies to 2^-11.
TOLERANCE = {"float32": 5e-3, "bfloat16": 0.3}
# A whole step on CUDA also by torch's defaults, as the official program: convolutions in tf32, products in float32.
DEFAULTS = "tf32"


def _sizes(setup) -> tuple[int, int, int]:
    """Batch, side and queries: of the official configuration on CUDA, a quarter of its batch on a CPU."""
    if setup.tiny:
        return 2, 12, 48
    return (16 if setup.device.type == "cuda" else 4), 48, 2304


def path_of(name: str, kind: str, setup) -> str:
    """The path of our training kernels, for contenders that they belong to."""
    return processor.path(kind, setup.device, training=True) if name == OURS else ""


def _samples(setup) -> tuple[Tensor, Tensor, Tensor]:
    batch, side, queries = _sizes(setup)
    coord = torch.rand(batch, queries, 2, device=setup.device) * 2 - 1
    return coord, torch.full_like(coord, 2 / side / 2.5), torch.rand(batch, queries, 3, device=setup.device)


def train(model, setup) -> Iterator[Case]:
    """The head forward and backward: gradients of features and of the MLP's parameters."""
    batch, side, queries = _sizes(setup)
    cuda = setup.device.type == "cuda"
    feats = [
        (torch.randn(batch, model.encoder.out_dim, side, side, device=setup.device) * 0.3).requires_grad_()
        for _ in range(INPUTS)
    ]
    coord, cell, target = _samples(setup)
    parameters = list(model.imnet.parameters())

    def contender(name: str, kind: str, predict: Callable[[Tensor], Tensor]) -> Contender:
        def run(i: int) -> list[Tensor]:
            dtype = getattr(torch, kind)
            with torch.enable_grad(), torch.autocast(setup.device.type, dtype=dtype, enabled=kind != "float32"):
                return list(torch.autograd.grad(F.l1_loss(predict(feats[i]).float(), target), [feats[i], *parameters]))

        path = path_of(name, kind, setup)
        by_torch = processor.torch_unit(kind, setup.device)
        work = {by_torch: 3 * reference_work(model, coord)}
        if name != REFERENCE:
            ours = processor.unit(kind, path) if name == OURS else by_torch
            work = processor.total(
                (ours, 3 * matrix_work(coord)), (by_torch, 3 * batch * folded_work(model, side, side))
            )
        return Contender(name, kind, run, TOLERANCE[kind], work, gradients_apart, COMPILED in name, path)

    def head_and_map(feat: Tensor):
        head = model.head()
        return head, functional.hidden_map(feat, head)

    def by_fold(feat: Tensor) -> Tensor:
        head, hidden = head_and_map(feat)
        return compiled(plain_fold)(hidden, coord, cell, head.w_pos, head.mlp, head.w_out, head.b_out)

    def by_chain(**options: bool) -> Callable[[Tensor], Tensor]:
        def predict(feat: Tensor) -> Tensor:
            head, hidden = head_and_map(feat)
            return chain.query(hidden, coord, cell, head.w_pos, head.mlp, head.w_out, head.b_out, **options)

        return predict

    def by_decode(feat: Tensor) -> Tensor:
        head, hidden = head_and_map(feat)
        hidden, w_pos, *layers = functional.uniform(hidden, head)
        return LIB.decode(hidden, coord, cell, w_pos, *layers, head.b_out, True)

    forms: dict[str, Callable[[Tensor], Tensor]] = {
        REFERENCE: lambda feat: reference.liif(feat, coord, cell, model.imnet),
        OURS: lambda feat: model.query(feat, coord, cell),
    }
    if setup.compiled:
        forms[FOLD + COMPILED] = by_fold
    if cuda:
        forms |= {
            "chain, first layer again": by_chain(recompute=True),
            "chain, blend first": by_chain(blend_first=True),
            "chain, both": by_chain(recompute=True, blend_first=True),
            "decode, all again": by_decode,
        }
    found = [contender(name, kind, form) for kind in TOLERANCE for name, form in forms.items()]
    single, half = (REFERENCE, "float32"), (REFERENCE, "bfloat16")
    if cuda:
        bars = [
            Bar((OURS, "float32"), "faster than", single, 4),
            Bar((OURS, "bfloat16"), "faster than", half, 2.5),
            *(Bar((OURS, kind), "memory of", (REFERENCE, kind), 0.25) for kind in TOLERANCE),
        ]
        if setup.compiled:
            bars += [Bar((OURS, kind), "faster than", (FOLD + COMPILED, kind), 1.3) for kind in TOLERANCE]
    else:
        amx = path_of(OURS, "bfloat16", setup).startswith("amx_")
        bars = [
            Bar((OURS, "float32"), "faster than", single, 2.2),
            Bar((OURS, "bfloat16"), "faster than", single, 8 if amx else 4.5),
            *(Bar((OURS, kind), "memory of", (REFERENCE, kind), 1 / 3) for kind in TOLERANCE),
        ]
    yield Case(f"training head {batch} x {side}x{side}, {queries} queries", found, bars, batch * queries)


@contextlib.contextmanager
def numbers(kind: str) -> Iterator[None]:
    """Convolutions in tf32 for ``DEFAULTS``; for the others as they are."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before or kind == DEFAULTS
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class Replayed:
    """The trainer's step as CUDA graphs. The first run is that of the steps before the recording, and the second one
    records, so that the graphs' memory counts where memory is measured.

    Args:
        batches: for each input ``inp``, ``coord``, ``cell``, ``gt`` as the model and the loss take them.
        parts: the key ``head_parts``.
    """

    def __init__(self, model, batches: list[dict[str, Tensor]], kind: str, parts: int | None = None, tape=None) -> None:
        model, device = copy.deepcopy(model), batches[0]["inp"].device
        as_they_are = {part: {"sub": [0.0], "div": [1.0]} for part in ("inp", "gt")}
        config = configuration("images", len(batches[0]["inp"]), kind if kind == "bfloat16" else None)
        config = dataclasses.replace(config, data_norm=as_they_are, head_parts=parts)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
        self.step = graph.GraphStep(config, model, model, optimizer, device, 0, tape=tape)
        self.batches, self.number, self.kind = batches, 0, kind

    def __call__(self, i: int) -> list[Tensor]:
        with torch.enable_grad(), numbers(self.kind):
            for _ in range(1 if self.number else graph.WARM):
                self.step.end(self.step.begin(self.batches[i], self.number))
                self.number += 1
        if self.number > graph.WARM and self.step.recorded is None:
            raise RuntimeError("the step was not recorded; the warning says why")
        return [p.grad for p in self.step.parameters if p.grad is not None]


def step(model, setup) -> Iterator[Case]:
    """A whole training step of the official configuration: encoder, head, loss, gradients, Adam."""
    batch, side, queries = _sizes(setup)
    inputs = [torch.rand(batch, 3, side, side, device=setup.device) * 2 - 1 for _ in range(INPUTS)]
    coord, cell, target = _samples(setup)
    # a rate of 0 does all the work and leaves the weights as they are, so that every run has the same gradients
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)

    def by_reference(i: int) -> Tensor:
        # .float(): the official code's coordinates are float32 under autocast too, as are its grid_samples
        return reference.liif(model.encoder(inputs[i]).float(), coord, cell, model.imnet)

    def run(predict: Callable[[int], Tensor], kind: str, i: int) -> list[Tensor]:
        with torch.enable_grad(), numbers(kind):
            with torch.autocast(setup.device.type, dtype=torch.bfloat16, enabled=kind == "bfloat16"):
                loss = F.l1_loss(predict(i).float(), target)
            loss.backward()
        optimizer.step()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        optimizer.zero_grad()
        return grads

    # the backward pass has twice the products; in bfloat16 the encoder may run in float32 all the same, which counts
    # against the share
    encoder, fold = (batch * work(model, side, side) for work in (encoder_work, folded_work))
    found, bars = [], []
    tolerances = TOLERANCE | ({DEFAULTS: 0.1} if setup.device.type == "cuda" else {})
    for kind, tolerance in tolerances.items():
        for name, predict in ((REFERENCE, by_reference), (OURS, lambda i: model(inputs[i], coord, cell))):
            # the reference may differ by twice as much in bfloat16, and is timed all the same
            allowed = tolerance * (2 if name == REFERENCE else 1)
            path = path_of(name, kind, setup)
            by_torch = processor.torch_unit(kind, setup.device)
            products, multiplied = reference_work(model, coord), by_torch
            convolved = encoder
            if name == OURS:  # the fold is a convolution
                products, multiplied = matrix_work(coord), processor.unit(kind, path)
                convolved += fold
            if kind == DEFAULTS:
                multiplied = "float32"
            work = processor.total((by_torch, 3 * convolved), (multiplied, 3 * products))
            each = partial(run, predict, kind)
            found.append(Contender(name, kind, each, allowed, work, gradients_apart, path=path))
        if setup.device.type == "cuda":
            batches = [{"inp": inp, "coord": coord, "cell": cell, "gt": target} for inp in inputs]
            for name, parts in ((GRAPH, None), (WHOLE, 1)):
                step = Replayed(model, batches, kind, parts)
                found.append(Contender(name, kind, step, tolerance, work, gradients_apart))
    if setup.device.type == "cuda":
        for name in (OURS, GRAPH, WHOLE):
            for kind in tolerances:
                bars.append(Bar((name, kind), "faster than", (REFERENCE, kind), 2.5))
                bars.append(Bar((name, kind), "memory of", (REFERENCE, kind), 0.25))
    else:
        single, half = (REFERENCE, "float32"), (REFERENCE, "bfloat16")
        amx = path_of(OURS, "bfloat16", setup).startswith("amx_")
        bars = [
            Bar((OURS, "float32"), "faster than", single, 1.5),
            Bar((OURS, "bfloat16"), "faster than", single, 4 if amx else 2.5),
        ]
        if amx:
            bars.append(Bar((OURS, "bfloat16"), "faster than", half, 2.5))
    yield Case(f"training step {batch} x {side}x{side}, {queries} queries", found, bars, batch * queries)
