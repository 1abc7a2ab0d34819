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


def test_sides_are_the_clip_where_nothing_is_said_and_whole_numbers_of_any_type():
    assert ours.side("width", None, 720, 0.0, None) == (720, 720, 0, 720)
    assert ours.side("height", 480 * 9 / 8, 480, -0.5, 100) == (540, 480, -0.5, 100)
    assert ours.side("width", np.int64(3), 5, np.float32(0.25), np.float64(2)) == (3, 5, 0.25, 2)


@pytest.mark.parametrize(
    ("name", "given", "error", "says"),
    [
        ("width", ("7", 0, None), TypeError, "width: a whole number of pixels above 0 is wanted, got '7'"),
        ("width", (True, 0, None), TypeError, "width: .* got True"),
        ("height", (0, 0, None), ValueError, "height: a whole number of pixels above 0 is wanted, got 0"),
        ("height", (10.5, 0, None), ValueError, "height: .* got 10.5"),
        ("width", (float("nan"), 0, None), ValueError, "width: .* got nan"),
        ("width", (8, float("inf"), None), ValueError, "src_left: a finite number of pixels is wanted, got inf"),
        ("height", (8, None, None), TypeError, "src_top: a finite number of pixels is wanted, got None"),
        ("width", (8, 0, 0), ValueError, "src_width: a number of pixels above 0 is wanted, got 0"),
        ("height", (8, 0, -3.0), ValueError, "src_height: a number of pixels above 0 is wanted, got -3.0"),
        ("height", (10**400, 0, None), ValueError, "height: .* got 10000.*"),
        ("height", (8, 0, "x"), TypeError, "src_height: .* got 'x'"),
    ],
)
def test_a_wrong_side_is_named(name, given, error, says):
    with pytest.raises(error, match=f"^{says}$"):
        ours.side(name, given[0], 16, *given[1:])


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
    start, extent, count = given.get("start", 0.0), given.get("extent", 8.0), given.get("count", 8)
    other = ours.Side(3, 5, 0.0, 5.0)
    rows, columns = ours.coordinates((other, ours.Side(count, 8, start, extent)))
    assert columns.dtype == torch.float32
    assert (rows - liif_fast.make_coord((3,))[:, 0]).abs().max() < 1e-6
    return (columns.double() + 1) * 4


def test_windows_lie_where_they_are_said_to_and_are_mirrored_at_the_border():
    close = {"atol": 1e-5, "rtol": 0}
    pixels = torch.arange(8, dtype=torch.float64) + 0.5
    assert torch.equal(at(), (liif_fast.make_coord((8,))[:, 0].double() + 1) * 4)  # to the bit: of the border's pixels
    torch.testing.assert_close(at(start=2.25, extent=4.0, count=4), pixels[:4] + 2.25, **close)
    torch.testing.assert_close(at(start=2.0, extent=1.0, count=2), torch.tensor([2.25, 2.75]).double(), **close)
    torch.testing.assert_close(at(start=-3.0), torch.cat([pixels[:3].flip(0), pixels[:5]]), **close)
    torch.testing.assert_close(at(start=6.0), torch.cat([pixels[6:], pixels[2:].flip(0)]), **close)
    torch.testing.assert_close(at(start=-16.0), pixels, **close)  # mirrored twice
    torch.testing.assert_close(at(start=-4.0, extent=16.0, count=4), torch.tensor([2.0, 2, 6, 6]).double(), **close)
