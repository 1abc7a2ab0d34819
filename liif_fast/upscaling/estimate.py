"""How long pictures will take, by a model's speed on a small one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from ..models.liif import LIIF

SHORT = 0.1  # seconds that a measurement must take
_REPEATS = 3
_SIDES = (32, 64, 128, 256)  # pixels


class Speed(NamedTuple):
    """Seconds that a model takes for a pixel: of the input (encoder) and of the output (queries)."""

    encoder: float
    query: float

    def seconds(self, in_pixels: float, out_pixels: float) -> float:
        """Of the computation alone: reading and writing files is not in it."""
        return self.encoder * in_pixels + self.query * out_pixels


def speed(model: LIIF, dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter) -> Speed:
    """A model's, measured within about a second: two scales of one small picture, whose difference is the queries'.

    Args:
        dtype: of the computation, as in ``LIIF.upscale``.
        clock: gives seconds.
    """

    def seconds(side: int, scale: int) -> float:
        picture, times = np.full((side, side, 3), 128, np.uint8), []
        for _ in range(_REPEATS):
            begun = clock()
            model.upscale(picture, scale=scale, dtype=dtype)
            times.append(clock() - begun)
        return min(times)  # the others were disturbed

    seconds(32, 4)  # what happens only once
    for side in _SIDES:
        small, large = seconds(side, 1), seconds(side, 4)
        if large >= SHORT:
            break
    query = max(0.0, large - small) / (15 * side**2)
    return Speed(max(0.0, small / side**2 - query), query)
