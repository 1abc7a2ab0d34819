"""csrc/corners.h against reference.corners, bit for bit; that one agrees with grid_sample (test_reference.py)."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from built_once import built_once, processor, sources, version

from liif_fast import reference

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def header():
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    # torch ships pybind11's headers; the flags are those of setup.py that concern rounding
    includes = [f"-I{Path(torch.__file__).parent / 'include'}", f"-I{sysconfig.get_path('include')}"]
    flags = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-fast-math", "-shared", "-fPIC"]
    source, name = HERE / "corners_module.cpp", "corners_module.so"

    def make(folder):
        subprocess.run([compiler, *flags, *includes, source, "-o", folder / name], check=True)

    inputs = [source, *sources("csrc"), *flags, version(compiler), processor()]
    spec = importlib.util.spec_from_file_location("corners_module", built_once("corners", inputs, make) / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def coordinates(size, dtype):
    """Anywhere, beyond the image, and on grids of several scales."""
    parts = [torch.rand(50_000, 2, dtype=dtype) * 2.2 - 1.1]
    for scale in (1, 1.5, 2, 3, 4, 5, 7.3, 8, 12):
        ys, xs = (reference.make_coord([max(1, round(n * scale))], dtype=dtype)[:, 0] for n in size)
        pick = torch.randint(0, 1 << 30, (2, 10_000))
        parts.append(torch.stack([ys[pick[0] % len(ys)], xs[pick[1] % len(xs)]], -1))
    return torch.cat(parts)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (13, 17), (64, 64), (255, 257), (1080, 1920)])
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_header_is_the_reference(header, size, ensemble, dtype):
    coord = coordinates(size, dtype)
    function = header.corners_f32 if dtype == torch.float32 else header.corners_f64
    index, rel, weight, inside = function(coord.numpy(), *size, ensemble, 0, 0, *size)
    want_index, want_rel, want_weight = reference.corners(coord, size, ensemble)
    assert inside.all()
    np.testing.assert_array_equal(index, want_index)
    np.testing.assert_array_equal(rel, want_rel)
    np.testing.assert_array_equal(weight, want_weight)


def test_part_of_a_map(header):
    """Inside the part: the whole map's pixel, counted from the part's origin. Outside: said, never out of bounds."""
    size, origin, part = (40, 30), (10, 5), (20, 12)
    coord = coordinates(size, torch.float32)
    index, rel, weight, inside = header.corners_f32(coord.numpy(), *size, True, *origin, *part)
    whole, want_rel, want_weight = reference.corners(coord, size)
    local = whole.numpy() - np.array(origin)
    fits = ((local >= 0) & (local < np.array(part))).all(-1)
    np.testing.assert_array_equal(inside, fits)
    np.testing.assert_array_equal(index[fits], local[fits])
    assert (index >= 0).all()
    assert (index < np.array(part)).all()
    np.testing.assert_array_equal(rel, want_rel)
    np.testing.assert_array_equal(weight, want_weight)


def test_nan_and_infinity_stay_inside(header):
    coord = np.array([[np.nan, 0], [np.inf, -np.inf], [1e38, -1e38]], np.float32)
    index, rel, _, _ = header.corners_f32(coord, 5, 7, True, 0, 0, 5, 7)
    assert (index >= 0).all()
    assert (index < np.array([5, 7])).all()
    assert np.isnan(rel[0, :, 0]).all()
