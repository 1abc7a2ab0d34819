"""Passes with column sums in plain PyTorch, and when the kernel takes their place (its numbers: test_small_kernels)."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch.testing import assert_close

from liif_fast.head import passes, triton
from liif_fast.head.triton import small


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_as_autograd_has_it(dtype):
    x, bias = torch.randn(70, 6, dtype=dtype), torch.zeros(6, dtype=dtype, requires_grad=True)
    grad = torch.randn(70, 6, dtype=dtype)
    out = torch.relu(x + bias)
    (inner,) = torch.autograd.grad(torch.relu(leaf := x.clone().requires_grad_()), leaf, grad)
    ours = grad.clone()
    (sums,) = passes.column_sums([passes.relu_backward(ours, out.detach())])
    assert torch.equal(ours, inner)
    assert sums.dtype == (dtype if dtype == torch.float64 else torch.float32)
    # 70 numbers of unit size, each addition rounded
    assert_close(sums.double(), inner.double().sum(0), rtol=0, atol=1e-13 if dtype == torch.float64 else 1e-4)
    added = x.clone()
    assert_close(passes.add(added, ours).double().sum(0), (x + ours).double().sum(0), rtol=0, atol=1e-4)
    assert torch.equal(added, x + ours)


def test_sums_of_several():
    partial = [torch.randn(n, 6) for n in (4, 1, 4, 3, 1)]
    for total, t in zip(passes.column_sums(partial), partial, strict=True):
        assert_close(total, t.sum(0), rtol=0, atol=1e-6)
    assert passes.column_sums([]) == []


@pytest.mark.parametrize("setting", ["auto", "0", "1"])
def test_where_the_kernel_runs(monkeypatch, setting):
    """On CUDA, where triton does and is not switched off; what if it does not compile: test_small_kernels."""
    given, want = [], torch.tensor([7.0])

    def kernel_of(grad, out):
        given.append(grad)
        return want

    kernel = types.SimpleNamespace(relu_backward=kernel_of)
    monkeypatch.setitem(sys.modules, "liif_fast.head.triton.passes_kernel", kernel)
    monkeypatch.setattr(triton, "passes_kernel", kernel, raising=False)
    monkeypatch.setattr(small, "_said", set())
    monkeypatch.setattr(triton, "available", lambda device: (True, ""))
    monkeypatch.setenv("LIIF_FAST_TRITON", setting)

    def sums(device="cuda", dtype=torch.float32, rows=3):
        grad, out = (torch.ones(rows, 1, dtype=dtype) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(passes, "on_cuda", lambda x: device == "cuda")
            return passes.relu_backward(grad, out)

    assert sums() == (3 if setting == "0" else 7)
    assert sums(device="cpu") == 3
    assert sums(dtype=torch.float64) == 3
    assert sums(rows=0) == 0
    assert len(given) == (setting != "0")
