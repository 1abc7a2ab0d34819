"""A picture enlarged by small-liif, by whatever this installation has, against the definition in float64; run by
check.py in environments that have nothing but the package."""

from __future__ import annotations

import copy

import numpy as np
import torch

import liif_fast
from liif_fast import reference
from liif_fast.head import library


def main() -> None:
    y, x = np.mgrid[:24, :32] / 10
    waves = np.stack([np.sin(3 * x + y), np.cos(2 * y), np.sin(x * y)], axis=-1)
    picture = (255 * (0.5 + 0.4 * waves)).round().astype(np.uint8)
    model = liif_fast.load("small-liif")
    large = model.upscale(picture, scale=2.5)

    exact = copy.deepcopy(model).double()
    height, width = large.shape[:2]
    with torch.no_grad():
        features = exact.encoder(2 * torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 255 - 1)
        coord = reference.make_coord((height, width), dtype=torch.float64)[None]
        cell = torch.tensor([2 / height, 2 / width], dtype=torch.float64).expand_as(coord)
        colours = reference.liif(features, coord, cell, exact.imnet)[0].reshape(height, width, 3)
    error = np.abs(large - (255 * (colours / 2 + 0.5).clamp(0, 1)).numpy()).max()
    print(f"{picture.shape} to {large.shape}: at most {error:.4f} of 255 from the definition, of which rounding is 0.5")
    # float32 makes less than 0.01 of a grey level of difference
    if not (large.shape == (60, 80, 3) and error < 0.51):
        raise SystemExit("smoke: the picture is wrong")

    if library.status != "loaded":
        return
    wrong = torch.zeros(1, 4, 5, 16), torch.zeros(1, 7, 3), None, torch.zeros(16, 4), (4, 5), (0, 0)
    try:
        torch.ops.liif_fast.corner_gather(*wrong)
    except RuntimeError as mistake:
        print(f"a mistake is an error of Python: {str(mistake).splitlines()[0]}")
    else:
        raise SystemExit("smoke: coord with three columns is taken")


if __name__ == "__main__":
    main()
