"""The small kernels in triton's interpreter, and compiled; a script, since both are chosen at import.

python tests/helpers/small_kernels.py        # numbers: fails where they are wrong
python tests/helpers/small_kernels.py 90     # compiled for sm_90: one JSON object
"""

from __future__ import annotations

import json
import os
import sys

if sys.argv[1:]:
    os.environ.pop("TRITON_INTERPRET", None)
else:
    os.environ["TRITON_INTERPRET"] = "1"

import torch

from liif_fast.head.triton import passes_kernel
from liif_fast.models.encoders import residual_kernel


def values(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape).to(dtype)


def numbers() -> None:
    """Sizes off the block, several blocks, channels that do not divide it; each value to one rounding."""
    import triton_interpreter

    triton_interpreter.repair_interpreter()
    import convolution_checks

    convolution_checks.numbers()
    column_sums()
    for dtype in (torch.bfloat16, torch.float16):
        for shape in ((1, 64, 5, 7), (2, 64, 9, 11), (3, 5, 30, 31), (1, 256, 1, 1), (1, 1, 1, 1)):
            for scale in (1.0, 0.1):
                x, y = (values(*shape, dtype=dtype).to(memory_format=torch.channels_last) for _ in range(2))
                bias, before = values(shape[1], dtype=dtype), x.clone()
                exact = x.double() + scale * (y.double() + bias.double().view(-1, 1, 1))
                ours = residual_kernel.add(x, y, bias, scale)
                assert ours is y
                assert torch.equal(x, before)
                # one rounding of the result, beside float32's own
                bound = exact.abs() * torch.finfo(dtype).eps / 2 + 2**-20 + torch.finfo(dtype).tiny
                worst = ((ours.double() - exact).abs() - bound).max().item()
                assert worst <= 0, (dtype, shape, scale, worst)


def column_sums() -> None:
    """Rows off the block, more blocks than programs, columns of several blocks and odd ones."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for R, D in ((1, 1), (37, 5), (500, 64), (2 * 16 * 3 + 1, 256), (40, 300)):
            x, y = (values(R, D, dtype=dtype) for _ in range(2))
            y[R // 2] = torch.nan  # of a ReLU: as torch's mask, which lets the gradient pass
            masked, ours = torch.where(y <= 0, torch.zeros_like(x), x), x.clone()
            sums = passes_kernel.relu_backward(ours, y)
            assert torch.equal(ours, masked), (dtype, R, D)
            close(sums, masked)
            added, y = x.clone(), values(R, D, dtype=dtype)
            sums = passes_kernel.add(added, y)
            assert torch.equal(added, (x.float() + y.float()).to(dtype)), (dtype, R, D)
            close(sums, added)


def close(partial: torch.Tensor, summed: torch.Tensor) -> None:
    """float32's rounding of each addition."""
    sums = partial.sum(0)
    bound = summed.double().abs().sum(0) * len(summed) * 2**-24
    assert sums.dtype == torch.float32
    assert ((sums.double() - summed.double().sum(0)).abs() <= bound).all()


def compiled(architecture: int) -> None:
    import triton_aot
    from triton.runtime import driver

    driver.set_active(triton_aot.PretendedDriver(architecture))

    def facts(kernel, options, *arguments, **constants):
        found = kernel.warmup(*arguments, grid=(1,), **constants, **options)
        wide = found.asm["ptx"].count("ld.global.v4.b32") + found.asm["ptx"].count("ld.global.v8.b32")
        return {**triton_aot.assembled(found.asm["cubin"]), "wide": wide}

    x, y = (torch.empty(1, 64, 64, 64, dtype=torch.bfloat16).to(memory_format=torch.channels_last) for _ in range(2))
    arguments = x, y, x[0, :, 0, 0].contiguous(), 0.1, y.numel()
    constants = {"CHANNELS": 64, "BLOCK": residual_kernel.BLOCK}
    all_facts = {"residual": facts(residual_kernel.kernel, residual_kernel.OPTIONS, *arguments, **constants)}
    for name, D, dtype in (
        ("relu_backward", 256, torch.bfloat16),
        ("add", 64, torch.bfloat16),
        ("relu_backward float32", 256, torch.float32),
    ):
        rows, columns = passes_kernel.shape_of_block(D)
        x, y = (torch.empty(4096, D, dtype=dtype) for _ in range(2))
        constants = {"RELU": name != "add", "ROWS": rows, "COLUMNS": columns}
        arguments = x, y, torch.empty(4, D), 4096, D
        all_facts[name] = facts(passes_kernel.kernel, passes_kernel.OPTIONS, *arguments, **constants)
    if architecture == 90:
        all_facts.update(convolutions(triton_aot))
    print(json.dumps(all_facts))


def convolutions(triton_aot) -> dict[str, dict[str, int]]:
    """The convolution's modes as they run, and of several parts."""
    from liif_fast.head.triton import convolution

    all_facts, last = {}, torch.channels_last
    for mode, outputs, dtype in (
        ("plain", 256, torch.bfloat16),
        ("relu", 64, torch.float16),
        ("residual", 64, torch.bfloat16),
    ):
        x, w = torch.empty(1, 64, 64, 64, dtype=dtype), torch.empty(outputs, 64, 3, 3, dtype=dtype)
        x, w, out = (t.to(memory_format=last) for t in (x, w, torch.empty(1, outputs, 64, 64, dtype=dtype)))
        residual, b = x if mode == "residual" else None, w[:, 0, 0, 0].contiguous()
        arguments, _ = convolution.plan(x, w, b, mode == "relu", residual, 0.1, out, convolution.CONFIG)
        found = convolution.kernel.warmup(*arguments, grid=(1,), **convolution.OPTIONS)
        ptx = found.asm["ptx"]
        all_facts[f"convolution {mode}"] = {
            **triton_aot.assembled(found.asm["cubin"]),
            "shared": found.metadata.shared,
            "unordered": triton_aot.unordered(ptx),
            "wgmma": ptx.count("wgmma.mma_async"),
        }
    return all_facts


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    compiled(int(sys.argv[1])) if sys.argv[1:] else numbers()
