"""The convolution for sm_90 in the stand-in for Gluon: its numbers, and whether the stand-in sees what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gluon_on_cpu
import torch
import torch.nn.functional as F
from gluon_checks import all_seen, without
from torch import Tensor

LAST = torch.channels_last
SHAPES = (((1, 64, 1, 1), 64), ((1, 64, 7, 5), 64), ((2, 64, 17, 33), 64), ((1, 64, 9, 33), 128))


def case(shape: tuple, outputs: int, mode: str, dtype: torch.dtype) -> dict[str, Any]:
    torch.manual_seed(0)
    x, w, b = torch.randn(shape), torch.randn(outputs, 64, 3, 3) / 24, torch.randn(outputs).to(dtype)
    x, w, residual = (t.to(dtype).to(memory_format=LAST) for t in (x, w, torch.randn(shape)))
    return {"x": x, "w": w, "b": b, "relu": mode == "relu", "residual": residual if mode == "residual" else None}


def exact(given: dict[str, Any], scale: float) -> Tensor:
    want = F.conv2d(given["x"].double(), given["w"].double(), given["b"].double(), padding=1)
    if given["relu"]:
        want = want.relu()
    return want if given["residual"] is None else given["residual"].double() + scale * want


def numbers() -> None:
    """Single pixels, sizes off the strip, several strips for a consumer, images, parts; to one rounding."""
    gluon_on_cpu.install()
    from liif_fast.head.triton import convolution, render

    multiprocessors = render.multiprocessors
    for dtype, blocks in ((torch.bfloat16, 1), (torch.bfloat16, 3), (torch.float16, 3)):
        render.multiprocessors = lambda device, blocks=blocks: blocks
        for (shape, outputs), mode in ((s, m) for s in SHAPES for m in ("plain", "relu", "residual")):
            if mode == "residual" and outputs != 64:
                continue
            given = case(shape, outputs, mode, dtype)
            ours = convolution.convolve(**given, scale=0.3, config=convolution.Config(16, 3))
            want = exact(given, 0.3)
            assert ours.is_contiguous(memory_format=LAST)
            bound = want.abs() * torch.finfo(dtype).eps / 2 + 2**-18  # one rounding, and float32's sums
            assert ((ours.double() - want).abs() <= bound).all(), (dtype, blocks, shape, outputs, mode)
    render.multiprocessors = multiprocessors
    faults_are_seen(convolution, render)


def faults(module: Any) -> Iterator[tuple[str, Any, str, Any]]:
    mbarrier, finish = module.mbarrier, module.warpgroup_mma_wait
    # Weights are there (0), what is there (1, 3) and what is free (2, 4) of either consumer. Copies are at once here,
    # and a producer gets ahead while weights are waited for: without both waits a consumer does.
    for arrays in ((0, 1), (0, 3), (2,), (4,)):
        yield f"wait {arrays}", module, "mbarrier", without(mbarrier, "wait", arrays, -1)
    for array in (2, 4):  # at the others, copies arrive
        yield f"arrive {array}", module, "mbarrier", without(mbarrier, "arrive", (array,), 1)
    yield "no products", module, "warpgroup_mma_wait", lambda left, deps: deps if len(deps) > 1 else deps[0]
    whole = lambda left, deps: finish(left, deps=deps) if left == 0 else deps  # noqa: E731
    yield "only whole rows", module, "warpgroup_mma_wait", whole
    yield "fence", module, "fence_async_shared", lambda: None
    yield "synchronize", module, "synchronize", lambda: None
    yield "copies", module, "tma", SimpleNamespace(store_wait=lambda left: None)


def faults_are_seen(module: Any, render: Any) -> None:
    multiprocessors, render.multiprocessors = render.multiprocessors, lambda device: 1
    given = case((1, 64, 9, 70), 64, "residual", torch.bfloat16)
    all_seen(faults(module), lambda: module.convolve(**given, config=module.Config(16, 3)))
    render.multiprocessors = multiprocessors
