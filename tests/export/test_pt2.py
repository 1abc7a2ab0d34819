"""Packages of AOTInductor, run by a process that cannot import liif_fast."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from onnx_files import small

from liif_fast import export

pytestmark = pytest.mark.long
PROGRAM = """
import sys
sys.modules["liif_fast"] = None  # no import of it
import torch
package, given, found = sys.argv[1:]
run = torch._inductor.aoti_load_package(package)
torch.save([run(*inputs) for inputs in torch.load(given)], found)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_program_without_liif_fast_runs_it(tmp_path):
    model = small()
    export.to_pt2(model, tmp_path / "liif.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["liif.pt2"]
    images = [torch.rand(1 + i % 2, 3, 9 + i, 14) for i in range(3)]
    sizes = [(20, 31), (9 + 1, 14), (8, 57)]
    torch.save([(image, torch.tensor(size)) for image, size in zip(images, sizes, strict=True)], tmp_path / "given.pt")
    command = [sys.executable, "-c", PROGRAM, *(tmp_path / name for name in ("liif.pt2", "given.pt", "found.pt"))]
    subprocess.run(command, check=True, cwd=tmp_path)
    for image, size, got in zip(images, sizes, torch.load(tmp_path / "found.pt"), strict=True):
        want = model.upscale(image, size=size, point=True)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)  # sums in another order


def test_another_suffix_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"path: torch wants the suffix \.pt2"):
        export.to_pt2(small(), tmp_path / "liif.bin")
    assert not list(tmp_path.iterdir())
