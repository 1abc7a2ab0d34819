"""Frames on a CUDA device: recorded graphs, copies beside the computation, tiles that are not computed again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import liif_fast


def frames(n, size=(96, 160), seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, *size, 3), np.uint8))


@pytest.fixture
def model(device):
    encoder = {"name": "edsr-baseline", "args": {"no_upsampling": True, "n_resblocks": 2}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256] * 4}}
    torch.manual_seed(0)
    return liif_fast.make({"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet}}).to(device).eval()


@pytest.mark.parametrize(
    "how", [{"scale": 3}, {"size": (100, 333)}, {"scale": 2, "window": (3.5, 10, 40, 70.25)}, {"size": (48, 400)}]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_frames_are_what_upscale_makes(model, how, dtype):
    given = frames(6)
    with model.stream(iter(given), dtype=dtype, **how) as running:
        for frame, large in zip(given, running, strict=True):
            want = model.upscale(frame, dtype=dtype, **how)
            # one of 255, where a rounding falls otherwise; half precision rounds each layer in other places
            assert np.abs(large.astype(int) - want).max() <= (1 if dtype == torch.float32 else 3)
    assert running.frames == 6


def test_windows_are_their_region(model):
    image = torch.from_numpy(frames(1)[0]).permute(2, 0, 1).to(next(model.parameters()).device)
    whole = model.upscale(image.float() / 255, size=(240, 400))
    part = model.upscale(image.float() / 255, size=(100, 150), window=(96 * 40 / 240, 160 * 50 / 400, 40, 60))
    assert (part - whole[:, 40:140, 50:200]).abs().max() <= 1e-5


def test_unchanged_tiles_have_the_same_bits(model):
    page, given = frames(1, (256, 320))[0], []
    for i in range(9):
        frame = page.copy()
        frame[8 * i : 8 * i + 8, 40:50] = 255
        given += [frame, frame]
    for dtype in (torch.float32, torch.bfloat16):
        running = model.stream(given, scale=2, tile=64, dtype=dtype)
        got = list(running)
        assert running.frames_reused == 9
        assert running.tiles_reused > running.tiles / 2
        for one, other in zip(got, model.stream(given, scale=2, tile=64, dtype=dtype, reuse=False), strict=True):
            np.testing.assert_array_equal(one, other)


def test_tensors_on_the_device_stay_there(model, cuda):
    given = [torch.from_numpy(x).permute(2, 0, 1).to(cuda) for x in frames(4)]
    for frame, large in zip(given, model.stream(given, scale=2), strict=True):
        assert large.device.type == "cuda"
        assert (large.int() - model.upscale(frame, scale=2).int()).abs().max() <= 1


def test_results_are_the_callers_own(model):
    given = frames(2)
    want = [model.upscale(x, scale=2).astype(int) for x in given]
    for i, large in enumerate(model.stream([given[i // 2 % 2] for i in range(12)], scale=2)):
        assert np.abs(large - want[i // 2 % 2]).max() <= 1
        large[...] = 0


def test_a_frame_that_is_not_finite_is_computed_again(model):
    with torch.no_grad():
        model.imnet.layers[0].weight.mul_(1e6)  # the sums go over float16's 65504
        model.imnet.layers[2].weight.mul_(1e-6)
    given = frames(3)
    with pytest.warns(UserWarning, match="computed again in float32"):
        got = list(model.stream(given, scale=2, dtype=torch.float16))
    for frame, large in zip(given, got, strict=True):
        assert np.abs(large.astype(int) - model.upscale(frame, scale=2)).max() <= 1
    with torch.no_grad():
        model.imnet.layers[0].weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        list(model.stream(given, scale=2))


def test_int8(model):
    given = frames(3)
    for frame, large in zip(given, model.stream(given, scale=2, dtype=torch.int8, refresh=1), strict=True):
        assert np.abs(large.astype(int) - model.upscale(frame, scale=2, dtype=torch.int8)).max() <= 3


def test_a_recording_outlives_refreshes(model, cuda, monkeypatch):
    from liif_fast.models import renderer

    recorded, record = [], renderer.Renderer._record
    monkeypatch.setattr(renderer.Renderer, "_record", lambda self, inp: recorded.append(1) or record(self, inp))
    assert len(list(model.stream(frames(12), scale=2, refresh=3))) == 12
    assert len(recorded) == 1


def test_what_the_caller_has_begun_on_his_stream_is_waited_for(model, cuda):
    with torch.cuda.stream(torch.cuda.Stream(cuda)):
        given = []
        for x in frames(4):
            torch.cuda._sleep(100_000_000)  # frames that are not made yet when the stream is
            given.append((torch.from_numpy(x).to(cuda, non_blocking=True) + 0).permute(2, 0, 1))
        got = [large + 0 for large in model.stream(iter(given), scale=2)]  # on this stream, which frees each result
    torch.cuda.synchronize()
    for frame, large in zip(given, got, strict=True):
        assert (large.int() - model.upscale(frame, scale=2).int()).abs().max() <= 1


def test_autocast_is_that_of_the_caller(model, cuda):
    given = [torch.from_numpy(x).permute(2, 0, 1).to(cuda).float() / 255 for x in frames(2)]
    with torch.autocast("cuda", torch.float16):
        got, want = list(model.stream(given, scale=2)), [model.upscale(x, scale=2) for x in given]
    for one, other in zip(got, want, strict=True):
        assert (one - other).abs().max() <= 3 / 255
    assert not torch.equal(want[0], model.upscale(given[0], scale=2))
