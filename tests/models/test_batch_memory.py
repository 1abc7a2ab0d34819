"""A batch of frames needs the memory of one, and the frames themselves."""

from __future__ import annotations

import pytest
import torch

from liif_fast.models import tile_size


@pytest.mark.parametrize("call", ["upscale", "render", "renderer", "upscale to less"])
def test_a_batch_is_encoded_image_by_image(tiny, call, monkeypatch):
    model, seen = tiny(), []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda x: seen.append(len(x)) or encode(x))
    monkeypatch.setattr(tile_size, "TOGETHER_CPU", 400)
    batch = torch.rand(5, 3, 10, 16)
    run = {
        "upscale": lambda x: model.upscale(x, scale=2),
        "render": lambda x: model.render(x, (20, 32)),
        "renderer": lambda x: model.renderer((20, 32))(x),
        "upscale to less": lambda x: model.upscale(x, scale=0.5),
    }[call]
    got = run(batch)
    assert seen == ([5] if call == "upscale to less" else [2, 2, 1])
    seen.clear()
    for image, one in zip(batch, got, strict=True):
        assert (run(image[None])[0] - one).abs().max() <= 1e-6  # sums of convolutions in another order


@pytest.mark.long
def test_twelve_frames_need_the_memory_of_one(tmp_path):
    """Peaks of processes: above what importing and one frame take, twelve have their own bytes alone."""
    import subprocess
    import sys

    program = """if True:
        import resource, sys, torch
        import liif_fast
        torch.manual_seed(0)
        encoder = {"name": "edsr-baseline", "args": {"no_upsampling": True}}
        imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [32]}}
        model = liif_fast.make({"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet}})
        torch.set_num_threads(1)  # each thread of a convolution has memory of its own
        frames = torch.zeros(int(sys.argv[1]), 3, 180, 320, dtype=torch.uint8)
        model.upscale(frames, scale=2)
        model.render(frames[:, :, :150] / 255 - 0.5, (300, 640))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    peaks = [
        int(subprocess.run([sys.executable, "-c", program, str(n)], capture_output=True, text=True, check=True).stdout)
        for n in (1, 12)
    ]
    # frames as bytes, as float32 for render, and their two results; and what an allocator may keep of one frame's work
    own = 11 * (3 * 180 * 320 * (1 + 4 + 4) + 3 * 360 * 640 * 1 + 3 * 300 * 640 * 4) / 1024
    assert peaks[1] - peaks[0] <= own + 0.1 * peaks[0]
