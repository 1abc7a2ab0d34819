"""Training on the device: the head's gradients, compiled, under autocast, distributed."""

from __future__ import annotations

import copy
import os

import pytest
import torch
import torch.nn.functional as F
from chain_cases import NAMES, VARIANTS, gradients, in_chain, problem, separate
from decode_cases import error

from liif_fast import LIIF, functional, reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def model(device, hidden=(64, 64, 64)):
    """EDSR with two blocks, and LIIF's head."""
    torch.manual_seed(0)
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 2, "n_feats": 32, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": list(hidden)}}
    return LIIF(encoder, imnet).to(device)


def batch(device, n=2, side=13, Q=300):
    """images in [-1, 1], coordinates, cells, target colours; the same on every device"""
    random = torch.Generator().manual_seed(0)
    coord = torch.rand(n, Q, 2, generator=random) * 2 - 1
    inp, target = (torch.rand(*s, generator=random) * 2 - 1 for s in ((n, 3, side, side), (n, Q, 3)))
    return [t.to(device) for t in (inp, coord, torch.full_like(coord, 0.06), target)]


def step(net, inp, coord, cell, target):
    """loss and the gradients of all parameters, detached, by name"""
    net.zero_grad()
    loss = F.l1_loss(net(inp, coord, cell).float(), target)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(NAMES, VARIANTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, (5, 7), 256, 1003, 3, 3), (1, (3, 4), 40, 61, 4, 1), (2, (2, 5), 37, 1, 0, 5)])
def test_chain_is_as_close_to_float64_as_separate_operators(monkeypatch, device, shape, dtype, recompute, blend_first):
    """Whatever epilogues the matrix library runs here. Separate operators in the same precision are the measure."""
    with device:
        leaves, _, head, *rest = problem(shape, dtype)
        grad_out = torch.randn(shape[0], shape[3], shape[5])
    half = [leaves[0], leaves[1], *(t.detach().to(dtype).requires_grad_() for t in leaves[2:])]
    wide = [t.detach().double().requires_grad_() for t in leaves]

    def with_parts(leaves):
        mlp = tuple(zip(leaves[2], leaves[3], strict=True))
        return functional.Head(*(t.to(leaves[0].dtype) for t in head[:2]), leaves[1], mlp, *leaves[4:])

    coord, cell, ensemble = rest
    want = separate(monkeypatch, wide[0], with_parts(wide), coord.double(), cell.double(), ensemble)
    plain = separate(monkeypatch, half[0], with_parts(half), *rest)
    out = in_chain(half[0], with_parts(half), *rest, recompute=recompute, blend_first=blend_first)
    floor = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert error(out, want) <= 1.5 * error(plain, want) + floor
    found = (gradients(out, half, grad_out), gradients(plain, half, grad_out), gradients(want, wide, grad_out))
    # Of 6 million float32 activations about one rounds across zero, in one of the two or in both: 1.2e-4 of the
    # gradient's norm, where rounding alone gives 5e-7. In half precision they are many in either.
    flips = 1e-3 if dtype == torch.float32 else 0
    for g, p, w, leaf in zip(*found, half, strict=True):
        assert g.dtype == leaf.dtype
        assert error(g, w) <= 1.5 * error(p, w) + floor + flips


def test_query_runs_in_the_chain(cuda):
    """And not in a fallback: what is tested here is what trains."""
    net, (inp, coord, cell, _) = model(cuda), batch(cuda)
    assert net(inp, coord, cell).grad_fn.name() == "_ChainBackward"
    assert net(inp, coord.requires_grad_(), cell).grad_fn.name() != "_ChainBackward"


def test_whole_model_equals_the_reference(device):
    net, given = model(device), batch(device)
    loss, grads = step(net, *given)
    inp, coord, cell, target = given
    net.zero_grad()
    want = F.l1_loss(reference.liif(net.encoder(inp), coord, cell, net.imnet), target)
    want.backward()
    # a ReLU or the loss's sign may switch where float32 rounds across zero: single rows of some thousand
    assert (loss - want).abs() < 1e-5
    for name, p in net.named_parameters():
        if p.grad is not None:
            assert error(grads[name], p.grad.double()) < 5e-3, name


@pytest.mark.slow_gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_compile_with_inductor(device, dtype):
    """fullgraph, forward and backward, against the same model not compiled."""
    net, given = model(device), batch(device)
    torch._dynamo.reset()  # other tests' programs of the same function count towards its limit
    compiled = torch.compile(net, fullgraph=True)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        want, wants = step(net, *given)
        loss, grads = step(compiled, *given)
    # inductor fuses: float32 sums in another order; bfloat16 rounded less often, by 2^-8 in each of some ten layers
    tolerance = 5e-3 if dtype is None else 0.1
    assert (loss - want).abs() <= tolerance * want
    for (name, g), w in zip(grads.items(), wants.values(), strict=True):
        assert error(g, w.double()) < tolerance, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(device, dtype):
    """Nearer to float32 than 1.5 times the distance that the reference has under autocast."""
    net, (inp, coord, cell, target) = model(device), batch(device)

    class Reference(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, inp, coord, cell):
            return reference.liif(net.encoder(inp).float(), coord, cell, net.imnet)

    want, wants = step(net, inp, coord, cell, target)
    with torch.autocast(device.type, dtype=dtype):
        out = net(inp, coord, cell)
        loss, grads = step(net, inp, coord, cell, target)
        plain, plains = step(Reference(), inp, coord, cell, target)
    assert out.dtype == torch.float32
    unit = 2**-8 if dtype == torch.bfloat16 else 2**-11
    assert (loss - want).abs() <= 1.5 * (plain - want).abs() + unit * want
    for (name, g), p, w in zip(grads.items(), plains.values(), wants.values(), strict=True):
        assert g.dtype == torch.float32
        assert error(g, w.double()) <= 1.5 * error(p, w.double()) + 4 * unit, name


def test_loss_scaling_in_float16(device):
    """Gradients of a scaled loss are the scaled gradients: the scaler neither skips nor underflows."""
    net, given = model(device), batch(device)
    optimizer, scaler = torch.optim.SGD(net.parameters(), 1e-3), torch.amp.GradScaler(device.type, init_scale=2.0**10)
    before = [p.detach().clone() for p in net.parameters()]
    with torch.autocast(device.type, dtype=torch.float16):
        loss = F.l1_loss(net(*given[:3]).float(), given[3])
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**10
    assert all(p.isfinite().all() for p in net.parameters())
    assert any((p != b).any() for p, b in zip(net.parameters(), before, strict=True))


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_same_bits_each_time(device, dtype):
    net, given = model(device), batch(device, Q=3000)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        runs = [step(net, *given) for _ in range(3)]
    for loss, grads in runs[1:]:
        assert torch.equal(loss, runs[0][0])
        assert all(torch.equal(g, runs[0][1][name]) for name, g in grads.items())


@pytest.mark.slow_gpu
def test_distributed_data_parallel(device, tmp_path):
    """One process in a group of its own, NCCL on CUDA: the gradients of the model without it."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    os.environ.setdefault("NCCL_DEBUG", "WARN")
    torch.distributed.init_process_group(backend, init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        net, given = model(device), batch(device)
        ids = [torch.cuda.current_device()] if device.type == "cuda" else None
        wrapped = torch.nn.parallel.DistributedDataParallel(copy.deepcopy(net), device_ids=ids)
        for _ in range(2):  # the second time with the buckets in the order of the first
            want, wants = step(net, *given)
            loss, grads = step(wrapped, *given)
            torch.testing.assert_close(loss, want)
            for name, w in wants.items():
                assert error(grads[f"module.{name}"], w.double()) < 1e-5, name  # sums by atomics, in any order
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*performance drop")
def test_vmap_of_the_head(device):
    head = functional.Head(*model(device).requires_grad_(False).head())
    hidden = torch.randn(4, 1, 5, 5, 64, device=device)
    _, coord, cell, _ = batch(device, 1, 5, 9)
    got = torch.vmap(lambda h: functional.query(h, head, coord, cell))(hidden)
    want = torch.stack([functional.query(h, head, coord, cell) for h in hidden])
    torch.testing.assert_close(got, want)
