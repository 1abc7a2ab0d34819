"""Pictures side by side on one sheet, with words, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_INK = "#333333"
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def grid(
    rows: Sequence[Sequence[Tensor]],
    gap: int = 4,
    captions: Sequence[Sequence[str]] | None = None,
    titles: Sequence[str] | None = None,
) -> Image.Image:
    """Images ``[3, H, W]`` in [0, 1] as one picture, a row for each sequence.

    Args:
        rows: at least one, each of at least one image; sizes may differ.
        gap: white pixels around each image.
        captions: what stands under each image, lines separated by newlines; an image gets the width that it needs.
        titles: what stands above each row.
    """
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    font, title_font = ImageFont.load_default(13), ImageFont.load_default(15)

    def extent(text: str, font: _Font) -> tuple[int, int]:
        """Width and height in pixels, of nothing too."""
        _, _, right, bottom = pen.multiline_textbbox((0, 0), text, font) if text else (0, 0, 0, 0)
        return int(right) + 1, int(bottom) + (6 if text else 0)

    captions = captions or [[""] * len(row) for row in rows]
    titles = titles or [""] * len(rows)
    placed: list[tuple[int, int, Image.Image | str, _Font | None]] = []  # what to draw: (x, y, picture or text, font)
    top, width = gap, 0
    for row, words, title in zip(rows, captions, titles, strict=True):
        placed.append((gap, top, title, title_font))
        title_width, title_height = extent(title, title_font)
        top, left = top + title_height, gap
        pictures = [_picture(t) for t in row]
        foot = max(p.height for p in pictures)
        for picture, text in zip(pictures, words, strict=True):
            placed += [(left, top, picture, None), (left, top + foot + 2, text, font)]
            left += max(picture.width, extent(text, font)[0]) + gap
        top += foot + max(extent(text, font)[1] for text in words) + gap
        width = max(width, left, title_width + 2 * gap)
    sheet = Image.new("RGB", (width, top), "white")
    pen = ImageDraw.Draw(sheet)
    for x, y, what, used in placed:
        if isinstance(what, str):
            pen.multiline_text((x, y), what, _INK, used)
        else:
            sheet.paste(what, (x, y))
    return sheet


def _picture(image: Tensor) -> Image.Image:
    pixels = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
