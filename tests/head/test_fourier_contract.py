"""render_fourier and decode_fourier: numbers that are not finite or large, contracts, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch
from cpu_paths import PATHS
from fourier_cases import WAYS, arguments, computed_by, definition, gradients, rendered

LIB = torch.ops.liif_fast
HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture(params=WAYS)
def path(request, monkeypatch):
    with computed_by(request.param, monkeypatch) as way:
        yield way


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_bad_coordinates_spoil_their_own_query_only(path, dtype, value):
    for ensemble in (True, False):
        args = list(arguments((2, (5, 7), 32, 37, 2, 3), dtype, ensemble=ensemble))
        good = rendered(path, args)
        args[1][0, 5, 1] = value
        bad = rendered(path, args)
        others = torch.ones(good.shape[:2], dtype=torch.bool)
        others[0, 5] = False
        assert torch.equal(bad[others], good[others])
        if value != 1e30:
            assert not bad[0, 5].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_map_that_is_not_finite_stays_visible(path, dtype, value):
    """A coefficient of cosines, of sines, a frequency along y, along x; an infinite one has no angle."""
    for part, L in itertools.product(range(4), (0, 2)):
        args = arguments((1, (1, 1), 32, 20, L, 3), dtype)
        args[0][0, 0, 0, 32 * part + 3] = value
        assert not rendered(path, args).isfinite().any()
        out, grads = gradients(path, args, torch.randn(1, 20, 3).to(args[1].dtype))
        assert not out.isfinite().any()
        assert not grads[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("which", ["w_phase", "w_mlp", "b_mlp", "w_out", "cell", "grad_out"])
def test_nan_stays_visible(path, dtype, which):
    args = list(arguments((1, (3, 4), 32, 50, 2, 3), dtype))
    grad_out = torch.randn(1, 50, 3)
    names = ("hidden", "coord", "cell", "w_phase", "w_mlp", "b_mlp", "w_out", "b_out")
    bad = grad_out if which == "grad_out" else args[names.index(which)]
    bad.flatten()[7] = float("nan")
    out, grads = gradients(path, args, grad_out)
    if which == "grad_out":
        assert all(g.isnan().any() for g in grads)
        return
    spoilt = out.isnan(), rendered(path, args).isnan()
    assert all(s.any() for s in spoilt)
    if which not in ("cell", "w_out"):  # which are of one query, of one colour
        assert all(s.all() for s in spoilt)
    assert grads[2].isnan().any()
    assert which == "b_mlp" or grads[0].isnan().any()  # where all of a layer is NaN, ReLU hands on no gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("turns", [1e3, 1e6, 1e8, 1e30])
def test_large_angles(path, dtype, turns):
    """A wave stays one, whatever its angle; up to 1e3 it is that angle's, to the rounding of it."""
    F = 32
    args = list(arguments((1, (1, 1), F, 200, 0, 2 * F), dtype))
    args[0][0, 0, 0, 2 * F :] = (torch.rand(2 * F) * turns).to(dtype)
    args[6], args[7] = torch.eye(2 * F, dtype=args[6].dtype), torch.zeros(2 * F, dtype=args[6].dtype)
    args[1] = args[1].abs().clamp(max=0.9)  # weights of 1 for all corners together: one pixel
    found = rendered(path, args)
    bound = args[0][0, 0, 0, : 2 * F].abs().to(found.dtype)
    assert found.isfinite().all()
    assert (found.abs() <= bound * (1 + 2 * torch.finfo(dtype).eps) + 1e-12).all()
    if turns == 1e3:
        want = definition(args[0].double(), args[1], args[2], *(t.double() for t in args[3:8]), args[8])
        # an angle of up to 1.5 * 1e3 turns is off by half a unit in its last place, three times, and pi as often
        off = 4.5e3 * torch.finfo(args[1].dtype).eps * torch.pi
        assert ((found - want).abs() <= bound * (off + torch.finfo(dtype).eps)).all()


@pytest.mark.parametrize(("cell", "ensemble"), list(itertools.product((True, False), repeat=2)))
def test_contract(cell, ensemble):
    args = arguments((2, (3, 5), 32, 11, 2, 3), torch.float32, cell, ensemble, strided=True)
    torch.library.opcheck(LIB.render_fourier.default, (*args[:-1], (3, 5), (0, 0), ensemble))
    torch.library.opcheck(LIB.decode_fourier.default, args)
    torch.library.opcheck(LIB.decode_fourier_backward.default, (torch.randn(2, 11, 3), *args[:-2], ensemble))
    with_grad = [t.requires_grad_(i not in (1, 2)) if torch.is_tensor(t) else t for i, t in enumerate(args)]
    torch.library.opcheck(LIB.decode_fourier.default, with_grad)


@pytest.mark.parametrize("L", [0, 2])
def test_gradcheck(L):
    hidden, coord, cell, *parameters, ensemble = arguments((1, (3, 4), 32, 9, L, 2))
    leaves = [t.requires_grad_() for t in (hidden, *parameters)]

    def run(hidden, *parameters):
        return LIB.decode_fourier(hidden, coord, cell, *parameters, ensemble)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_gradients_that_are_refused():
    hidden, coord, *rest, ensemble = arguments((1, (3, 4), 32, 9, 1, 3), torch.float32)
    with pytest.raises(RuntimeError, match=r"no gradient for coord and cell.*functional\.query"):
        LIB.decode_fourier(hidden, coord.clone().requires_grad_(), *rest, ensemble)
    with pytest.raises(RuntimeError, match=r"no gradient.*functional\.query"):
        LIB.render_fourier(hidden.clone().requires_grad_(), coord, *rest, (3, 4), (0, 0), ensemble)
    out = LIB.decode_fourier(hidden.requires_grad_(), coord, *rest, ensemble)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(out.square().sum(), hidden, create_graph=True)


@pytest.mark.parametrize("name", ["render_fourier", "decode_fourier", "decode_fourier_backward"])
def test_an_operator_by_itself_refuses_transforms(name):
    """They know ``backward`` alone: elsewhere their derivative would be 0."""
    args = arguments((1, (3, 4), 32, 5, 1, 3), torch.float32)
    given = {
        "render_fourier": (*args[:-1], (3, 4), (0, 0)),
        "decode_fourier": args[:-1],
        "decode_fourier_backward": (torch.ones(1, 5, 3), *args[:-2]),
    }[name]

    def first(x):
        out = getattr(LIB, name)(x, *given[1:])
        return out if torch.is_tensor(out) else out[0]

    for derive in (
        lambda: torch.func.jvp(first, given[:1], (torch.ones_like(given[0]),)),
        lambda: torch.func.grad(lambda x: first(x).sum())(given[0]),
    ):
        with pytest.raises(RuntimeError, match=rf"liif_fast::{name} has no derivative under torch\.func"):
            derive()


@pytest.mark.parametrize("path", ["plain, float32 products", *PATHS[:1]], indirect=True)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.__setitem__(0, a[0][..., :96]), "F a multiple of 32 are wanted, got 96 channels"),
        (lambda a: a.__setitem__(3, a[3][:31]), r"F a multiple of 32 are wanted, got 128 channels.* \[31, 2\]"),
        (lambda a: a.__setitem__(3, torch.cat([a[3], a[3]], 1)), r"wanted, got 128 channels.* \[32, 4\]"),
        (lambda a: a.__setitem__(6, a[6][:, :62]), r"wanted, got .*\[3, 62\]"),
        (lambda a: a.__setitem__(4, a[4][:, :62, :62]), "w_mlp|mat1"),
        (
            lambda a: a.__setitem__(0, a[0][..., :48]) or a.__setitem__(3, a[3][:12]),
            "a multiple of 32 are wanted, got 48",
        ),
    ],
    ids=["hidden", "w_phase", "w_phase 4 wide", "w_out", "w_mlp", "12 frequencies"],
)
def test_wrong_channels_are_refused(path, change, words):
    args = list(arguments((1, (3, 4), 32, 9, 1, 3), torch.float32))
    change(args)
    for run in (lambda: rendered(path, args), lambda: gradients(path, args, torch.ones(1, 9, 3))):
        with pytest.raises(RuntimeError, match=words):
            run()
