"""What official programs do with the module: their calls, copies, replicas, a training step."""

from __future__ import annotations

import copy
import pickle

import torch
from liif_queries import by_reference, queries
from torch.testing import assert_close


def test_a_replica_of_data_parallel_has_gradients(tiny):
    """Replicas hold plain tensors, no parameters; with a frozen encoder nothing else asks for a gradient."""
    model = tiny()
    model.encoder.requires_grad_(False)
    leaves = dict(model.imnet.named_parameters())
    replica = model._replicate_for_data_parallel()
    replica.imnet = copy.deepcopy(model.imnet)
    for i in (0, 2, 4):
        for name in ("weight", "bias"):
            del replica.imnet.layers[i]._parameters[name]
            setattr(replica.imnet.layers[i], name, leaves[f"layers.{i}.{name}"] * 1)
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    grads = torch.autograd.grad(replica(inp, coord, cell).sum(), list(leaves.values()))
    assert all(g.abs().max() > 0 for g in grads)


def test_official_usage_in_chunks(tiny):
    """gen_feat, then query_rgb over chunks: the hidden map is computed once, and not kept when anything changes."""
    model = tiny().eval()
    inp, (coord, cell) = torch.randn(1, 3, 8, 8), queries(1, 50)
    with torch.no_grad():
        want = by_reference(model, inp, coord, cell)
        model.gen_feat(inp)
        chunks = [model.query_rgb(c, s) for c, s in zip(coord.split(7, 1), cell.split(7, 1), strict=True)]
        assert_close(torch.cat(chunks, 1), want, rtol=1e-5, atol=1e-5)
        kept = model._hidden.result
        model.query_rgb(coord, cell)
        assert model._hidden.result is kept
        model.imnet.layers[0].weight.mul_(2)
        assert_close(model.query_rgb(coord, cell), by_reference(model, inp, coord, cell), rtol=1e-5, atol=1e-5)
        model.feat.add_(1)
        assert_close(model.query_rgb(coord, cell), model.query(model.feat, coord, cell))
    with torch.inference_mode():
        model.gen_feat(inp)
        assert_close(model.query_rgb(coord, cell), by_reference(model, inp, coord, cell), rtol=1e-5, atol=1e-5)


def test_copies_and_pickles_after_a_training_step(tiny):
    model = tiny()
    inp, (coord, cell) = torch.randn(1, 3, 4, 4), queries(1, 5)
    model(inp, coord, cell).sum().backward()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(other(inp, coord, cell), model(inp, coord, cell))


def test_an_official_training_step_learns(tiny):
    """The official loop's calls, unchanged: forward, L1 loss, Adam."""
    model = tiny()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inp, (coord, cell) = torch.rand(2, 3, 8, 8), queries(2, 64)
    gt = (coord.sum(-1, keepdim=True) > 0).float().expand(-1, -1, 3)  # an edge: a bias alone cannot fit it
    losses = []
    for _ in range(150):
        loss = torch.nn.functional.l1_loss(model(inp, coord, cell), gt)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3  # a constant would leave half of it
