"""EDSR's training on a real card in few passes, beside the ordinary modules; and the kernel with column sums.

What needs none: test_residual_training.py and test_small_kernels.py in tests/models, test_passes.py in tests/head.
"""

from __future__ import annotations

import copy

import pytest
import torch

import liif_fast
from gpu.test_device_gpu import need_memory
from liif_fast.head import passes
from liif_fast.head.triton import small
from liif_fast.models.encoders import residual, residual_training


@pytest.fixture
def runs(cuda, monkeypatch):
    """How often the blocks were run in few passes; that nothing of it was refused."""
    found, run = [], residual_training.run
    monkeypatch.setattr(small, "_said", set())
    monkeypatch.setattr(residual_training, "LARGE", 0)
    monkeypatch.setattr(residual_training, "run", lambda *given: found.append(given[0].dtype) or run(*given))
    torch.backends.cudnn.allow_tf32 = True  # the fixture puts it back
    yield found
    assert not small._said


def encoder(device, **args):
    torch.manual_seed(0)
    args = {"n_resblocks": 5, "no_upsampling": True, **args}
    return liif_fast.make({"name": "edsr-baseline", "args": args}).to(device).train()


def trained(model, x, amp):
    model.zero_grad()
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=amp):
        feat = model(x)
    weight = torch.linspace(0, 100, feat.numel(), device=x.device, dtype=torch.float64).sin().view_as(feat)
    (feat * weight.to(feat.dtype)).sum().backward()
    return feat.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def by_modules(model, x, amp):
    """With channels last too: cuDNN's kernels for another layout round to tf32 in another way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residual, "on_cuda", lambda x: False)
        model = copy.deepcopy(model).to(memory_format=torch.channels_last)
        return trained(model, x.contiguous(memory_format=torch.channels_last), amp)


def relative(ours, want):
    return ((ours.double() - want.double()).norm() / want.double().norm()).item()


@pytest.mark.parametrize("setting", ["1", "0"])
@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("args", [{}, {"res_scale": 0.1, "n_feats": 256, "n_resblocks": 2}, {"n_feats": 24}])
def test_numbers(runs, cuda, monkeypatch, amp, args, setting):
    """No further from float64 than the modules in the same precision, but for chance; with the kernels and without."""
    monkeypatch.setenv("LIIF_FAST_TRITON", setting)
    model, x = encoder(cuda, **args), torch.rand(3, 3, 29, 31, device=cuda)
    ours, modules = trained(model, x, amp), by_modules(model, x, amp)
    assert runs == [torch.bfloat16 if amp else torch.float32]
    want = by_modules(copy.deepcopy(model).double(), x.double(), False)
    least = 2**-8 if amp else 2**-11  # of a single rounding
    assert relative(ours[0], want[0]) < 1.5 * max(relative(modules[0], want[0]), least)
    for name, grad in want[1].items():
        assert ours[1][name].dtype == torch.float32
        assert relative(ours[1][name], grad) < 1.5 * max(relative(modules[1][name], grad), least), name


def test_deterministic(runs, cuda, deterministic):
    model, x = encoder(cuda), torch.rand(2, 3, 33, 17, device=cuda)
    first, second = (trained(copy.deepcopy(model), x, True) for _ in range(2))
    assert torch.equal(first[0], second[0])
    for name, grad in first[1].items():
        assert torch.equal(grad, second[1][name]), name
    assert len(runs) == 2


@pytest.mark.parametrize("amp", [False, True])
def test_memory(runs, cuda, amp):
    """Of the official encoder: half of what the modules keep, at most."""
    model, x = encoder(cuda, n_resblocks=16), torch.rand(16, 3, 48, 48, device=cuda)
    peaks = []
    for run in (trained, by_modules):
        for _ in range(2):  # the second time the convolutions' workspaces are there
            model.zero_grad()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run(model, x, amp)
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
        peaks.append(peak)
    assert runs
    assert peaks[0] < 0.6 * peaks[1], peaks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_column_sums(runs, cuda, dtype):
    """The kernel beside plain PyTorch; sums of 40,000 numbers of unit size in blocks, each addition rounded."""
    pytest.importorskip("triton")
    for R, D in ((40_000, 256), (36_864, 64), (1001, 37)):
        grad, out = (torch.randn(R, D, device=cuda).to(dtype) for _ in range(2))
        want = grad.masked_fill(out <= 0, 0)
        ours = grad.clone()
        partial = passes.relu_backward(ours, out)
        (sums,) = passes.column_sums([partial])
        assert torch.equal(ours, want)
        assert (sums.double() - want.double().sum(0)).abs().max() < 1e-2
        assert torch.equal(partial, passes.relu_backward(grad.clone(), out))
        x = grad.clone()
        sums = passes.add(x, out).sum(0)
        assert torch.equal(x, (grad.float() + out.float()).to(dtype))
        assert (sums.double() - x.double().sum(0)).abs().max() < 1e-2


@pytest.mark.slow_gpu
def test_column_sums_beyond_32_bits(runs, cuda):
    pytest.importorskip("triton")
    need_memory(cuda, 10)
    R = (1 << 25) + 3
    grad, out = (torch.ones(R, 64, dtype=torch.bfloat16, device=cuda) for _ in range(2))
    out[-1] = 0
    sums = passes.relu_backward(grad, out).sum(0)
    assert grad[-2:].float().mean(1).tolist() == [1, 0]
    # float32 counts to 2^24 in each program
    assert (sums - (R - 1)).abs().max() <= 1e-6 * R
