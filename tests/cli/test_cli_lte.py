"""The commands with an LTE: 8-bit layers, which it has not, are refused before anything is computed; what else is as
with a LIIF."""

from __future__ import annotations

import importlib.util
import json

import command
import fake_desk
import numpy as np
import pytest
import torch
import training_files
from PIL import Image

import liif_fast
from liif_fast.cli import view
from liif_fast.head import ops
from liif_fast.models.liif import LIIF

pytestmark = pytest.mark.usefixtures("no_matrix_units")
needs_server = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("starlette", "uvicorn"))), reason="the package uvicorn is not installed"
)
WHY = "8-bit layers read what follows a ReLU, and the first of {} reads negative numbers too: take bfloat16"
CLASSES = {"lte": "LTE", "lte-fast": "LTEP"}


@pytest.fixture(params=CLASSES)
def lte(request, tmp_path):
    """A file, and why there is no 8-bit copy of what is in it."""
    return command.small_lte(tmp_path, request.param, "model.safetensors"), WHY.format(CLASSES[request.param])


def ended(*_):
    raise KeyboardInterrupt


@pytest.fixture
def nothing_is_computed(monkeypatch):
    for name in ("_encode", "quantize", "upscale", "stream"):
        monkeypatch.setattr(LIIF, name, lambda *_, **named: pytest.fail("something is computed"))
    if importlib.util.find_spec("uvicorn"):  # nor is a page served for ever
        monkeypatch.setattr("liif_fast.viewing.protocol.Server.listen", ended)


def arguments_of(name, folder):
    """Of a command that would compute with a model."""
    if name in ("eval", "compare"):
        images = training_files.make_images(folder / "images", sizes=((40, 48),))
        return [name, "--data", images, "-s", "2"]
    if name == "video":
        pytest.importorskip("av")
        from video_files import make_clip

        (folder / "made").mkdir()
        return [name, make_clip(folder / "clip.mp4", frames=2), "-o", folder / "made" / "large.mkv", "-s", "2"]
    photo = command.photo(folder / "photo.png")
    if name == "view":
        pytest.importorskip("uvicorn")
        return [name, photo, "--no-browser"]
    return ["upscale", photo, "-o", folder / "made", "-s", "2", *name.split()[1:]]


@pytest.mark.usefixtures("nothing_is_computed")
@pytest.mark.parametrize("name", ["upscale", "upscale --dry-run", "video", "view", "eval", "compare"])
def test_int8_is_refused_in_a_line(lte, capsys, tmp_path, name):
    file, why = lte
    code, out, err = command.outcome(
        capsys, *arguments_of(name, tmp_path), "-m", file, "--dtype", "int8", "--device", "cpu"
    )
    said = [line for line in err.splitlines() if not line.startswith("liif-fast: note: ")]
    assert (code, said) == (2, [f"liif-fast: error: --dtype int8: {file}: {why}"])
    assert "photo.png" not in out or name == "upscale --dry-run"
    assert not any(path.is_file() for path in (tmp_path / "made").rglob("*"))


def test_upscale_and_its_precisions(lte, capsys, tmp_path):
    file, _ = lte
    photo, model = command.photo(tmp_path / "photo.png"), liif_fast.load(file)
    for dtype in ("float32", "bfloat16"):
        out = tmp_path / f"{dtype}.png"
        given = (photo, "-o", out, "-s", "2.5", "-m", file, "--dtype", dtype, "--device", "cpu")
        assert command.outcome(capsys, "upscale", *given)[0] == 0
        want = np.asarray(model.upscale(Image.open(photo), 2.5, dtype=getattr(torch, dtype)))
        assert np.array_equal(np.asarray(Image.open(out)), want)


def test_compare_names_its_kind(lte, capsys, tmp_path):
    file, _ = lte
    given = [*arguments_of("compare", tmp_path), "-m", file, "--device", "cpu", "--json"]
    code, out, err = command.outcome(capsys, *given)
    assert (code, err) == (0, "")
    method = json.loads(out)["methods"][1]
    assert (method["kind"], method["dtype"]) == (liif_fast.load(file).spec["name"], "float32")


@needs_server
@pytest.mark.parametrize("kernels", [True, False])
def test_view_takes_another_precision_by_itself_and_says_so(lte, capsys, tmp_path, monkeypatch, kernels):
    """The other model of the page stays in int8; without kernels int8 is the default of none."""
    file, why = lte
    small = command.small_model(tmp_path)
    made = []

    class Desk(fake_desk.Desk):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            made.append(self)

    monkeypatch.setattr(view, "Desk", Desk)
    monkeypatch.setattr("liif_fast.viewing.protocol.Server.listen", ended)
    monkeypatch.setattr(ops, "CPU_KERNELS", kernels)
    photo = command.photo(tmp_path / "photo.png")
    given = ("view", photo, "-m", file, "-m", small, "--no-browser", "--device", "cpu")
    code, _, err = command.outcome(capsys, *given)
    assert code == 0
    note = f"liif-fast: note: {file}: float32 instead of int8: {why}\n"
    assert err.count(note) == err.count("instead of int8") == kernels
    kinds = [torch.float32, torch.int8 if kernels else torch.float32]
    assert [shown.dtype for shown in made[0].shown] == kinds
    assert [shown.note for shown in made[0].shown] == [str(kind).removeprefix("torch.") for kind in kinds]
    assert made[0].shown[0].arguments == ["-m", str(file), "--device", "cpu", "--dtype", "float32"]
