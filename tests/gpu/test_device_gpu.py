"""What is the device's own: more than 2^31 elements, streams, graphs, other devices."""

from __future__ import annotations

import contextlib

import pytest
import torch
from chain_cases import problem

from gpu import exact
from gpu.exact import assert_within, sample
from liif_fast import functional

GATHER = torch.ops.liif_fast.corner_gather.default
BACKWARD = torch.ops.liif_fast.corner_gather_backward.default


def need_memory(device, gib):
    free = torch.cuda.mem_get_info(device)[0] / 2**30 if device.type == "cuda" else 0
    if device.type == "cuda" and free < gib:
        pytest.skip(f"needs {gib} GiB of free memory on the device, there are {free:.0f}")


# On the CPU the same code runs on a small map.
def far_sizes(device):
    """(side of the map, queries) with side^2 * 256 and queries * 4 * 256 beyond 2^31"""
    return (2920, 2_110_000) if device.type == "cuda" else (29, 2110)


@pytest.mark.slow_gpu
def test_a_map_of_more_than_2_to_31_elements(device):
    """The last rows of the map, read and added to."""
    need_memory(device, 26)  # map 4.1 GiB, sums in float32 8.1, gradient 4.1, and copies
    side, _ = far_sizes(device)
    hidden = torch.zeros(1, side, side, 256, dtype=torch.bfloat16, device=device)
    assert device.type == "cpu" or hidden.numel() > 2**31
    _, coord, cell, w_pos, *_ = sample(device, (1, (4, side), 256, 1003), torch.bfloat16)
    coord = torch.stack([1 - (coord[..., 0] + 1) * 3 / side, coord[..., 1]], -1)  # the last 3 rows, and 1 before
    torch.manual_seed(0)
    hidden[:, -5:] = torch.randn(1, 5, side, 256).to(hidden)
    tail, where = hidden[:, -5:].clone(), ((side, side), (side - 5, 0), True)
    h, weight = GATHER(hidden, coord, cell, w_pos, (side, side), (0, 0), True)
    want, bound, want_weight = exact.gather(tail, coord, cell, w_pos, *where)
    assert_within(h, want, bound)
    assert torch.equal(weight.cpu(), want_weight)
    grad = torch.randn(h.shape).to(h)
    del hidden
    found, _ = BACKWARD(grad, h, coord, cell, w_pos, (side, side), (side, side), (0, 0), True)
    (want, bound), _ = exact.gather_backward(grad, h, coord, cell, w_pos, (5, side), *where)
    assert_within(found[:, -5:], want, bound)
    assert found[:, :-5].abs().max() == 0


@pytest.mark.slow_gpu
def test_more_than_2_to_31_results(device):
    """The last queries, and the gradients that only they have."""
    need_memory(device, 26)  # rows 4.1 GiB, their gradient 4.1, and copies
    _, Q = far_sizes(device)
    hidden, _, _, w_pos, size, origin, ensemble = sample(device, (1, (7, 5), 256, 1), torch.bfloat16)
    coord = torch.rand(1, Q, 2, device=device) * 2 - 1
    h, weight = GATHER(hidden, coord, None, w_pos, size, origin, ensemble)
    assert device.type == "cpu" or h.numel() > 2**31
    last = slice(Q - 1003, Q)
    want, bound, want_weight = exact.gather(hidden, coord[:, last], None, w_pos, size, origin, ensemble)
    assert_within(h[:, last], want, bound)
    assert torch.equal(weight[:, last].cpu(), want_weight)
    grad = torch.zeros_like(h)
    grad[:, last] = torch.randn(1, 1003, 4, 256).to(h)
    found = BACKWARD(grad, h, coord, None, w_pos, size, size, origin, ensemble)
    wants = exact.gather_backward(grad[:, last], h[:, last], coord[:, last], None, w_pos, size, size, origin, ensemble)
    for g, (want, bound) in zip(found, wants, strict=True):
        assert_within(g, want, bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_on_the_current_stream(device, dtype):
    """The inputs are written late, on a stream of their own: work on any other stream reads what was there before."""
    hidden, coord, *rest = sample(device, (2, (7, 5), 64, 5003), dtype)
    late_hidden, late_coord = torch.full_like(hidden, 100), torch.zeros_like(coord)
    grad = torch.randn(2, 5003, 4, 64).to(hidden)
    late_grad = torch.zeros_like(grad)
    on_stream = contextlib.nullcontext()
    if device.type == "cuda":
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        on_stream = torch.cuda.stream(stream)
    with on_stream:
        if device.type == "cuda":
            torch.cuda._sleep(50_000_000)  # clock cycles: some 30 ms
        for late, value in ((late_hidden, hidden), (late_coord, coord), (late_grad, grad)):
            late.copy_(value)
        h, weight = GATHER(late_hidden, late_coord, *rest)
        grads = BACKWARD(late_grad, h, late_coord, *rest[:2], (7, 5), *rest[2:])
    if device.type == "cuda":
        stream.synchronize()
    want, bound, want_weight = exact.gather(hidden, coord, *rest)
    assert_within(h, want, bound)
    assert torch.equal(weight.cpu(), want_weight)
    for g, (want, bound) in zip(
        grads, exact.gather_backward(grad, h, coord, *rest[:2], (7, 5), *rest[2:]), strict=True
    ):
        assert_within(g, want, bound)


def recorded(device, step):
    """A CUDA graph of step, or step itself where there are no graphs: call it to run; its results stay in place."""
    if device.type != "cuda":
        out = [t.clone() for t in step()]

        def again():
            for kept, new in zip(out, step(), strict=True):
                kept.copy_(new)

        return out, again
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()
    return out, graph.replay


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graph_of_the_operators(device, dtype):
    hidden, coord, cell, w_pos, *rest = sample(device, (2, (7, 5), 64, 1003), dtype)
    grad = torch.randn(2, 1003, 4, 64).to(hidden)

    def step():
        h, weight = GATHER(hidden, coord, cell, w_pos, *rest)
        return h, weight, *BACKWARD(grad, h, coord, cell, w_pos, (7, 5), *rest)

    out, replay = recorded(device, step)
    for seed in range(3):
        torch.manual_seed(seed)
        hidden.copy_(torch.randn(hidden.shape))
        coord.copy_(torch.rand(coord.shape) * 2 - 1)
        grad.copy_(torch.randn(grad.shape))
        replay()
        h, weight, *grads = out
        want, bound, want_weight = exact.gather(hidden, coord, cell, w_pos, *rest)
        assert_within(h, want, bound)
        assert torch.equal(weight.cpu(), want_weight)
        wants = exact.gather_backward(grad, h, coord, cell, w_pos, (7, 5), *rest)
        for g, (want, bound) in zip(grads, wants, strict=True):
            assert_within(g, want, bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graph_of_training_the_head(device, dtype):
    """query, loss and gradients in one graph equal those outside of it."""
    with device:
        leaves, hidden, head, coord, cell, ensemble = problem((2, (5, 7), 64, 700, 3, 3), dtype)
        target = torch.rand(2, 700, 3)
    # as a model in half precision has them
    leaves = [leaves[0], *(t.detach().to(dtype).requires_grad_() for t in leaves[1:])]
    convolution = [t.to(dtype) for t in head[:2]]

    def step():
        # Layers are split here: backwards, autograd runs each node on the stream that its forward ran on, and one from
        # before would pull a stream that is not being recorded into the graph.
        _, w_pos, w_mlp, b_mlp, *output = leaves
        parts = functional.Head(*convolution, w_pos, tuple(zip(w_mlp, b_mlp, strict=True)), *output)
        out = functional.query(hidden, parts, coord, cell, local_ensemble=ensemble)
        return torch.autograd.grad((out - target).square().mean(), leaves)

    out, replay = recorded(device, step)
    torch.manual_seed(1)
    with torch.no_grad():
        hidden.copy_(torch.randn(hidden.shape).to(hidden))
        target.copy_(torch.rand(target.shape))
    replay()
    got = [t.clone() for t in out]
    # the sums of the gather's gradient may run in another order each time
    unit = 2e-5 if dtype == torch.float32 else 2**-7
    for a, b in zip(got, step(), strict=True):
        torch.testing.assert_close(a, b, rtol=unit, atol=unit * b.abs().max().item())


def test_a_device_that_is_not_the_current_one(cuda):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    given = sample(torch.device("cuda:1"), (2, (7, 5), 64, 1003), torch.bfloat16)
    h, _ = GATHER(*given)
    want, bound, _ = exact.gather(*given)
    assert h.device == torch.device("cuda:1")
    assert_within(h, want, bound)
