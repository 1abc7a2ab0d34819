"""What a user's type checker says of liif_fast: of a program with the public names, and of the documentation's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import doc_blocks
import pytest

ROOT = doc_blocks.ROOT
# modules of others, without types, which need not be installed; the official repository's is called models
OTHERS = ("av", "models", "onnxruntime", "spandrel", "vapoursynth", "yaml")
# of the names that a page takes from its reader: what they are
GIVEN = {
    "README.md": "from PIL import Image; frames: list[Image.Image]",
    "docs/gpu.md": "import torch, liif_fast; model: liif_fast.LIIF; frames: list[torch.Tensor]",
    "docs/programs.md": "import torch; height: int; width: int",
    "docs/repositories.md": "import torch",
    "docs/video.md": "from typing import Any; from PIL import Image; frames: list[Image.Image]; clip: Any",
}

USER = """
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import assert_type

import liif_fast
import liif_fast.export
import liif_fast.functional
from liif_fast import checkpoints, functional, reference
from liif_fast.baselines import SRCNN
from liif_fast.checkpoints import save_official
from liif_fast.encoders import EDSR
from liif_fast.integrations.spandrel import install
from liif_fast.models.renderer import Renderer
from liif_fast.models.stream import Stream
from liif_fast.quality import metrics
from liif_fast.quality.evaluate import Report, evaluate
from liif_fast.training import load_config
from liif_fast.training.config import Config, EvalConfig

Array = np.ndarray[Any, Any]


def models(name: str, file: Path, image: Tensor) -> None:
    assert_type(liif_fast.load("edsr-baseline-liif"), liif_fast.LIIF)
    assert_type(liif_fast.load(name, "cpu"), liif_fast.LIIF)
    assert_type(liif_fast.load(file, spec={"name": "liif"}), liif_fast.LIIF)
    assert_type(liif_fast.load("small-srcnn-x4"), SRCNN)
    assert_type(EDSR(2, 8, 1.0, 2, True, 255)(image), Tensor)
    assert_type(save_official(liif_fast.load(name), file), None)
    assert_type(liif_fast.functional.make_coord((2, 2)), Tensor)
    assert_type(liif_fast.load("small-srgan-x4"), liif_fast.baselines.SRResNet)
    assert_type(cast(liif_fast.baselines.SRCNN, liif_fast.load(file)), liif_fast.baselines.SRCNN)
    assert_type(liif_fast.LIIF.from_pretrained("user/name"), liif_fast.LIIF)
    assert_type(liif_fast.baselines.SRCNN.from_pretrained(file), liif_fast.baselines.SRCNN)


def pictures(model: liif_fast.LIIF, photo: Image.Image, array: Array, tensor: Tensor) -> None:
    assert_type(model.upscale(photo, scale=4), Image.Image)
    assert_type(model.upscale(Image.open("photo.jpg"), scale=4), Image.Image)
    assert_type(model.upscale(array, size=(9, 9), window=(0, 0.5, 3, 3)), Array)
    assert_type(model.upscale(np.zeros((3, 4), np.uint8), 2), Array)
    assert_type(model.upscale(tensor, 2, dtype=torch.bfloat16), Tensor)
    assert_type(liif_fast.baselines.SRCNN().upscale(photo, scale=4), Image.Image)
    assert_type(model.stream([photo], scale=2), Stream[Image.Image])
    for frame in model.stream((array for _ in range(3)), scale=2):
        assert_type(frame, Array)
    with model.stream([tensor], scale=2) as stream:
        assert_type(next(stream), Tensor)
        assert_type(stream.frames_reused, int)


def whole(model: liif_fast.LIIF, inp: Tensor, coord: Tensor, cell: Tensor) -> None:
    assert_type(model(inp, coord, cell), Tensor)
    assert_type(model.gen_feat(inp), Tensor)
    assert_type(model.query_rgb(coord, cell), Tensor)
    assert_type(model.render(inp, (9, 9)), Tensor)
    assert_type(model.renderer((9, 9)), Renderer)
    assert_type(model.renderer((9, 9))(inp), Tensor)
    assert_type(model.quantize(), liif_fast.quantized.QuantizedLIIF)
    assert_type(model.quantize().upscale(inp, 2), Tensor)
    assert_type(model.device, torch.device | None)
    assert_type(model.eval().to("cpu").upscale(inp, 2), Tensor)


@liif_fast.register("my-encoder")
class MyEncoder(torch.nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.out_dim = width


assert_type(MyEncoder(), MyEncoder)


def functions(feat: Tensor, coord: Tensor, model: liif_fast.LIIF, file: Path) -> None:
    assert_type(liif_fast.make_coord((3, 4)), Tensor)
    rows, rel, weight = functional.gather_corners(feat, coord)
    assert_type(rows, Tensor)
    head = model.head()
    if isinstance(head, functional.Head):
        hidden = functional.hidden_map(feat, head)
        assert_type(functional.query(hidden, head, coord, coord), Tensor)
        assert_type(functional.render(hidden, head, coord, coord), Tensor)
        assert_type(functional.renderer(hidden, head)(coord), Tensor)
    assert_type(reference.make_coord([3, 4]), Tensor)
    assert_type(liif_fast.MLP(4, 3, [8])(feat), Tensor)
    assert_type(liif_fast.encoders.RDN()(feat), Tensor)
    assert_type(checkpoints.save(model, file), None)
    try:
        model.save(file)
    except (liif_fast.CheckpointError, checkpoints.UnknownModelError):
        pass


def tools(model: liif_fast.LIIF, file: Path, image: Tensor) -> None:
    assert_type(liif_fast.export.to_onnx(model, "liif.onnx"), None)
    assert_type(liif_fast.export.to_pt2(model, file), None)
    assert_type(metrics.psnr(image, image), float)
    assert_type(metrics.ssim(image, image), float)
    assert_type(install(), None)
    assert_type(evaluate(model.upscale, file, 4), Report)
    assert_type(load_config("mine.yaml"), Config)
    assert_type(load_config(file, EvalConfig), EvalConfig)
"""

# a checker that says nothing here would say nothing anywhere
WRONG = """
import liif_fast

model = liif_fast.load("edsr-baseline-liif")
model.upscale("photo.jpg", scale=4)  # wrong
model.upscale([1, 2], scale=4)  # wrong
model.upscail(2)  # wrong
model.render(3, (9, 9))  # wrong
model.stream(["a.png"], scale=2)  # wrong
text: str = liif_fast.load("small-liif")  # wrong
liif_fast.no_such_name  # wrong
"""


def strict(folder: Path) -> dict[str, dict[int, str]]:
    """The errors in each file of a folder by their lines; those inside of the package are not a user's."""
    settings = "".join(f"[mypy-{name}.*]\nignore_missing_imports = True\n" for name in OTHERS)
    (folder / "settings.ini").write_text(f"[mypy]\nstrict = True\nfollow_imports = silent\n{settings}")
    options = ["--config-file", "settings.ini", "--cache-dir", str(ROOT / ".mypy_cache" / "strict"), "--no-pretty"]
    files = sorted(path.name for path in folder.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--no-error-summary", "--hide-error-context", *files],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, dict[int, str]] = {name: {} for name in files}
    for line in done.stdout.splitlines():
        if ": error: " in line:
            name, number, message = re.match(r"(.+?):(\d+): error: (.*)", line).groups()
            found[name][int(number)] = message
    return found


def script(page: Path) -> str:
    """The page's Python, each line where it stands there, after what it takes from its reader."""
    lines = [GIVEN.get(str(page.relative_to(ROOT)), "")]
    for block in doc_blocks.blocks(page, "python"):
        lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


PAGES = {str(p.relative_to(ROOT)): p for p in doc_blocks.pages() if doc_blocks.blocks(p, "python")}


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def file_of(page: str) -> str:
    return page.removesuffix(".md").replace("/", "_").replace("-", "_") + ".py"


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, dict[int, str]]:
    """Of all at once: most of the time goes into torch's own files."""
    folder = tmp_path_factory.mktemp("types")
    for name, source in (("user.py", USER), ("wrong.py", WRONG)):
        (folder / name).write_text(source, encoding="utf-8")
    for name, page in PAGES.items():
        (folder / file_of(name)).write_text(script(page), encoding="utf-8")
    for path in EXAMPLES:
        shutil.copy(path, folder / f"example_{path.name}")
    return strict(folder)


@pytest.mark.long
def test_public_names_have_the_types_that_users_expect(errors):
    assert errors["user.py"] == {}


@pytest.mark.long
def test_mistakes_are_seen(errors):
    lines = WRONG.splitlines()
    assert sorted(errors["wrong.py"]) == [i for i, line in enumerate(lines, 1) if line.endswith("# wrong")]


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_the_documentation_is_strictly_typed(page, errors):
    assert errors[file_of(page)] == {}


@pytest.mark.long
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_strictly_typed(path, errors):
    # torch's backward, PyAV's and scikit-image's functions have no types: what is called is not ours
    ours = {line: said for line, said in errors[f"example_{path.name}"].items() if "[no-untyped-call]" not in said}
    assert ours == {}
