"""PNGs of rows, by the charts of liif_fast and bars of our own."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from rows import grouped

from liif_fast.quality.charts import COLOURS, Chart, draw

_INK = "#333333"


def plot(rows: Sequence[dict], folder: Path, prefix: str = "", note: str = "") -> list[Path]:
    """throughput.png (bars by contender), size.png (time against queries), scale.png, memory.png: those that the rows
    have something for. ``note``: kept in the files as "rows". Returns their paths."""
    found: dict[str, Image.Image] = {}
    timed = grouped(rows)
    if throughput := _throughput(timed):
        found["throughput.png"] = throughput
    for name, pattern, label in (
        ("size.png", r"queries 10\^(\d+)", "queries"),
        ("scale.png", r"scale x(\d+)", "scale"),
    ):
        charts = []
        for quantity, y_label in (("median", "seconds"), ("peak", "MiB of memory")):
            if series := _against(timed, pattern, quantity):
                charts.append(Chart(f"{y_label} against {label}", series, label, y_label, log=True, log_x=True))
        if charts:
            found[name] = draw(charts)
    if memory := _memory(timed):
        found["memory.png"] = memory
    folder.mkdir(parents=True, exist_ok=True)
    text = PngImagePlugin.PngInfo()
    text.add_text("rows", note)
    for name, image in found.items():
        image.save(folder / f"{prefix}{name}", pnginfo=text, optimize=True)
    return [folder / f"{prefix}{name}" for name in found]


def _against(timed: dict, pattern: str, quantity: str) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for (case, contender, dtype), rows in timed.items():
        if (match := re.fullmatch(pattern, case)) and rows[-1].get(quantity):
            value = rows[-1][quantity] / (2**20 if quantity == "peak" else 1)
            series.setdefault(f"{contender} {dtype}", []).append(
                (10.0 ** int(match[1]) if "10^" in case else float(match[1]), value)
            )
    return {name: sorted(points) for name, points in series.items()}


def _throughput(timed: dict) -> Image.Image | None:
    cases: dict[str, list[tuple[str, str, float]]] = {}
    for (case, contender, dtype), rows in timed.items():
        row = rows[-1]
        if row.get("queries") and not case.startswith(("queries", "scale")):
            rate = row["queries"] / row["median"]
            cases.setdefault(case, []).append((contender, dtype, rate))
    return _bars(cases, "10^6 queries a second", 1e6) if cases else None


def _memory(timed: dict) -> Image.Image | None:
    cases: dict[str, list[tuple[str, str, float]]] = {}
    for (case, contender, dtype), rows in timed.items():
        if rows[-1].get("peak") and not case.startswith(("queries", "scale")):
            cases.setdefault(case, []).append((contender, dtype, rows[-1]["peak"]))
    return _bars(cases, "MiB of memory beyond the inputs", 2**20) if cases else None


def _bars(cases: dict[str, list[tuple[str, str, float]]], label: str, unit: float) -> Image.Image:
    """Horizontal bars from zero, one frame for each case, a colour for each kind of number."""
    font, bold = ImageFont.load_default(13), ImageFont.load_default(15)
    kinds = sorted({kind for bars in cases.values() for _, kind, _ in bars})
    left, width, line = 290, 900, 20
    height = sum(line * len(bars) + 46 for bars in cases.values())
    image = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(image), 8
    for case, bars in cases.items():
        pen.text((10, top), f"{case}: {label}", _INK, bold)
        top += 26
        most = max(value for _, _, value in bars)
        for contender, kind, value in bars:
            end = left + int((width - left - 90) * value / most)
            pen.text((left - 8, top + line / 2), f"{contender} {kind}", _INK, font, anchor="rm")
            pen.rectangle((left, top + 3, max(end, left + 1), top + line - 3), COLOURS[kinds.index(kind)])
            digits = max(0, 2 - math.floor(math.log10(value / unit))) if value > 0 else 0
            pen.text((end + 6, top + line / 2), f"{value / unit:.{digits}f}", _INK, font, anchor="lm")
            top += line
        top += 20
    return image
