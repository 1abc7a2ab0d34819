"""The kernel for residual and bias in triton's interpreter, and compiled; a script, since both are chosen at import.

python tests/helpers/residual_interpreter.py        # numbers: fails where they are wrong
python tests/helpers/residual_interpreter.py 90     # compiled for sm_90: one JSON object
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

from liif_fast.models.encoders import residual_kernel


def values(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape).to(dtype)


def numbers() -> None:
    """Sizes off the block, several blocks, channels that do not divide it; each value to one rounding."""
    import triton_interpreter

    triton_interpreter.repair_interpreter()
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


def compiled(architecture: int) -> None:
    import triton_aot
    from triton.runtime import driver

    driver.set_active(triton_aot.PretendedDriver(architecture))
    x, y = (torch.empty(1, 64, 64, 64, dtype=torch.bfloat16).to(memory_format=torch.channels_last) for _ in range(2))
    constants = {"CHANNELS": 64, "BLOCK": residual_kernel.BLOCK}
    arguments = x, y, x[0, :, 0, 0].contiguous(), 0.1, y.numel()
    found = residual_kernel.kernel.warmup(*arguments, grid=(1,), **constants, **residual_kernel.OPTIONS)
    wide = found.asm["ptx"].count("ld.global.v4.b32") + found.asm["ptx"].count("ld.global.v8.b32")
    print(json.dumps({**triton_aot.assembled(found.asm["cubin"]), "wide": wide}))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    compiled(int(sys.argv[1])) if sys.argv[1:] else numbers()
