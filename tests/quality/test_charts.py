"""Line charts: that they hold the numbers and the names, and that matplotlib's own state has no part in them."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liif_fast.quality import charts
from liif_fast.quality.charts import Chart

TWO = {"up": [(1, 3.0), (2, 4.5), (4, 8.0)], "down": [(1, 7.0), (4, 2.0)]}


def filled(*found: Chart) -> list[Axes]:
    figure = Figure()
    charts.fill(figure, found)
    return figure.axes


def names(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_what_a_figure_holds():
    first, second = filled(Chart("first", TWO, "scale", "dB"), Chart("second", TWO, log=True, log_x=True))
    for axes in (first, second):
        assert names(axes) == ["up", "down"]
        for line, points in zip(axes.lines, TWO.values(), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), points)
    assert [axes.title.get_text() for axes in (first, second)] == ["first", "second"]
    assert (first.get_xlabel(), first.get_ylabel()) == ("scale", "dB")
    assert [axes.get_xscale() for axes in (first, second)] == ["linear", "log"]
    assert [axes.get_yscale() for axes in (first, second)] == ["linear", "log"]
    assert first.get_position().y0 > second.get_position().y1  # below each other


def test_a_picture_has_a_line_of_each_colour():
    colours = {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in charts.draw([Chart("t", TWO)]).getcolors(1 << 24)}
    assert colours & set(charts.COLOURS) == {*charts.COLOURS[:2], "#000000"}  # the frame is black


@pytest.mark.parametrize(("log", "wanted"), [(False, [0, 3, 4, 5]), (True, [0, 3])])
def test_points_that_cannot_be_placed_are_left_out(log, wanted):
    values = [1.0, math.nan, math.inf, 2.0, 0.0, -1.0, -math.inf]
    (axes,) = filled(Chart("t", {"a": list(enumerate(values))}, log=log))
    assert list(axes.lines[0].get_xdata()) == wanted
    (axes,) = filled(Chart("t", {"a": [(value, i) for i, value in enumerate(values)]}, log_x=log))
    assert list(axes.lines[0].get_ydata()) == wanted


@pytest.mark.parametrize("points", [[], [(1, 5.0)], [(1, 5.0), (2, 5.0)], [(1, math.inf)]])
@pytest.mark.parametrize("log", [False, True])
def test_sizes_are_exact_however_little_there_is_to_draw(points, log):
    assert charts.draw([Chart("t", {"a": points}, log=log, log_x=log)] * 2, 301, 199).size == (301, 398)
    assert charts.draw([]).size == (900, 420)


def test_names_are_written_as_they_are():
    """No formulas, none left out but the empty one, both ends of long ones; no warning of letters that the font has
    not."""
    series = {"_hidden": [(1, 2)], "$x$": [(2, 3)], "": [(3, 4)], "first" + "-" * 99 + "last": [(4, 5)]}
    chart = Chart("a $x$ \u4e2d\udcff\n", series, "$", "$$", log=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charts.draw([chart])
    (axes,) = filled(chart)
    assert axes.title.get_text() == "a \\$x\\$ \u4e2d?\n"  # a dollar, in matplotlib's spelling
    *short, long = names(axes)
    assert short == ["_hidden", "\\$x\\$"]
    assert len(long) < 60
    assert (long[:5], long[-4:]) == ("first", "last")


def test_the_same_bytes_whatever_the_settings():
    """A user's settings of matplotlib change nothing, and none of them is changed; threads draw what one alone does."""

    def drawn(*_):
        return charts.draw([Chart("PSNR", TWO, "scale", "dB")]).tobytes()

    want = drawn()
    settings = {
        "text.usetex": True, "font.size": 30, "font.family": "serif", "figure.dpi": 30, "figure.facecolor": "black",
        "axes.grid": False, "axes.xmargin": 0.4, "lines.linewidth": 9, "axes.prop_cycle": "cycler(color=['red'])",
        "savefig.bbox": "tight", "xtick.labeltop": True, "legend.fontsize": 40, "path.sketch": (1, 100, 2),
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        assert drawn() == want
        assert dict(matplotlib.rcParams) == before
    before = dict(matplotlib.rcParams)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(drawn, range(8))) == {want}
    assert dict(matplotlib.rcParams) == before
    assert not logging.getLogger("matplotlib").handlers


QUIET = """
import sys
import liif_fast.cli.compare, liif_fast.cli.train
from liif_fast.quality import charts
from liif_fast.training import journal
assert charts.missing() is None
assert not [name for name in sys.modules if name.startswith("matplotlib")]
assert charts.draw([charts.Chart("t", {"a": [(1, 2), (2, 3)]})]).size == (900, 420)
assert "matplotlib.pyplot" not in sys.modules
"""


def test_matplotlib_comes_late_and_says_nothing(tmp_path):
    """Not even that its folder cannot be made, and that it does not know a setting."""
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "matplotlibrc").write_text("no.such.setting: 1\n")
    env = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "file"), "PYTHONPATH": str(Path(charts.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    plain = [sys.executable, "-c", "import matplotlib.font_manager"]
    assert "no.such.setting" in subprocess.run(plain, capture_output=True, text=True, cwd=tmp_path, env=env).stderr
