"""Small problems through every kernel, for compute-sanitizer: results are checked, then memory and races by the tool.

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck python tests/gpu/sanitize.py

Without the caching allocator each tensor is an allocation of its own, so that a read beyond its end is seen.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import exact

import liif_fast  # noqa: F401 - registers the operators
from liif_fast.head import int8, ops

LIB = torch.ops.liif_fast
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# fewer queries than elsewhere: the tools make every access some hundred times slower
SHAPES = [(2, (7, 5), 256, 131), (1, (3, 4), 37, 61), (3, (1, 1), 8, 1), (1, (3, 4), 264, 31), (1, (3, 3), 8, 0)]


def gather(device, shape, dtype, flags) -> None:
    given = exact.sample(device, shape, dtype, *flags)
    h, _ = LIB.corner_gather(*given)
    want, bound, _ = exact.gather(*given)
    exact.assert_within(h, want, bound)
    grad = torch.randn(h.shape, generator=torch.Generator().manual_seed(1)).to(h)
    arguments = (grad, h, *given[1:4], given[0].shape[1:3], *given[4:])
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        for g, (want, bound) in zip(
            LIB.corner_gather_backward(*arguments), exact.gather_backward(*arguments), strict=True
        ):
            exact.assert_within(g, want, bound)
    hidden, coord, _, w_pos, *rest = given
    rows, _, _ = LIB.gather_corners(hidden, coord, *rest)
    assert torch.equal(rows.cpu(), ops.PLAIN["gather_corners"](hidden.cpu(), coord.cpu(), *rest)[0])
    ones = torch.ones_like(grad)
    (want, bound), _ = exact.gather_backward(grad, ones, coord, None, w_pos.cpu(), hidden.shape[1:3], *rest)
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        exact.assert_within(LIB.gather_corners_backward(grad, coord, hidden.shape[1:3], *rest), want, bound)
    torch.use_deterministic_algorithms(False)


def render(device, dtype, D=64, L=2) -> None:
    hidden, coord, cell, w_pos, size, origin, ensemble = exact.sample(device, (1, (7, 5), D, 150), dtype)
    random = torch.Generator().manual_seed(2)
    layers = [torch.randn(*s, generator=random).to(device) / D**0.5 for s in ((L, D, D), (L, D), (3, D), (3,))]
    out = LIB.render(hidden, coord, cell, w_pos, *layers, size, origin, ensemble)
    w_mlp, b_mlp, w_out, b_out = layers
    scale = torch.full((L,), 4 / 255, device=device)
    quantized = (*int8.quantize_weights(w_mlp), b_mlp, scale, w_out, b_out)
    out8 = LIB.render_int8(hidden.float(), coord, cell, w_pos, *quantized, size, origin, ensemble)
    assert out.isfinite().all()
    assert out8.isfinite().all()


def main() -> None:
    device = torch.device(os.environ.get("LIIF_FAST_GPU_TEST_DEVICE", "cuda"))
    problems = list(itertools.product(SHAPES, DTYPES, [(True, True, False), (False, True, True), (True, False, False)]))
    if "--few" in sys.argv:  # to check this program
        problems = problems[::10]
    for shape, dtype, flags in problems:
        gather(device, shape, dtype, flags)
    if "--render" in sys.argv:
        os.environ["LIIF_FAST_TRITON"] = "1"  # float32 too, which plain PyTorch runs otherwise
        for dtype in DTYPES:
            render(device, dtype)
        render(device, torch.bfloat16, D=256, L=3)  # on sm_90 in Gluon
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(f"{len(problems)} problems on {device}, all results right")


if __name__ == "__main__":
    main()
