"""Line charts as PNG, drawn with Pillow: two curves do not need a plotting library as a dependency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

# distinguishable for the colour-blind as well (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
_INK, _GRID = "#333333", "#dddddd"


@dataclass(frozen=True)
class Chart:
    """Series of (x, y) points by name, in one frame. ``log``: the y axis is logarithmic."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    x_label: str = ""
    y_label: str = ""
    log: bool = False


def draw(charts: Sequence[Chart], width: int = 900, height: int = 420) -> Image.Image:
    """The charts below each other, each of ``width`` x ``height`` pixels. Points that are not finite are left out."""
    image = Image.new("RGB", (width, height * max(1, len(charts))), "white")
    for i, chart in enumerate(charts):
        _draw(ImageDraw.Draw(image), chart, (70, i * height + 40, width - 20, (i + 1) * height - 50))
    return image


def _draw(pen: ImageDraw.ImageDraw, chart: Chart, frame: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = frame
    font = ImageFont.load_default(13)
    pen.text((left, top - 30), chart.title, _INK, ImageFont.load_default(16))
    pen.text((right, bottom + 28), chart.x_label, _INK, font, anchor="ra")
    pen.text((left - 60, top - 12), chart.y_label, _INK, font)
    series = {name: [p for p in points if _drawable(p, chart.log)] for name, points in chart.series.items()}
    points = [p for s in series.values() for p in s]
    if not points:
        pen.rectangle(frame, outline=_INK)
        return
    xs, ys = _span([p[0] for p in points]), _span([_scaled(p[1], chart.log) for p in points])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - xs[0]) / (xs[1] - xs[0]) * (right - left),
            bottom - (y - ys[0]) / (ys[1] - ys[0]) * (bottom - top),
        )

    for tick in ticks(*xs):
        x = place(tick, ys[0])[0]
        pen.line((x, top, x, bottom), _GRID)
        pen.text((x, bottom + 6), f"{tick:g}", _INK, font, anchor="ma")
    for tick in ticks(*ys):
        y = place(xs[0], tick)[1]
        pen.line((left, y, right, y), _GRID)
        pen.text((left - 6, y), f"{10**tick if chart.log else tick:.4g}", _INK, font, anchor="rm")
    pen.rectangle(frame, outline=_INK)
    key = right - max(150, 32 + max(int(pen.textlength(name, font)) for name in series))  # where the legend begins
    for i, (name, line) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        at = [place(x, _scaled(y, chart.log)) for x, y in line]
        if len(at) > 1:
            pen.line(at, colour, 2, joint="curve")
        for x, y in at if len(at) <= 40 else at[-1:]:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
        if not name:
            continue
        pen.line((key, top + 16 + 18 * i, key + 20, top + 16 + 18 * i), colour, 3)
        pen.text((key + 26, top + 16 + 18 * i), name, _INK, font, anchor="lm")


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers between low and high, at most ``most`` of them and at least one."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)] or [low]


def _drawable(point: tuple[float, float], log: bool) -> bool:
    return all(map(math.isfinite, point)) and (point[1] > 0 or not log)


def _scaled(y: float, log: bool) -> float:
    return math.log10(y) if log else y


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.03 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin
