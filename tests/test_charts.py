"""Line charts: that the lines are where the numbers say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from liif_fast.quality import charts


def inked(image, colour: str) -> np.ndarray:
    """(x, y) of all pixels of a colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere((np.asarray(image) == rgb).all(-1))[:, ::-1]


def test_lines_rise_and_fall_as_the_numbers():
    up, down = [(x, 2.0 * x) for x in range(50)], [(x, 98 - 2.0 * x) for x in range(50)]
    image = charts.draw([charts.Chart("both", {"up": up, "down": down})])
    for colour, sign in zip(charts.COLOURS, (-1, 1), strict=False):
        at = inked(image, colour)
        at = at[at[:, 0] < 700]  # left of the legend
        assert np.corrcoef(at[:, 0], at[:, 1])[0, 1] * sign > 0.99  # y grows downwards
        assert np.ptp(at[:, 0]) > 550


def test_logarithmic():
    """Powers of ten lie on a straight line; what has no logarithm is left out."""
    points = [(x, 10.0**-x) for x in range(45)] + [(20.5, 0.0), (21.5, math.nan), (22.5, -1.0)]
    at = inked(charts.draw([charts.Chart("log", {"a": points}, log=True)]), charts.COLOURS[0])
    at = at[at[:, 0] < 700]
    assert np.corrcoef(at[:, 0], at[:, 1])[0, 1] > 0.999


def test_long_names_stay_inside():
    pixels = np.asarray(charts.draw([charts.Chart("t", {"a": [(1, 1)], "long " * 12: [(2, 2)]})]))
    assert (pixels[45:100, 881:] == 255).all()  # right of the frame
    assert (pixels[45:100, 500:870] != 255).any()


@pytest.mark.parametrize("points", [[], [(1, 5.0)], [(1, 5.0), (2, 5.0)], [(1, math.inf)]])
def test_little_to_draw(points):
    image = charts.draw([charts.Chart("t", {"a": points})] * 2, 300, 200)
    assert image.size == (300, 400)


@pytest.mark.parametrize(("low", "high", "want"), [(0, 10, [0, 2, 4, 6, 8, 10]), (0.9, 1.1, [0.9, 0.95, 1, 1.05, 1.1])])
def test_ticks(low, high, want):
    assert charts.ticks(low, high) == pytest.approx(want)
    assert len(charts.ticks(0.123, 0.1234)) <= 9
