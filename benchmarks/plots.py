"""PNGs of rows, by the charts of liif_fast and bars, in matplotlib (the extra ``plots``) both."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
    timed = {key: found[-1] for key, found in grouped(rows).items()}
    found = {
        "throughput.png": _bars(timed, _rate, "10^6 queries a second"),
        "size.png": _lines(timed, r"queries (10\^\d+)", "queries"),
        "scale.png": _lines(timed, r"scale x(\d+)", "scale"),
        "memory.png": _bars(timed, _peak, "MiB of memory beyond the inputs"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = PngImagePlugin.PngInfo()
    text.add_text("rows", note)
    images = {folder / f"{prefix}{name}": image for name, image in found.items() if image is not None}
    for path, image in images.items():
        image.save(path, pnginfo=text, optimize=True)
    return list(images)


def _rate(row: dict) -> float:
    return row.get("queries", 0) / row["median"] / 1e6


def _peak(row: dict) -> float:
    return (row.get("peak") or 0) / 2**20


def _lines(timed: dict, pattern: str, label: str) -> Image.Image | None:
    frames = []
    for value, y_label in ((lambda row: row["median"], "seconds"), (_peak, "MiB of memory")):
        series: dict[str, list[tuple[float, float]]] = {}
        for (case, contender, dtype), row in timed.items():
            if (match := re.fullmatch(pattern, case)) and value(row):
                x = float(match[1].replace("10^", "1e"))
                series.setdefault(f"{contender} {dtype}", []).append((x, value(row)))
        series = {name: sorted(points) for name, points in series.items()}
        frames += [Chart(f"{y_label} against {label}", series, label, y_label, log=True, log_x=True)] if series else []
    return charts.draw(frames) if frames else None


def _bars(timed: dict, value: Callable[[dict], float], label: str) -> Image.Image | None:
    """Horizontal bars from zero, one frame for each case, a colour for each kind of number."""
    cases: dict[str, list[tuple[str, str, float]]] = {}
    for (case, contender, dtype), row in timed.items():
        if value(row) and not case.startswith(("queries", "scale")):
            cases.setdefault(case, []).append((contender, dtype, value(row)))
    kinds = sorted({dtype for found in cases.values() for _, dtype, _ in found})
    lines = [len(found) for found in cases.values()]

    def content(figure: Figure) -> None:
        frames = figure.subplots(len(cases), 1, squeeze=False, height_ratios=lines)
        for axes, (case, found) in zip(frames[:, 0], cases.items(), strict=True):
            names = [f"{contender} {dtype}" for contender, dtype, _ in found]
            colours = [charts.COLOURS[kinds.index(dtype)] for _, dtype, _ in found]
            axes.bar_label(axes.barh(names, [number for *_, number in found], color=colours), fmt="%.4g", padding=3)
            axes.margins(x=0.12)
            axes.grid(False)
            axes.set_title(f"{case}: {label}")
            axes.invert_yaxis()

    return charts.drawn(content, 900, 20 * sum(lines) + 60 * len(lines)) if cases else None
