"""torch.func and forward mode: the reference's numbers, or a refusal; never a derivative of 0 that is none."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.autograd.forward_ad as fwad
from cpu_paths import sample
from liif_queries import by_reference, queries
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.testing import assert_close

from liif_fast import functional
from liif_fast.head import precision

F64 = torch.float64
TIGHT = {"rtol": 1e-9, "atol": 1e-10}  # float64: the same sums in another order


@pytest.fixture(params=[True, False], ids=["grad", "no_grad"])
def mode(request):
    with torch.set_grad_enabled(request.param):
        yield


@pytest.fixture
def case(tiny):
    """(model in float64, inp, coord, cell)"""
    model = tiny([8, 8], 4).double()
    return model, torch.randn(1, 3, 4, 5, dtype=F64), *queries(1, 6, F64)


def ours(model):
    return lambda inp, coord, cell: model(inp, coord, cell).square().sum()


def theirs(model):
    return lambda inp, coord, cell: by_reference(model, inp, coord, cell).square().sum()


def along(function, given, tangents):
    """A scalar's derivative in a direction, from its gradient: grid_sample has no forward mode."""
    grads = grad(function, argnums=tuple(range(len(given))))(*given)
    return sum((g * t).sum() for g, t in zip(grads, tangents, strict=True))


@pytest.mark.parametrize("argnum", [0, 1, 2])
def test_grad(case, mode, argnum):
    model, *given = case
    got, want = (grad(f(model), argnums=argnum)(*given) for f in (ours, theirs))
    assert want.abs().max() > 1e-3
    assert_close(got, want, **TIGHT)
    assert model.feat is None  # nothing of a transform is kept


@pytest.mark.parametrize("argnum", [0, 1, 2])
def test_jvp(case, mode, argnum):
    model, *given = case
    tangents = [torch.randn_like(t) if i == argnum else torch.zeros_like(t) for i, t in enumerate(given)]
    want = along(theirs(model), given, tangents)
    assert want.abs() > 1e-3
    assert_close(jvp(ours(model), tuple(given), tuple(tangents)), (theirs(model)(*given), want), **TIGHT)
    with fwad.dual_level():
        duals = [fwad.make_dual(t, d) for t, d in zip(given, tangents, strict=True)]
        assert_close(fwad.unpack_dual(ours(model)(*duals)).tangent, want, **TIGHT)


@pytest.mark.parametrize("ensemble", [True, False])
def test_derivatives_of_parameters(tiny, mode, ensemble):
    model = tiny([8, 6], 4, local_ensemble=ensemble).double()
    given = torch.randn(2, 3, 4, 5, dtype=F64), *queries(2, 6, F64)
    parameters = dict(model.named_parameters())

    def loss(parameters, f):
        if f is by_reference:
            return functional_call(Reference(model), {f"model.{k}": v for k, v in parameters.items()}, given).sum()
        return functional_call(model, parameters, given).sum()

    got, want = (grad(loss)(parameters, f) for f in (None, by_reference))
    for name in parameters:
        assert_close(got[name], want[name], **TIGHT)
        assert want[name].abs().max() > 1e-3
    tangents = {k: torch.randn_like(v) for k, v in parameters.items()}
    got = jvp(lambda p: loss(p, None), (parameters,), (tangents,))[1]
    assert_close(got, sum((want[name] * t).sum() for name, t in tangents.items()), **TIGHT)


class Reference(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *given):
        return by_reference(self.model, *given)


def test_second_derivatives_jacobians_and_batches(case, mode):
    model, inp, coord, cell = case
    want = grad(theirs(model), argnums=1)(inp, coord, cell)
    for transform in (jacrev, jacfwd):
        assert_close(transform(lambda c: ours(model)(inp, c, cell))(coord), want, **TIGHT)
    step, way = 1e-7, torch.randn_like(coord)
    ends = [grad(theirs(model), argnums=1)(inp, coord + sign * step * way, cell) for sign in (1, -1)]
    second = torch.einsum("bqibrj,brj->bqi", hessian(lambda c: ours(model)(inp, c, cell))(coord), way)
    # of differences: their rounding, 1e-16 / step, and step's square, on derivatives of about 1e3
    assert_close(second, (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-4)
    images = torch.randn(3, 1, 3, 4, 5, dtype=F64)
    got = vmap(lambda x: model(x, coord, cell))(images)
    want = torch.stack([by_reference(model, x, coord, cell) for x in images])
    assert_close(got, want, **TIGHT)
    each = [vmap(grad(f(model)), in_dims=(0, None, None))(images, coord, cell) for f in (ours, theirs)]
    assert_close(*each, **TIGHT)
    value, pull = vjp(lambda x: model(x, coord, cell), inp)
    assert_close(
        pull(torch.ones_like(value))[0], grad(lambda x: by_reference(model, x, coord, cell).sum())(inp), **TIGHT
    )


def test_autograd_functional(case):
    model, inp, coord, cell = case
    tangent = torch.randn_like(inp)
    jacobian = torch.autograd.functional.jacobian
    for options in ({}, {"vectorize": True}, {"vectorize": True, "strategy": "forward-mode"}):
        got = jacobian(lambda x: model(x, coord, cell), inp, **options)
        assert_close(got, jacobian(lambda x: by_reference(model, x, coord, cell), inp, vectorize=True), **TIGHT)
    with pytest.raises(RuntimeError, match="no double backward"):
        torch.autograd.functional.jvp(lambda x: ours(model)(x, coord, cell), inp, tangent)


def test_autocast_keeps_coordinates_in_float32(tiny, monkeypatch):
    monkeypatch.setattr(precision, "FAST_HALF_CPU", (torch.bfloat16,))  # or little would be in half precision
    errors = []
    for _ in range(8):
        model = tiny([16, 16], 6)
        inp, (coord, cell) = torch.randn(1, 3, 6, 6), queries(1, 50)

        def total(x, model=model, coord=coord, cell=cell):
            return model(x, coord, cell).sum()

        want, leaf = grad(total)(inp), inp.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = grad(total)(inp)
            with monkeypatch.context() as patch:  # the same operations without a transform
                patch.setattr(functional, "CPU_KERNELS", False)
                (usual,) = torch.autograd.grad(total(leaf), leaf)
        errors.append(torch.stack([(g - want).abs().max() / want.abs().max() for g in (got, usual)]))
    # twice what they have without one, on average: a ReLU's mask that a rounding switches need not switch in both
    ours, usual = torch.stack(errors).mean(0)
    assert ours <= 2 * usual
    assert usual > 0


def test_whole_pictures(case, mode):
    """Forward mode goes through no_grad, and so through render; torch.func.grad would take render for a constant."""
    model, inp, *_ = case
    tangent = torch.randn_like(inp)
    size = (6, 7)
    at = functional.make_coord(size, dtype=F64)[None]
    pixel = torch.tensor([2 / n for n in size], dtype=F64).expand_as(at)
    jacobian = jacrev(lambda x: by_reference(model, x, at, pixel))(inp)  # [1, Q, 3, 1, 3, H, W]
    want = torch.tensordot(jacobian, tangent, 4).transpose(1, 2).unflatten(2, size)
    for render in (model.render, lambda x, s: model.renderer(s)(x)):
        assert_close(jvp(lambda x, r=render: r(x, size), (inp,), (tangent,))[1], want, rtol=1e-6, atol=1e-6)
        with pytest.raises(RuntimeError, match=r"render has no gradient, so torch\.func would take it for 0"):
            grad(lambda x, r=render: r(x, size).sum())(inp)
    constant = grad(lambda x: (model.render(inp, size).sum() * x).sum())(torch.ones(2, dtype=F64))
    assert_close(constant, model.render(inp, size).sum().expand(2), **TIGHT)  # a constant is one


def test_8_bit_models_refuse(tiny, mode):
    model = tiny().quantize(torch.rand(3, 9, 9))
    inp, (coord, cell) = torch.rand(1, 3, 6, 6), queries(1, 5)
    with pytest.raises(RuntimeError, match="8-bit model has no gradient"):
        grad(lambda x: model(x, coord, cell).sum())(inp)
    with pytest.raises(RuntimeError, match="render_int8 has no derivative"):
        jvp(lambda x: model(x, coord, cell), (inp,), (torch.ones_like(inp),))


def operators():
    s = sample(D=8, Q=5)
    geometry = (s.hidden, s.coord, s.cell, s.w_pos)
    lib = torch.ops.liif_fast
    h, _ = lib.corner_gather(*geometry, s.hidden.shape[1:3], (0, 0))
    where = (s.hidden.shape[1:3], s.hidden.shape[1:3], (0, 0))
    yield lib.corner_gather, (*geometry, *where[1:])
    yield lib.corner_gather_backward, (torch.ones_like(h), h, *geometry[1:], *where)
    yield lib.gather_corners, (s.hidden, s.coord, *where[1:])
    yield lib.gather_corners_backward, (torch.ones_like(h), s.coord, *where)
    yield lib.decode, (*s[:8],)
    yield lib.decode_backward, (torch.ones(*s.coord.shape[:2], len(s.w_out)), *s[:7])
    yield lib.render, (*s[:8], *where[1:])


@pytest.mark.parametrize(("function", "args"), list(operators()), ids=lambda f: getattr(f, "__name__", ""))
def test_an_operator_by_itself_refuses(function, args, mode):
    """They know ``backward`` alone: elsewhere their derivative would be 0."""

    def first(x):
        out = function(x, *args[1:])
        return out if isinstance(out, torch.Tensor) else out[0]

    for derive in (
        lambda: jvp(first, args[:1], (torch.ones_like(args[0]),)),
        lambda: grad(lambda x: first(x).sum())(args[0]),
        lambda: jacfwd(first)(args[0]),
        lambda: forward_mode(first, args[0]),
    ):
        with pytest.raises(
            RuntimeError, match=r"liif_fast::\w+ has no derivative under torch\.func or in forward mode"
        ):
            derive()
    twice = vmap(first)(torch.stack([args[0], args[0]]))
    assert_close(twice[1], first(args[0]))


def test_a_decoding_function_that_does_not_fold(tiny, mode):
    """It runs by the reference: with a gradient, and without forward mode, which grid_sample has not."""
    model = tiny().double()
    model.imnet.layers[1] = torch.nn.GELU()
    inp, (coord, cell) = torch.randn(1, 3, 4, 5, dtype=F64), queries(1, 6, F64)
    got, want = (grad(lambda x, f=f: f(model)(x, coord, cell))(inp) for f in (ours, theirs))
    assert_close(got, want, **TIGHT)
    with pytest.raises(NotImplementedError, match="forward AD"):
        jvp(lambda x: model(x, coord, cell), (inp,), (inp,))


def forward_mode(function, x):
    with fwad.dual_level():
        return function(fwad.make_dual(x, torch.ones_like(x)))


@pytest.mark.parametrize(("ensemble", "cell"), list(itertools.product((True, False), repeat=2)))
def test_rendering_a_part(ensemble, cell):
    """functional.render with an origin, in forward mode, against the operator's values."""
    s = sample(D=8, Q=30, cell=cell, ensemble=ensemble)
    mlp = tuple(zip(s.w_mlp, s.b_mlp, strict=True))
    head = functional.Head(torch.zeros(8, 1, 1, 1), torch.zeros(8), s.w_pos, mlp, s.w_out, s.b_out)
    (h, w), top = s.hidden.shape[1:3], 2
    taken = functional.make_coord((h, w))[top * w :].expand(len(s.hidden), -1, -1)
    pixel = torch.full_like(taken, 0.1) if cell else None
    options = {"size": (h, w), "origin": (top - 1, 0), "local_ensemble": ensemble}
    part = s.hidden[:, top - 1 :].contiguous()
    want = functional.render(part, head, taken, pixel, **options)
    got, _ = jvp(lambda x: functional.render(x, head, taken, pixel, **options), (part,), (torch.ones_like(part),))
    assert_close(got, want, rtol=1e-5, atol=1e-5)  # float32, another order of sums


def test_compiled(no_compiled_code, tiny):
    """The compiler takes an operator's derivative for 0 as well; and what it made for plain calls is not used here."""
    model = tiny([8, 8], 4)
    inp, (coord, cell) = torch.randn(1, 3, 4, 5), queries(1, 6)
    way = torch.randn_like(inp)
    along_it = along(lambda x: by_reference(model, x, coord, cell).sum(), [inp], [way])
    near = {"rtol": 1e-4, "atol": 1e-5}  # float32, another order of sums

    def loss(x):
        return model(x, coord, cell).sum()

    with torch.no_grad():
        compiled = torch.compile(lambda x: jvp(loss, (x,), (way,))[1], backend="eager", fullgraph=True)
        assert_close(compiled(inp), along_it, **near)
        whole = torch.compile(model, backend="eager")
        assert_close(whole(inp, coord, cell), model(inp, coord, cell), **near)
        with fwad.dual_level():
            got = fwad.unpack_dual(whole(fwad.make_dual(inp, way), coord, cell)).tangent
            assert_close(got.sum(), along_it, **near)
