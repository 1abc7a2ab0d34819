"""gather_corners in torch.compile and torch.func, and what is wrong with its arguments."""

from __future__ import annotations

import pytest
import torch
from corner_rows import pieces, rows_sample
from torch.func import grad, jvp, vmap
from torch.testing import assert_close

from liif_fast import functional
from liif_fast.head import ops

LIB = torch.ops.liif_fast
GATHER, BACKWARD = LIB.gather_corners.default, LIB.gather_corners_backward.default
F64 = torch.float64


@pytest.mark.parametrize("ensemble", [True, False])
def test_compiled_with_sizes_that_change(ensemble):
    torch._dynamo.reset()

    def loss(feat, coord):
        rows, rel, weight = functional.gather_corners(feat, coord, ensemble)
        return ((rows * rel.sum(-1, keepdim=True)).sum(-1) * weight).square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for B, H, W, Q in ((3, 5, 7, 33), (4, 4, 9, 21), (2, 8, 6, 50)):  # equal sizes would be one
            given = [torch.randn(B, 8, H, W, requires_grad=True), (torch.rand(B, Q, 2) * 2 - 1).requires_grad_()]
            results = [(out := run(*given), *torch.autograd.grad(out, given)) for run in (compiled, loss)]
            for a, b in zip(*results, strict=True):
                assert_close(a, b)


class TestTransforms:
    @pytest.fixture
    def given(self):
        return torch.randn(2, 3, 4, 5, dtype=F64), torch.rand(2, 6, 2, dtype=F64) * 2 - 1

    @staticmethod
    def loss(run):
        def total(feat, coord):
            rows, rel, weight = run(feat, coord)
            return ((rows.sum(-1) + rel.prod(-1)) * weight).square().sum()

        return total

    @pytest.mark.parametrize("argnum", [0, 1])
    def test_grad(self, given, argnum):
        got, want = (grad(self.loss(run), argnum)(*given) for run in (functional.gather_corners, pieces))
        assert want.abs().max() > 1e-3
        assert_close(got, want, rtol=1e-10, atol=1e-10)

    def test_jvp(self, given):
        ways = tuple(map(torch.randn_like, given))
        got = jvp(functional.gather_corners, given, ways)
        want = jvp(pieces, given, ways)
        assert want[1][0].abs().max() > 1e-3
        assert_close(got, want, rtol=1e-10, atol=1e-10)

    def test_vmap(self, given):
        feat, coord = (t.unsqueeze(1) for t in given)
        got = vmap(functional.gather_corners)(feat, coord)
        for one, want in zip(got, functional.gather_corners(*given), strict=True):
            assert torch.equal(one[:, 0], want)

    def test_the_operators_refuse_and_say_what_to_use(self, given):
        feat, coord = given
        hidden = feat.permute(0, 2, 3, 1).contiguous()
        grad_rows = torch.ones(2, 6, 4, 3, dtype=F64)
        for run, x in (
            (lambda x: GATHER(x, coord, (4, 5), (0, 0))[0], hidden),
            (lambda x: BACKWARD(x, coord, (4, 5), (4, 5), (0, 0)), grad_rows),
        ):
            with pytest.raises(RuntimeError, match=r"no derivative under torch\.func.*functional\.gather_corners"):
                grad(lambda x, run=run: run(x).sum())(x)


def test_double_backward_is_refused():
    feat = torch.randn(1, 3, 4, 5, requires_grad=True)
    rows, _, _ = functional.gather_corners(feat, torch.rand(1, 9, 2) * 2 - 1)
    with pytest.raises(RuntimeError, match="no double backward"):
        torch.autograd.grad(rows.square().sum(), feat, create_graph=True)


@pytest.mark.parametrize(
    ("feat", "coord", "message"),
    [
        ([1], torch.zeros(1, 1, 2), "feat: a float32, float64, bfloat16 or float16 tensor .* got list"),
        (torch.zeros(1, 3, 4, 5).long(), torch.zeros(1, 1, 2), "feat: .* got torch.int64"),
        (torch.zeros(3, 4, 5), torch.zeros(1, 1, 2), r"feat: shape \[B, C, H, W\] .* got \[3, 4, 5\]"),
        (torch.zeros(1, 3, 0, 5), torch.zeros(1, 1, 2), r"feat: shape .* with pixels is wanted, got \[1, 3, 0, 5\]"),
        (torch.zeros(1, 3, 4, 5), torch.zeros(1, 1, 2).long(), "coord: a floating-point tensor .* got torch.int64"),
        (torch.zeros(1, 3, 4, 5), torch.zeros(2, 1, 2), r"coord: shape \[B, Q, 2\] with B = 1 .* got \[2, 1, 2\]"),
        (torch.zeros(1, 3, 4, 5), torch.zeros(1, 1, 2) / 0, "coord holds NaN or infinity"),
    ],
)
def test_bad_arguments_are_named(feat, coord, message):
    with pytest.raises((TypeError, ValueError), match=message):
        functional.gather_corners(feat, coord)


@pytest.mark.skipif(not ops.CPU_KERNELS, reason="plain PyTorch checks by itself")
def test_the_operators_name_bad_arguments():
    hidden, coord = rows_sample()
    where, rows = ((5, 7), (0, 0)), torch.zeros(2, 37, 4, 16)
    for wrong, message in (
        ((hidden[0], coord, *where), r"hidden: shape \[B, h, w, D\]"),
        ((hidden, coord[:1], *where), r"coord: shape \[B, Q, 2\] with B = 2"),
        ((hidden, coord.double(), *where), "coord: float32 is wanted, whatever the features are"),
        ((hidden.double(), coord, *where), "coord: float64 is wanted with float64 features"),
        ((hidden.long(), coord, *where), "hidden: float32, bfloat16, float16 or float64 is wanted"),
        ((hidden, coord, (5, 7), (1, 0)), "must lie in a map of size"),
        ((hidden[:, :0], coord, *where), "empty map"),
    ):
        with pytest.raises(RuntimeError, match=message):
            GATHER(*wrong)
    for wrong, message in (
        ((rows[0], coord, (5, 7), *where), r"grad_rows: shape \[B, Q, K, D\]"),
        ((rows[:, :5], coord, (5, 7), *where), r"grad_rows: shape \[B, Q, K, D\] with K = 4 .* got \[2, 5, 4, 16\]"),
        ((rows, coord, (5, 7), *where, False), r"grad_rows: shape \[B, Q, K, D\] with K = 1"),
        ((rows.long(), coord, (5, 7), *where), "grad_rows: float32, bfloat16, float16 or float64 is wanted"),
        ((rows, coord, (5, 7, 1), *where), "two numbers each are wanted"),
    ):
        with pytest.raises(RuntimeError, match=message):
            BACKWARD(*wrong)
