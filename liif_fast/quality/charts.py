"""Line charts as PNG, drawn with Pillow: two curves do not need a plotting library as a dependency."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

# distinguishable for the colour-blind as well (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
_INK, _GRID = "#333333", "#dddddd"


@dataclass(frozen=True)
class Chart:
    """Series of (x, y) points by name, in one frame. ``log``, ``log_x``: the y, the x axis is logarithmic."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    x_label: str = ""
    y_label: str = ""
    log: bool = False
    log_x: bool = False


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
    series = {name: _scaled(points, chart) for name, points in chart.series.items()}
    points = [p for s in series.values() for p in s]
    if not points:
        pen.rectangle(frame, outline=_INK)
        return
    xs, ys = _span([p[0] for p in points]), _span([p[1] for p in points])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - xs[0]) / (xs[1] - xs[0]) * (right - left),
            bottom - (y - ys[0]) / (ys[1] - ys[0]) * (bottom - top),
        )

    for tick, text in _labelled(*xs, chart.log_x):
        x = place(tick, ys[0])[0]
        pen.line((x, top, x, bottom), _GRID)
        pen.text((x, bottom + 6), text, _INK, font, anchor="ma")
    for tick, text in _labelled(*ys, chart.log):
        y = place(xs[0], tick)[1]
        pen.line((left, y, right, y), _GRID)
        pen.text((left - 6, y), text, _INK, font, anchor="rm")
    pen.rectangle(frame, outline=_INK)
    lines = {name: [place(*p) for p in line] for name, line in series.items()}
    wide = max(150, 32 + max(int(pen.textlength(name, font)) for name in series))
    key, line_top = _room(lines.values(), frame, (wide, 16 + 18 * len(series)))  # where the legend begins
    for i, (name, at) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        if len(at) > 1:
            pen.line(at, colour, 2, joint="curve")
        for x, y in at if len(at) <= 40 else at[-1:]:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
        if not name:
            continue
        middle = line_top + 16 + 18 * i
        pen.line((key, middle, key + 20, middle), colour, 3)
        pen.text((key + 26, middle), name, _INK, font, anchor="lm")


def _room(
    lines: Iterable[Sequence[tuple[float, float]]], frame: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[int, int]:
    """The upper left point of the corner of the frame in which a legend of this size hides least of the lines; the
    upper right one where it does not matter."""
    left, top, right, bottom = frame
    at = [
        (a[0] + (b[0] - a[0]) * t / 50, a[1] + (b[1] - a[1]) * t / 50)
        for line in lines
        for a, b in zip(line, line[1:] or line, strict=False)
        for t in range(51)
    ]
    corners = [(x, y) for y in (top, bottom - size[1]) for x in (right - size[0], left + 8)]
    return min(corners, key=lambda c: sum(0 <= x - c[0] <= size[0] and 0 <= y - c[1] <= size[1] for x, y in at))


def _labelled(low: float, high: float, log: bool) -> list[tuple[float, str]]:
    """Where the ticks stand, and what stands at them; with ``log``, low and high are powers of ten."""
    if not log:
        return [(tick, f"{tick:g}") for tick in ticks(low, high)]
    for parts in ((1, 2, 5), (1, 3), (1,)):
        marks = [m * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for m in parts]
        found = [(math.log10(m), f"{m:g}") for m in marks if low <= math.log10(m) <= high]
        if 2 <= len(found) <= 10:
            return found
    return [(tick, f"{10**tick:.4g}") for tick in ticks(low, high)]  # less than one step, or more than ten decades


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers between low and high, at most ``most`` of them and at least one."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)] or [low]


def _scaled(points: Sequence[tuple[float, float]], chart: Chart) -> list[tuple[float, float]]:
    """The points as they are placed, without those that cannot be."""
    found = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    found = [(x, y) for x, y in found if (x > 0 or not chart.log_x) and (y > 0 or not chart.log)]
    return [(math.log10(x) if chart.log_x else x, math.log10(y) if chart.log else y) for x, y in found]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.03 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin
