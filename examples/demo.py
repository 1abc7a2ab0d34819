"""Upscale a real photo x4 and show it beside bicubic and the truth: ``make demo``.

The photo is scikit-image's astronaut (NASA, public domain), reduced from 512 to 128 pixels, so that the truth is known.
Nothing is downloaded: small-liif is in the package. The official weights are shown beside it once they are here;
``-m edsr-baseline-liif`` fetches them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage.data import astronaut

import liif_fast
from liif_fast.weights import pretrained

SCALE = 4
CROP = (168, 60, 296, 188)  # left, top, right, bottom: the face


def psnr(image: Image.Image, truth: Image.Image) -> float:
    """In dB over all RGB values."""
    difference = np.asarray(image, np.float64) - np.asarray(truth, np.float64)
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def comparison(panels: list[tuple[str, Image.Image]]) -> Image.Image:
    """Panels side by side, captions above, an enlarged crop of each below."""
    side, caption = panels[-1][1].width, 24
    sheet = Image.new("RGB", (side * len(panels), caption + 2 * side), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (title, image) in enumerate(panels):
        draw.text((i * side + 8, 6), title, fill="black", font_size=14)
        whole = image.resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(whole, (i * side, caption))
        sheet.paste(whole.crop(CROP).resize((side, side), Image.Resampling.NEAREST), (i * side, caption + side))
        draw.rectangle([i * side + CROP[0], caption + CROP[1], i * side + CROP[2], caption + CROP[3]], outline="red")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/demo/comparison.png"))
    parser.add_argument("-m", "--model", action="append", help="a name or a file; several times, too")
    args = parser.parse_args()
    models = args.model
    if models is None:
        here = [weights.name for weights in pretrained.about() if weights.path is not None]
        models = [name for name in (pretrained.OFFLINE, "edsr-baseline-liif") if name in here]

    truth = Image.fromarray(astronaut())
    small = truth.resize((truth.width // SCALE, truth.height // SCALE), Image.Resampling.BICUBIC)
    bicubic = small.resize(truth.size, Image.Resampling.BICUBIC)
    panels = [
        (f"low resolution {small.width}x{small.height}", small),
        (f"bicubic {psnr(bicubic, truth):.2f} dB", bicubic),
    ]
    for name in models:
        try:
            model = liif_fast.load(name)
        except ValueError as error:
            parser.error(f"--model: {error}")
        start = time.perf_counter()
        large = model.upscale(small, scale=SCALE)
        seconds = time.perf_counter() - start
        panels.append((f"{Path(name).stem} {psnr(large, truth):.2f} dB", large))
        print(f"{name}: {small.width}x{small.height} -> {large.width}x{large.height} in {seconds:.1f} s")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    comparison([*panels, ("ground truth", truth)]).save(args.output)
    print(f"PSNR: {', '.join(title for title, _ in panels[1:])}")
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
