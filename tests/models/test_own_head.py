"""examples/own_head.py: a head of one's own trains, renders, is saved and is used by the commands, in 30 lines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import command
import pytest
import torch
from torch.testing import assert_close

import liif_fast
from liif_fast import reference, registry

FILE = Path(__file__).parents[2] / "examples" / "own_head.py"
ENCODER = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}


@pytest.fixture
def own_head(monkeypatch):
    """The class of the example."""
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))
    spec = importlib.util.spec_from_file_location("own_head", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.OwnHead


def test_thirty_lines(own_head):
    text = FILE.read_text(encoding="utf-8").partition('\n"""\n')[2]
    assert f"class {own_head.__name__}(" in text
    assert len([line for line in text.splitlines() if line.strip()]) <= 30


def test_its_colours_are_those_of_its_equation(own_head):
    torch.manual_seed(0)
    model = own_head(ENCODER, 16).double()
    inp, coord, cell = (
        torch.rand(2, 3, 5, 7).double(),
        torch.rand(2, 11, 2).double() * 2 - 1,
        torch.rand(2, 11, 2).double(),
    )
    feat = model.encoder(inp)
    want = torch.zeros(2, 11, 3).double()
    index, rel, weight = reference.corners(coord, (5, 7))
    for b in range(2):
        for q in range(11):
            for k in range(4):
                y, x = index[b, q, k]
                given = torch.cat([feat[b, :, y, x], rel[b, q, k], cell[b, q] * torch.tensor([5.0, 7.0])])
                want[b, q] += weight[b, q, k] * model.net(given)
    assert_close(model(inp, coord, cell), want)


def test_it_learns(own_head):
    torch.manual_seed(0)
    model = own_head(ENCODER)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    inp, coord = torch.rand(2, 3, 8, 8), torch.rand(2, 64, 2) * 2 - 1
    cell, gt = torch.full_like(coord, 0.1), torch.rand(2, 1, 3).expand(-1, 64, -1)
    losses = []
    for _ in range(30):
        loss = (model(inp, coord, cell) - gt).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for p in model.net.parameters())


def test_saved_loaded_and_used_by_the_command(own_head, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = own_head(ENCODER).eval()
    model.save("own.safetensors")
    assert model.spec == {"name": "own-head", "args": {"encoder_spec": ENCODER, "width": 64}}
    image = torch.rand(3, 9, 6)
    large = model.upscale(image, scale=2.5)
    assert large.shape == (3, 22, 15)
    assert torch.equal(liif_fast.load("own.safetensors").upscale(image, scale=2.5), large)
    command.photo(tmp_path / "photo.png")
    del registry._MODELS["own-head"]
    code, _, err = command.outcome(capsys, "photo.png", "-s", 2, "-m", "own.safetensors", "--import", FILE)
    assert code == 0, err
    assert (tmp_path / "photo_x2.png").is_file()


def test_what_the_commands_say_of_it(own_head, tmp_path, monkeypatch, capsys):
    """Neither its encoder's channels nor tiles that it has not."""
    monkeypatch.chdir(tmp_path)
    own_head(ENCODER).save("own.safetensors")
    _, out, _ = command.outcome(capsys, "info", "own.safetensors")
    assert "head: a query of its own" in out
    assert "it needs whole pictures" in out
    assert "imnet" not in out
    for name in ("own.onnx", "own.pt2"):
        code, _, err = command.outcome(capsys, "export", "-m", "own.safetensors", "-o", name)
        assert code != 0
        assert "OwnHead has a query of its own" in err
        assert err.count("\n") == 1
