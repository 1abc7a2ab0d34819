"""README's picture: parts of a real photo, enlarged by bicubic interpolation and by the official model.

    python tools/front_picture.py   # writes docs/pictures/before-after.jpg

The photo is scikit-image's astronaut (NASA, public domain, 512x512), as it is: nothing was reduced first, so there is
no truth to compare with. The parts are ``upscale``'s window and Pillow's bicubic ``resize`` of the same box.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw
from skimage.data import astronaut

import liif_fast

SCALE, SIDE = 5, 90
PARTS = {"a face": (188, 66), "text": (128, 338)}  # left, top of squares of SIDE pixels
OUTPUT = Path(__file__).parents[1] / "docs" / "pictures" / "before-after.jpg"


def main() -> None:
    photo = Image.fromarray(astronaut())
    model = liif_fast.load("edsr-baseline-liif")
    large, caption, gap = SIDE * SCALE, 26, 6
    columns = ["bicubic", "LIIF"]
    sheet = Image.new("RGB", (len(PARTS) * len(columns) * (large + gap) - gap, caption + large), "white")
    draw = ImageDraw.Draw(sheet)
    size, column = (large, large), 0
    for part, (left, top) in PARTS.items():
        box = (left, top, left + SIDE, top + SIDE)
        bicubic = photo.resize(size, Image.Resampling.BICUBIC, box=box)
        liif = model.upscale(photo, size=size, window=(top, left, SIDE, SIDE))
        for name, picture in zip(columns, (bicubic, liif), strict=True):
            at = column * (large + gap)
            draw.text((at + 4, 4), f"{part}, x{SCALE}: {name}", fill="black", font_size=16)
            sheet.paste(picture, (at, caption))
            column += 1
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(OUTPUT, quality=90)
    print(f"wrote {OUTPUT}: {sheet.width}x{sheet.height}")


if __name__ == "__main__":
    main()
