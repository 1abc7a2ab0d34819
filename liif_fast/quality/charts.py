"""Line charts, drawn by matplotlib, which the extra ``plots`` installs.

It is imported when the first chart is drawn and not before, without pyplot and without a display. What a chart looks
like does not depend on the user's settings of it, which hold again afterwards.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# distinguishable for the colour-blind as well (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
_DPI = 128  # a power of two, by which whole pixels become inches and pixels again without rounding
_SETTINGS = {
    "axes.grid": True,
    "axes.prop_cycle": f"cycler(color={COLOURS})",
    "axes.titlelocation": "left",
    "font.size": 8,
    "grid.alpha": 0.4,
    "lines.linewidth": 1,
}
_INSTALL = 'pip install "liif-fast[plots]"'
_LOCK = threading.Lock()  # matplotlib's settings and fonts are shared by all figures


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
    return None if importlib.util.find_spec("matplotlib") else f"matplotlib is not installed; {_INSTALL}"


def draw(charts: Sequence[Chart], width: int = 900, height: int = 420) -> Image.Image:
    """The charts below each other, each of ``width`` x ``height`` pixels. Points that are not finite are left out.

    Raises:
        ChartError: matplotlib is missing, or fails.
    """
    return drawn(lambda figure: fill(figure, charts), width, height * max(1, len(charts)))


def drawn(content: Callable[[Figure], None], width: int, height: int) -> Image.Image:
    """A figure of so many pixels, into which ``content`` has put axes. ChartError as `draw`: a run of days does not end
    because a picture of it cannot be drawn."""
    if (why := missing()) is not None:
        raise ChartError(why)
    try:
        with _LOCK, _quiet():
            import matplotlib.style
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            with matplotlib.style.context(["default", _SETTINGS]):
                figure = Figure((width / _DPI, height / _DPI), _DPI, layout="constrained")
                content(figure)
                canvas = FigureCanvasAgg(figure)
                canvas.draw()
            return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
    except Exception as error:
        what = f"matplotlib fails ({type(error).__name__}: {' '.join(str(error).split())})"
        raise ChartError(f"{what}; {_INSTALL}" if isinstance(error, ImportError) else what) from error


def fill(figure: Figure, charts: Sequence[Chart]) -> None:
    """Axes for each chart, below each other; the names stand beside them, where no line can be."""
    for i, chart in enumerate(charts):
        axes = figure.add_subplot(len(charts), 1, i + 1)
        axes.set(xscale="log" if chart.log_x else "linear", yscale="log" if chart.log else "linear")
        axes.set(title=_plain(chart.title), xlabel=_plain(chart.x_label), ylabel=_plain(chart.y_label))
        low_x, low_y = (0 if log else -math.inf for log in (chart.log_x, chart.log))
        lines = {}
        for name, points in chart.series.items():
            placed = [(x, y) for x, y in points if low_x < x < math.inf and low_y < y < math.inf]
            marker = "." if len(placed) <= 40 else ""
            (lines[name],) = axes.plot([x for x, _ in placed], [y for _, y in placed], marker=marker)
        if named := [name for name in lines if name]:  # as labels of lines, those that begin with _ would be left out
            found = [lines[name] for name in named], [_plain(name) for name in named]
            axes.legend(*found, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _plain(text: str) -> str:
    """No formula between dollars, no bytes of files' names that are no Unicode; of long ones both ends."""
    text = text.encode("utf-8", "replace").decode()
    return (text if len(text) <= 48 else f"{text[:27]}\u2026{text[-20:]}").replace("$", r"\$")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What matplotlib logs (that it looks for fonts) goes to an application's handlers alone, not to standard error for
    the want of one; it does not warn (of a letter that its font has not)."""
    logger, handler = logging.getLogger("matplotlib"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
