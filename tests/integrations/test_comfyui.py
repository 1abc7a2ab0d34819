"""The nodes for ComfyUI without ComfyUI: what they make of images, sizes and files; ``comfy_stand_in`` is in its place.

With the real one: ``tools/check_comfyui.sh``.
"""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys

import comfy_stand_in
import numpy as np
import pytest
import torch

import liif_fast

OFF = {"window_left": 0.0, "window_top": 0.0, "window_width": 0.0, "window_height": 0.0}
SPEC = {
    "name": "liif",
    "args": {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}},
    },
}


@pytest.fixture
def comfy(monkeypatch, tmp_path):
    for folder in ("liif", "upscale_models"):
        (tmp_path / folder / "mine").mkdir(parents=True)
    return comfy_stand_in.install(monkeypatch, tmp_path)


@pytest.fixture
def model():
    torch.manual_seed(1)
    return liif_fast.make(SPEC).eval()


@pytest.fixture
def upscale(comfy, model):
    """The node's result for an image; by default the whole of it, twice as large, in float32."""

    def run(image, **given):
        arguments = {"width": 0, "height": 0, "scale": 2.0, "dtype": "float32", "tile": 0, **OFF, **given}
        (large,) = comfy.nodes.UpscaleLiif.execute(image, model, **arguments).args
        return large

    return run


def images(channels=3, batch=2, height=20, width=26):
    return torch.rand(batch, height, width, channels)


def nodes_of(package):
    async def listed():
        return await (await package.comfy_entrypoint()).get_node_list()

    return asyncio.run(listed())


def test_the_package_gives_two_nodes_whose_inputs_are_the_arguments(comfy):
    load, upscale = nodes_of(comfy.package)
    for node in (load, upscale):
        code = node.execute.__func__.__code__
        assert [each.id for each in node.define_schema().inputs] == list(code.co_varnames[1 : code.co_argcount])
    inputs = {each.id: each for each in upscale.define_schema().inputs}
    assert {name: inputs[name].default for name in OFF} == OFF
    assert inputs["window_left"].min < 0
    assert all(inputs[name].round is False for name in (*OFF, "scale"))  # None: ComfyUI rounds to the step
    assert inputs["dtype"].default == "auto"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_results_are_those_of_upscale(upscale, model, channels):
    batch = images(channels)
    got = upscale(batch, scale=2.5)
    assert (got.shape, got.dtype) == ((2, 50, 65, channels), torch.float32)
    assert got.is_contiguous()
    for one, large in zip(batch, got, strict=True):
        want = model.upscale(one.numpy(), scale=2.5)
        assert np.abs(large.numpy() - want).max() < 2e-6


def test_alpha_is_coverage_and_hidden_colours_do_not_bleed(upscale):
    image = torch.full((1, 16, 16, 4), 0.25)
    image[..., 3] = 0
    image[:, :, 8:] = torch.tensor([0.25, 0.25, 0.25, 1.0])
    other = image.clone()
    other[:, :, :6, :3] = 1.0  # under transparent pixels
    one, two = upscale(image), upscale(other)
    seen = one[..., 3:] > 0.05
    assert ((one - two)[..., :3] * seen).abs().max() < 0.05
    assert (one[..., 3] - two[..., 3]).abs().max() == 0


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"scale": 1.5}, (30, 39)),
        ({"scale": 0.5}, (10, 13)),
        ({"width": 52}, (40, 52)),
        ({"height": 45}, (45, 58)),
        ({"width": 7, "height": 61, "scale": 3.0}, (61, 7)),
        ({"width": 40, "window_width": 10.0, "window_height": 5.0}, (20, 40)),
        ({"width": 1, "window_height": 0.125}, (1, 1)),
    ],
)
def test_a_side_that_is_0_follows_the_aspect_and_the_scale_counts_without_sides(upscale, given, size):
    assert upscale(images(), **given).shape == (2, *size, 3)


@pytest.mark.parametrize(
    ("given", "window"),
    [
        ((3.25, -1.5, 10.5, 9.0), (-1.5, 3.25, 9.0, 10.5)),
        ((20.0, 0.0, 0.0, 0.0), (0.0, 20.0, 20, 6.0)),
        ((0.0, 12.5, 8.0, 0.0), (12.5, 0.0, 7.5, 8.0)),
    ],
)
def test_windows(upscale, model, given, window):
    batch = images()
    got = upscale(batch, scale=3.0, **dict(zip(OFF, given, strict=True)))
    want = model.upscale(batch.movedim(-1, 1), scale=3.0, window=window)
    assert torch.equal(got, want.movedim(1, -1))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_dtypes(upscale, model, dtype):
    batch = images(height=40, width=40)
    want = model.upscale(batch.movedim(-1, 1), scale=2.0, dtype=getattr(torch, dtype)).movedim(1, -1)
    assert torch.equal(upscale(batch, dtype=dtype), want)


def test_auto_is_half_precision_where_comfyui_wants_it_of_cuda_devices(comfy):
    choose, cuda = functools.partial(comfy.nodes._dtype, model=None), torch.device("cuda")
    for half, want in (((True, True), torch.bfloat16), ((False, True), torch.float16), ((False, False), None)):
        comfy.management.state.half = half
        assert choose("auto", cuda) == want
        assert choose("auto", torch.device("cpu")) is None
    assert choose("float32", cuda) == torch.float32


def test_tiles_change_nothing_and_progress_adds_up(comfy, upscale):
    batch = images(batch=3, height=150, width=140)
    want = upscale(batch)
    got = upscale(batch, tile=64)
    assert (got - want).abs().max() < 2e-6
    whole, tiled = comfy.bars
    for bar in (whole, tiled):
        assert bar.values == sorted(bar.values)
        assert bar.values[-1] == bar.total
    assert len(tiled.values) >= 3 * 4 > len(whole.values)


def test_progress_adds_up_over_images_with_alpha(comfy, upscale):
    upscale(images(4, batch=3))
    (bar,) = comfy.bars
    assert bar.values == sorted(bar.values)
    assert bar.values[-2] < bar.values[-1] == bar.total


def test_an_interruption_ends_the_work_between_tiles_and_the_next_run_is_whole(comfy, upscale, model):
    batch = images(batch=1, height=150, width=140)
    comfy.management.state.interrupted = True
    with pytest.raises(comfy_stand_in.Interrupted):
        upscale(batch, tile=64)
    assert not comfy.bars[0].values  # the first tile was the last
    want = model.upscale(batch.movedim(-1, 1), scale=2.0, tile=64).movedim(1, -1)
    assert torch.equal(upscale(batch, tile=64), want)


def test_it_runs_as_comfyui_runs_nodes_in_inference_mode(comfy, tmp_path, model, upscale):
    model.save(tmp_path / "liif" / "a.safetensors")
    batch = images()
    want = upscale(batch)
    with torch.inference_mode():
        (loaded,) = comfy.nodes.LoadLiif.execute("liif/a.safetensors").args
        arguments = {"width": 0, "height": 0, "scale": 2.0, "dtype": "float32", "tile": 0, **OFF}
        for _ in range(2):
            (got,) = comfy.nodes.UpscaleLiif.execute(batch.clone(), loaded, **arguments).args
            assert torch.equal(got, want)


def test_memory_is_freed_for_the_model_and_its_tiles_and_the_model_goes_back(comfy, upscale, model, monkeypatch):
    moves = []
    monkeypatch.setattr(type(model), "to", lambda self, device: moves.append(str(device)) or self)
    upscale(images())
    ((size, device),) = comfy.management.freed
    assert size > comfy.nodes.WORKING
    assert (str(device), moves) == ("cpu", ["cpu", "cpu"])
    comfy.management.state.interrupted = True
    with pytest.raises(comfy_stand_in.Interrupted):
        upscale(images())
    assert moves == ["cpu"] * 4


def test_colours_beyond_0_to_1_are_clamped_and_said(upscale, caplog):
    image = images() * 1.5 - 0.25
    got = upscale(image)
    assert "are clamped to 0 to 1" in caplog.text
    assert torch.equal(got, upscale(image.clamp(0, 1)))


@pytest.mark.parametrize(
    ("image", "given", "says"),
    [
        (images(2), {}, r"image: \[B, H, W, 1, 3 or 4\] is wanted, got \[2, 20, 26, 2\]"),
        (images()[0], {}, r"image: \[B, H, W, 1, 3 or 4\] is wanted, got \[20, 26, 3\]"),
        (images() / 0, {}, "image: finite colours are wanted, got .*: see what made the image"),
        (images() * float("nan"), {}, "image: finite colours are wanted, got nan to nan: .*"),
        (images(), {"scale": 0.0}, "scale: a number above 0 is wanted, got 0.0"),
        (images(), {"width": -3}, "width, height: 0 or more pixels are wanted, got -3 and 0"),
        (images(), {"height": 16384}, "width, height, scale: at most 268435456 pixels are made, 21299 x 16384 .*"),
        (images(), {"scale": 1000.0}, "width, height, scale: at most 268435456 pixels are made, 26000 x 20000 .*"),
        (images(), {"window_left": 26.0}, "window_width: 0 is up to the border, but the window begins at 26 of 26"),
        (images(), {"window_width": -1.0}, r"window: \(top, left, height, width\) .*"),
        (images(), {"dtype": "float64"}, "dtype: one of auto, float32, .*, int8 is wanted, got 'float64'"),
        (images(), {"tile": -1}, "tile: 'auto', 0 or a positive number of pixels is wanted, got -1"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(upscale, image, given, says):
    with pytest.raises(ValueError, match=f"^{says}$") as caught:
        upscale(image, **given)
    assert "\n" not in str(caught.value)


def test_files_of_both_folders_are_listed_and_names(comfy, tmp_path, model, monkeypatch):
    for name in ("liif/a.safetensors", "liif/notes.txt", "liif/mine/b.pth", "upscale_models/a.safetensors"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(comfy.nodes.pretrained, "names", lambda: ["edsr-baseline-liif", "srcnn-x4-open"])
    (combo,) = comfy.nodes.LoadLiif.define_schema().inputs
    files = ["liif/a.safetensors", "liif/mine/b.pth", "upscale_models/a.safetensors"]
    assert combo.options == [*files, "edsr-baseline-liif"]


def test_models_are_loaded_from_their_folder_or_by_name(comfy, tmp_path, model, monkeypatch):
    load = comfy.nodes.LoadLiif.execute
    model.save(tmp_path / "liif" / "mine" / "a.safetensors")
    (loaded,) = load("liif/mine/a.safetensors").args
    assert torch.equal(loaded.state_dict()["imnet.layers.0.weight"], model.state_dict()["imnet.layers.0.weight"])
    monkeypatch.setattr(liif_fast, "load", lambda name: model if name == "edsr-baseline-liif" else None)
    assert load("edsr-baseline-liif").args == (model,)


def test_another_file_under_a_name_is_loaded_anew(comfy, tmp_path, model):
    print_of, path = comfy.nodes.LoadLiif.fingerprint_inputs, tmp_path / "liif" / "a.safetensors"
    model.save(path)
    first = print_of("liif/a.safetensors")
    assert print_of("liif/a.safetensors") == first
    os.utime(path, ns=(1, 1))
    assert print_of("liif/a.safetensors") != first
    assert print_of("edsr-baseline-liif") == "edsr-baseline-liif"


def test_what_is_no_liif_is_refused_in_a_line(comfy, tmp_path):
    load = comfy.nodes.LoadLiif.execute
    liif_fast.make({"name": "srcnn", "args": {}}).save(tmp_path / "upscale_models" / "srcnn.safetensors")
    (tmp_path / "upscale_models" / "damaged.pth").write_bytes(b"no checkpoint")
    (tmp_path / "secret.pth").write_bytes(b"no checkpoint")
    torch.save({"model.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "upscale_models" / "esrgan.pth")
    for name, says in (
        ("upscale_models/srcnn.safetensors", "model_name: a LIIF is wanted, .*srcnn.safetensors is a SRCNN: choose .*"),
        ("upscale_models/damaged.pth", ".*damaged.pth: it is neither safetensors nor a PyTorch file .*"),
        ("upscale_models/esrgan.pth", ".*esrgan.pth: .*"),
        ("liif/../secret.pth", "model_name: 'liif/../secret.pth' is no file of models/liif or .*: put the file .*"),
        ("nowhere", "model_name: 'nowhere' is no file of models/liif or models/upscale_models, nor a name .*"),
    ):
        with pytest.raises(ValueError, match=f"^{says}$") as caught:
            load(name)
        assert "\n" not in str(caught.value)


def test_liif_fast_itself_needs_nothing_of_comfyui():
    code = "import sys, liif_fast; print([n for n in sys.modules if n.split('.')[0] in ('comfy', 'comfy_api')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"


def test_without_liif_fast_the_line_says_what_to_do(comfy, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "liif_fast", None)
    with pytest.raises(
        ImportError, match=r"^liif_fast cannot be imported \(.*\): install it with ComfyUI's Python, .*"
    ):
        comfy_stand_in.install(monkeypatch, tmp_path)


def test_the_package_says_what_the_registry_asks_for():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 has it")
    folder = comfy_stand_in.ROOT / "integrations" / "comfyui"
    about = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert about["project"]["version"] == liif_fast.__version__
    assert about["tool"]["comfy"].keys() >= {"PublisherId", "DisplayName", "requires-comfyui"}
    # the manager installs these
    assert (folder / "requirements.txt").read_text(encoding="utf-8").split() == about["project"]["dependencies"]
