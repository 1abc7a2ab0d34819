"""Models of the user's own: ``--import``, entry points of installed packages, the official repository's registry."""

from __future__ import annotations

import sys
import types
from importlib import metadata

import command
import pytest
import torch
from torch import nn

import liif_fast
from liif_fast import registry

pytestmark = pytest.mark.usefixtures("no_matrix_units")

MODULE = """
import liif_fast, torch

@liif_fast.register("tripled")
class Tripled(torch.nn.Conv2d):
    def __init__(self, width=8):
        super().__init__(3, width, 3, padding=1)
        self.out_dim = width
"""


class Doubled(nn.Conv2d):
    def __init__(self, width: int = 8) -> None:
        super().__init__(3, width, 3, padding=1)
        self.out_dim = width


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules)
    yield
    sys.modules.pop("own_models", None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With own_models.py, a checkpoint of a model of its encoder, and photo.png."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_models.py").write_text(MODULE, encoding="utf-8")
    command.photo(tmp_path / "photo.png")
    registry.register("tripled")(Doubled)
    mlp = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}}
    liif_fast.LIIF({"name": "tripled", "args": {}}, mlp).save(tmp_path / "own.safetensors")
    del registry._MODELS["tripled"]
    return tmp_path


@pytest.mark.parametrize("given", ["own_models", "own_models.py", "PATH"])
def test_a_module_that_registers_an_encoder(folder, capsys, given):
    arguments = ("photo.png", "-s", 2, "-m", "own.safetensors")
    code, _, err = command.outcome(capsys, *arguments)
    assert code == 1
    assert "no model is registered as 'tripled'" in err
    given = str(folder / "own_models.py") if given == "PATH" else given
    assert command.outcome(capsys, *arguments, "--import", given)[0] == 0
    assert (folder / "photo_x2.png").is_file()
    code, out, _ = command.outcome(capsys, "models", "--import", given)
    assert code == 0
    assert "tripled" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No module named 'nothing_here'"),
        ("import nothing_at_all", "No module named 'nothing_at_all'"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),  # a program of its own
        ("raise RuntimeError('one\\ntwo')", "RuntimeError: one two"),
    ],
)
def test_a_module_that_cannot_be_imported(folder, capsys, text, words):
    name = "nothing_here"
    if text is not None:
        name = "broken.py"
        (folder / name).write_text(text, encoding="utf-8")
    code, out, err = command.outcome(capsys, "photo.png", "-s", 2, "--import", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"--import {name}: " in err
    assert words in err
    code, _, err = command.outcome(capsys, "photo.png", "--import", "missing.py")
    assert code == 2
    assert "no such file: missing.py" in err


def entries(monkeypatch, *found):
    monkeypatch.setattr(metadata, "entry_points", lambda group: metadata.EntryPoints(found))


def test_an_entry_point_of_another_package(monkeypatch, tmp_path):
    entry = metadata.EntryPoint("doubled", f"{__name__}:Doubled", registry.ENTRY_POINTS)
    broken = metadata.EntryPoint("broken", "nothing_here:Model", registry.ENTRY_POINTS)
    entries(monkeypatch, entry, broken)
    model = liif_fast.make({"name": "doubled", "args": {"width": 5}})
    assert type(model).__name__ == "Doubled"
    assert model.out_dim == 5
    assert {"doubled", "broken"} <= set(registry.names())
    with pytest.raises(
        ImportError, match=r"make: 'broken' is nothing_here:Model of an installed package, which fails: Mod"
    ):
        liif_fast.make({"name": "broken"})
    (tmp_path / "ends_itself.py").write_text("import sys; sys.exit(0)", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    entries(monkeypatch, entry, metadata.EntryPoint("script", "ends_itself:Model", registry.ENTRY_POINTS))
    with pytest.raises(
        ImportError, match=r"'script' is ends_itself:Model of an installed package, which fails: SystemEx"
    ):
        liif_fast.make({"name": "script"})
    registry.register("doubled")(lambda: "registered here")  # comes first
    assert liif_fast.make({"name": "doubled"}) == "registered here"


def test_what_the_official_models_have_registered(monkeypatch):
    theirs = types.ModuleType("models.models")
    theirs.models = {"theirs": Doubled, "edsr-baseline": None}
    monkeypatch.setitem(sys.modules, "models.models", theirs)
    model = liif_fast.LIIF({"name": "theirs", "args": {"width": 4}})
    assert model.gen_feat(torch.zeros(1, 3, 5, 5)).shape == (1, 4, 5, 5)
    assert "theirs" in registry.names()
    assert liif_fast.make({"name": "edsr-baseline", "args": {"n_resblocks": 1}}) is not None  # ours first
    with pytest.raises(KeyError, match=r"no model is registered as 'other'; known: .*theirs"):
        liif_fast.make({"name": "other"})
