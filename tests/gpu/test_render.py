"""The fused kernel on a real card: numbers, graphs, tuning. What needs none: tests/head/test_triton_*.py."""

from __future__ import annotations

import pytest
import torch

import liif_fast
from liif_fast import reference
from liif_fast.head import int8, ops
from liif_fast.head.triton import available, choices, configs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
    pytest.mark.skipif(not available()[0], reason=f"no fused kernel: {available()[1]}"),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _problem(dtype, D=256, L=3, B=2, Q=1003, cell=True, ensemble=True, out=3, size=(37, 53)):
    """Arguments of render on the card, numbers of about unit size in every layer."""
    random = torch.Generator("cuda").manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=random, device="cuda")

    hidden = normal(B, *size, D).to(dtype)
    coord = torch.rand(B, Q, 2, generator=random, device="cuda") * 2 - 1
    cells = torch.full_like(coord, 0.02) if cell else None
    layers = normal(D, 4), normal(L, D, D) * (2 / D) ** 0.5, normal(L, D) * 0.1, normal(out, D) / D**0.5, normal(out)
    return hidden, coord, cells, *layers, size, (0, 0), ensemble


def _wide(arguments):
    """The same in float64, after the geometry, which is float32's own."""
    hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, _, ensemble = arguments
    index, rel, weight = reference.corners(coord, size, ensemble)
    x = torch.stack([hidden[b][index[b, ..., 0], index[b, ..., 1]] for b in range(len(hidden))]).double()
    x = x + rel.double() @ w_pos[:, :2].double().T
    if cell is not None:
        x = x + ((cell * cell.new_tensor(size)).double() @ w_pos[:, 2:].double().T).unsqueeze(-2)
    x = x.relu()
    for w, b in zip(w_mlp.double(), b_mlp.double(), strict=True):
        x = (x @ w.T + b).relu()
    return (x * weight.double().unsqueeze(-1)).sum(-2) @ w_out.double().T + b_out.double()


def _compare(ours, arguments, dtype):
    """At most twice the error of plain PyTorch in the same precision, both against float64, or one rounding of the
    largest colour where chance made that smaller."""
    want = _wide(arguments)
    error, plain = ((t - want).abs().max() for t in (ours, ops.PLAIN["render"](*arguments)))
    unit = {torch.float32: 2**-20, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert error <= max(2 * plain, unit * want.abs().max()), (error, plain)


@pytest.fixture(autouse=True)
def _insist(monkeypatch):
    monkeypatch.setenv("LIIF_FAST_TRITON", "1")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", configs.WIDTHS)
@pytest.mark.parametrize(
    "changed",
    [{}, {"cell": False}, {"ensemble": False}, {"L": 1, "Q": 1}, {"L": 2, "out": 9}, {"L": 4, "out": 16}],
)
def test_values(dtype, D, changed):
    arguments = _problem(dtype, D, **changed)
    _compare(torch.ops.liif_fast.render(*arguments), arguments, dtype)


@pytest.mark.parametrize("kind", configs.KINDS)
@pytest.mark.parametrize("D", configs.WIDTHS)
def test_every_configuration(kind, D):
    from liif_fast.head.triton import render

    family = configs.family(torch.cuda.get_device_capability())
    dtype = torch.bfloat16 if kind == "half" else torch.float32
    arguments = _problem(dtype, D)
    for config in configs.candidates(family, kind, D):
        if kind == "int8":
            given = _quantized(arguments)
            want = int8.render_int8(*given)
            torch.testing.assert_close(render.render_int8(*given, config=config), want, rtol=0, atol=2**-16 * 8)
        else:
            _compare(render.render(*arguments, config=config), arguments, dtype)


@pytest.mark.parametrize(
    "changed",
    [
        {"B": 1, "Q": 1},
        {"B": 3, "Q": 33},
        {"B": 1, "Q": 100_003, "cell": False},
        {"dtype": torch.float16},
        {"ensemble": False},
        {"L": 1},
        {"L": 2, "out": 9},
        {"L": 4, "out": 16},
    ],
    ids=str,
)
def test_gluon(changed):
    """One tile, an odd number of them, many for each block; everything that is compiled in."""
    from liif_fast.head.triton import render

    dtype = changed.get("dtype", torch.bfloat16)
    arguments = _problem(**{"dtype": dtype, **changed})
    family = configs.family(torch.cuda.get_device_capability())
    found = [config for config in configs.candidates(family, "half", 256) if config.structure == "gluon"]
    if not found:
        pytest.skip("no Gluon kernel for this card")
    for config in found:
        ours = render.render(*arguments, config=config)
        _compare(ours, arguments, dtype)
        assert torch.equal(render.render(*arguments, config=config), ours), config


def _waves(dtype, D=256, L=3, **changed):
    """Arguments of render_fourier on the card, and what they give in float64 after the geometry."""
    import triton_waves

    torch.manual_seed(0)
    s = triton_waves.sample(dtype, **{"B": 2, "h": 37, "w": 53, "Q": 1003, "D": D, "L": L, **changed})
    s = s._replace(**{name: t.cuda() for name, t in s._asdict().items() if isinstance(t, torch.Tensor)})
    return s, triton_waves.exact(s)


def _compare_waves(ours, arguments, want, dtype):
    """As ``_compare``."""
    error, plain = ((t - want).abs().max() for t in (ours, ops.PLAIN["render_fourier"](*arguments)))
    unit = {torch.float32: 2**-20, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert error <= max(2 * plain, unit * want.abs().max()), (error, plain)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", configs.WIDTHS)
@pytest.mark.parametrize(
    "changed",
    [{}, {"cell": False}, {"ensemble": False}, {"L": 1, "Q": 1}, {"L": 2, "out": 9}, {"L": 4, "out": 16}],
)
def test_waves(dtype, D, changed):
    arguments, want = _waves(dtype, D, **changed)
    _compare_waves(torch.ops.liif_fast.render_fourier(*arguments), arguments, want, dtype)


@pytest.mark.parametrize("kind", configs.KINDS[:2])
@pytest.mark.parametrize("D", configs.WIDTHS)
def test_waves_in_every_configuration(kind, D):
    from liif_fast.head.triton import render

    family = configs.family(torch.cuda.get_device_capability())
    dtype = torch.bfloat16 if kind == "half" else torch.float32
    arguments, want = _waves(dtype, D)
    for config in configs.candidates(family, kind, D):
        _compare_waves(render.render_fourier(*arguments, config=config), arguments, want, dtype)


@pytest.mark.parametrize(
    "changed",
    [{"B": 1, "Q": 1}, {"B": 3, "Q": 33}, {"B": 1, "Q": 100_003, "cell": False}, {"L": 1}, {"L": 6, "out": 16}],
    ids=str,
)
def test_waves_twice_the_same_bits(changed):
    """One tile, an odd number of them, many for each block."""
    arguments, want = _waves(torch.bfloat16, **changed)
    ours = torch.ops.liif_fast.render_fourier(*arguments)
    _compare_waves(ours, arguments, want, torch.bfloat16)
    assert torch.equal(torch.ops.liif_fast.render_fourier(*arguments), ours)


def test_waves_that_are_not_finite():
    """NaN and infinite frequencies reach the colours of the queries that read them; very large ones stay finite."""
    s, _ = _waves(torch.float32, ensemble=False)
    for value in (torch.nan, torch.inf, 1e30):
        s.hidden[0, :, :20, 256] = value  # frequencies along y begin here
        ours, want = torch.ops.liif_fast.render_fourier(*s), ops.PLAIN["render_fourier"](*s)
        assert torch.equal(ours.isnan(), want.isnan()), value
        assert ours.isnan().any() == (value != 1e30)


def _quantized(arguments):
    w_q, w_scale = int8.quantize_weights(arguments[4])
    scale = torch.full((len(w_q),), 4 / 255, device="cuda")
    return *arguments[:4], w_q, w_scale, arguments[5], scale, *arguments[6:]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("changed", [{}, {"cell": False, "ensemble": False}, {"L": 1}, {"L": 2, "out": 9}])
def test_int8_has_the_same_integers(dtype, changed):
    """As test_triton_interpreter.py: 2^-16 of colours below 8; another integer would show as 1e-3 or more."""
    given = _quantized(_problem(dtype, **changed))
    want = int8.render_int8(*(t.cpu() if isinstance(t, torch.Tensor) else t for t in given))
    torch.testing.assert_close(torch.ops.liif_fast.render_int8(*given).cpu(), want, rtol=0, atol=2**-16 * 8)


def test_twice_the_same_bits():
    arguments = _problem(torch.bfloat16, Q=100_003)
    first = torch.ops.liif_fast.render(*arguments)
    assert torch.equal(first, torch.ops.liif_fast.render(*arguments))


@pytest.mark.slow_gpu
def test_offsets_beyond_32_bits():
    """The last rows of a hidden map of more than 2^31 values."""
    h, w, D = 2900, 2900, 256
    if torch.cuda.mem_get_info()[0] < 3 * 2 * h * w * D:
        pytest.skip("not enough free memory on the card")
    arguments = list(_problem(torch.bfloat16, size=(5, 5), B=1))
    hidden = torch.zeros(1, h, w, D, dtype=torch.bfloat16, device="cuda")
    hidden[:, -5:, -5:] = arguments[0]
    coord = 1 - (1 - arguments[1]) * 2 / h  # within the last few pixels
    whole = torch.ops.liif_fast.render(hidden, coord, *arguments[2:8], (h, w), (0, 0), True)
    part = torch.ops.liif_fast.render(hidden[:, -8:, -8:], coord, *arguments[2:8], (h, w), (h - 8, w - 8), True)
    assert torch.equal(whole, part)


def test_the_reason_is_given():
    with pytest.raises(RuntimeError, match="hidden layers of 48 units"):
        torch.ops.liif_fast.render(*_problem(torch.float32, D=48))


def test_gradients_are_refused():
    arguments = _problem(torch.float32)
    arguments[0].requires_grad_()
    with pytest.raises(RuntimeError, match="query"):
        torch.ops.liif_fast.render(*arguments)


def test_waves_are_recorded():
    """A renderer's CUDA graph of LTE replays what the module gives, tiles and odd sizes too."""
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    mlp = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [64, 64, 64]}}
    model = liif_fast.make({"name": "lte", "args": {"encoder_spec": spec, "imnet_spec": mlp, "hidden_dim": 64}})
    model = model.cuda().eval()
    renderer = model.renderer((50, 70))
    for shape in [(1, 3, 17, 23), (1, 3, 17, 23), (2, 3, 9, 11)]:
        inp = torch.rand(shape, device="cuda")
        torch.testing.assert_close(renderer(inp), model.render(inp, (50, 70)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("int_layers", [False, True])
def test_renderer_replays_what_render_gives(int_layers):
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    mlp = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [64, 64, 64]}}
    model = liif_fast.LIIF(spec, mlp).cuda().eval()
    if int_layers:
        model = model.quantize(torch.rand(3, 32, 32, device="cuda"))
    renderer = model.renderer((50, 70))
    for shape in [(1, 3, 17, 23), (1, 3, 17, 23), (2, 3, 9, 11), (1, 3, 17, 23)]:
        inp = torch.rand(shape, device="cuda")
        torch.testing.assert_close(renderer(inp), model.render(inp, (50, 70)), rtol=0, atol=1e-5)
    with torch.no_grad():  # new values in place are seen without a new recording
        model.imnet.layers[0].weight.mul_(0.5)
    torch.testing.assert_close(renderer(inp), model.render(inp, (50, 70)), rtol=0, atol=1e-5)


def test_tune_keeps_the_fastest(tmp_path, monkeypatch):
    from liif_fast.head.triton import tune

    monkeypatch.setenv("LIIF_FAST_CACHE", str(tmp_path))
    rows = list(tune.tune(torch.device("cuda"), widths=(64,), kinds=("half",), queries=1 << 14, rounds=2))
    assert all(row.seconds for row in rows), rows
    choices.save(tune.fastest(rows))
    best = min(rows, key=lambda row: row.seconds)
    assert choices.choose("half", 64, torch.device("cuda", torch.cuda.current_device())) == best.config
    choices.choose.cache_clear()


def test_memory_is_that_of_the_output():
    hidden, coord, cell, *rest = _problem(torch.bfloat16, B=1, Q=1 << 20)
    torch.ops.liif_fast.render(hidden, coord, cell, *rest)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    out = torch.ops.liif_fast.render(hidden, coord, cell, *rest)
    # the layers in the kernel's form: 3 x 256 x 256 in bfloat16, and less
    assert torch.cuda.max_memory_allocated() - before <= out.nbytes + 2**20


def test_a_model_on_the_card():
    """Module, tiles and the fallback for an odd width, against the CPU."""
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    for width in (64, 48):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LIIF_FAST_TRITON", "auto")
            model = liif_fast.LIIF(spec, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [width] * 3}}).eval()
            inp = torch.rand(1, 3, 13, 15)
            want = model.render(inp, (40, 33))
            ours = model.cuda().render(inp.cuda(), (40, 33)).cpu()
            # the encoder's convolutions may use tf32 on the card
            torch.testing.assert_close(ours, want, rtol=0, atol=5e-3)
