"""The chain that trains the head on a GPU: its own code, run here on the CPU."""

from __future__ import annotations

import itertools

import pytest
import torch
from chain_cases import NAMES, VARIANTS, gradients, in_chain, problem, separate
from decode_cases import SHAPES, error
from torch.utils._python_dispatch import TorchDispatchMode

from liif_fast import functional
from liif_fast.head import chain


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("cell", "ensemble", "strided"), list(itertools.product((True, False), repeat=3)))
def test_equals_separate_operators(monkeypatch, shape, cell, ensemble, strided):
    leaves, *given = problem(shape, cell=cell, ensemble=ensemble, strided=strided)
    grad_out = torch.randn(shape[0], shape[3], shape[5])
    want = separate(monkeypatch, *given)
    wants = gradients(want, leaves, grad_out)
    for variant in VARIANTS:
        out = in_chain(*given, **dict(zip(NAMES, variant, strict=True)))
        assert error(out, want) < 1e-13  # float64, the order of a few hundred sums
        for g, w in zip(gradients(out, leaves, grad_out), wants, strict=True):
            assert g.shape == w.shape
            assert error(g, w) < 1e-12


# Plain PyTorch's own distance from float64 is the measure; both round each layer once, in another order of sums.
@pytest.mark.parametrize(NAMES, VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_as_close_to_float64_as_separate_operators(monkeypatch, dtype, recompute, blend_first):
    shape = (2, (5, 7), 64, 700, 3, 3)
    grad_out = torch.randn(2, 700, 3)
    leaves, hidden, head, *rest = problem(shape, dtype)
    coord, cell, ensemble = rest
    wide = [t.detach().double().requires_grad_() for t in leaves]
    mlp = tuple(zip(wide[2], wide[3], strict=True))
    wide_head = functional.Head(*(t.double() for t in head[:2]), wide[1], mlp, *wide[4:])
    want = separate(monkeypatch, wide[0], wide_head, coord.double(), cell.double(), ensemble)
    wants = gradients(want, wide, grad_out.double())
    half = [t.to(dtype) for t in leaves[2:]]  # separate operators want the parameters in hidden's precision
    half_head = head._replace(mlp=tuple(zip(half[0], half[1], strict=True)), w_out=half[2], b_out=half[3])
    plain = separate(monkeypatch, hidden, half_head, *rest)
    out = in_chain(hidden, head, *rest, recompute=recompute, blend_first=blend_first)
    assert out.dtype == torch.float32
    floor = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert error(out, want) <= 1.5 * error(plain, want) + floor
    pairs = zip(gradients(out, leaves, grad_out), gradients(plain, leaves, grad_out), wants, leaves, strict=True)
    for g, p, w, leaf in pairs:
        assert g.dtype == leaf.dtype
        assert error(g, w) <= 1.5 * error(p, w) + floor


@pytest.mark.parametrize(NAMES, VARIANTS)
@pytest.mark.parametrize("ensemble", [True, False])
def test_gradcheck(ensemble, recompute, blend_first):
    leaves, _, _, coord, cell, _ = problem((1, (3, 4), 8, 9, 2, 2), ensemble=ensemble)

    def run(hidden, w_pos, w_mlp, b_mlp, w_out, b_out):
        mlp = tuple(zip(w_mlp, b_mlp, strict=True))
        return chain.query(
            hidden, coord, cell, w_pos, mlp, w_out, b_out, ensemble, recompute=recompute, blend_first=blend_first
        )

    assert torch.autograd.gradcheck(run, leaves, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    """Under autocast float32 tensors give what tensors in its precision give without it; float64 stays float64."""
    shape = (2, (5, 7), 32, 70, 2, 3)
    leaves, hidden, head, *rest = problem(shape, torch.float32)
    grad_out = torch.randn(2, 70, 3)
    want = in_chain(hidden.to(dtype), head, *rest)
    with torch.autocast("cpu", dtype=dtype):
        out = in_chain(hidden, head, *rest)
        wide = [t.double() if torch.is_tensor(t) else t for t in rest]
        double = functional.Head(*(t.double() for t in head[:3]), head.mlp, *(t.double() for t in head[4:]))
        assert in_chain(hidden.double(), double, *wide).dtype == torch.float64
    assert torch.equal(out, want)
    grads = gradients(out, leaves, grad_out), gradients(want, leaves, grad_out)
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(*grads, strict=True))


class Products(TorchDispatchMode):
    """The sides of all products of matrices."""

    def __init__(self):
        super().__init__()
        self.sides = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "mm" in function.overloadpacket.__name__:
            self.sides += [n for t in args if isinstance(t, torch.Tensor) and t.ndim == 2 for n in t.shape]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("outputs", [1, 3, 8, 11])
@pytest.mark.parametrize("variant", VARIANTS)
def test_products_have_sides_of_eights(outputs, variant):
    """Others take slow kernels in the matrix libraries of a GPU."""
    leaves, *given = problem((1, (5, 7), 16, 24, 2, outputs), torch.float32)
    with Products() as products:
        out = in_chain(*given, **dict(zip(NAMES, variant, strict=True)))
        torch.autograd.grad(out.sum(), leaves)
    assert out.shape == (1, 24, outputs)
    assert out.is_contiguous()
    assert len(products.sides) > 20
    assert not any(n % 8 for n in products.sides)


def kept(run):
    """Values that autograd keeps for run's gradient, each storage once."""
    found = {}

    def pack(t):
        found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return sum(found.values())


def test_keeps_the_activations_and_no_more():
    B, (h, w), D, Q, L, _ = shape = (2, (2, 2), 64, 500, 3, 3)
    _, *given = problem(shape)
    rows, small = B * Q * 4 * D, 9 * B * Q + (L + 2) * D * D + B * h * w * D  # coordinates, weights, hidden map
    assert (L + 1) * rows <= kept(lambda: in_chain(*given)) <= (L + 1) * rows + small
    assert L * rows <= kept(lambda: in_chain(*given, recompute=True)) <= L * rows + small


def test_frozen_parameters_have_no_gradient():
    leaves, hidden, head, *rest = problem((1, (3, 4), 16, 9, 2, 3))
    frozen = [t.detach() for t in leaves]
    head = head._replace(w_pos=frozen[1], mlp=tuple(zip(frozen[2], frozen[3], strict=True)), w_out=frozen[4])
    head = head._replace(b_out=frozen[5])
    out = in_chain(hidden, head, *rest)
    assert torch.autograd.grad(out.sum(), hidden)[0].abs().sum() > 0
    assert not in_chain(hidden.detach(), head, *rest).requires_grad


def test_one_narrow_layer_and_no_queries():
    D, narrow = 16, 5
    hidden = torch.randn(1, 3, 4, D, requires_grad=True)
    w, b, w_out = torch.randn(narrow, D), torch.randn(narrow), torch.randn(3, narrow)
    for Q in (0, 7):
        coord = torch.rand(1, Q, 2) * 2 - 1
        for variant in VARIANTS:
            options = dict(zip(NAMES, variant, strict=True))
            out = chain.query(hidden, coord, None, torch.randn(D, 4), ((w, b),), w_out, torch.zeros(3), **options)
            assert out.shape == (1, Q, 3)
            (grad,) = torch.autograd.grad(out.sum(), hidden)
            assert bool(grad.abs().sum()) == (Q > 0)


def test_query_runs_here_where_it_is_wanted(monkeypatch):
    _, hidden, head, coord, cell, ensemble = problem((2, (5, 7), 32, 70, 2, 3))
    monkeypatch.setattr(functional, "CPU_KERNELS", False)
    monkeypatch.setattr(chain, "wanted", lambda hidden: True)
    out = functional.query(hidden, head, coord, cell, local_ensemble=ensemble)
    assert type(out.grad_fn).__name__ == "_ChainBackward"
    coord.requires_grad_()  # the chain has no such gradient: separate operators
    out = functional.query(hidden, head, coord, cell, local_ensemble=ensemble)
    assert torch.autograd.grad(out.sum(), coord)[0].abs().sum() > 0
    with pytest.raises(RuntimeError, match=r"no gradient for coord and cell.*functional\.query"):
        in_chain(hidden, head, coord, cell, ensemble)


@pytest.mark.parametrize("power", [1, 2])
def test_double_backward_is_refused(power):
    """Of a loss that is linear in the colours too, whose gradient would else be taken for a constant."""
    _, hidden, *rest = problem((1, (3, 4), 16, 9, 1, 3))
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(in_chain(hidden, *rest).pow(power).sum(), hidden, create_graph=True)
