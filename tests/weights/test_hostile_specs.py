"""Specs that ask for more than their file has: refused at once, while encoders of any kind are built as they are."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from checkpoint_mutants import SPEC
from refusals import refused
from torch import nn

import liif_fast


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return liif_fast.make(SPEC).state_dict()


def edsr(name="edsr-baseline", **args):
    return {"name": "liif", "args": {"encoder_spec": {"name": name, "args": args}, "imnet_spec": None}}


def mlp(hidden):
    return {
        "name": "liif",
        "args": {**SPEC["args"], "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": hidden}}},
    }


def nested(depth):
    spec = {"name": "edsr-baseline"}
    for _ in range(depth):
        spec = {"name": "liif", "args": {"encoder_spec": spec}}
    return spec


LARGE = {
    "10^9 blocks": edsr(n_resblocks=10**9),
    "10^6 blocks": edsr(n_resblocks=10**6),
    "60000 blocks": edsr(n_resblocks=60_000),
    "60000 empty blocks": edsr(n_resblocks=60_000, n_feats=0),
    "9000 channels": edsr(n_feats=9000),
    "a million channels": edsr(n_feats=10**6, n_resblocks=0),
    "groups times blocks": edsr("rcan", n_resgroups=1000, n_resblocks=1000),
    "groups without blocks": edsr("rcan", n_resgroups=60_000, n_resblocks=0),
    "kernel": edsr("rdn", RDNkSize=20_001),
    "scale": edsr(n_resblocks=1, n_feats=2, scale=2**60, no_upsampling=False),
    "30000 hidden": mlp([30_000] * 8),
    "9000 layers": mlp([1] * 9000),
    "10^5 layers": mlp([1] * 100_000),
    "metasr": {"name": "metasr", "args": {"encoder_spec": {"name": "edsr", "args": {"n_feats": 4000}}}},
    "srcnn": {"name": "srcnn", "args": {"kernels": [9, 5, 99_999]}},
    "srresnet": {"name": "srresnet", "args": {"n_resblocks": 60_000}},
    "discriminator": {"name": "srgan-discriminator", "args": {"hidden": 60_000}},
    "deep": nested(100),
    "text": edsr(n_resblocks="1" * 100_000),
    "digits": edsr(n_resblocks=10**4000),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_spec_larger_than_the_file(case, state, tmp_path):
    path = tmp_path / "m.pth"
    torch.save({"model": {**LARGE[case], "sd": state}}, path)
    refused(path, r"file's \d+ tensors|number above|too long|list of|text of|spec cannot be built")
    if case in ("10^9 blocks", "9000 channels", "30000 hidden"):
        about = {"format": 1, "version": "1", "spec": LARGE[case], "data_norm": None}
        safetensors.torch.save_file(state, path, {"liif_fast": json.dumps(about)})
        refused(path, r"file's \d+ tensors|number above")


class Ramp(nn.Module):
    """Computes with numbers while it is built, keeps a buffer out of the state dict, has a position in it."""

    def __init__(self, depth=3, width=5) -> None:
        super().__init__()
        self.out_dim = width
        self.rates = [x.item() for x in torch.linspace(0, 0.1, depth)]
        self.register_buffer("ramp", torch.arange(100.0).repeat(3) + 1, persistent=False)
        self.register_buffer("index", torch.stack(torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")))
        self.convs = nn.Sequential(*(nn.Conv2d(3 if not i else width, width, 3, padding=1) for i in range(depth)))

    def forward(self, x):
        return self.convs(x) * self.ramp[2]


def test_registered_encoders_are_built_as_they_are(tmp_path):
    """With values that only a real constructor computes; and no larger than the file, whoever wrote the class."""
    liif_fast.register("test-ramp")(Ramp)
    model = liif_fast.LIIF({"name": "test-ramp", "args": {"depth": 4}}, SPEC["args"]["imnet_spec"]).eval()
    path = tmp_path / "m.safetensors"
    model.save(path)
    loaded = liif_fast.load(path)
    assert torch.equal(loaded.encoder.ramp, model.encoder.ramp)
    assert loaded.encoder.rates == model.encoder.rates
    x, coord = torch.rand(1, 3, 5, 4), torch.rand(1, 9, 2) - 0.5
    assert torch.equal(loaded(x, coord, coord.abs()), model(x, coord, coord.abs()))
    for args in ({"depth": 10**6}, {"width": 30_000}):
        spec = {"name": "liif", "args": {**model.spec["args"], "encoder_spec": {"name": "test-ramp", "args": args}}}
        torch.save({"model": {**spec, "sd": model.state_dict()}}, tmp_path / "bad.pth")
        refused(tmp_path / "bad.pth", r"file's \d+ tensors")
