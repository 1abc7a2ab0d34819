"""LTE and LTE+ in files of every kind, and what is counted of them."""

from __future__ import annotations

import copy

import pytest
import torch
from lte_models import IMNET, KINDS, given
from torch.testing import assert_close

import liif_fast
from liif_fast.head import ops
from liif_fast.models.lte import LTE
from liif_fast.weights import checkpoints

ENCODER = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}


@pytest.fixture(params=KINDS)
def model(request):
    return KINDS[request.param]().eval()


def test_files(tmp_path):
    for kind in KINDS.values():
        model = kind(ENCODER).eval()
        inp, coord, cell = given()
        want = model(inp, coord, cell)
        assert {k: v for k, v in model.spec["args"].items() if k in ("hidden_dim", "num_layer")}["hidden_dim"] == 20
        model.save(tmp_path / "m.safetensors")
        checkpoints.save_official(model, tmp_path / "m.pth")
        for name in ("m.safetensors", "m.pth"):
            again = liif_fast.load(tmp_path / name)
            assert type(again) is type(model)
            assert torch.equal(again(inp, coord, cell), want)
        official = {"name": model.spec["name"], "args": model.spec["args"], "sd": model.state_dict()}
        torch.save({"model": official, "optimizer": {}, "epoch": 3}, tmp_path / "epoch-last.pth")
        assert torch.equal(liif_fast.load(tmp_path / "epoch-last.pth")(inp, coord, cell), want)
        model.save_pretrained(tmp_path / model.spec["name"])
        again = type(model).from_pretrained(str(tmp_path / model.spec["name"]))
        assert torch.equal(again.eval()(inp, coord, cell), want)


@pytest.mark.parametrize("train", [True, False])
def test_torch_export(tmp_path, model, train):
    """In a file, of liif_fast's operators, for other sizes than those that it was made with."""
    H, W, Q = (torch.export.Dim(name, min=1 if name == "Q" else 2) for name in "HWQ")
    shapes = {"inp": {2: H, 3: W}, "coord": {1: Q}, "cell": {1: Q}}
    with torch.set_grad_enabled(train):
        exported = torch.export.export(model, given(), dynamic_shapes=shapes)
        # not the reference computation; without compiled kernels training has the raw gather
        assert ("gather_corners" if train and not ops.CPU_KERNELS else "fourier") in str(exported.graph)
        torch.export.save(exported, tmp_path / "lte.pt2")
        again = torch.export.load(tmp_path / "lte.pt2").module()
        other = given(2, (9, 7), 11)
        assert_close(again(*other), model(*other))


def test_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    model = LTE(ENCODER, IMNET, 64).eval()
    with FlopCounterMode(display=False) as counter:
        model.render(torch.zeros(1, 3, 6, 5), (12, 10))
    found = counter.get_flop_counts()["Global"]
    rows = 4 * 120
    # angles and coefficients of 32 waves, phases of the cell, two hidden layers of 64 x 64, an output layer
    assert found[torch.ops.liif_fast.render_fourier] == rows * 32 * 10 + 2 * 2 * rows * 64 * 64 + 2 * 120 * 3 * 64
    if not ops.CPU_KERNELS:
        return
    out_and_in = copy.deepcopy(model).train()
    with FlopCounterMode(display=False) as counter:
        out_and_in(*given(1)).sum().backward()
    found = counter.get_flop_counts()["Global"]
    assert found[torch.ops.liif_fast.decode_fourier_backward] > found[torch.ops.liif_fast.decode_fourier] > 0
