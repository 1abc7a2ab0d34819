"""The encoder on a real card: layout, cuDNN's joint calls, recordings within autocast and beside other threads.

What needs none: test_encoder_layout.py, test_residual.py, test_renderer.py in tests/models.
"""

from __future__ import annotations

import contextlib
import copy
import threading

import pytest
import torch
from torch.testing import assert_close

import liif_fast
from gpu.test_device_gpu import need_memory
from liif_fast.head import functional
from liif_fast.head.triton import small
from liif_fast.models.encoders import residual

HALF = (torch.bfloat16, torch.float16)
LAST = torch.channels_last
# The same calls, of which cuDNN may choose another kernel: float32 sums in another order, and where that turns a
# rounding, 2^-8 of colours that span 2.
OTHER_ORDER = {"rtol": 0, "atol": 1e-2}
SIZE = (50, 70)


def model(device, width=64):
    """As the official one, less deep, with numbers of unit size."""
    torch.manual_seed(0)
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 3, "n_feats": 64, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [width] * 3}}
    return liif_fast.LIIF(encoder, imnet).to(device).eval()


@contextlib.contextmanager
def poisoned(device):
    """Memory that is given out next holds NaN: what reads before it writes shows it."""
    kept = [torch.full((1 << n,), torch.nan, device=device) for n in range(8, 26)]
    del kept
    yield


@pytest.fixture
def joined(cuda, monkeypatch):
    """How often the residual blocks were computed by cuDNN's joint calls; that nothing of it was refused."""
    calls, run = [], residual.run
    monkeypatch.setattr(small, "_said", set())
    monkeypatch.setattr(residual, "run", lambda *given: calls.append(given[0].dtype) or run(*given))
    yield calls
    assert not small._said


def by_modules(encoder, x, dtype):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), torch.autocast("cuda", dtype=dtype):
        patch.setattr(residual, "on_cuda", lambda x: False)
        return encoder(x)


@pytest.mark.parametrize("setting", ["1", "0"])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("shape", [(1, 3, 96, 101), (2, 3, 17, 9), (1, 3, 1, 1)])
def test_joint_calls_give_what_the_modules_give(joined, cuda, monkeypatch, dtype, shape, setting):
    """No further from float64 than the modules in the same precision, which round more often; without and with the
    kernel for residual and bias."""
    monkeypatch.setenv("LIIF_FAST_TRITON", setting)
    encoder, x = model(cuda).encoder, torch.rand(shape, device=cuda).contiguous(memory_format=LAST)
    modules = by_modules(encoder, x, dtype)
    with poisoned(cuda), torch.no_grad(), torch.autocast("cuda", dtype=dtype):
        ours = encoder(x)
    assert joined == [dtype]
    assert ours.dtype == dtype
    assert ours.is_contiguous(memory_format=LAST)
    want = copy.deepcopy(encoder).double()(x.double()).detach()
    error, plain = ((t - want).abs().max() for t in (ours, modules))
    assert error <= 1.5 * plain + torch.finfo(dtype).eps * want.abs().max(), (error, plain)


@pytest.fixture
def one_pass(joined, cuda, monkeypatch):
    """How often convolutions were the kernel for compute capability 9.0."""
    if torch.cuda.get_device_capability(cuda) != (9, 0):
        pytest.skip("the kernel for convolutions in one pass is for compute capability 9.0")
    from liif_fast.head.triton import convolution

    calls, run = [], convolution.convolve

    def counted(x, *given, **more):
        calls.append(x.shape)
        return run(x, *given, **more)

    monkeypatch.setattr(convolution, "convolve", counted)
    return calls


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("shape", [(1, 3, 96, 301), (2, 3, 17, 9), (1, 3, 1, 1), (5, 3, 7, 130)])
def test_convolutions_in_one_pass(one_pass, cuda, dtype, shape):
    """Of the residual blocks and of the hidden map: no further from float64 than the modules, which round more often;
    the same bits again, and in a recording."""
    liif, x = model(cuda, 256), torch.rand(shape, device=cuda).contiguous(memory_format=LAST)
    modules = by_modules(liif.encoder, x, dtype)
    with poisoned(cuda), torch.no_grad(), torch.autocast("cuda", dtype=dtype):
        with small.recording():
            ours, again = liif.encoder(x), liif.encoder(x)
            hidden = functional.hidden_map(ours, liif.head())
        assert len(one_pass) == 7 + 7 + 1
        assert torch.equal(ours, again)
        plain = functional.hidden_map(ours, liif.head())
        assert len(one_pass) == 15
    assert ours.is_contiguous(memory_format=LAST)
    want = copy.deepcopy(liif.encoder).double()(x.double()).detach()
    error, rough = ((t - want).abs().max() for t in (ours, modules))
    assert error <= 1.2 * rough + torch.finfo(dtype).eps * want.abs().max(), (error, rough)
    eps = torch.finfo(dtype).eps
    assert_close(hidden, plain, rtol=2 * eps, atol=2 * eps)  # of about unit size; one of them is rounded twice
    renderer = liif.renderer(SIZE, dtype)
    first = renderer(x)
    assert len(one_pass) > 15
    assert_close(first, liif.render(x, SIZE, dtype), rtol=0, atol=2e-2)  # colours that span 2, ten layers of 2^-8
    assert torch.equal(first, renderer(x))


def test_a_model_in_half_precision_joins_too(joined, cuda):
    half = model(cuda).to(torch.bfloat16)
    x = torch.rand(1, 3, 33, 31, device=cuda)
    ours = half.render(x, SIZE)
    assert joined == [torch.bfloat16]
    want = copy.deepcopy(half).float().render(x, SIZE)
    # features of about unit size and layers rounded to 8 bits
    assert_close(ours, want, rtol=0, atol=5e-2)


def test_joint_calls_sum_deterministically_if_asked(joined, cuda, deterministic):
    """Convolutions and ReLUs then, in an order that cuDNN keeps."""
    encoder, x = model(cuda).encoder, torch.rand(1, 3, 65, 33, device=cuda)
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
        assert torch.equal(encoder(x), encoder(x))
    assert len(joined) == 2


@pytest.mark.slow_gpu
def test_offsets_of_the_residual_kernel_beyond_32_bits(cuda):
    """The last pixels of more than 2^31 values."""
    pytest.importorskip("triton")
    from liif_fast.models.encoders import residual_kernel

    need_memory(cuda, 14)
    shape = (1, 64, 5800, 5800)
    x = torch.empty(shape, dtype=torch.bfloat16, device=cuda, memory_format=LAST).zero_()
    y = torch.zeros_like(x)
    assert x.numel() > 2**31
    x[:, :, -3:], y[:, :, -3:] = 1, 2
    bias = torch.arange(64, device=cuda, dtype=torch.bfloat16)
    residual_kernel.add(x, y, bias, 0.5)
    assert torch.equal(y[0, :, -3:], (2 + bias / 2).view(-1, 1, 1).expand(-1, 3, 5800))
    assert torch.equal(y[0, :, :3], (bias / 2).view(-1, 1, 1).expand(-1, 3, 5800))


@pytest.mark.parametrize("call", ["render", "renderer", "upscale", "gen_feat"])
@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_layout(cuda, call, tf32, dtype):
    """Channels last wherever matrix units convolve; upscale makes its inputs so in any case."""
    liif, layouts, inp = model(cuda), [], torch.rand(1, 3, 12, 13, device=cuda)
    torch.backends.cudnn.allow_tf32 = tf32  # the fixture puts it back
    liif.encoder.head[0].register_forward_pre_hook(
        lambda m, given: layouts.append(given[0].is_contiguous(memory_format=LAST))
    )
    with (
        torch.no_grad(),
        torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype is not None and call == "gen_feat"),
    ):
        if call == "gen_feat":
            liif.gen_feat(inp)
        elif call == "upscale":
            liif.upscale(inp, scale=2, dtype=dtype)
        else:
            render = liif.renderer(SIZE, dtype) if call == "renderer" else lambda x: liif.render(x, SIZE, dtype)
            render(inp)
    assert layouts
    assert all(layout is (tf32 or dtype is not None or call == "upscale") for layout in layouts)


@pytest.mark.parametrize("outside", [None, torch.bfloat16])
@pytest.mark.parametrize("dtype", [None, *HALF])
def test_renderer_in_every_precision(device, dtype, outside):
    """What render gives, for other shapes and for new weights in place."""
    liif = model(device)
    renderer = liif.renderer(SIZE, dtype)
    autocast = torch.autocast(device.type, dtype=outside or torch.bfloat16, enabled=outside is not None)
    for shape in [(1, 3, 17, 23), (2, 3, 9, 11), (1, 3, 17, 23)]:
        with autocast:
            for _ in range(2):
                inp = torch.rand(shape, device=device)
                assert_close(renderer(inp), liif.render(inp, SIZE, dtype), **OTHER_ORDER)
                for p in liif.parameters():
                    p.data.mul_(1.05)  # which no version counter tells of
                torch.clear_autocast_cache()


@pytest.mark.slow_gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_renderer_compiled_by_inductor(device, dtype):
    """Compiled and recorded: other roundings, no more error than render has; new weights in place are seen."""
    liif = model(device)
    renderer = liif.renderer(SIZE, dtype, compile=True)
    for _ in range(2):
        inp = torch.rand(1, 3, 17, 23, device=device)
        want = copy.deepcopy(liif).double().render(inp.double(), SIZE)
        error, plain = ((t - want).abs().max() for t in (renderer(inp), liif.render(inp, SIZE, dtype)))
        unit = torch.finfo(dtype or torch.float32).eps
        assert error <= 2 * plain + unit * want.abs().max(), (error, plain)
        with torch.no_grad():
            liif.encoder.body[0].body[0].weight.mul_(1.5)


def test_two_autocasts_with_an_allocation_between(cuda):
    """The recording reads no weights that autocast has converted and freed."""
    liif, inp = model(cuda), torch.rand(1, 3, 33, 31, device=cuda)
    renderer = liif.renderer(SIZE)
    for _ in range(2):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            want = liif.render(inp, SIZE)  # fills autocast's cache
            assert_close(renderer(inp), want, **OTHER_ORDER)
        with poisoned(cuda):
            kept = [torch.full((1 << n,), torch.nan, device=cuda) for n in range(8, 22) for _ in range(8)]
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert_close(renderer(inp), want, **OTHER_ORDER)
        del kept


def test_another_thread_allocates_while_it_is_recorded(cuda):
    """Pinned memory and memory of the device, kept, so that each time is a call of the driver's."""
    need_memory(cuda, 8)
    liif, errors, stop, kept = model(cuda), [], threading.Event(), []

    def allocate():
        try:
            while not stop.wait(0.002) and len(kept) < 300:  # 6 GB
                kept.append(torch.empty(1 << 20, dtype=torch.uint8, pin_memory=True))
                kept.append(torch.empty(21 << 20, dtype=torch.uint8, device=cuda))
        except Exception as error:
            errors.append(error)

    liif.render(torch.rand(1, 3, 9, 9, device=cuda), SIZE, torch.bfloat16)
    thread = threading.Thread(target=allocate)
    thread.start()
    try:
        for side in range(9, 29):  # each is recorded
            inp = torch.rand(1, 3, side, side, device=cuda)
            renderer = liif.renderer(SIZE, torch.bfloat16)
            assert_close(renderer(inp), liif.render(inp, SIZE, torch.bfloat16), **OTHER_ORDER)
    finally:
        stop.set()
        thread.join()
    assert not errors, errors
    assert len(kept) > 10
