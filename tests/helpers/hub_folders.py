"""A small model as it goes to the Hugging Face Hub, and what must be the same when it comes back."""

from __future__ import annotations

import json

import torch

import liif_fast

FILES = ["README.md", "config.json", "model.safetensors"]


def small() -> liif_fast.LIIF:
    """One that only its own file describes: neither its ensemble nor its normalisation can be seen from weights."""
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": (16, 16)}}  # a tuple, as people write it
    built = liif_fast.LIIF(encoder, imnet, local_ensemble=False)
    built.data_norm = {"inp": {"sub": [0.4], "div": [0.3]}, "gt": {"sub": [0.1], "div": [0.5]}}
    return built.eval()


def same(a: torch.nn.Module, b: torch.nn.Module) -> None:
    assert type(a) is type(b)
    assert json.dumps(a.spec) == json.dumps(b.spec)
    assert a.data_norm == b.data_norm
    assert a.state_dict().keys() == b.state_dict().keys()
    assert all(torch.equal(t, b.state_dict()[key]) for key, t in a.state_dict().items())
