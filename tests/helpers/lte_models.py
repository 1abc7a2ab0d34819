"""Small LTE and LTE+, queries of them, and their answers by the official computation."""

from __future__ import annotations

import torch
from conftest import TinyEncoder
from liif_queries import queries

from liif_fast import reference
from liif_fast.models.lte import LTE
from liif_fast.models.ltep import LTEP

IMNET = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [40, 24]}}
KINDS = {"lte": lambda encoder=None, **o: LTE(encoder or TinyEncoder(), IMNET, 20, **o)}
KINDS["lte-fast"] = lambda encoder=None, **o: LTEP(encoder or TinyEncoder(), 2, 20, **o)


def by_reference(model, inp, coord, cell):
    """The official computation with the model's own parts."""
    feat = model.encoder(inp)
    freq, mlp = model.freq(feat), getattr(model, "imnet", None)
    if isinstance(model, LTEP):
        freq = freq.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        mlp = lambda x: model.layers(x[:, :, None, None])[:, :, 0, 0]  # noqa: E731
    own = reference.lte(model.coef(feat), freq, coord, cell, model.phase, mlp)
    return own + reference.skip(inp, coord)


def given(B=2, size=(7, 6), Q=40, dtype=torch.float32):
    return torch.rand(B, 3, *size, dtype=dtype) * 2 - 1, *queries(B, Q, dtype)
