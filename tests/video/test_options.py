"""The size of what is written, the shape of its pixels, and windows of turned pictures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from liif_fast.video.kinds import Colours, Facts, VideoError
from liif_fast.video.options import VideoOptions, plan

FACTS = Facts(720, 480, Fraction(1, 1000), Fraction(25), 100, "yuv420p", 8, Colours())


@pytest.mark.parametrize(
    ("facts", "options", "size", "sample"),
    [
        ({}, {"scale": 2.0}, (960, 1440), 1),
        ({"width": 321, "height": 181}, {"scale": 1.5}, (272, 482), 1),  # 481.5 x 271.5
        ({"width": 161, "height": 91}, {"scale": 3}, (274, 484), 1),  # 483 x 273: to even
        ({"sample_aspect": Fraction(8, 9)}, {"scale": 2.0}, (960, 1440), Fraction(8, 9)),
        ({"sample_aspect": Fraction(8, 9)}, {"size": (720, 540)}, (540, 720), 1),
        ({"sample_aspect": Fraction(8, 9)}, {"size": (960, 540)}, (540, 960), Fraction(3, 4)),
        ({"sample_aspect": Fraction(32, 27)}, {"size": (None, 1080)}, (1080, 1920), 1),
        ({"sample_aspect": Fraction(32, 27)}, {"size": (1920, None)}, (1080, 1920), 1),
        ({"rotation": 90}, {"size": (960, None)}, (960, 1440), 1),
        ({"rotation": 270, "sample_aspect": Fraction(8, 9)}, {"scale": 2}, (960, 1440), Fraction(8, 9)),
        ({"rotation": 90, "sample_aspect": Fraction(2)}, {"size": (480, 1440)}, (480, 1440), 1),
        ({"width": 854}, {"size": (1920, 1080)}, (1080, 1920), 1),
        ({}, {"window": (0.5, 10, 100, 200), "scale": 2.5}, (250, 500), 1),
        ({}, {"window": (0, 0, 240, 720), "size": (720, 480)}, (480, 720), Fraction(2)),
    ],
)
def test_the_size_and_the_shape_of_pixels(facts, options, size, sample):
    made = plan(replace(FACTS, **facts), VideoOptions(**options), (2, 2), "yuv444p")
    assert (made.size, made.sample_aspect) == (size, sample)


@pytest.mark.parametrize("turn", [0, 90, 180, 270, -90])
def test_a_window_is_of_the_picture_as_it_is_displayed(turn):
    stored = np.arange(480 * 720).reshape(480, 720)
    shown = np.rot90(stored, turn // 90)  # counterclockwise, as the rotation of PyAV
    made = plan(replace(FACTS, rotation=turn), VideoOptions(scale=2, window=(30, 50, 40, 60)))
    top, left, height, width = map(int, made.window)
    part = stored[top : top + height, left : left + width]
    assert np.array_equal(np.rot90(part, turn // 90), shown[30:70, 50:110])
    assert made.size == tuple(2 * n for n in part.shape)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (481, 270)}, r"--size 481x270: .* even: --size 482x270, or --pixel-format yuv444p for odd ones"),
        ({"size": (None, 271)}, r"--size x271: .* --size x272"),
        (
            {"scale": 100},
            r"720x480 -> 72000x48000: a frame is over the limit of 268435456 pixels; .*--max-output-pixels",
        ),
    ],
)
def test_sizes_that_are_refused(options, words):
    with pytest.raises(VideoError, match=words):
        plan(FACTS, VideoOptions(**options), (2, 2), "yuv444p")


def test_odd_sides_where_the_format_has_them():
    assert plan(FACTS, VideoOptions(size=(481, 271))).size == (271, 481)
    facts = replace(FACTS, width=161, height=91)
    assert plan(facts, VideoOptions(scale=3), (2, 2), "yuv444p").notes == [
        "484x274 in place of 483x273: --pixel-format yuv444p keeps that"
    ]
