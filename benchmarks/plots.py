"""PNGs of rows, by the charts of liif_fast and bars, in matplotlib (the extra ``plots``) both."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, PngImagePlugin
from rows import grouped

from liif_fast.quality import charts
from liif_fast.quality.charts import Chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(rows: Sequence[dict], folder: Path, prefix: str = "", note: str = "") -> list[Path]:
    """throughput.png (bars by contender), size.png (time against queries), scale.png, memory.png: those that the rows
    have something for. ``note``: kept in the files as "rows". Returns their paths.

    Raises:
        charts.ChartError: there is no matplotlib.
    """
    found: dict[str, Image.Image] = {}
    timed = grouped(rows)
    if throughput := _throughput(timed):
        found["throughput.png"] = throughput
    for name, pattern, label in (
        ("size.png", r"queries 10\^(\d+)", "queries"),
        ("scale.png", r"scale x(\d+)", "scale"),
    ):
        frames = []
        for quantity, y_label in (("median", "seconds"), ("peak", "MiB of memory")):
            if series := _against(timed, pattern, quantity):
                frames.append(Chart(f"{y_label} against {label}", series, label, y_label, log=True, log_x=True))
        if frames:
            found[name] = charts.draw(frames)
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
    return charts.drawn(lambda: bars(cases, label, unit))


def bars(cases: dict[str, list[tuple[str, str, float]]], label: str, unit: float) -> Figure:
    kinds = sorted({kind for found in cases.values() for _, kind, _ in found})
    left, width, line, top = 290, 900, 20, 34
    figure = charts.blank(width, sum(line * len(found) + 46 for found in cases.values()))
    for case, found in cases.items():
        bottom = top + line * len(found)
        axes = charts.frame(figure, (left, top, width - 90, bottom), "")
        axes.set(xlim=(0, max(value for _, _, value in found)), ylim=(len(found) - 0.5, -0.5))
        axes.spines[:].set_visible(False)
        words = charts.text()
        for y, (contender, kind, value) in enumerate(found):
            axes.barh(y, value, 0.75, color=charts.COLOURS[kinds.index(kind)], linewidth=0)
            digits = max(0, 2 - math.floor(math.log10(value / unit))) if value > 0 else 0
            place = {"textcoords": "offset points", "va": "center", **words}
            axes.annotate(f"{contender} {kind}", (0, y), (-4, 0), ha="right", **place)
            axes.annotate(f"{value / unit:.{digits}f}", (value, y), (3, 0), ha="left", **place)
        axes.annotate(f"{case}: {label}", (0, 1), (10, 5), ("figure pixels", "axes fraction"),
                      textcoords=("figure pixels", "offset points"), **charts.text(8.5))  # fmt: skip
        top = bottom + 46
    return figure
