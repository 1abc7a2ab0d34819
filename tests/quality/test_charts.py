"""Line charts: that the lines are where the numbers say, and that matplotlib's own state has no part in it."""

from __future__ import annotations

import io
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

from liif_fast.quality import charts
from liif_fast.quality.charts import Chart

TWO = {"up": [(1, 3.0), (2, 4.5), (4, 8.0)], "down": [(1, 7.0), (4, 2.0)]}


def inked(image, colour: str) -> np.ndarray:
    """(x, y) of all pixels of a colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere((np.asarray(image) == rgb).all(-1))[:, ::-1]


def labels(axis) -> list[str]:
    return [words.get_text() for words in axis.get_ticklabels()]


def test_lines_rise_and_fall_as_the_numbers():
    up, down = [(x, 2.0 * x) for x in range(50)], [(x, 98 - 2.0 * x) for x in range(50)]
    image = charts.draw([Chart("both", {"up": up, "down": down})])
    for colour, sign in zip(charts.COLOURS, (-1, 1), strict=False):
        at = inked(image, colour)
        at = at[at[:, 0] < 700]  # left of the legend
        assert np.corrcoef(at[:, 0], at[:, 1])[0, 1] * sign > 0.99  # y grows downwards
        assert np.ptp(at[:, 0]) > 550


def test_logarithmic():
    """Powers of ten lie on a straight line; what has no logarithm is left out."""
    points = [(x, 10.0**-x) for x in range(45)] + [(20.5, 0.0), (21.5, math.nan), (22.5, -1.0)]
    at = inked(charts.draw([Chart("log", {"a": points}, log=True)]), charts.COLOURS[0])
    at = at[at[:, 0] < 700]
    assert np.corrcoef(at[:, 0], at[:, 1])[0, 1] > 0.999


def test_what_a_figure_holds():
    figure = charts.figure([Chart("first", TWO, "scale", "dB"), Chart("second", TWO, "n", "s", log=True, log_x=True)])
    first, second = figure.axes
    for axes in (first, second):
        assert [line.get_color() for line in axes.lines] == list(charts.COLOURS[:2])
        assert [words.get_text() for words in axes.get_legend().get_texts()] == ["up", "down"]
        for line, points in zip(axes.lines, TWO.values(), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), points)
            inside = axes.viewLim.get_points()
            assert (np.asarray(points) > inside[0]).all()
            assert (np.asarray(points) < inside[1]).all()
    assert [a.get_title("left") for a in (first, second)] == ["first", "second"]
    assert (first.get_xlabel(), first.get_ylabel()) == ("scale", "dB")
    assert (first.get_xscale(), first.get_yscale()) == ("linear", "linear")
    assert (second.get_xscale(), second.get_yscale()) == ("log", "log")
    assert first.get_position().y0 > second.get_position().y1  # below each other


def test_points_that_cannot_be_placed_are_left_out():
    points = [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0), (4, 0.0), (5, -1.0)]
    for log, wanted in ((False, [0, 3, 4, 5]), (True, [0, 3])):
        (line,) = charts.figure([Chart("t", {"a": points}, log=log)]).axes[0].lines
        assert list(line.get_xdata()) == wanted


def test_long_names_stay_inside():
    pixels = np.asarray(charts.draw([Chart("t", {"a": [(1, 1)], "long " * 12: [(2, 2)]})]))
    assert (pixels[45:100, 883:] == 255).all()  # right of the frame
    assert (pixels[45:100, 500:870] != 255).any()
    pixels = np.asarray(charts.draw([Chart("t", {"a": [(1, 1)], "longer " * 60: [(2, 2)]})]))
    assert (pixels[45:360, :30] == 255).all()  # left of the frame's numbers


@pytest.mark.parametrize("points", [[], [(1, 5.0)], [(1, 5.0), (2, 5.0)], [(1, math.inf)]])
@pytest.mark.parametrize("log", [False, True])
def test_little_to_draw(points, log):
    image = charts.draw([Chart("t", {"a": points}, log=log, log_x=log)] * 2, 300, 200)
    assert image.size == (300, 400)
    assert charts.draw([]).size == (900, 420)


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (0.9, 1.1, ["0.9", "0.95", "1", "1.05", "1.1"]),
        (-0.3, 0.2, ["-0.3", "-0.2", "-0.1", "0", "0.1", "0.2"]),
        (32.2371, 32.2372, ["32.2371", "32.23712", "32.23714", "32.23716", "32.23718", "32.2372"]),
    ],
)
def test_ticks(low, high, want):
    axes = charts.figure([Chart("t", {"a": [(0, low), (1, high)]})]).axes[0]
    assert labels(axes.yaxis) == want
    assert [float(text) for text in want] == pytest.approx(list(axes.get_yticks()))


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [
        (1, 100, ["1", "2", "5", "10", "20", "50", "100"]),
        (0.03, 0.3, ["0.05", "0.1", "0.2"]),
        (1e-9, 1, ["1e-08", "1e-06", "0.0001", "0.01", "1"]),
    ],
)
def test_logarithmic_ticks(low, high, want):
    axes = charts.figure([Chart("t", {"a": [(0, low), (1, high)]}, log=True)]).axes[0]
    assert labels(axes.yaxis) == want
    assert not [text for text in axes.yaxis.get_ticklabels(minor=True) if text.get_text()]


def test_names_are_written_as_they_are():
    """No formulas, no names that are left out; what the font has no letter for is a box, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = Chart("a $x$ \u4e2d\udcff\n", {"_hidden": [(1, 2)], "$x^2": [(2, 3)]}, "$", "$$")
        charts.draw([chart])
    axes = charts.figure([chart]).axes[0]
    assert axes.get_title("left") == "a $x$ \u25a1\u25a1\u25a1"
    assert [words.get_text() for words in axes.get_legend().get_texts()] == ["_hidden", "$x^2"]


def test_the_same_bytes_whatever_the_settings():
    """A user's settings of matplotlib change nothing, and none of them is changed; threads draw what one alone does."""

    def png(*_):
        file = io.BytesIO()
        charts.draw([Chart("PSNR", TWO, "scale", "dB")]).save(file, "PNG")
        return file.getvalue()

    want = png()
    assert b"matplotlib" not in want.lower()
    settings = {
        "text.usetex": True, "font.size": 30, "font.family": "serif", "font.weight": "bold", "figure.dpi": 30,
        "figure.facecolor": "black", "axes.facecolor": "red", "axes.grid": True, "axes.spines.top": False,
        "axes.xmargin": 0.4, "lines.linewidth": 9, "lines.marker": "x", "lines.markeredgecolor": "red",
        "savefig.bbox": "tight", "text.color": "red", "axes.labelcolor": "red", "xtick.labelsize": 30,
        "xtick.labeltop": True, "ytick.right": True, "xtick.minor.visible": True, "legend.frameon": True,
        "legend.fontsize": 40, "figure.constrained_layout.use": True, "grid.alpha": 0.3,
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        assert png() == want
        assert dict(matplotlib.rcParams) == before
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(png, range(8))) == {want}
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
