"""Videos on a CUDA device: the command's file holds the frames that ``upscale`` gives, times and sound."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import liif_fast

pytest.importorskip("av", reason="the extra video (PyAV) is not installed")
from nearest_video import held, pictures
from video_files import make_clip

from liif_fast.cli.main import main


@pytest.fixture
def checkpoint(tmp_path):
    encoder = {"name": "edsr-baseline", "args": {"no_upsampling": True, "n_resblocks": 2}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256] * 4}}
    torch.manual_seed(0)
    model = liif_fast.make({"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet}})
    model.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def enlarged(source, target, checkpoint, device, *more):
    arguments = ["video", str(source), "-o", str(target), "-m", str(checkpoint), "--device", str(device), *more]
    assert main(arguments) == 0
    return pictures(target)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1), ("bfloat16", 3), ("float16", 3)])
@pytest.mark.parametrize("more", [["-s", "2"], ["--size", "160x108", "--window", "3.5,-2,90x60"]])
def test_the_files_frames_are_those_of_upscale(tmp_path, device, checkpoint, dtype, tolerance, more):
    source = make_clip(tmp_path / "in.mp4", frames=12, size=(128, 96))
    lossless = enlarged(source, tmp_path / "out.mkv", checkpoint, device, *more, "--codec", "ffv1", "--dtype", dtype)
    model = liif_fast.load(checkpoint, device=str(device)).eval()
    how = {"scale": 2} if more[0] == "-s" else {"size": (108, 160), "window": (-2, 3.5, 60, 90)}
    assert len(lossless) == 12
    for frame, large in zip(pictures(source), lossless, strict=True):
        want = model.upscale(frame, dtype=getattr(torch, dtype), **how)
        # one for roundings in another order, one for swscale's of YCbCr where the command's reader is more exact
        assert np.abs(large.astype(int) - want).max() <= tolerance + 1
    assert held(tmp_path / "out.mkv").times == held(source).times


def test_a_screen_is_reused_with_the_same_bits(tmp_path, device, checkpoint):
    page = np.random.default_rng(0).random((256, 320, 3))
    shown = [page.copy() for _ in range(8)]
    for i, frame in enumerate(shown):
        frame[8 * i : 8 * i + 8, 40:50] = 1
    source = make_clip(tmp_path / "in.mkv", frames=8, size=(320, 256), pictures=shown)
    more = ["-s", "2", "--codec", "ffv1", "--tile", "64"]
    got = enlarged(source, tmp_path / "some.mkv", checkpoint, device, *more)
    every = enlarged(source, tmp_path / "every.mkv", checkpoint, device, *more, "--no-reuse")
    for one, other in zip(got, every, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sound_is_the_same_bytes(tmp_path, device, checkpoint):
    source = make_clip(tmp_path / "in.mp4", frames=25, audio=True)
    assert len(enlarged(source, tmp_path / "out.mp4", checkpoint, device, "-s", "3")) == 25
    assert held(tmp_path / "out.mp4", "audio").packets == held(source, "audio").packets
