"""What a type checker says: ``mypy --strict`` of a user's script, of all examples in README, docs and examples/."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import doc_blocks
import pytest

pytest.importorskip("mypy")
pytestmark = pytest.mark.long
ROOT = doc_blocks.ROOT
# names that a page takes from its reader
PREAMBLE = """from collections.abc import Iterator
from PIL import Image
frames: Iterator[Image.Image] = iter(())
del Image, Iterator
"""
SCRIPT = """
from collections.abc import Iterable, Iterator
from typing import Any
import numpy as np
import torch
from PIL import Image
from typing_extensions import assert_type
import liif_fast
from liif_fast import functional
from liif_fast.models.baselines.common import ImageModel
from liif_fast.models.renderer import Renderer

model = liif_fast.load("edsr-baseline-liif", device="cpu")
assert_type(model, liif_fast.LIIF)
assert_type(liif_fast.load("small-srcnn-x4"), ImageModel)
photo = Image.open("photo.jpg")
assert_type(model.upscale(photo, scale=2), Image.Image)
array = np.zeros((4, 4, 3), np.uint8)
assert_type(model.upscale(array, size=(8, 8)), np.ndarray[Any, Any])
images = torch.zeros(1, 3, 4, 4)
assert_type(model.upscale(images, scale=2), torch.Tensor)
assert_type(liif_fast.load("small-srcnn-x4").upscale(photo), Image.Image)


def pictures() -> Iterator[Image.Image]:
    yield photo


for large in model.stream(pictures(), scale=2):
    assert_type(large, Image.Image)
assert_type(model(images, images, images), torch.Tensor)
assert_type(model.gen_feat(images), torch.Tensor)
assert_type(model.query_rgb(images, images), torch.Tensor)
assert_type(model.render(images, (8, 8)), torch.Tensor)
assert_type(model.renderer((8, 8)), Renderer)
assert_type(model.quantize(), liif_fast.LIIF)
assert_type(liif_fast.LIIF.from_pretrained("folder"), liif_fast.LIIF)
assert_type(liif_fast.make_coord((4, 4)), torch.Tensor)
rows, rel, weight = functional.gather_corners(images, images)
assert_type(rows, torch.Tensor)


@liif_fast.register("mine")
class Mine(torch.nn.Module):
    pass


assert_type(Mine(), Mine)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """What mypy learns of torch, once."""
    return tmp_path_factory.mktemp("mypy")


def strict(cache: Path, *files: Path) -> str:
    """What it says; of liif_fast as it is here, whose own errors are ``make lint``'s matter, as site-packages' are."""
    # torch's backward and PyAV's images have no types
    lenient = ["--disable-error-code=import-untyped", "--allow-untyped-calls"]
    options = ["--strict", "--follow-imports=silent", *lenient, "--no-error-summary"]
    command = [sys.executable, "-m", "mypy", *options, "--config-file=", "--cache-dir", cache, *files]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=files[0].parent, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def page_file(folder: Path, page: Path) -> Path:
    """The page's Python, line for line where it stands on the page, behind what it takes from its reader."""
    lines = PREAMBLE.replace("\n", "; ").rstrip("; ").splitlines()
    for block in doc_blocks.blocks(page, "python"):
        if not block.note:  # what is checked elsewhere may use packages that are not here
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    path = folder / (re.sub(r"\W", "_", str(page.relative_to(ROOT))) + ".py")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_users_script(tmp_path, cache):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    assert strict(cache, script) == ""


def test_what_is_wrong_is_found(tmp_path, cache):
    script = tmp_path / "script.py"
    lines = ["import liif_fast", "liif_fast.load('a').upscale('photo.jpg')", "liif_fast.load(3)", ""]
    script.write_text("\n".join(lines), encoding="utf-8")
    said = strict(cache, script)
    assert "script.py:2: error" in said
    assert "script.py:3: error" in said


def test_examples_and_every_page(tmp_path, cache):
    pages = [page_file(tmp_path, page) for page in doc_blocks.pages() if doc_blocks.blocks(page, "python")]
    examples = [path for path in (ROOT / "examples").glob("*.py") if path.name != "demo.py"]
    assert strict(cache, *pages, *examples) == ""
