"""Ways to reduce a picture by LIIF, by PSNR against Pillow's Lanczos, and their time: the table of
``liif_fast/models/reduction.py``.

    python benchmarks/reduction.py --data DIR    # with benchmark/Set5/HR and benchmark/Set14/HR; or LIIF_FAST_DATA

Pictures: Set5, and every fourth of Set14. "multiple": rendered at the least whole multiple of the size that enlarges,
then reduced by Lanczos.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import liif_fast
from liif_fast.head import sampling
from liif_fast.models import reduction

SCALES = (0.7, 0.5, 0.3)


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).unsqueeze(0).float() / 255


def results(model: liif_fast.LIIF, image: Image.Image, size: tuple[int, int]) -> dict[str, tuple[torch.Tensor, float]]:
    """By each way: [1, 3, *size] and seconds."""
    pixels, times = tensor(image), {}
    factors = [math.ceil(n / m) for n, m in zip(pixels.shape[-2:], size, strict=True)]
    multiple = [n * f for n, f in zip(size, factors, strict=True)]
    ways = {
        "points": lambda: model.upscale(pixels, size=size, point=True),
        "this": lambda: model.upscale(pixels, size=size),
        "multiple": lambda: reduction.reduced(model.upscale(pixels, size=multiple), sampling.of(size)),
        "bicubic": lambda: tensor(image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)),
    }
    for name, way in ways.items():
        begin = time.perf_counter()
        times[name] = way(), time.perf_counter() - begin
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIIF_FAST_DATA"))
    parser.add_argument("--model", default="edsr-baseline-liif")
    parser.add_argument("--tiny", action="store_true", help="one picture, to check this program")
    args = parser.parse_args()
    model = liif_fast.load(args.model).eval()
    sets = [sorted((Path(args.data) / f"benchmark/{name}/HR").iterdir()) for name in ("Set5", "Set14")]
    files = sets[0][1:2] if args.tiny else sets[0] + sets[1][::4]
    psnr, seconds = defaultdict(list), defaultdict(list)
    for file in files:
        image = Image.open(file)
        for scale in SCALES:
            size = round(image.height * scale), round(image.width * scale)
            want = tensor(image.convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS))
            for way, (got, taken) in results(model, image, size).items():
                psnr[way, scale].append(-10 * math.log10((got.clamp(0, 1) - want).square().mean().item()))
                seconds[way, scale].append(taken)
    print(f"{'PSNR, dB (seconds)':20}" + "".join(f"{scale:>16}" for scale in SCALES))
    for way in ("points", "this", "multiple", "bicubic"):
        cells = (f"{statistics.mean(psnr[way, s]):.1f} ({sum(seconds[way, s]):.2f})" for s in SCALES)
        print(f"{way:20}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
