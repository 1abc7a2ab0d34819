"""``resize`` for VapourSynth without VapourSynth: what its arguments may be, where its pixels lie."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import liif_fast
from liif_fast.integrations import vapoursynth as ours

CPU = torch.device("cpu")


def test_the_module_is_imported_without_vapoursynth_and_says_what_a_call_needs():
    code = (
        "import sys; sys.modules['vapoursynth'] = None\n"
        "from liif_fast.integrations.vapoursynth import resize\n"
        "try: resize(None)\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count("\n") == 1
    assert "pip install 'liif-fast[vapoursynth]'" in done.stdout
    assert "Python 3.12" in done.stdout


def pixels(width=None, height=None, left=0.0, top=0.0, src_width=None, src_height=None, clip=(5, 8)):
    return ours.sides(clip, (height, width), (top, left), (src_height, src_width))


def test_sides_are_the_clip_where_nothing_is_said_and_whole_numbers_of_any_type():
    rows, columns = pixels()
    assert (rows.count, rows.whole, rows.first, rows.pixel) == (5, 5, 0, 2 / 5)
    assert (columns.count, columns.whole, columns.first, columns.pixel) == (8, 8, 0, 2 / 8)
    rows, columns = pixels(480 * 9 / 8, np.int64(3), np.float32(0.25), 1, np.float64(2))
    assert (rows.count, rows.whole, rows.first, rows.pixel) == (3, 3, 0.6, 2 / 3)
    assert (columns.count, columns.whole, columns.first, columns.pixel) == (540, 2160, 67.5, 2 / 540)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"width": "7"}, TypeError, "width: a whole number of pixels above 0 is wanted, got '7'"),
        ({"width": True}, TypeError, "width: .* got True"),
        ({"height": 0}, ValueError, "height: a whole number of pixels above 0 is wanted, got 0"),
        ({"height": 10.5}, ValueError, "height: .* got 10.5"),
        ({"height": 10**400}, ValueError, "height: .* got 10000.*"),
        ({"width": float("nan")}, ValueError, "width: .* got nan"),
        ({"left": float("inf")}, ValueError, "src_left: a finite number of pixels is wanted, got inf"),
        ({"top": None}, TypeError, "src_top: a finite number of pixels is wanted, got None"),
        ({"src_width": 0}, ValueError, "src_width: a number of pixels above 0 is wanted, got 0"),
        ({"src_height": -3.0}, ValueError, "src_height: a number of pixels above 0 is wanted, got -3.0"),
        ({"src_height": "x"}, TypeError, "src_height: .* got 'x'"),
        ({"left": -1e4}, ValueError, "src_left, src_width: -10000.0 and None reach farther than 32 times .* width .*"),
        ({"src_height": 1e3}, ValueError, "src_top, src_height: 0.0 and 1000.0 reach farther than .*"),
    ],
)
def test_a_wrong_side_is_named(given, error, says):
    with pytest.raises(error, match=f"^{says}$"):
        pixels(**given)


def test_backends(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ours.checked_backend(None) == ours.checked_backend("CPU") == CPU
    with pytest.raises(ValueError, match=r"^backend: 'cuda', but torch finds no CUDA device; backend='cpu'"):
        ours.checked_backend("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert ours.checked_backend(None) == ours.checked_backend("cuda") == torch.device("cuda:0")
    assert ours.checked_backend("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"^backend: 'cuda:2', but the last CUDA device is cuda:1$"):
        ours.checked_backend("cuda:2")


@pytest.mark.parametrize("backend", ["tpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "", 1, torch.device("cpu")])
def test_a_wrong_backend_is_named(backend):
    with pytest.raises((TypeError, ValueError), match=r"^backend: 'cpu', 'cuda' or 'cuda:1' is wanted, got "):
        ours.checked_backend(backend)


def test_dtypes(monkeypatch):
    assert ours.checked_dtype(None, CPU) == torch.float32
    assert ours.checked_dtype("bfloat16", CPU) == torch.bfloat16
    for capability, want in (((6, 1), torch.float32), ((7, 0), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert ours.checked_dtype(None, torch.device("cuda:0")) == want
    for wrong in ("half", "int8", torch.float16, ["float32"]):
        with pytest.raises(ValueError, match=r"^dtype: one of 'float32', 'bfloat16', 'float16' is wanted, got "):
            ours.checked_dtype(wrong, CPU)


def at(**given) -> torch.Tensor:
    """Where the output's columns lie, in pixels of a clip of 8: 0.5 is the first one's centre."""
    rows, columns = pixels(**given)
    down, across = (side.centres(0, side.count, "cpu", torch.float32) for side in (rows, columns))
    assert (down - liif_fast.make_coord((5,))[:, 0]).abs().max() < 1e-6
    return (across.double() + 1) * 4


def test_windows_lie_where_they_are_said_to_and_are_mirrored_at_the_border():
    close = {"atol": 1e-5, "rtol": 0}
    centres = torch.arange(8, dtype=torch.float64) + 0.5
    assert torch.equal(at(), (liif_fast.make_coord((8,))[:, 0].double() + 1) * 4)  # to the bit: of the border's pixels
    torch.testing.assert_close(at(left=2.25, src_width=4.0, width=4), centres[:4] + 2.25, **close)
    torch.testing.assert_close(at(left=2, src_width=1, width=2), torch.tensor([2.25, 2.75]).double(), **close)
    torch.testing.assert_close(at(left=-3.0), torch.cat([centres[:3].flip(0), centres[:5]]), **close)
    torch.testing.assert_close(at(left=6.0), torch.cat([centres[6:], centres[2:].flip(0)]), **close)
    torch.testing.assert_close(at(left=-16.0), centres, **close)  # mirrored twice
    torch.testing.assert_close(at(left=-4, src_width=16, width=4), torch.tensor([2.0, 2, 6, 6]).double(), **close)


def test_tiles_see_all_that_their_pixels_read_where_the_picture_turns_round():
    """Ends of any run of pixels, from which tiles are cut, hold what lies between."""
    for given in ({"left": -3.3}, {"left": -11, "src_width": 30, "width": 40}, {"left": 1.2, "src_width": 5}):
        _, columns = pixels(**given)
        all_of_them = columns.centres(0, columns.count, "cpu", torch.float32)
        for start in range(columns.count):
            stops = torch.arange(start + 1, columns.count + 1)
            ends = columns.ends(torch.full_like(stops, start), stops)
            for stop, (low, high) in zip(stops.tolist(), ends.tolist(), strict=True):
                part = all_of_them[start:stop]
                assert low - 1e-6 <= part.min() <= part.max() <= high + 1e-6
