"""Line charts, drawn by matplotlib, which the extra ``plots`` installs.

It is imported when the first chart is drawn and not before, and used without its global state: no pyplot, no display,
no setting changed. What a chart looks like does not depend on the user's settings of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# distinguishable for the colour-blind as well (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
INK = "#333333"
_GRID = "#dddddd"
_DPI = 128  # a power of two, by which whole pixels become inches and pixels again without rounding
_INSTALL = 'pip install "liif-fast[plots]"'
_LOCK = threading.RLock()  # matplotlib's fonts are shared by all figures
_Drawn = TypeVar("_Drawn")


class ChartError(RuntimeError):
    """No chart can be drawn; the text says why, and what to do."""


@dataclass(frozen=True)
class Chart:
    """Series of (x, y) points by name, in one frame. ``log``, ``log_x``: the y, the x axis is logarithmic."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    x_label: str = ""
    y_label: str = ""
    log: bool = False
    log_x: bool = False


def missing() -> str | None:
    """Why no chart can be drawn, if matplotlib is not there; it is not imported for that."""
    try:
        found = importlib.util.find_spec("matplotlib") is not None
    except ValueError:  # a module that somebody made by hand
        found = True
    return None if found else f"matplotlib is not installed; {_INSTALL}"


def draw(charts: Sequence[Chart], width: int = 900, height: int = 420) -> Image.Image:
    """The charts below each other, each of ``width`` x ``height`` pixels. Points that are not finite are left out.

    Raises:
        ChartError: matplotlib is missing, or fails.
    """
    return drawn(lambda: figure(charts, width, height))


def drawn(make: Callable[[], Figure]) -> Image.Image:
    """The picture of a figure, which ``make`` makes with `blank` and `frame`; ChartError as `draw`."""
    return _guarded(lambda: _pixels(make()))


def figure(charts: Sequence[Chart], width: int = 900, height: int = 420) -> Figure:
    """As `draw`, but the figure, of which nothing has been drawn."""
    whole = blank(width, height * max(1, len(charts)))
    for i, chart in enumerate(charts):
        _fill(frame(whole, (90, i * height + 40, width - 20, (i + 1) * height - 50), chart.title), chart)
    return whole


def blank(width: int, height: int) -> Figure:
    """A white figure of so many pixels. What makes figures is called inside `drawn` alone."""
    from matplotlib.figure import Figure

    size = (width / _DPI, height / _DPI)
    # "none" is what the stub leaves out
    return Figure(size, _DPI, facecolor="white", edgecolor="white", layout="none")  # type: ignore[arg-type]


def frame(whole: Figure, place: tuple[int, int, int, int], title: str) -> Axes:
    """Axes with (left, top, right, bottom) in pixels from the figure's upper left corner, empty but for the title."""
    width, height = (n * _DPI for n in whole.get_size_inches())
    left, top, right, bottom = place
    axes = whole.add_axes(
        (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height), facecolor="white"
    )
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.grid(False)
    axes.tick_params(
        labelbottom=True, labelleft=True, labeltop=False, labelright=False, length=0, pad=4, labelrotation=0
    )
    for axis in (axes.xaxis, axes.yaxis):
        _ticks(axis, [], [])
    axes.set_title(plain(title), loc="left", y=1.0, pad=5, **text(9))
    return axes


def text(size: float = 7.5) -> dict[str, Any]:
    """How all words are written: as they are, ``$`` and ``_`` too, in the font that comes with matplotlib."""
    from matplotlib.font_manager import FontProperties

    return {
        "fontproperties": FontProperties(fname=_font(), size=size),
        "color": INK,
        "usetex": False,
        "parse_math": False,
    }


def plain(words: str) -> str:
    """Words as the font has them: what it has no letter for, which matplotlib would warn of, is a box."""
    from matplotlib.font_manager import get_font

    known = get_font(_font()).get_charmap()
    return "".join(c if ord(c) in known and c.isprintable() else "\u25a1" for c in words)


def _font() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    style: dict[str, Any] = {name: "normal" for name in ("style", "variant", "weight", "stretch")}
    return findfont(FontProperties(family="DejaVu Sans", size=10, **style))


def _fill(axes: Axes, chart: Chart) -> None:
    axes.set_xlabel(plain(chart.x_label), loc="right", labelpad=3, **text())
    axes.set_ylabel(plain(chart.y_label), loc="top", labelpad=3, **text())
    series = {name: _drawable(points, chart) for name, points in chart.series.items()}
    if not any(series.values()):
        return
    axes.set_xscale("log" if chart.log_x else "linear")
    axes.set_yscale("log" if chart.log else "linear")
    axes.margins(0.03)
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            *([point[axis] for point in points] for axis in (0, 1)),
            label=name,
            color=colour,
            linestyle="-",
            linewidth=1,
            antialiased=True,
            solid_capstyle="projecting",
            marker="o",
            markersize=3.5,
            markerfacecolor=colour,
            markeredgecolor=colour,
            markevery=None if len(points) <= 40 else [len(points) - 1],
        )
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        marks = [m for m in _locator(axis.get_scale() == "log", low, high).tick_values(low, high) if low <= m <= high]
        _ticks(axis, marks, _numbers(marks))
        axis.grid(True, which="major", color=_GRID, alpha=1, linestyle="-", linewidth=0.6)
    if named := [(name, line) for name, line in zip(series, axes.lines, strict=True) if name]:
        # the names go in afterwards: a legend leaves out those that begin with an underscore
        legend = axes.legend(
            [line for _, line in named], ["name"] * len(named), loc="best", frameon=False, numpoints=1, ncols=1,
            handlelength=2, prop=text()["fontproperties"],
        )  # fmt: skip
        for (name, _), words in zip(named, legend.get_texts(), strict=True):
            words.set(text=plain(name if len(name) <= 80 else f"{name[:50]}\u2026{name[-28:]}"), **text())


def _locator(log: bool, low: float, high: float) -> Any:
    from matplotlib.ticker import LogLocator, MaxNLocator

    if not log:
        return MaxNLocator(nbins=8, steps=[1, 2, 5, 10])
    return LogLocator(subs=(1, 2, 5) if high / low <= 1e4 else (1,), numticks=9)


def _numbers(marks: Sequence[float]) -> list[str]:
    """With as many digits as tell them apart; a sum of steps that is zero but for rounding is zero."""
    if marks and marks[0] < 0 < marks[-1]:
        marks = [m if abs(m) > 1e-9 * marks[-1] else 0.0 for m in marks]
    for digits in (6, 9, 12, 17):
        found = [f"{m:.{digits}g}" for m in marks]
        if len(set(found)) == len(found):
            break
    return found


def _ticks(axis: Axis, marks: Sequence[float], labels: Sequence[str]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_minor_locator(NullLocator())
    axis.set_ticks(marks, labels, **text())


def _drawable(points: Sequence[tuple[float, float]], chart: Chart) -> list[tuple[float, float]]:
    """The points that have a place."""
    found = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    return [(x, y) for x, y in found if (x > 0 or not chart.log_x) and (y > 0 or not chart.log)]


def _pixels(whole: Figure) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(whole)
    canvas.draw()
    return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")


def _guarded(action: Callable[[], _Drawn]) -> _Drawn:
    """The action's result. A run of days does not end because a picture of it cannot be drawn: ChartError for all."""
    if (why := missing()) is not None:
        raise ChartError(why)
    try:
        with _LOCK, _quiet():
            return action()
    except Exception as error:
        what = f"matplotlib fails ({type(error).__name__}: {' '.join(str(error).split())})"
        raise ChartError(f"{what}; {_INSTALL}" if isinstance(error, ImportError) else what) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, what matplotlib logs (that it looks for fonts, that its folder cannot be written) goes to those handlers
    alone that an application has set up, and not to standard error for the want of one."""
    logger, handler = logging.getLogger("matplotlib"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
